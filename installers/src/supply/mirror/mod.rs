//! Mirrors: a directory or a bucket in the layout of AWS's own, which any web server can offer and `--mirror` as well as AWS's
//! tools can use. Whatever a reader sees at any moment is whole: a package comes after its signature, the list of archives
//! after these, and VERSION last.

mod bucket;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use object_store::path::Path as Key;
use ssmbake_manifests::{AgentVersion, Channel, PackageFormat, hex};

use super::release::{Listing, ReleaseList};
use super::{LockFile, Locked, Supplier, SupplyError, Target, lockfile};
use crate::acquire::store::{self, Fetched};
use crate::acquire::{AcquireError, NetworkError, TransportOptions};
use crate::error::IoError;
use crate::signed;
use bucket::Bucket;

/// Why a mirror is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The place is none.
    #[error("`{place}` is no place for a mirror: {why}")]
    Place {
        /// As given.
        place: String,
        /// Why.
        why: String,
    },
    /// Others write and remove without end.
    #[error("`{0}` changed again and again while the mirror was written")]
    Contended(String),
    /// The store said no.
    #[error("the mirror cannot be {verb}: {source}")]
    Store {
        /// `read`, `written`.
        verb: &'static str,
        /// Why.
        source: object_store::Error,
    },
    /// By a signal.
    #[error("the mirror was not written to its end")]
    Interrupted,
    /// A package, or the way there.
    #[error(transparent)]
    Supply(#[from] SupplyError),
    /// The build machine.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// Where a mirror is.
#[derive(Debug)]
pub struct Mirror(Bucket);

/// A package that shall be there.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// Exactly this one, from where it was locked or from another base URL.
    Locked(Locked, Option<String>),
    /// Whatever the base URL has for a target.
    Chosen(Target, String),
}

/// How it is offered.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// The channels that name the newest version.
    pub channels: Vec<Channel>,
    /// The mirror's own URL, where AWS's tools shall use it as well: their files are mirrored too, and the list of them
    /// says that they are there.
    pub public_url: Option<String>,
    /// Every folder that a channel may offer, and the format of its packages.
    pub folders: BTreeMap<String, PackageFormat>,
}

/// What a sync has led to.
#[derive(Debug)]
pub struct Synced {
    /// The packages as they are there now.
    pub lock: LockFile,
    /// Channels that still name what they named.
    pub held: Vec<Held>,
}

/// A channel that does not name the newest version: systems that it serves would find no package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub channel: Channel,
    /// What it would name.
    pub version: AgentVersion,
    /// Folders that it offers, and the version has not.
    pub folders: Vec<String>,
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It was there.
    Kept,
    /// It is there now.
    Written,
    /// Nobody vouches for it.
    LeftOut,
}

/// A file of a mirror.
#[derive(Debug, Clone, Copy)]
pub enum Item<'a> {
    /// A package.
    Package(&'a Locked),
    /// Something else that AWS's tools take, by its path.
    Other(&'a str),
}

/// Hears of each file.
pub type Told<'a> = dyn Fn(Item<'_>, Placed) + Sync + 'a;

/// Lists of releases, by base URL.
type Lists = BTreeMap<String, ReleaseList>;

/// Folders that have a package, and its format.
type Places<'a> = BTreeMap<&'a str, PackageFormat>;

/// A package that is there, and what a list says about the archives for its updates.
struct Entry {
    locked: Locked,
    base_url: String,
    listings: Vec<Listing>,
}

impl Wanted {
    fn base_url(&self) -> &str {
        match self {
            Self::Locked(locked, base) => base.as_deref().or_else(|| locked.base_url()).unwrap_or_default(),
            Self::Chosen(_, base) => base,
        }
    }
}

impl Mirror {
    /// `s3://BUCKET/PREFIX`, with credentials, region and endpoint from `AWS_…` variables, or a directory, which is made.
    /// Trust, proxies, tries and limits of a bucket are those of downloads.
    pub fn open(
        place: &str,
        environment: &BTreeMap<String, String>,
        options: &TransportOptions,
    ) -> Result<Self, MirrorError> {
        Ok(Self(Bucket::open(place, environment, options)?))
    }

    /// Fetches what is not there yet, `jobs` packages at a time, and offers it.
    pub fn sync(
        &self,
        supplier: &Supplier<'_>,
        wanted: &[Wanted],
        offer: &Offer,
        jobs: usize,
        told: &Told<'_>,
    ) -> Result<Synced, MirrorError> {
        let mut lists = Lists::new();
        if offer.public_url.is_some() {
            for base in wanted.iter().map(Wanted::base_url) {
                if !lists.contains_key(base) {
                    lists.insert(base.to_owned(), supplier.releases(base)?);
                }
            }
        }
        let queue: Mutex<VecDeque<&Wanted>> = Mutex::new(wanted.iter().collect());
        let done: Mutex<Result<Vec<Entry>, MirrorError>> = Mutex::new(Ok(Vec::new()));
        let done_so_far = || done.lock().unwrap_or_else(PoisonError::into_inner);
        let work = || {
            let next = || {
                let is_failed = done_so_far().is_err();
                let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
                queue.pop_front().filter(|_| !is_failed)
            };
            while let Some(wanted) = next() {
                let placed = self.place(supplier, wanted, &lists, told);
                let mut done = done_so_far();
                match (placed, &mut *done) {
                    (Ok(entry), Ok(all)) => all.push(entry),
                    (Err(error), Ok(_)) => *done = Err(error),
                    // The first failure is the one that is told.
                    (_, Err(_)) => {}
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..jobs.clamp(1, wanted.len().max(1)) {
                scope.spawn(work);
            }
        });
        let entries = done.into_inner().unwrap_or_else(PoisonError::into_inner)?;
        if offer.public_url.is_some() {
            self.place_setup_cli(supplier, &entries, told)?;
        }
        let held = self.publish(supplier, &entries, offer)?;
        let lock = LockFile::new(entries.into_iter().map(|entry| entry.locked).collect());
        Ok(Synced { lock, held })
    }

    /// Offers a lock and its signature for machines that want one. A reader between the two writes refuses both.
    pub fn offer_lock(&self, lock: Vec<u8>, signature: Vec<u8>) -> Result<(), MirrorError> {
        let runtime = runtime()?;
        let offer = async {
            let name = lockfile::NAME;
            for (name, bytes) in [
                (format!("{name}{}", signed::BESIDE), signature),
                (name.to_owned(), lock),
            ] {
                let changed = |there: Option<&[u8]>| (there != Some(&bytes)).then(|| bytes.clone());
                self.0.change(&Key::from(name), changed).await?;
            }
            Ok(())
        };
        self.0.alone(|| runtime.block_on(offer))
    }

    /// One package, its signature, and where there is a list the archives for its updates.
    fn place(
        &self,
        supplier: &Supplier<'_>,
        wanted: &Wanted,
        lists: &Lists,
        told: &Told<'_>,
    ) -> Result<Entry, MirrorError> {
        let (locked, placed) = self.place_package(supplier, wanted)?;
        told(Item::Package(&locked), placed);
        let base_url = wanted.base_url();
        let listings = match lists.get(base_url) {
            Some(list) => supplier.listings(list, &locked)?,
            None => Vec::new(),
        };
        let runtime = runtime()?;
        for listing in &listings {
            let key = Key::from(listing.path.as_str());
            let mut placed = Placed::Kept;
            if !runtime.block_on(self.0.has(&key, &listing.sha256))? {
                let archive = supplier.archive(base_url, listing, &locked)?;
                runtime.block_on(self.0.upload(&key, rewound(&archive)?))?;
                placed = Placed::Written;
            }
            told(Item::Other(&listing.path), placed);
        }
        Ok(Entry {
            base_url: base_url.to_owned(),
            locked,
            listings,
        })
    }

    /// One package and its signature, unless these very bytes are there.
    fn place_package(
        &self,
        supplier: &Supplier<'_>,
        wanted: &Wanted,
    ) -> Result<(Locked, Placed), MirrorError> {
        let runtime = runtime()?;
        let has = |locked: &Locked| self.own(supplier).has(locked, bucket::OWN);
        let (locked, verified) = match wanted {
            Wanted::Locked(locked, _) if has(locked) => return Ok((locked.clone(), Placed::Kept)),
            Wanted::Locked(locked, base) => (locked.clone(), supplier.locked(locked, base.as_deref())?),
            Wanted::Chosen(target, base) => {
                if let Some(locked) = self.kept(supplier, target, base)? {
                    return Ok((locked, Placed::Kept));
                }
                // What it is like is known only when it is here.
                let verified = supplier.target(target, base).map_err(SupplyError::from)?;
                let locked = Locked::new(target, &verified);
                // A signature beside it has told already that it is not there, or not like this.
                if target.format == PackageFormat::Exe && has(&locked) {
                    return Ok((locked, Placed::Kept));
                }
                (locked, verified)
            }
        };
        let (package, signature) = keys(
            supplier,
            &locked.version.to_string(),
            &locked.folder,
            locked.format,
        );
        runtime.block_on(async {
            if let Some(signature) = signature {
                self.0.put(&signature, verified.signature().to_vec()).await?;
            }
            self.0.upload(&package, verified.file()?).await
        })?;
        Ok((locked, Placed::Written))
    }

    /// The package of a target as it is there, which passes as if it had been fetched: the server has the same signature.
    fn kept(
        &self,
        supplier: &Supplier<'_>,
        target: &Target,
        base_url: &str,
    ) -> Result<Option<Locked>, MirrorError> {
        let path = supplier
            .agent
            .package_path(&target.version, &target.folder, target.format);
        if target.format == PackageFormat::Exe || !self.has_signature(supplier, base_url, &path)? {
            return Ok(None);
        }
        let kept = self.own(supplier).target(target, bucket::OWN).ok();
        Ok(kept.map(|verified| Locked {
            url: format!("{base_url}/{path}"),
            ..Locked::new(target, &verified)
        }))
    }

    /// Verifies what is there already.
    fn own<'a>(&'a self, supplier: &Supplier<'a>) -> Supplier<'a> {
        Supplier {
            origin: &self.0,
            cache: None,
            ..*supplier
        }
    }

    /// Whether the signature of what is at `path` is the one that the server has.
    fn has_signature(
        &self,
        supplier: &Supplier<'_>,
        base_url: &str,
        path: &str,
    ) -> Result<bool, MirrorError> {
        let (path, limit) = (
            supplier.agent.signature_path(path),
            supplier.agent.limits.signature_bytes,
        );
        let Some(own) = runtime()?.block_on(self.0.read(&Key::from(path.as_str())))? else {
            return Ok(false);
        };
        match supplier.origin.get_small(&format!("{base_url}/{path}"), limit) {
            Ok(theirs) => Ok(theirs == own),
            Err(NetworkError::NotFound { .. }) => Ok(false),
            Err(error) => Err(SupplyError::from(AcquireError::from(error)).into()),
        }
    }

    /// AWS's own installer, for the systems of each folder.
    fn place_setup_cli(
        &self,
        supplier: &Supplier<'_>,
        entries: &[Entry],
        told: &Told<'_>,
    ) -> Result<(), MirrorError> {
        let folders: BTreeMap<&str, &Entry> = entries
            .iter()
            .map(|entry| (entry.locked.folder.as_str(), entry))
            .collect();
        let runtime = runtime()?;
        for entry in folders.into_values() {
            let Entry { locked, base_url, .. } = entry;
            let path = supplier.agent.setup_cli_path(&locked.folder, locked.format);
            if self.has_signature(supplier, base_url, &path)?
                && self.own(supplier).setup_cli(bucket::OWN, locked).is_ok()
            {
                told(Item::Other(&path), Placed::Kept);
                continue;
            }
            let fetched = supplier.setup_cli(base_url, locked)?;
            let placed = match fetched {
                None => Placed::LeftOut,
                Some(fetched) => runtime.block_on(async {
                    let key = Key::from(path.as_str());
                    let is_inside = fetched.signature.is_empty();
                    if is_inside && self.0.has(&key, &hex::encode(&fetched.sha256)).await? {
                        return Ok::<_, MirrorError>(Placed::Kept);
                    }
                    if !is_inside {
                        let signature = Key::from(supplier.agent.signature_path(&path));
                        self.0.put(&signature, fetched.signature.clone()).await?;
                    }
                    self.0.upload(&key, rewound(&fetched)?).await?;
                    Ok(Placed::Written)
                })?,
            };
            told(Item::Other(&path), placed);
        }
        Ok(())
    }

    /// Lets the list name what is there, and the channels the newest version, when everything of it is there.
    fn publish(
        &self,
        supplier: &Supplier<'_>,
        entries: &[Entry],
        offer: &Offer,
    ) -> Result<Vec<Held>, MirrorError> {
        let Some(newest) = entries.iter().map(|entry| entry.locked.version).max() else {
            return Ok(Vec::new());
        };
        let publish = async {
            if let Some(url) = &offer.public_url {
                self.list(supplier, entries, url).await?;
            }
            let mut held = Vec::new();
            // Of this run and of those before it.
            let places = self.places(supplier, offer, &newest.to_string()).await?;
            for channel in &offer.channels {
                let folders = self
                    .left_behind(supplier, offer, *channel, newest, &places)
                    .await?;
                if folders.is_empty() {
                    self.raise(supplier, &places, newest, *channel).await?;
                } else {
                    held.push(Held {
                        channel: *channel,
                        version: newest,
                        folders,
                    });
                }
            }
            Ok(held)
        };
        let runtime = runtime()?;
        self.0.alone(|| runtime.block_on(publish))
    }

    /// The folders that have a package below `version`, which may be a channel's word.
    async fn places<'a>(
        &self,
        supplier: &Supplier<'_>,
        offer: &'a Offer,
        version: &str,
    ) -> Result<Places<'a>, MirrorError> {
        let mut places = Places::new();
        for (folder, format) in &offer.folders {
            let (package, _) = keys(supplier, version, folder, *format);
            if self.0.meta(&package).await?.is_some() {
                places.insert(folder, *format);
            }
        }
        Ok(places)
    }

    /// The folders whose systems would find no package any more if `channel` named `newest`.
    async fn left_behind(
        &self,
        supplier: &Supplier<'_>,
        offer: &Offer,
        channel: Channel,
        newest: AgentVersion,
        places: &Places<'_>,
    ) -> Result<Vec<String>, MirrorError> {
        let at = Key::from(supplier.agent.version_path(channel));
        let Some(named) = self.named(&at).await?.filter(|named| *named < newest) else {
            return Ok(Vec::new());
        };
        let mut offered = self.places(supplier, offer, channel.word()).await?;
        offered.extend(self.places(supplier, offer, &named.to_string()).await?);
        let left = offered.into_keys().filter(|folder| !places.contains_key(folder));
        Ok(left.map(str::to_owned).collect())
    }

    /// The version that a VERSION file names, if it names one.
    async fn named(&self, at: &Key) -> Result<Option<AgentVersion>, MirrorError> {
        Ok(self.0.read(at).await?.as_deref().and_then(version))
    }

    /// Lets a channel name the newest version, and offer its packages.
    ///
    /// Writers of a bucket cannot keep each other away: one may copy an old package after another has raised VERSION. So
    /// nobody is done before VERSION has been the same from before the copies until after them. What a channel offers is
    /// looked at before: a folder that another writer adds to an old version meanwhile is not waited for.
    async fn raise(
        &self,
        supplier: &Supplier<'_>,
        places: &Places<'_>,
        newest: AgentVersion,
        channel: Channel,
    ) -> Result<(), MirrorError> {
        let at = Key::from(supplier.agent.version_path(channel));
        // Never over a newer one; a file that holds no version is replaced.
        let raised = |there: Option<&[u8]>| {
            let is_older = there.and_then(version).is_none_or(|there| there < newest);
            is_older.then(|| format!("{newest}\n").into_bytes())
        };
        let mut before = self.named(&at).await?;
        for _ in 0..bucket::TRIES {
            let offered = before.map_or(newest, |before| before.max(newest));
            for (folder, format) in places {
                let (package, signature) = keys(supplier, &offered.to_string(), folder, *format);
                let (to_package, to_signature) = keys(supplier, channel.word(), folder, *format);
                let signatures = signature.zip(to_signature);
                for (from, to) in signatures.into_iter().chain([(package, to_package)]) {
                    // Another writer's version need not have every package.
                    if !self.0.copy(&from, &to).await? && offered == newest {
                        return Err(MirrorError::Contended(from.to_string()));
                    }
                }
            }
            self.0.change(&at, raised).await?;
            let after = self.named(&at).await?;
            if after == before {
                return Ok(());
            }
            before = after;
        }
        Err(MirrorError::Contended(at.to_string()))
    }

    /// Adds to the list what is there now.
    async fn list(
        &self,
        supplier: &Supplier<'_>,
        entries: &[Entry],
        public_url: &str,
    ) -> Result<(), MirrorError> {
        let uri = supplier.agent.manifest_uri(public_url.trim_end_matches('/'));
        let listed = |there: Option<&[u8]>| {
            // A file that is no list is replaced.
            let known = there.and_then(|bytes| ReleaseList::parse(bytes).ok());
            let mut list = known.unwrap_or_default();
            list.set_uri(&uri);
            let listings = entries.iter().flat_map(|entry| &entry.listings);
            listings.for_each(|listing| list.add(listing));
            let bytes = list.render();
            (there != Some(&bytes)).then_some(bytes)
        };
        let at = Key::from(supplier.agent.download.manifest.as_str());
        self.0.change(&at, listed).await
    }
}

/// What a VERSION file says.
fn version(bytes: &[u8]) -> Option<AgentVersion> {
    String::from_utf8_lossy(bytes).trim().parse().ok()
}

fn rewound(fetched: &Fetched) -> Result<&std::fs::File, IoError> {
    store::rewound(&fetched.file).map_err(|error| IoError::new("read", "what was fetched", error))
}

fn runtime() -> Result<tokio::runtime::Runtime, MirrorError> {
    Ok(bucket::runtime().map_err(|error| IoError::new("start", "the mirror's writer", error))?)
}

/// Package and signature below `version`, which may be a channel's word.
fn keys(supplier: &Supplier<'_>, version: &str, folder: &str, format: PackageFormat) -> (Key, Option<Key>) {
    let file = supplier.agent.package_file_name(format);
    let package = format!("{version}/{folder}/{file}");
    // A program for Windows has its signature inside.
    let is_beside = format != PackageFormat::Exe;
    let signature = is_beside.then(|| Key::from(supplier.agent.signature_path(&package)));
    (Key::from(package), signature)
}
