//! The parsers of what strangers wrote, and a door to each. What they find does not matter here: that they come back
//! does. A new target is a module here, a function, four lines in targets/ and a directory in seeds/.

use std::fs::File;
use std::io::Write;

use ssmbake_manifests::catalog;

#[allow(dead_code, reason = "the program uses more of it")]
#[path = "../../../installers/src/acquire/cms.rs"]
mod cms;
#[allow(dead_code, reason = "the program uses more of it")]
#[path = "../../../installers/src/probe/elf.rs"]
mod elf;
#[allow(dead_code, reason = "the program uses more of it")]
#[path = "../../../installers/src/probe/hive.rs"]
mod hive_file;
#[allow(dead_code, reason = "the program uses more of it")]
#[path = "../../../installers/src/probe/os_release.rs"]
mod os_release;
#[allow(dead_code, reason = "the program uses more of it")]
#[path = "../../../installers/src/probe/release_file.rs"]
mod release_file;

// The hives' reader takes it from the crate's top.
#[path = "../../../installers/src/positioned.rs"]
mod positioned;

#[allow(dead_code, reason = "the program uses more of it")]
#[path = "../../../installers/src/packages/rpm/database/bdb.rs"]
mod bdb;
#[allow(dead_code, reason = "the program uses more of it")]
#[path = "../../../installers/src/packages/rpm/cpio.rs"]
mod cpio;
#[allow(dead_code, reason = "the program uses more of it")]
#[path = "../../../installers/src/packages/rpm/header.rs"]
mod header;
#[allow(dead_code, reason = "the program uses more of it")]
#[path = "../../../installers/src/packages/rpm/database/ndb.rs"]
mod ndb;
#[allow(dead_code, reason = "the program uses more of it")]
#[path = "../../../installers/src/packages/rpm/tag.rs"]
mod tag;

/// An os-release file.
pub fn os_release(bytes: &[u8]) {
    let release = os_release::OsRelease::parse(bytes);
    for name in ["ID", "VERSION_ID", "PRETTY_NAME"] {
        if let Some(variable) = release.get(name) {
            assert!(!variable.value.is_empty() && variable.line > 0);
        }
    }
}

/// Each of the distributions' files.
pub fn release_file(bytes: &[u8]) {
    let rules = catalog().identification();
    let text = String::from_utf8_lossy(bytes);
    for file in &rules.files {
        let said = release_file::parse(file, &text, rules);
        assert!(said.is_none_or(|said| !said.line.is_empty()), "{}", file.path);
    }
}

/// A program's header.
pub fn elf(bytes: &[u8]) {
    let cut = &bytes[..bytes.len().min(elf::HEADER)];
    assert!(bytes.starts_with(b"\x7fELF") || elf::architecture(cut).is_none());
}

/// Signed data: what is read of it lies within it.
pub fn signed_data(bytes: &[u8]) {
    if let Ok(data) = cms::SignedData::read(bytes) {
        let whole = bytes.as_ptr_range();
        let parts = data
            .certificates
            .iter()
            .chain([&data.content, &data.signer.signature]);
        for part in parts {
            assert!(part.is_empty() || whole.contains(&part.as_ptr()));
        }
        assert!(data.signer.message.len() <= bytes.len());
    }
}

/// A registry hive: keys by name, values as text.
pub fn hive(bytes: &[u8]) {
    let mut file = File::from(memory());
    file.write_all(bytes).expect("memory");
    let Ok(hive) = hive_file::Hive::open(file) else {
        return;
    };
    for path in ["", "Select", r"a\b"] {
        if let Ok(Some(key)) = hive.key(path) {
            let _either = hive.names(&key);
            for name in ["", "Current", "x"] {
                if let Ok(Some((kind, bytes))) = hive.value(&key, name) {
                    let _either = (hive_file::text_of(kind, &bytes), hive_file::list_of(kind, &bytes));
                }
            }
        }
    }
}

/// A header of an rpm; an installed one made of it can be read again.
pub fn rpm_header(bytes: &[u8]) {
    let Ok(header) = header::Header::parse(bytes) else {
        return;
    };
    for number in [tag::NAME, tag::BASE_NAMES, tag::FILE_SIZES, tag::SIG_MD5] {
        header.strings(number);
        header.numbers(number);
        header.long_numbers(number);
        header.binary(number);
    }
    let is_fresh = [
        tag::INSTALL_TIME,
        tag::INSTALL_COLOR,
        tag::INSTALL_TID,
        tag::FILE_STATES,
    ];
    if !is_fresh.iter().any(|number| header.has(*number)) {
        assert!(header::Header::parse(&header.installed(&header, 1, 0)).is_ok());
    }
}

/// The members of an rpm's payload.
pub fn rpm_payload(bytes: &[u8]) {
    let mut reader = cpio::CpioReader::new(bytes);
    while let Ok(Some(member)) = reader.next_member() {
        let mut data = reader.data();
        let read = std::io::copy(&mut data, &mut std::io::sink());
        assert!(read.is_ok_and(|read| read <= member.size));
    }
}

/// rpm's own forms of database; what is written is read again.
pub fn rpm_database(bytes: &[u8]) {
    if let Ok(found) = bdb::packages(bytes) {
        assert!(found.iter().all(|(number, _)| *number != 0));
    }
    if let Ok(found) = ndb::packages(bytes) {
        if let Ok(written) = ndb::replace(bytes, &[], Some(b"new")) {
            assert_eq!(ndb::packages(&written).map(|all| all.len()), Ok(found.len() + 1));
        }
    }
}

fn memory() -> rustix::fd::OwnedFd {
    rustix::fs::memfd_create("hive", rustix::fs::MemfdFlags::CLOEXEC).expect("memory")
}
