//! What was placed in a tree, for others to read: software bills of material and provenance. From the receipt alone, so the
//! same tree gives the same documents.

mod cyclonedx;
mod provenance;
mod spdx;

use serde_json::Value;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use ssmbake_manifests::{PackageFormat, hex};

use crate::acquire::Voucher;
use crate::digest::read_through;
use crate::error::IoError;
use crate::packages::PACKAGE;
use crate::plan::Request;
use crate::probe::Facts;
use crate::receipt::{Entry, PackageReceipt, Receipt, State};
use crate::root::{Root, RootPath};
use crate::supply::lockfile::instant;

pub use provenance::BUILD_TYPE;

/// What is told.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Of the tree, before or after.
    pub facts: &'a Facts,
    /// What is in it by ssmbake.
    pub receipt: &'a Receipt,
    /// What was asked for.
    pub request: &'a Request,
    /// SOURCE_DATE_EPOCH, seconds.
    pub epoch: Option<i64>,
}

/// A bill of materials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sbom {
    /// CycloneDX 1.6.
    CycloneDx,
    /// SPDX 2.3.
    Spdx,
}

/// The bill of materials of what was placed.
pub fn sbom(format: Sbom, subject: &Subject<'_>, root: &Root) -> Result<Value, IoError> {
    match format {
        Sbom::CycloneDx => Ok(cyclonedx::render(subject)),
        Sbom::Spdx => spdx::render(subject, &|path| sha1(root, path)),
    }
}

/// SHA-1 of a file, hex; none where there is no file.
fn sha1(root: &Root, path: &str) -> Result<Option<String>, IoError> {
    let file = match RootPath::new(path) {
        Ok(path) => root.open_file(&path)?,
        Err(_) => None,
    };
    let Some(file) = file else { return Ok(None) };
    let mut hash = Sha1::new();
    let read = read_through(file, |bytes| hash.update(bytes));
    read.map_err(|error| IoError::new("read", path, error))?;
    Ok(Some(hex::encode(&hash.finalize())))
}

/// An in-toto statement with SLSA provenance 1.
pub fn provenance(subject: &Subject<'_>) -> Value {
    provenance::render(subject)
}

impl<'a> Subject<'a> {
    /// SOURCE_DATE_EPOCH, else the time of the package's signature: never the clock.
    fn time(&self) -> Option<String> {
        let signed = self.package().and_then(|package| match &package.voucher {
            Voucher::Signature(by) => Some(by.signed_at),
            Voucher::Authenticode(by) => Some(by.signed_at),
            Voucher::PinnedDigest => None,
        });
        self.epoch.or(signed).map(instant)
    }

    fn package(&self) -> Option<&'a PackageReceipt> {
        self.receipt.package.as_ref()
    }

    /// The package's URL as others name packages.
    fn purl(&self, package: &PackageReceipt) -> String {
        let os = &self.facts.os.value;
        let arch = self.facts.arch.value;
        let format = self.facts.agent.package.as_ref().map(|package| package.format);
        let is_rpm = format == Some(PackageFormat::Rpm) || package.url.ends_with(".rpm");
        let (kind, arch) = match is_rpm {
            true => ("rpm", arch.rpm_names().first().copied().unwrap_or_default()),
            false => ("deb", arch.debian_name()),
        };
        format!(
            "pkg:{kind}/{}/{PACKAGE}@{}?arch={arch}",
            escaped(&os.distribution),
            escaped(&package.version)
        )
    }

    /// The files that are there by ssmbake: path and SHA-256.
    fn files(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.receipt
            .entries
            .iter()
            .filter_map(|entry| match &entry.after {
                State::File { sha256, .. } => Some((entry.path.as_str(), sha256.as_str())),
                _ => None,
            })
    }

    /// SHA-256 over what every changed path became, hex.
    fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for entry in &self.receipt.entries {
            hash.update(line(entry));
        }
        hex::encode(&hash.finalize())
    }

    /// A UUID of the whole, version 8.
    fn uuid(&self) -> String {
        let text = format!(
            "{} {} {}",
            self.digest(),
            self.time().unwrap_or_default(),
            self.receipt.ssmbake
        );
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&Sha256::digest(text)[..16]);
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let text = hex::encode(&bytes);
        format!(
            "{}-{}-{}-{}-{}",
            &text[..8],
            &text[8..12],
            &text[12..16],
            &text[16..20],
            &text[20..]
        )
    }
}

/// Path, kind, mode and content, without times: one line a path.
fn line(entry: &Entry) -> String {
    let what = match &entry.after {
        State::Absent => "absent".to_owned(),
        State::Dir => "dir".to_owned(),
        State::Link(to) => format!("link {to}"),
        State::File {
            sha256,
            mode,
            uid,
            gid,
            ..
        } => format!("file {mode:04o} {uid} {gid} {sha256}"),
        State::Other => "other".to_owned(),
    };
    format!("{} {what}\n", entry.path)
}

/// Percent-encoded as package URLs are.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Who vouches for the package, in words.
fn vouched(package: &PackageReceipt) -> String {
    match &package.voucher {
        Voucher::Signature(by) => {
            format!(
                "OpenPGP key {}, {}, {}",
                by.fingerprint,
                instant(by.signed_at),
                by.digest_algorithm
            )
        }
        Voucher::Authenticode(by) => format!("Authenticode, {}, {}", by.name, instant(by.signed_at)),
        Voucher::PinnedDigest => "a SHA-256 that the user named".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_urls_are_escaped() {
        assert_eq!(escaped("1:3.3+x~1-1"), "1:3.3%2Bx~1-1");
    }
}
