//! `lock` and `bundle`, and what `apply` takes of them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;
use ssmbake_installers::plan::{Request, Source, VersionSpec};
use ssmbake_installers::probe::Facts;
use ssmbake_installers::supply::lockfile::{self, seconds};
use ssmbake_installers::supply::mirror::{self, Held, Item, Mirror, Placed, Synced};
use ssmbake_installers::supply::{self, Bundle, LockFile, Locked, Target, bundle};
use ssmbake_manifests::{AgentVersion, Arch, Channel, Document, Os, PackageFormat};

use super::Session;
use super::keys::{Remark, revoked, rows};
use super::network::Network;
use crate::args::{BundleCommand, BundleCreateArgs, Choice, LockArgs, MirrorSyncArgs, OfferArg, Wanted};
use crate::exit::{self, Failure};
use crate::{host, request};

/// What `--lock` and `--bundle` name.
pub(super) struct Pins {
    lock: Option<LockFile>,
    pub(super) bundle: Option<Bundle>,
}

impl Pins {
    pub(super) fn read(session: &Session<'_>, wanted: &Wanted) -> Result<Self, Failure> {
        let bundle = wanted.bundle.as_deref();
        let bundle = bundle.map(|path| session.open_bundle(path)).transpose()?;
        let lock = match (&wanted.lock, &bundle) {
            (Some(place), _) => Some(session.read_lock(place.as_str())?),
            (None, Some(bundle)) => Some(bundle.lock().clone()),
            (None, None) if session.cli.common.trust.require_signature => {
                Some(session.read_mirrors_lock(wanted)?)
            }
            (None, None) => None,
        };
        Ok(Self { lock, bundle })
    }

    /// Lets the request ask for the locked package of this system, and nothing else.
    pub(super) fn take(
        &self,
        request: &mut Request,
        wanted: &Wanted,
        facts: &Facts,
    ) -> Result<Option<Locked>, Failure> {
        let Some(lock) = &self.lock else { return Ok(None) };
        let locked = lock.find(&facts.os.value.id, facts.arch.value)?;
        let is_other = matches!(request.version, VersionSpec::Exact(named) if named != locked.version)
            || request
                .sha256
                .as_ref()
                .is_some_and(|named| *named != locked.sha256);
        if is_other {
            let what = format!(
                "the lock has {} ({}), and another is named",
                locked.version, locked.sha256
            );
            return Err(Failure::new(
                exit::VERIFICATION,
                what,
                "leave out version and digest, or lock anew",
            ));
        }
        request.version = VersionSpec::Exact(locked.version);
        request.sha256 = Some(locked.sha256.clone());
        request.signer = Some(locked.signer.clone());
        if self.bundle.is_some() {
            request.source = Source::Mirror(bundle::BASE.to_owned());
        } else if wanted.bucket.mirror.is_none()
            && let Some(base) = locked.base_url()
        {
            request.source = Source::Mirror(base.to_owned());
        }
        Ok(Some(locked.clone()))
    }
}

fn channel_of(offer: &OfferArg) -> Channel {
    match offer {
        OfferArg::Latest => Channel::Latest,
        OfferArg::Stable => Channel::Stable,
    }
}

impl Session<'_> {
    /// A lock, and its signature where it has to have one.
    pub(super) fn read_lock(&self, place: &str) -> Result<LockFile, Failure> {
        Ok(self.lock_of(place)?.0)
    }

    /// And its bytes.
    fn lock_of(&self, place: &str) -> Result<(LockFile, Vec<u8>), Failure> {
        let bytes = self.read_place(place)?;
        Ok((self.checked_lock(place, &bytes)?, bytes))
    }

    fn checked_lock(&self, place: &str, bytes: &[u8]) -> Result<LockFile, Failure> {
        self.check_signed(place, bytes)?;
        Ok(LockFile::parse(&String::from_utf8_lossy(bytes))?)
    }

    /// The lock that a mirror offers: the only thing of it that can be signed.
    fn read_mirrors_lock(&self, wanted: &Wanted) -> Result<LockFile, Failure> {
        let Some(url) = &wanted.bucket.mirror else {
            return Err(Failure::new(
                exit::USAGE,
                "a signature is required, and nothing is named that could be signed",
                "name --lock, --bundle, or a --mirror that was made with a signed lock",
            ));
        };
        let place = format!("{}/{}", url.as_str().trim_end_matches('/'), lockfile::NAME);
        let Some(bytes) = self.read_if_there(&place)? else {
            let what = format!("the mirror has no `{place}` that could be signed");
            let hint = "publish it with `mirror sync --lock`, its signature beside it";
            return Err(Failure::new(exit::VERIFICATION, what, hint));
        };
        self.checked_lock(&place, &bytes)
    }

    fn open_bundle(&self, path: &Path) -> Result<Bundle, Failure> {
        let bundle = Bundle::open(path)?;
        // The very file that is open: nobody can put another in its place meanwhile.
        self.check_signed(&path.to_string_lossy(), bundle.bytes()?)?;
        Ok(bundle)
    }

    pub(super) fn lock_file(&self, args: &LockArgs) -> Result<u8, Failure> {
        let network = Network::new(self, &args.download);
        if args.check {
            return self.check_lock(args, &network);
        }
        let lock = self.make_lock(&args.choice, &network)?;
        host::write(&args.out, lock.render().as_bytes())?;
        let text = format!(
            "locked {} packages in {}\n",
            lock.package.len(),
            args.out.display()
        );
        self.finish(&text, &lock)?;
        Ok(exit::OK)
    }

    /// Fetches and verifies each package that is chosen.
    pub(super) fn make_lock(&self, choice: &Choice, network: &Network<'_>) -> Result<LockFile, Failure> {
        let base = self.base_of(choice)?;
        let targets = self.targets(choice, network, &base)?;
        let (ring, temp_dir) = (network.ring()?, self.temp_dir());
        let supplier = network.supplier(&ring, &temp_dir)?;
        let mut locked = Vec::new();
        for target in targets {
            let verified = supplier.target(&target, &base)?;
            let one = Locked::new(&target, &verified);
            let text = format!("locked {} {} {}", one.version, one.folder, one.sha256);
            self.console.event("locked", &text, json!(one));
            locked.push(one);
        }
        Ok(LockFile::new(locked))
    }

    /// The bucket of a choice.
    pub(super) fn base_of(&self, choice: &Choice) -> Result<String, Failure> {
        let mut warnings = Vec::new();
        let region = request::region(
            choice.bucket.region.as_deref(),
            self.environment,
            self.catalog,
            &mut warnings,
        )?;
        warnings.iter().for_each(|warning| self.console.warn(warning));
        let source = request::source(choice.bucket.mirror.as_ref(), choice.bucket.source);
        let base = source.base_url(region.as_ref(), self.catalog.agent());
        base.ok_or_else(|| {
            Failure::new(
                exit::USAGE,
                "a region is needed to download from",
                "use --region eu-west-1 (or yours), or --source global",
            )
        })
    }

    fn targets(&self, choice: &Choice, network: &Network<'_>, base: &str) -> Result<Vec<Target>, Failure> {
        let oses = self.chosen_oses(&choice.os)?;
        let archs = choice
            .arch
            .iter()
            .map(|word| request::arch(word))
            .collect::<Result<Vec<Arch>, _>>()?;
        let version: AgentVersion = match request::version(&choice.bucket.agent_version)? {
            VersionSpec::Exact(version) => version,
            VersionSpec::Latest => network.newest(base, Channel::Latest)?,
            VersionSpec::Stable => network.newest(base, Channel::Stable)?,
        };
        let mut targets = supply::select(&oses, &archs, version);
        let signed_since = self.catalog.agent().signature_since;
        let is_signed =
            |target: &Target| target.version >= signed_since || target.format == PackageFormat::Exe;
        if choice.os.iter().any(|word| word == "all") {
            targets.retain(|target| {
                let is_signed = is_signed(target);
                if !is_signed {
                    let systems = target.systems.join(", ");
                    let why = format!(
                        "left out: {} for {systems} was published without a signature",
                        target.version
                    );
                    self.console.warn(&why);
                }
                is_signed
            });
        }
        if let Some(target) = targets.iter().find(|target| !is_signed(target)) {
            let what = format!(
                "{} for {} was published without a signature",
                target.version,
                target.systems.join(", ")
            );
            return Err(Failure::new(
                exit::VERIFICATION,
                what,
                "nobody vouches for it: name its SHA-256 to `apply` with --sha256",
            ));
        }
        match targets.is_empty() {
            true => Err(Failure::new(
                exit::UNSUPPORTED,
                "none of these systems has any of these architectures",
                "`ssmbake regions --systems` lists systems",
            )),
            false => Ok(targets),
        }
    }

    /// The systems of these words; `all` is those whose packages have signatures beside them.
    fn chosen_oses(&self, words: &[String]) -> Result<Vec<&Os>, Failure> {
        if words.is_empty() {
            return Err(Failure::new(
                exit::USAGE,
                "no system is named",
                "use --os debian-12 (or yours), or --os all",
            ));
        }
        let mut oses = Vec::new();
        for word in words {
            if word == "all" {
                oses.extend(self.catalog.oses());
                continue;
            }
            let os = self.catalog.os(word).ok_or_else(|| {
                let known: Vec<&str> = self.catalog.oses().iter().map(|os| os.id.as_str()).collect();
                Failure::new(
                    exit::USAGE,
                    format!("no system `{word}` is known"),
                    format!("one of {}", known.join(", ")),
                )
            })?;
            oses.push(os);
        }
        Ok(oses)
    }

    fn check_lock(&self, args: &LockArgs, network: &Network<'_>) -> Result<u8, Failure> {
        let lock = self.read_lock(&args.out.to_string_lossy())?;
        let ring = network.ring()?;
        let mut remarks = Vec::new();
        let mut bases: Vec<&str> = Vec::new();
        for locked in &lock.package {
            let name = format!("{} {}", locked.version, locked.folder);
            for advisory in self.catalog.agent().advisories_for(locked.version) {
                let what = format!(
                    "{name}: {} ({}), fixed in {}",
                    advisory.summary, advisory.id, advisory.fixed_in
                );
                remarks.push(Remark::failure(what));
            }
            let signer = &locked.signer;
            let is_known = ring.keys().iter().any(|key| key.fingerprint == signer.key);
            if !is_known && locked.format != PackageFormat::Exe {
                let what = format!("{name}: its signer {} is not in the key ring", signer.key);
                remarks.push(Remark::failure(what));
            }
            if let Some(by) = seconds(&signer.at).and_then(|at| ring.revocation(&signer.key, at)) {
                let what = format!("{name}: the key {}{}", signer.key, revoked(by));
                remarks.push(Remark::failure(what));
            }
            bases.extend(locked.base_url());
        }
        bases.sort_unstable();
        bases.dedup();
        for base in bases.into_iter().filter(|_| !args.no_network) {
            let newest = network.newest(base, Channel::Latest)?;
            for locked in lock.package.iter().filter(|one| one.base_url() == Some(base)) {
                let newest = self.newest_for(locked, newest);
                if locked.version >= newest {
                    continue;
                }
                let what = format!("{} {}: {newest} is newer", locked.version, locked.folder);
                remarks.push(Remark::warning(what));
            }
        }
        remarks.extend(self.ends_soon(&ring, &args.when)?);
        self.finish_remarks(&remarks, "nothing has happened since the lock was made")
    }

    /// The newest version that runs on any of a package's systems.
    fn newest_for(&self, locked: &Locked, newest: AgentVersion) -> AgentVersion {
        let last = |id: &String| self.catalog.os(id).and_then(|os| os.agent_max);
        // One without an end takes any.
        let lasts: Option<Vec<AgentVersion>> = locked.systems.iter().map(last).collect();
        let last = lasts.and_then(|lasts| lasts.into_iter().max());
        last.map_or(newest, |last| last.min(newest))
    }

    pub(super) fn bundle(&self, command: &BundleCommand) -> Result<u8, Failure> {
        match command {
            BundleCommand::Create(args) => self.create_bundle(args),
            BundleCommand::Verify(args) => {
                let found = self.open_bundle(&args.file)?;
                let network = Network::new(self, &args.download);
                let (ring, temp_dir) = (network.ring()?, self.temp_dir());
                found.verify(&network.supplier_of(&found, &ring, &temp_dir))?;
                let lock = found.lock();
                let text = format!("{} packages are good:\n{}", lock.package.len(), rows(lock));
                self.finish(&text, lock)?;
                Ok(exit::OK)
            }
        }
    }

    pub(super) fn sync_mirror(&self, args: &MirrorSyncArgs) -> Result<u8, Failure> {
        let network = Network::new(self, &args.download);
        let mirror = args.choice.bucket.mirror.as_ref();
        let base = mirror.map(|url| url.as_str().trim_end_matches('/').to_owned());
        let mut signed_lock = None;
        let wanted: Vec<mirror::Wanted> = match &args.lock {
            Some(place) => {
                let place = place.as_str();
                let (lock, bytes) = self.lock_of(place)?;
                signed_lock = self.signature_beside(place)?.map(|signature| (bytes, signature));
                let from = |locked| mirror::Wanted::Locked(locked, base.clone());
                lock.package.into_iter().map(from).collect()
            }
            None if self.cli.common.trust.require_signature => {
                let what = "a signature is required, and no lock is named that could be signed";
                return Err(Failure::new(exit::USAGE, what, "name --lock"));
            }
            None => {
                let base = self.base_of(&args.choice)?;
                let targets = self.targets(&args.choice, &network, &base)?;
                let from = |target| mirror::Wanted::Chosen(target, base.clone());
                targets.into_iter().map(from).collect()
            }
        };
        let mut channels: Vec<Channel> = args.offer.iter().map(channel_of).collect();
        channels.dedup();
        let offer = mirror::Offer {
            channels,
            public_url: args.public_url.clone(),
            folders: self.folders(),
        };
        let (ring, temp_dir) = (network.ring()?, self.temp_dir());
        let to = Mirror::open(&args.to, self.environment, &network.options()?)?;
        let supplier = network.supplier(&ring, &temp_dir)?;
        let told = |item: Item<'_>, placed| self.tell_placed(item, placed);
        let Synced { lock, held } = to.sync(&supplier, &wanted, &offer, args.jobs, &told)?;
        held.iter().for_each(|held| self.tell_held(held));
        if let Some((bytes, signature)) = signed_lock {
            to.offer_lock(bytes, signature)?;
        }
        let text = format!("{} packages are in {}\n", lock.package.len(), args.to);
        self.finish(&text, &lock)?;
        Ok(exit::OK)
    }

    /// Every folder of AWS's bucket that some system takes its package from.
    fn folders(&self) -> BTreeMap<String, PackageFormat> {
        let oses = self.catalog.oses().iter();
        let folders = oses.flat_map(|os| os.packages.values().map(|folder| (folder.clone(), os.package)));
        folders.collect()
    }

    fn tell_held(&self, held: &Held) {
        self.console.warn(&format!(
            "`{}` does not name {}, which the mirror does not have for {}: sync these as well, or remove them from `{0}` and its \
             version",
            held.channel.word(),
            held.version,
            held.folders.join(", ")
        ));
    }

    /// What became of a file of a mirror.
    fn tell_placed(&self, item: Item<'_>, placed: Placed) {
        let (what, detail) = match item {
            Item::Package(locked) => (format!("{} {}", locked.version, locked.folder), json!(locked)),
            Item::Other(path) => (path.to_owned(), json!({ "path": path })),
        };
        let event = |name, word| self.console.event(name, &format!("{what} {word}"), detail);
        match placed {
            Placed::Kept => event("kept", "is there"),
            Placed::Written => event("written", "is there now"),
            Placed::LeftOut => {
                let why = format!("left out: {what} was published without a signature");
                self.console.warn(&why);
            }
        }
    }

    fn create_bundle(&self, args: &BundleCreateArgs) -> Result<u8, Failure> {
        let lock = self.read_lock(args.lock.as_str())?;
        let network = Network::new(self, &args.download);
        let (ring, temp_dir) = (network.ring()?, self.temp_dir());
        let document: Document = self.catalog.own_document();
        let contents = bundle::Contents {
            lock: &lock,
            document: &document,
            signed: self.signed.as_ref(),
        };
        let mirror = args.mirror.as_ref().map(|url| url.as_str().trim_end_matches('/'));
        bundle::create(&network.supplier(&ring, &temp_dir)?, contents, mirror, &args.out)?;
        let text = format!(
            "bundled {} packages in {}\n{}",
            lock.package.len(),
            args.out.display(),
            rows(&lock)
        );
        self.finish(&text, &lock)?;
        Ok(exit::OK)
    }
}
