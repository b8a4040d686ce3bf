//! Windows programs that osslsigncode signs, under authorities of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use sha2::Digest;
use ssmbake_manifests::CodeRoot;
use tempfile::TempDir;

use crate::must;

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Signatures of programs.
    Code,
    /// Timestamps.
    Time,
    /// Servers, which is neither.
    Server,
}

/// An authority, and files of what it has issued.
#[derive(Debug)]
pub struct Authority {
    dir: TempDir,
    params: CertificateParams,
    key: String,
    pem: String,
}

fn rsa() -> String {
    String::from_utf8(must(Command::new("openssl").args(["genpkey", "-algorithm", "RSA"])).stdout)
        .expect("PEM")
}

impl Authority {
    /// Good from 2000 to 2100.
    pub fn new(name: &str) -> Self {
        let key = rsa();
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(2100, 1, 1);
        let pair = KeyPair::from_pem(&key).expect("key");
        let pem = params.self_signed(&pair).expect("certificate").pem();
        Self {
            dir: tempfile::tempdir().expect("directory"),
            params,
            key,
            pem,
        }
    }

    /// As the catalog has roots.
    pub fn root(&self) -> CodeRoot {
        let pem = self.pem.clone();
        let mut root = CodeRoot {
            id: "test".to_owned(),
            name: "test".to_owned(),
            sha256: [0; 32],
            pem,
        };
        root.sha256 = sha2::Sha256::digest(root.der()).into();
        root
    }

    /// A certificate for `name`, good from the first of January of one year to that of another: certificate and key files.
    pub fn issue(&self, name: &str, purpose: Purpose, years: (i32, i32)) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        match purpose {
            Purpose::Code => params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::CodeSigning),
            Purpose::Server => params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth),
            Purpose::Time => {
                // It has to be critical: RFC 3161, 2.3.
                let content = vec![0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 8];
                let mut usage = CustomExtension::from_oid_content(&[2, 5, 29, 37], content);
                usage.set_criticality(true);
                params.custom_extensions.push(usage);
            }
        }
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let own = KeyPair::from_pem(&self.key).expect("key");
        let issuer = Issuer::new(self.params.clone(), own);
        let (key, count) = (rsa(), fs::read_dir(self.dir.path()).expect("list").count());
        let pair = KeyPair::from_pem(&key).expect("key");
        let pem = params.signed_by(&pair, &issuer).expect("certificate").pem();
        let (certificate, key_file) = (
            self.dir.path().join(format!("{count}.crt")),
            self.dir.path().join(format!("{count}.key")),
        );
        fs::write(&certificate, pem + &self.pem).expect("certificate");
        fs::write(&key_file, key).expect("key");
        (certificate, key_file)
    }
}

/// Signs `program` into `to`. With `time` (the authority's files and seconds since 1970) somebody vouches for the time.
pub fn sign(
    program: &Path,
    to: &Path,
    digest: &str,
    by: &(PathBuf, PathBuf),
    time: Option<(&(PathBuf, PathBuf), i64)>,
) {
    drop(fs::remove_file(to));
    let mut sign = Command::new("osslsigncode");
    sign.args(["sign", "-h", digest, "-certs"])
        .arg(&by.0)
        .arg("-key")
        .arg(&by.1);
    if let Some((authority, seconds)) = time {
        sign.arg("-TSA-certs")
            .arg(&authority.0)
            .arg("-TSA-key")
            .arg(&authority.1);
        sign.args(["-TSA-time", &seconds.to_string()]);
    }
    must(sign.arg("-in").arg(program).arg("-out").arg(to));
}

/// A program that is a header, a section and a version.
pub fn program(version: [u16; 4]) -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    let mut put = |at: usize, data: &[u8]| bytes[at..at + data.len()].copy_from_slice(data);
    put(0, b"MZ");
    put(0x3c, &0x80_u32.to_le_bytes());
    put(0x80, b"PE\0\0");
    // The file's header: amd64, one section, the optional header's size, an executable.
    put(0x84, &0x8664_u16.to_le_bytes());
    put(0x86, &1_u16.to_le_bytes());
    put(0x94, &240_u16.to_le_bytes());
    put(0x96, &0x22_u16.to_le_bytes());
    // The optional header: PE32+, entry, base, alignments, versions, sizes, console, sixteen directories.
    put(0x98, &0x20b_u16.to_le_bytes());
    put(0x98 + 16, &0x1000_u32.to_le_bytes());
    put(0x98 + 24, &0x1_4000_0000_u64.to_le_bytes());
    put(0x98 + 32, &0x1000_u32.to_le_bytes());
    put(0x98 + 36, &512_u32.to_le_bytes());
    put(0x98 + 48, &6_u16.to_le_bytes());
    put(0x98 + 56, &0x2000_u32.to_le_bytes());
    put(0x98 + 60, &512_u32.to_le_bytes());
    put(0x98 + 68, &3_u16.to_le_bytes());
    put(0x98 + 108, &16_u32.to_le_bytes());
    // The section: name, sizes and places.
    put(0x188, b".text\0\0\0");
    put(0x190, &512_u32.to_le_bytes());
    put(0x194, &0x1000_u32.to_le_bytes());
    put(0x198, &512_u32.to_le_bytes());
    put(0x19c, &512_u32.to_le_bytes());
    put(0x1ac, &0x6000_0020_u32.to_le_bytes());
    // VS_FIXEDFILEINFO: mark, its own version, the file's version, the product's.
    let halves = [version[1], version[0], version[3], version[2]];
    let number: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
    put(0x240, &[0xbd, 0x04, 0xef, 0xfe, 0, 0, 1, 0]);
    put(0x248, &number);
    put(0x250, &number);
    bytes
}
