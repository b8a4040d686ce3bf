//! What a plan needs of the network: which version is the newest, and its package.

use std::cell::OnceCell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use ssmbake_installers::acquire::{
    self, FetchRequest, KeyRing, Origin, ProxySettings, Transport, TransportOptions, Verified, Voucher,
    address,
};
use ssmbake_installers::error::IoError;
use ssmbake_installers::plan::{Plan, Step, VersionSpec};
use ssmbake_installers::supply::lockfile::instant;
use ssmbake_installers::supply::{Bundle, Supplier};
use ssmbake_installers::trust::x509::pem_blocks;
use ssmbake_manifests::{AgentVersion, Arch, Channel, PackageFormat, hex};

use super::Session;
use crate::args::Download;
use crate::exit::{self, Failure};
use crate::host;

/// Version, base URL, folder, format and architecture of the package that `plan` installs.
pub(super) fn package_of(plan: &Plan) -> Option<(&AgentVersion, &str, &str, PackageFormat, Arch)> {
    plan.steps.iter().find_map(|step| match step {
        Step::InstallPackage {
            version: VersionSpec::Exact(version),
            base_url,
            folder,
            format,
            arch,
            ..
        } => Some((version, base_url.as_str(), folder.as_str(), *format, *arch)),
        _ => None,
    })
}

/// The network, set up only when a plan needs it.
pub(super) struct Network<'a> {
    session: &'a Session<'a>,
    args: &'a Download,
    bundle: Option<Bundle>,
    client: OnceCell<Transport>,
}

impl<'a> Network<'a> {
    pub(super) fn new(session: &'a Session<'a>, args: &'a Download) -> Self {
        Self {
            session,
            args,
            bundle: None,
            client: OnceCell::new(),
        }
    }

    /// Asks a bundle where there is one, and no server.
    pub(super) fn or_bundle(self, bundle: Option<Bundle>) -> Self {
        Self { bundle, ..self }
    }

    fn origin(&self) -> Result<&(dyn Origin + Sync), Failure> {
        match &self.bundle {
            Some(bundle) => Ok(bundle),
            None => Ok(self.transport()?),
        }
    }

    /// AWS's keys and the user's own.
    pub(super) fn ring(&self) -> Result<KeyRing, Failure> {
        let mut ring = KeyRing::embedded(self.session.catalog)?;
        for path in &self.args.keyring {
            for key in ring.add_certificates(&host::read(path)?)? {
                let name = &key.fingerprint;
                self.session.console.warn(&match key.revoked {
                    None => format!("packages signed by {name} are accepted as well"),
                    Some(revoked) => {
                        format!(
                            "the key {name} was revoked at {}: {}",
                            instant(revoked.at),
                            revoked.reason
                        )
                    }
                });
            }
        }
        Ok(ring)
    }

    /// What fetches for other things than a plan.
    pub(super) fn supplier<'b>(
        &'b self,
        ring: &'b KeyRing,
        temp_dir: &'b Path,
    ) -> Result<Supplier<'b>, Failure> {
        Ok(self.supplier_of(self.origin()?, ring, temp_dir))
    }

    /// The same from an origin of the caller's.
    pub(super) fn supplier_of<'b>(
        &'b self,
        origin: &'b (dyn Origin + Sync),
        ring: &'b KeyRing,
        temp_dir: &'b Path,
    ) -> Supplier<'b> {
        Supplier {
            origin,
            ring,
            agent: self.session.catalog.agent(),
            temp_dir,
            cache: self.args.cache_dir.as_deref(),
            progress: self.session.console,
        }
    }

    /// The version that a bucket's channel stands for.
    pub(super) fn newest(&self, base: &str, channel: Channel) -> Result<AgentVersion, Failure> {
        let agent = self.session.catalog.agent();
        Ok(acquire::resolve(self.origin()?, agent, base, channel)?)
    }

    pub(super) fn resolve(&self, draft: &Plan, version: VersionSpec) -> Result<VersionSpec, Failure> {
        let channel = match version {
            VersionSpec::Exact(_) => return Ok(version),
            VersionSpec::Latest => Channel::Latest,
            VersionSpec::Stable => Channel::Stable,
        };
        // A system with a last agent of its own has an exact version already.
        let base = draft.steps.iter().find_map(|step| match step {
            Step::InstallPackage {
                version: VersionSpec::Exact(_),
                ..
            } => None,
            Step::InstallPackage { base_url, .. } => Some(base_url),
            _ => None,
        });
        let Some(base) = base else { return Ok(version) };
        let resolved = self.newest(base, channel)?;
        self.session.console.event(
            "resolved",
            &format!("{channel} is {resolved}"),
            json!({ "version": resolved }),
        );
        Ok(VersionSpec::Exact(resolved))
    }

    /// The package of the plan, unpacked into files that `unpack_into` makes.
    pub(super) fn fetch(
        &self,
        plan: &Plan,
        unpack_into: &dyn Fn() -> Result<File, IoError>,
    ) -> Result<Option<Verified>, Failure> {
        let Some((version, base_url, folder, format, arch)) = package_of(plan) else {
            return Ok(None);
        };
        let ring = self.ring()?;
        let request = FetchRequest {
            base_url: base_url.to_owned(),
            version: *version,
            folder: folder.to_owned(),
            format,
            arch,
            pin: plan.request.sha256.as_deref().and_then(hex::digest),
            cache: self.args.cache_dir.clone(),
            temp_dir: self.session.temp_dir(),
        };
        let verified = acquire::fetch(
            self.origin()?,
            &ring,
            self.session.catalog.agent(),
            &request,
            unpack_into,
            self.session.console,
        )?;
        if let Some(signer) = &plan.request.signer {
            signer.expect(verified.voucher())?;
        }
        let text = match verified.voucher() {
            Voucher::Signature(by) => format!("verified {} with key {}", verified.sha256(), by.fingerprint),
            Voucher::Authenticode(by) => format!("verified {}, signed by {}", verified.sha256(), by.name),
            Voucher::PinnedDigest => format!("verified {} as named; it has no signature", verified.sha256()),
        };
        self.session.console.event(
            "verified",
            &text,
            json!({ "sha256": verified.sha256(), "voucher": verified.voucher() }),
        );
        Ok(Some(verified))
    }

    fn transport(&self) -> Result<&Transport, Failure> {
        if self.client.get().is_none() {
            // It was empty a line ago, and there is one thread.
            drop(self.client.set(self.connect()?));
        }
        self.client
            .get()
            .ok_or_else(|| Failure::new(exit::INTERNAL, "no network client", "please report this"))
    }

    fn connect(&self) -> Result<Transport, Failure> {
        Ok(Transport::new(&self.options()?)?)
    }

    /// How servers are reached, a mirror's own among them.
    pub(super) fn options(&self) -> Result<TransportOptions, Failure> {
        self.session.options(Some(self.args))
    }
}

/// The proxy that the user named, or the environment's.
fn proxy_settings(session: &Session<'_>, named: Option<&str>) -> Result<ProxySettings, Failure> {
    let variable = |names: [&'static str; 2]| {
        let mut found = names
            .iter()
            .filter_map(|name| Some((*name, session.named_by(name)?)));
        let option = named.map(|url| ("--download-proxy", url));
        option
            .or_else(|| found.next())
            .map(|(name, url)| proxy(name, url))
            .transpose()
    };
    Ok(ProxySettings {
        https: variable(["HTTPS_PROXY", "https_proxy"])?,
        http: variable(["HTTP_PROXY", "http_proxy"])?,
        no_proxy: ["NO_PROXY", "no_proxy"]
            .iter()
            .find_map(|name| session.environment.get(*name).cloned()),
    })
}

/// What `name` says, if it is a proxy.
fn proxy(name: &str, url: &str) -> Result<String, Failure> {
    acquire::proxy_url(url).ok_or_else(|| {
        Failure::new(
            exit::USAGE,
            format!("{name}: `{}` is no proxy", address::shown(url)),
            "give http://HOST:PORT, https:// or socks5://, with USER:PASSWORD@ if it wants them",
        )
    })
}

/// Where a verb has no options for downloads.
const TIMEOUT: u64 = 60;
const RETRIES: u32 = 3;
/// More than any activation.
const ACTIVATION_LIMIT: u64 = 64 * 1024;
/// Of the first boot, which tries again itself.
const ACTIVATION_TIMEOUT: Duration = Duration::from_secs(30);

impl Session<'_> {
    /// What a variable says; set to nothing it says nothing.
    fn named_by(&self, name: &str) -> Option<&str> {
        let value = self.environment.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    /// How servers are reached: as the verb's own options say, if it has some.
    pub(super) fn options(&self, download: Option<&Download>) -> Result<TransportOptions, Failure> {
        let files = download.map_or(&[][..], |download| &download.ca_file);
        let proxy = download.and_then(|download| download.download_proxy.as_deref());
        let (seconds, retries) = download.map_or((TIMEOUT, RETRIES), |one| (one.timeout, one.retries));
        Ok(TransportOptions {
            roots_der: roots_der(self, files)?,
            proxy: proxy_settings(self, proxy)?,
            timeout: Duration::from_secs(seconds),
            retries,
            interrupt: self.interrupt.clone(),
            secrets: self.secrets.clone(),
        })
    }

    /// Prints what an https URL holds; the first-boot job looks for an activation in it.
    pub(super) fn activation(&self, url: &str) -> Result<u8, Failure> {
        if !url.starts_with("https://") {
            let hint = "an activation is a secret: give an https URL";
            return Err(Failure::new(
                exit::USAGE,
                format!("`{}` is no https URL", address::shown(url)),
                hint,
            ));
        }
        let transport = Transport::new(&TransportOptions {
            timeout: ACTIVATION_TIMEOUT,
            retries: 0,
            ..self.options(None)?
        })?;
        let bytes = transport.get_small(url, ACTIVATION_LIMIT)?;
        self.console.raw(&String::from_utf8_lossy(&bytes));
        Ok(exit::OK)
    }
}

/// AWS's roots, this machine's, and those of `files`, DER.
pub(super) fn roots_der(session: &Session<'_>, files: &[PathBuf]) -> Result<Vec<Vec<u8>>, Failure> {
    let mut roots: Vec<Vec<u8>> = session
        .catalog
        .anchors()
        .iter()
        .map(|anchor| anchor.der())
        .collect();
    for path in files {
        roots.extend(certificates("--ca-file", path)?);
    }
    let named = ["AWS_CA_BUNDLE", "SSL_CERT_FILE"]
        .iter()
        .find_map(|name| Some((*name, session.named_by(name)?)));
    match named {
        Some((name, path)) => roots.extend(certificates(name, path.as_ref())?),
        None => roots.extend(host::ca_bundle().iter().flat_map(|bytes| ders(bytes))),
    }
    Ok(roots)
}

fn ders(pem: &[u8]) -> Vec<Vec<u8>> {
    let blocks = pem_blocks(pem).into_iter();
    blocks.map(|certificate| certificate.der().to_vec()).collect()
}

/// The certificates of a file that `name` names: without any, others than the user meant would be trusted.
fn certificates(name: &str, path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let hint = "name a file of CA certificates, PEM, or nothing";
    let bytes = host::read(path);
    let found = ders(&bytes.map_err(|error| Failure::new(exit::USAGE, format!("{name}: {error}"), hint))?);
    match found.is_empty() {
        true => Err(Failure::new(
            exit::USAGE,
            format!("{name}: `{}` holds no certificate", path.display()),
            hint,
        )),
        false => Ok(found),
    }
}
