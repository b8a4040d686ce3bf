//! Catalogs that are newer than this program, and whose signature makes them, locks and bundles count.

use std::io::ErrorKind;
use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};
use ssmbake_installers::acquire::{NetworkError, Origin, Transport};
use ssmbake_installers::signed::{self, Signer};
use ssmbake_installers::supply::Bundle;
use ssmbake_installers::supply::bundle::SignedCatalog;
use ssmbake_installers::supply::lockfile::{instant, seconds};
use ssmbake_manifests::{Catalog, Document, hex};

use super::Session;
use crate::args::{BundleCommand, CatalogCommand, CatalogExportArgs, Command};
use crate::exit::{self, Failure};
use crate::host;
use crate::memory::{self, Seen};

/// Of a catalog or a lock, bytes.
const LIMIT: u64 = 16 * 1024 * 1024;

/// Whether a catalog that counts is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Memory {
    /// It is used.
    Keep,
    /// It is only looked at.
    Look,
}

/// Who signed something.
struct By {
    /// In words.
    how: String,
    /// [`Signer::name`].
    signer: String,
}

fn is_url(place: &str) -> bool {
    place.starts_with("https://") || place.starts_with("http://")
}

impl Session<'_> {
    /// The catalog that `--catalog` names, or else that of the bundle, if it counts.
    pub(super) fn signed_catalog(&self) -> Result<Option<(Catalog, SignedCatalog)>, Failure> {
        let (place, signed) = match (&self.cli.common.trust.catalog, self.named_bundle()) {
            (Some(place), _) => (place.as_str().to_owned(), self.read_catalog(place.as_str())?),
            (None, Some(path)) if self.signer()?.is_some() => match Bundle::open(path)?.signed_catalog()? {
                Some(signed) => (format!("{}: catalog", path.display()), signed),
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        // The verbs that look at catalogs take none.
        let memory = match &self.cli.command {
            Command::Catalog { .. } => Memory::Look,
            _ => Memory::Keep,
        };
        let (document, catalog, _) = self.verified_catalog(&place, &signed, memory)?;
        self.console.event(
            "catalog",
            &format!("catalog {} of {}", document.serial, document.issued),
            json!({ "serial": document.serial, "issued": document.issued, "expires": document.expires }),
        );
        Ok(Some((catalog, signed)))
    }

    /// The bundle that this verb was told of.
    fn named_bundle(&self) -> Option<&Path> {
        match &self.cli.command {
            Command::Apply(args) => args.wanted.bundle.as_deref(),
            Command::Plan(args) => args.wanted.bundle.as_deref(),
            Command::Bundle {
                command: BundleCommand::Verify(args),
            } => Some(&args.file),
            _ => None,
        }
    }

    /// A catalog and what is beside it.
    fn read_catalog(&self, place: &str) -> Result<SignedCatalog, Failure> {
        // Nothing is asked of a server for nobody.
        self.named_signer(place)?;
        Ok(SignedCatalog {
            bytes: self.read_place(place)?,
            signature: self.signature_of(place)?,
        })
    }

    /// Signature, then content, then age: older than what is built in or was seen, or past its end, it is refused.
    fn verified_catalog(
        &self,
        place: &str,
        signed: &SignedCatalog,
        memory: Memory,
    ) -> Result<(Document, Catalog, String), Failure> {
        let bytes = &signed.bytes;
        let by = self.verify_signature(place, &bytes[..], &signed.signature)?;
        let refuse = |what: String, hint: &str| Failure::new(exit::VERIFICATION, what, hint);
        let malformed = |error: ssmbake_manifests::CatalogError| {
            refuse(error.to_string(), "export it with an ssmbake of this version")
        };
        let document = Document::parse(bytes).map_err(malformed)?;
        let catalog = Catalog::of(document.clone()).map_err(malformed)?;
        for anchor in catalog.anchors() {
            if Sha256::digest(anchor.der())[..] != anchor.sha256 {
                let what = format!("the root {} of the catalog is another than it says", anchor.id);
                return Err(refuse(what, "do not use it"));
            }
        }
        let ends = seconds(&document.expires);
        if ends.is_none_or(|ends| ends <= host::now()) {
            let what = format!("the catalog {} ended at {}", document.serial, document.expires);
            return Err(refuse(
                what,
                "get a newer one: somebody may be holding newer ones back",
            ));
        }
        let built_in = Catalog::embedded_serial();
        if document.serial < built_in {
            let what = format!(
                "the catalog {} is older than {built_in}, which is built in",
                document.serial
            );
            return Err(refuse(what, "leave out --catalog, or get a newer one"));
        }
        let found = Seen {
            signer: by.signer,
            serial: document.serial,
            sha256: hex::encode(&Sha256::digest(bytes)),
        };
        self.remember(found, memory)?;
        Ok((document, catalog, by.how))
    }

    /// Nobody gets this machine to go back: each signer's catalogs have a memory of their own.
    fn remember(&self, found: Seen, memory: Memory) -> Result<(), Failure> {
        let forgets = |why: &dyn std::fmt::Display| {
            self.console
                .warn(&format!("which catalog was seen is not remembered: {why}"));
        };
        let Some(path) = memory::place(self.environment, &found.signer) else {
            forgets(&"HOME is not set");
            return Ok(());
        };
        let lock = match memory {
            Memory::Look => None,
            Memory::Keep => memory::lock(&path).map_err(|error| forgets(&error)).ok(),
        };
        let seen = memory::read(&path)?;
        let is_other = |seen: &Seen| seen.serial == found.serial && seen.sha256 != found.sha256;
        match seen {
            Some(seen) if seen.serial > found.serial || is_other(&seen) => Err(Failure::new(
                exit::VERIFICATION,
                format!(
                    "the catalog {} is not newer than {}, which was seen here",
                    found.serial, seen.serial
                ),
                format!(
                    "somebody may be going back to an old one; if you are, remove `{}`",
                    path.display()
                ),
            )),
            Some(seen) if seen.serial == found.serial => Ok(()),
            _ if lock.is_none() => Ok(()),
            _ => {
                if let Err(failure) = memory::write(&path, &found) {
                    forgets(&failure.message);
                }
                Ok(())
            }
        }
    }

    /// Whose signature counts: none is named, none is asked for.
    fn signer(&self) -> Result<Option<Signer>, Failure> {
        let trust = &self.cli.common.trust;
        Ok(
            match (&trust.signer_key, &trust.signer_identity, &trust.signer_issuer) {
                (Some(path), ..) => {
                    let pem = host::read(path)?;
                    Some(Signer::Key(String::from_utf8_lossy(&pem).into_owned()))
                }
                (None, Some(identity), Some(issuer)) => Some(Signer::Identity {
                    identity: identity.clone(),
                    issuer: issuer.clone(),
                }),
                _ => None,
            },
        )
    }

    fn named_signer(&self, place: &str) -> Result<Signer, Failure> {
        self.signer()?.ok_or_else(|| {
            let hint = "name --signer-key, or --signer-identity, --signer-issuer and --trusted-root";
            let what = format!("nobody is named who may have signed `{place}`");
            Failure::new(exit::USAGE, what, hint)
        })
    }

    /// Checks a signature of what lies at `place`.
    fn verify_signature(
        &self,
        place: &str,
        file: impl std::io::Read,
        signature: &[u8],
    ) -> Result<By, Failure> {
        let signer = self.named_signer(place)?;
        let root = &self.cli.common.trust.trusted_root;
        let root = root.as_deref().map(host::read).transpose()?;
        let how = signed::verify(file, signature, &signer, root.as_deref());
        let by = how.and_then(|how| {
            let signer = signer.name()?;
            Ok(By { how, signer })
        });
        by.map_err(|error| match error {
            signed::SignedError::Unusable { .. } => {
                Failure::new(exit::USAGE, error, "give a PEM public key, and trusted_root.json")
            }
            signed::SignedError::Refused(_) => {
                Failure::new(exit::VERIFICATION, format!("`{place}`: {error}"), "do not use it")
            }
        })
    }

    /// Checks a lock's or a bundle's signature where it has to have one: who names a signer wants a signature.
    pub(super) fn check_signed(&self, place: &str, file: impl std::io::Read) -> Result<(), Failure> {
        let trust = &self.cli.common.trust;
        if !trust.require_signature && trust.signer_key.is_none() && trust.signer_identity.is_none() {
            return Ok(());
        }
        self.named_signer(place)?;
        let by = self
            .verify_signature(place, file, &self.signature_of(place)?)?
            .how;
        self.console.event(
            "signed",
            &format!("`{place}` is signed {by}"),
            json!({ "place": place, "by": by }),
        );
        Ok(())
    }

    /// A file, or what a server has.
    pub(super) fn read_place(&self, place: &str) -> Result<Vec<u8>, Failure> {
        match is_url(place) {
            true => Ok(self.server()?.get_small(place, LIMIT)?),
            false => Ok(host::read(place.as_ref())?),
        }
    }

    /// The signature beside a file, PLACE.sigstore.json, where there is one.
    pub(super) fn signature_beside(&self, place: &str) -> Result<Option<Vec<u8>>, Failure> {
        self.read_if_there(&format!("{place}{}", signed::BESIDE))
    }

    fn signature_of(&self, place: &str) -> Result<Vec<u8>, Failure> {
        self.signature_beside(place)?.ok_or_else(|| {
            let what = format!(
                "`{place}` is not signed: `{place}{}` is not there",
                signed::BESIDE
            );
            Failure::new(exit::VERIFICATION, what, "do not use it, or sign it")
        })
    }

    /// As [`Self::read_place`], where there is something.
    pub(super) fn read_if_there(&self, place: &str) -> Result<Option<Vec<u8>>, Failure> {
        if is_url(place) {
            return match self.server()?.get_small(place, LIMIT) {
                Err(NetworkError::NotFound { .. }) => Ok(None),
                got => Ok(Some(got?)),
            };
        }
        match host::read(place.as_ref()) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            read => Ok(Some(read?)),
        }
    }

    fn server(&self) -> Result<Transport, Failure> {
        Ok(Transport::new(&self.options(self.cli.download())?)?)
    }

    pub(super) fn catalog_verb(&self, command: &CatalogCommand) -> Result<u8, Failure> {
        match command {
            CatalogCommand::Export(args) => self.export_catalog(args),
            CatalogCommand::Verify { file } => {
                let place = file.as_str();
                let (document, _, by) =
                    self.verified_catalog(place, &self.read_catalog(place)?, Memory::Look)?;
                let text = format!(
                    "catalog {} of {}, good until {}: signed {by}\n",
                    document.serial, document.issued, document.expires
                );
                let document = json!({
                    "serial": document.serial, "issued": document.issued, "expires": document.expires, "signed": by,
                });
                self.finish(&text, &document)?;
                Ok(exit::OK)
            }
            CatalogCommand::Show => {
                let document = self.catalog.own_document();
                let catalog = self.catalog;
                let or_never = |text: &str| {
                    if text.is_empty() {
                        "never".to_owned()
                    } else {
                        text.to_owned()
                    }
                };
                let text = format!(
                    "serial   {}\nissued   {}\nends     {}\nsystems  {}\nregions  {}\nkeys     {}\nroots    {}\nfloor    {}\n",
                    document.serial,
                    if document.issued.is_empty() {
                        "with this program"
                    } else {
                        &document.issued
                    },
                    or_never(&document.expires),
                    catalog.oses().len(),
                    catalog.regions().all().len(),
                    catalog.signing_keys().len(),
                    catalog.anchors().len(),
                    catalog.agent().floor,
                );
                self.finish(&text, &document)?;
                Ok(exit::OK)
            }
        }
    }

    fn export_catalog(&self, args: &CatalogExportArgs) -> Result<u8, Failure> {
        let usage = |what: String, hint: &str| Failure::new(exit::USAGE, what, hint);
        let issued = instant(self.epoch()?.unwrap_or_else(host::now));
        if seconds(&args.expires).is_none_or(|end| Some(end) <= seconds(&issued)) {
            let what = format!("`{}` is no time to come", args.expires);
            return Err(usage(what, "give it as 2027-09-01T00:00:00Z"));
        }
        let mut document = self.catalog.own_document();
        document.serial = args.serial.unwrap_or(document.serial);
        if document.serial < Catalog::embedded_serial() {
            let what = format!("{} is smaller than the number that is built in", document.serial);
            return Err(usage(what, "nobody would take it: count up"));
        }
        document.issued = issued;
        document.expires.clone_from(&args.expires);
        let text = document.render();
        match &args.out {
            Some(path) => {
                host::write(path, text.as_bytes())?;
                let said = format!("wrote catalog {} to {}\n", document.serial, path.display());
                self.finish(&said, &json!({ "schema": 1, "serial": document.serial }))?;
            }
            None => self.finish(&text, &document)?,
        }
        Ok(exit::OK)
    }
}
