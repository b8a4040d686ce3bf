//! The parsers of what strangers wrote, and a door to each. What they find does not matter here: that they come back
//! does. A new target is a module here, a function, four lines in targets/ and a directory in seeds/.

use std::fs::File;
use std::io::Write;

use ssmbake_manifests::catalog;

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

/// A registry hive: keys by name, values as text.
pub fn hive(bytes: &[u8]) {
    let mut file = File::from(memory());
    file.write_all(bytes).expect("memory");
    let Ok(hive) = hive_file::Hive::open(file) else {
        return;
    };
    for path in ["", "Select", r"a\b"] {
        if let Ok(Some(key)) = hive.key(path) {
            for name in ["", "Current", "x"] {
                let _either = hive.text(&key, name);
            }
        }
    }
}

fn memory() -> rustix::fd::OwnedFd {
    rustix::fs::memfd_create("hive", rustix::fs::MemfdFlags::CLOEXEC).expect("memory")
}
