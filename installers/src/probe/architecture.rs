//! The architecture of a userland: what its programs are made for, and what its package database was made for.

use std::collections::BTreeMap;
use std::io::Read;

use ssmbake_manifests::Arch;

use super::facts::{Evidence, Found};
use super::{ProbeError, elf, vendor};
use crate::error::IoError;
use crate::packages::deb::database::{STATUS, STATUS_LIMIT};
use crate::root::{Root, RootPath};

/// Programs and loaders that systems have; a foreign static one may be among them, so the majority decides.
const PROGRAMS: [&str; 20] = [
    "/bin/sh",
    "/bin/bash",
    "/bin/ls",
    "/bin/cat",
    "/usr/bin/bash",
    "/usr/bin/env",
    "/usr/bin/dpkg",
    "/usr/bin/rpm",
    "/usr/bin/perl",
    "/sbin/init",
    "/lib/systemd/systemd",
    "/usr/lib/systemd/systemd",
    "/lib64/ld-linux-x86-64.so.2",
    "/usr/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/usr/lib/ld-linux-aarch64.so.1",
    "/lib/ld-linux-armhf.so.3",
    "/lib64/ld64.so.2",
    "/lib/ld-musl-x86_64.so.1",
];
const DPKG_ARCH: &str = "/var/lib/dpkg/arch";
/// rpm's own file, `x86_64-redhat-linux`; the latter is a directory in most releases.
const RPM_PLATFORM: [&str; 2] = ["/etc/rpm/platform", RPM_PLATFORMS];
const RPM_PLATFORMS: &str = "/usr/lib/rpm/platform";

/// Programs decide; a database stands in for them, or breaks a tie.
pub(super) fn look(root: &Root) -> Result<Found<Arch>, ProbeError> {
    let mut votes: BTreeMap<Arch, Vec<Evidence>> = BTreeMap::new();
    for program in PROGRAMS {
        if let Some(arch) = of_program(root, program)? {
            votes
                .entry(arch)
                .or_default()
                .push(Evidence::path(program, format!("ELF header of {arch}")));
        }
    }
    let database = of_database(root)?;
    let in_database = database.as_ref().map(|found| found.0);
    let winner = votes
        .into_iter()
        .max_by_key(|(arch, votes)| (votes.len(), Some(*arch) == in_database));
    let (value, mut evidence) = winner.unwrap_or_else(|| (in_database.unwrap_or(Arch::Unknown), Vec::new()));
    evidence.extend(database.map(|found| found.1));
    Ok(Found { value, evidence })
}

/// What `program` is made for; none for what is no ELF file.
pub(crate) fn of_program(root: &Root, program: &'static str) -> Result<Option<Arch>, IoError> {
    let path = RootPath::fixed(program);
    // A device node or a program that only root may read says nothing; the others do.
    let Ok(Some(file)) = root.open_file(&path) else {
        return Ok(None);
    };
    let mut header = Vec::new();
    file.take(elf::HEADER as u64)
        .read_to_end(&mut header)
        .map_err(|error| IoError::new("read", &path, error))?;
    Ok(elf::architecture(&header))
}

fn of_database(root: &Root) -> Result<Option<(Arch, Evidence)>, ProbeError> {
    if let Some(bytes) = vendor::read(root, DPKG_ARCH)? {
        let text = String::from_utf8_lossy(&bytes);
        let name = text.lines().next().unwrap_or("").trim();
        if let Ok(arch) = name.parse() {
            return Ok(Some((arch, Evidence::line(DPKG_ARCH, 1, name))));
        }
    }
    for file in RPM_PLATFORM {
        if let Some(bytes) = vendor::read(root, file)? {
            let text = String::from_utf8_lossy(&bytes);
            let name = text.lines().next().unwrap_or("").trim();
            if let Some(arch) = of_platform(name) {
                return Ok(Some((arch, Evidence::line(file, 1, name))));
            }
        }
    }
    if let Some(found) = of_rpm_macros(root) {
        return Ok(Some(found));
    }
    Ok(root
        .read(&RootPath::fixed(STATUS), STATUS_LIMIT)?
        .and_then(|bytes| of_packages(&bytes)))
}

/// The CPU of a platform such as `aarch64-redhat-linux`, by rpm's names.
fn of_platform(platform: &str) -> Option<Arch> {
    Some(match platform.split('-').next()? {
        "x86_64" | "amd64" => Arch::Amd64,
        "i386" | "i486" | "i586" | "i686" => Arch::I386,
        "aarch64" => Arch::Arm64,
        "armv6hl" | "armv7hl" => Arch::Armhf,
        "ppc64le" => Arch::Ppc64el,
        "ppc64" => Arch::Ppc64,
        "s390x" => Arch::S390x,
        "riscv64" => Arch::Riscv64,
        _ => return None,
    })
}

/// An rpm brings macros for what its CPU can run: a 64-bit one is there only where rpm itself may be one.
fn of_rpm_macros(root: &Root) -> Option<(Arch, Evidence)> {
    // No directory, or one that cannot be listed: no evidence.
    let entries = root.read_dir(&RootPath::fixed(RPM_PLATFORMS)).ok().flatten()?;
    let arches = entries
        .iter()
        .filter_map(|entry| Some((of_platform(&entry.name)?, &entry.name)));
    let (arch, name) = arches.max_by_key(|(arch, name)| (*arch != Arch::I386, name.as_str()))?;
    Some((arch, Evidence::path(RPM_PLATFORMS, format!("has {name}"))))
}

/// The architecture that most packages of dpkg's database have.
fn of_packages(status: &[u8]) -> Option<(Arch, Evidence)> {
    let mut count: BTreeMap<Arch, usize> = BTreeMap::new();
    for line in status.split(|byte| *byte == b'\n') {
        let Some(name) = line.strip_prefix(b"Architecture: ") else {
            continue;
        };
        // `all` is none.
        if let Ok(arch) = String::from_utf8_lossy(name).trim().parse() {
            *count.entry(arch).or_default() += 1;
        }
    }
    let (arch, packages) = count.into_iter().max_by_key(|(_, packages)| *packages)?;
    Some((
        arch,
        Evidence::path(STATUS, format!("{packages} packages of {arch}")),
    ))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the test makes a tree")]
mod tests {
    use super::*;

    #[test]
    fn databases_are_evidence() {
        let of = |files: &[(&str, &str)]| {
            let dir = tempfile::tempdir().expect("directory");
            for (path, text) in files {
                let place = dir.path().join(path);
                std::fs::create_dir_all(place.parent().expect("parent")).expect("directory");
                std::fs::write(place, text).expect("file");
            }
            look(&Root::open(dir.path()).expect("root"))
                .expect("architecture")
                .value
        };
        let packages = "Package: a\nArchitecture: all\n\nPackage: b\nArchitecture: arm64\n";
        let foreign = "Architecture: i386\n";
        let status = format!("{packages}\n{packages}\nPackage: c\n{foreign}");
        for (files, arch) in [
            (&[("var/lib/dpkg/arch", "armhf\narm64\n")][..], Arch::Armhf),
            (&[("var/lib/dpkg/status", &status)], Arch::Arm64),
            (&[("etc/rpm/platform", "i686-redhat-linux\n")], Arch::I386),
            (&[("usr/lib/rpm/platform", "x86_64-redhat-linux\n")], Arch::Amd64),
            (
                &[
                    ("usr/lib/rpm/platform/i686-linux/macros", ""),
                    ("usr/lib/rpm/platform/noarch-linux/macros", ""),
                    ("usr/lib/rpm/platform/x86_64-linux/macros", ""),
                ],
                Arch::Amd64,
            ),
            (&[("usr/lib/rpm/platform/aarch64-linux/macros", "")], Arch::Arm64),
            (&[("etc/motd", "")], Arch::Unknown),
        ] {
            assert_eq!(of(files), arch, "{files:?}");
        }
    }
}
