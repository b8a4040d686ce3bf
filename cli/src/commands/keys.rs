//! `keys`, and what ends soon.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};
use ssmbake_installers::acquire::{KeyRing, Owner, Voucher};
use ssmbake_installers::supply::LockFile;
use ssmbake_installers::supply::lockfile::{instant, seconds};
use ssmbake_installers::trust::x509::Certificate;
use ssmbake_manifests::Revocation;

use super::Session;
use crate::args::{KeysCheckArgs, KeysCommand, When};
use crate::exit::{self, Failure};
use crate::host;

/// What ends within it is told, seconds.
const SOON: i64 = 90 * 86_400;

/// Something that a check has found.
pub(super) struct Remark {
    is_failure: bool,
    what: String,
}

impl Remark {
    pub(super) fn failure(what: String) -> Self {
        Self {
            is_failure: true,
            what,
        }
    }

    pub(super) fn warning(what: String) -> Self {
        Self {
            is_failure: false,
            what,
        }
    }
}

/// The packages of a lock, a line each.
pub(super) fn rows(lock: &LockFile) -> String {
    let mut text = String::new();
    for one in &lock.package {
        let _infallible = writeln!(
            text,
            "  {:<12} {:<14} {}  {}",
            one.version.to_string(),
            one.folder,
            one.sha256,
            one.systems.join(" ")
        );
    }
    text
}

impl Session<'_> {
    pub(super) fn keys(&self, command: &KeysCommand) -> Result<u8, Failure> {
        match command {
            KeysCommand::List { keyring } => {
                let ring = self.ring(keyring)?;
                let mut text = String::new();
                let mut list = Vec::new();
                for key in ring.keys() {
                    let (from, until) = (instant(key.window.0), end(key.window.1));
                    let name = &key.fingerprint;
                    let revoked = key.revoked.map(revoked).unwrap_or_default();
                    let _infallible = writeln!(text, "{name}  signs from {from} until {until}{revoked}");
                    let revoked = key
                        .revoked
                        .map(|by| json!({ "at": instant(by.at), "reason": by.reason }));
                    list.push(
                        json!({ "fingerprint": name, "from": from, "until": until, "revoked": revoked }),
                    );
                }
                self.finish(&text, &list)?;
                Ok(exit::OK)
            }
            KeysCommand::Check(args) => self.check_keys(args),
        }
    }

    /// AWS's keys and those of `files`.
    fn ring(&self, files: &[std::path::PathBuf]) -> Result<KeyRing, Failure> {
        let mut ring = KeyRing::embedded(self.catalog)?;
        for path in files {
            ring.add_certificates(&host::read(path)?)?;
        }
        Ok(ring)
    }

    fn check_keys(&self, args: &KeysCheckArgs) -> Result<u8, Failure> {
        let ring = self.ring(&args.keyring)?;
        let Some(package) = &args.package else {
            let remarks = self.ends_soon(&ring, &args.when)?;
            return self.finish_remarks(&remarks, "no key and no root ends within 90 days");
        };
        if args.signature.is_none() && host::begins_with(package, b"MZ")? {
            return self.check_program(&ring, package);
        }
        let signature = match &args.signature {
            Some(path) => host::read(path)?,
            None => host::read(Path::new(&format!("{}.sig", package.display())))?,
        };
        let refused = |error| {
            let what = format!("{}: {error}", package.display());
            Failure::new(exit::VERIFICATION, what, "do not use the file")
        };
        let mut check = ring.begin(&signature).map_err(refused)?;
        host::read_through(package, |part| check.update(part))?;
        let checked = check.finish().map_err(refused)?;
        let Voucher::Signature(by) = &checked.voucher else {
            return Err(Failure::new(exit::INTERNAL, "no signature", "please report this"));
        };
        let text = format!(
            "{}: signed by {} at {} with {}\n",
            package.display(),
            by.fingerprint,
            instant(by.signed_at),
            by.digest_algorithm
        );
        self.finish(&text, &checked.voucher)?;
        Ok(exit::OK)
    }

    /// A program for Windows, whose signature is inside.
    fn check_program(&self, ring: &KeyRing, path: &Path) -> Result<u8, Failure> {
        let by = ring.judge_program(&host::read(path)?).map_err(|error| {
            let what = format!("{}: {error}", path.display());
            Failure::new(exit::VERIFICATION, what, "do not use the file")
        })?;
        let text = format!(
            "{}: signed by {} (certificate {}) at {} with {}\n",
            path.display(),
            by.name,
            by.certificate,
            instant(by.signed_at),
            by.digest_algorithm
        );
        self.finish(&text, &Voucher::Authenticode(by))?;
        Ok(exit::OK)
    }

    /// The current signing key and the trust anchors whose end is near or past.
    pub(super) fn ends_soon(&self, ring: &KeyRing, when: &When) -> Result<Vec<Remark>, Failure> {
        let now = match &when.at {
            None => host::now(),
            Some(text) => seconds(text).ok_or_else(|| {
                let hint = "give it as 2027-09-01T00:00:00Z";
                Failure::new(exit::USAGE, format!("`{text}` is no time"), hint)
            })?,
        };
        let mut remarks = Vec::new();
        for key in ring.keys() {
            if let Some(by) = key.revoked {
                let what = format!("the key {}{}", key.fingerprint, revoked(by));
                remarks.push(Remark::warning(what));
            }
        }
        remarks.extend(last_key(ring, Owner::Aws, now));
        remarks.extend(last_key(ring, Owner::User, now));
        for root in self.catalog.code_roots() {
            let ends = Certificate::from_der(root.der()).not_after();
            if let Some(ends) = ends.filter(|ends| ends - now <= SOON) {
                let at = instant(ends);
                let what = format!("the root {} of programs for Windows expires at {at}", root.name);
                remarks.push(Remark::warning(what));
            }
        }
        for anchor in self.catalog.anchors() {
            let ends = [
                ("expires", Some(&anchor.not_after)),
                (
                    "is no longer trusted by Mozilla's programme",
                    anchor.distrust_after.as_ref(),
                ),
            ];
            for (verb, at) in ends {
                let Some(at) = at else { continue };
                if seconds(at).is_some_and(|end| end - now <= SOON) {
                    remarks.push(Remark::warning(format!(
                        "the root {} {verb} at {at}",
                        anchor.name
                    )));
                }
            }
        }
        Ok(remarks)
    }

    pub(super) fn finish_remarks(&self, remarks: &[Remark], nothing: &str) -> Result<u8, Failure> {
        let list: Vec<Value> = remarks
            .iter()
            .map(|remark| json!({ "failure": remark.is_failure, "what": remark.what }))
            .collect();
        let mut text = String::new();
        for remark in remarks {
            let word = if remark.is_failure { "FAIL" } else { "WARN" };
            let _infallible = writeln!(text, "{word} {}", remark.what);
        }
        if remarks.is_empty() {
            text = format!("{nothing}\n");
        }
        self.finish(&text, &json!({ "schema": 1, "remarks": list }))?;
        Ok(match remarks.iter().any(|remark| remark.is_failure) {
            true => exit::AUDIT,
            false => exit::OK,
        })
    }
}

/// Keys that ended still vouch for what they signed; one of each owner's that can sign new packages has to be there.
fn last_key(ring: &KeyRing, owner: Owner, now: i64) -> Option<Remark> {
    let (whose, news) = match owner {
        Owner::Aws => ("the", "a newer ssmbake or a signed catalog"),
        Owner::User => ("your", "a newer --keyring"),
    };
    let mut keys = ring.keys().iter().filter(|key| key.owner == owner).peekable();
    keys.peek()?;
    let signing = keys.filter(|key| key.revoked.is_none());
    match signing.map(|key| (key.window.1, &key.fingerprint)).max() {
        None => Some(Remark::failure(format!(
            "each of {whose} signing keys was revoked: newer packages have another key, and need {news}"
        ))),
        Some((until, name)) if until <= now => Some(Remark::failure(format!(
            "{whose} last signing key {name} ended at {}: newer packages have another key, and need {news}",
            end(until)
        ))),
        Some((until, name)) if until - now <= SOON => Some(Remark::warning(format!(
            "{whose} signing key {name} ends at {}: packages of a later one need {news}",
            end(until)
        ))),
        Some(_) => None,
    }
}

/// What is said of a key that was withdrawn.
pub(super) fn revoked(by: Revocation) -> String {
    format!(", revoked at {}: {}", instant(by.at), by.reason)
}

/// The end of a window, which a certificate without one never reaches.
fn end(until: i64) -> String {
    match until {
        i64::MAX => "ever".to_owned(),
        until => instant(until),
    }
}
