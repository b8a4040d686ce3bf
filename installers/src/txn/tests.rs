use std::cell::Cell;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::journal::{self, Entry, Journal, Record, Undo};
use super::*;
use crate::root::Resolver;

/// A name that is no text.
const ODD: &[u8] = b"etc/old/a\xff\nb";

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("directory");
    for path in ["var/lib", "etc/old"] {
        fs::create_dir_all(dir.path().join(path)).expect("directory");
    }
    for (path, text) in [
        ("etc/edited", "before"),
        ("etc/gone", "gone"),
        ("etc/old/file", "old"),
    ] {
        fs::write(dir.path().join(path), text).expect("file");
    }
    fs::write(dir.path().join(OsStr::from_bytes(ODD)), "odd").expect("file");
    dir
}

fn wants(root: &Root) -> Prepared {
    let mut set = ChangeSet::default();
    let mut put = |path: &str, want| {
        set.put(root, &RootPath::new(path).expect("path"), OnLink::Replace, want)
            .expect("put")
    };
    put("/etc/edited", Want::file(b"after".to_vec(), 0o640));
    put("/etc/new/deep/file", Want::file(b"new".to_vec(), 0o600));
    put("/etc/new/link", Want::link("deep/file"));
    put(
        "/etc/new/hard",
        Want::HardLink {
            to: RootPath::new("/etc/new/deep/file").expect("path"),
        },
    );
    put("/etc/gone", Want::Absent);
    put("/etc/old/file", Want::Absent);
    put("/etc/old/a\u{f7ff}\u{f70a}b", Want::Absent);
    put("/etc/old", Want::Absent);
    prepare(root, set).expect("prepare")
}

/// Paths with kind, mode, inode, time and content.
fn look(dir: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let mut lines = Vec::new();
    for entry in fs::read_dir(dir).expect("list").flatten() {
        let meta = entry.path().symlink_metadata().expect("metadata");
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        lines.push(format!(
            "{} {:o} {} {}.{} {text}",
            entry.path().display(),
            meta.mode(),
            meta.ino(),
            meta.mtime(),
            meta.mtime_nsec()
        ));
        if meta.is_dir() {
            lines.extend(look(&entry.path()));
        }
    }
    lines.sort();
    lines
}

#[test]
fn all_or_nothing_at_every_checkpoint() {
    for resolver in [Resolver::Kernel, Resolver::Walker] {
        let mut stop = 0;
        loop {
            let dir = tree();
            let root = Root::open(dir.path()).expect("root").with_resolver(resolver);
            let before = look(dir.path());
            let count = Cell::new(0);
            let checkpoint = |_: &RootPath| {
                count.set(count.get() + 1);
                if count.get() > stop {
                    Err(io::Error::other("stopped"))
                } else {
                    Ok(())
                }
            };
            match commit(&root, &wants(&root), None, &checkpoint) {
                Ok(()) => break,
                Err(TxnError::Unchanged(_) | TxnError::RolledBack(_)) => {
                    assert_eq!(look(dir.path()), before, "stop {stop}")
                }
                Err(other) => panic!("{other}"),
            }
            stop += 1;
        }
        assert!(stop > 10, "{stop}");
    }
}

#[test]
fn the_wanted_state_is_reached_and_then_nothing_is_left_to_do() {
    let dir = tree();
    let root = Root::open(dir.path()).expect("root");
    commit(&root, &wants(&root), Some(1_000_000_000), &|_| Ok(())).expect("commit");
    assert_eq!(
        fs::read_to_string(dir.path().join("etc/edited")).expect("file"),
        "after"
    );
    assert_eq!(
        fs::read_to_string(dir.path().join("etc/new/link")).expect("link"),
        "new"
    );
    assert!(!dir.path().join("etc/gone").exists() && !dir.path().join("etc/old").exists());
    assert_eq!(fs::read_dir(dir.path().join("var/lib")).expect("list").count(), 0);
    assert!(wants(&root).is_empty());
}

#[test]
fn what_is_wiped_cannot_be_read_by_who_still_holds_it() {
    let dir = tree();
    let root = Root::open(dir.path()).expect("root");
    let open = |name: &str| fs::File::open(dir.path().join(name)).expect("open");
    let held = [open("etc/gone"), open("etc/edited"), open("etc/old/file")];
    let mut prepared = wants(&root);
    prepared.wipe(|path| path.as_str() != "/etc/old/file");
    commit(&root, &prepared, None, &|_| Ok(())).expect("commit");
    let texts = held.map(|file| io::read_to_string(file).expect("read"));
    assert_eq!(texts, ["\0\0\0\0", "\0\0\0\0\0\0", "old"]);
}

#[test]
fn writers_stop_an_edit_and_no_removal() {
    for (meanwhile, is_expected) in [
        ("write", true),
        ("write", false),
        ("rotate", true),
        ("remove", true),
    ] {
        let dir = tree();
        let root = Root::open(dir.path()).expect("root");
        let mut set = ChangeSet::default();
        for (path, want) in [
            ("/etc/gone", Want::Absent),
            ("/etc/old/file", Want::Absent),
            ("/etc/edited", Want::file(Vec::new(), 0o600)),
        ] {
            set.put_at(RootPath::fixed(path), want);
        }
        let mut prepared = prepare(&root, set).expect("prepare");
        if is_expected {
            prepared.expect_writers();
        }
        let disturb = |path: &RootPath| {
            let place = dir.path().join(path.as_str().trim_start_matches('/'));
            match meanwhile {
                "write" => fs::write(&place, "a line more"),
                "rotate" => {
                    fs::remove_file(&place)?;
                    fs::write(&place, "another file")
                }
                _ => fs::remove_file(&place).or(Ok(())),
            }
        };
        let done = commit(&root, &prepared, None, &disturb);
        if !is_expected {
            assert!(matches!(done, Err(TxnError::RolledBack(_))), "{done:?}");
            continue;
        }
        done.expect(meanwhile);
        assert!(!dir.path().join("etc/gone").exists() && !dir.path().join("etc/old/file").exists());
        let left = fs::read_to_string(dir.path().join("etc/edited")).unwrap_or_default();
        assert_eq!(left, "", "{meanwhile}");
    }
}

#[test]
fn holes_are_not_filled_when_a_file_is_wiped() {
    use std::os::unix::fs::{FileExt, MetadataExt};
    const END: u64 = 300 << 30;
    let dir = tree();
    let root = Root::open(dir.path()).expect("root");
    let place = dir.path().join("etc/gone");
    let held = fs::File::options()
        .read(true)
        .write(true)
        .open(&place)
        .expect("open");
    held.write_all_at(b"secret", END).expect("write");
    held.sync_all().expect("sync");
    let blocks = held.metadata().expect("metadata").blocks();
    let mut prepared = wants(&root);
    prepared.wipe(|path| path.as_str() == "/etc/gone");
    commit(&root, &prepared, None, &|_| Ok(())).expect("commit");
    let read = |at| {
        let mut bytes = [1; 4];
        held.read_exact_at(&mut bytes, at).expect("read");
        bytes
    };
    assert_eq!((read(0), read(END)), ([0; 4], [0; 4]));
    assert_eq!(held.metadata().expect("metadata").blocks(), blocks);
}

#[test]
fn a_file_that_cannot_be_wiped_stops_no_other() {
    let dir = tree();
    let root = Root::open(dir.path()).expect("root");
    let entry = |number: usize| Entry {
        path: RootPath::new(&format!("/etc/{number}")).expect("path"),
        temp: None,
        undo: Undo::Restore {
            backup: journal::backup_name(number),
        },
        wipe: true,
    };
    let record = Record::new((0..3).map(entry).collect(), Vec::new(), None);
    let mut journal = Journal::create(&root, record).expect("journal");
    journal.commit().expect("commit");
    drop(journal);
    let place = |number: usize| dir.path().join(format!("etc/.ssmbake-{number}.old"));
    fs::write(place(0), "secret").expect("file");
    fs::create_dir(place(1)).expect("directory");
    fs::write(place(2), "secret").expect("file");
    let held = [0, 2].map(|number| fs::File::open(place(number)).expect("open"));
    let error = recover(&root).expect_err("a directory is no file");
    assert!(
        matches!(&error, TxnError::Left(error) if error.path == "/etc/.ssmbake-1.old"),
        "{error}"
    );
    assert!(!place(0).exists() && !place(2).exists());
    assert_eq!(
        held.map(|file| io::read_to_string(file).expect("read")),
        ["\0\0\0\0\0\0"; 2]
    );
    // Once it is mended, the rest is done.
    assert!(is_pending(&root).expect("look"));
    fs::remove_dir(place(1)).expect("remove");
    assert_eq!(recover(&root).expect("recover"), Some(Settled::Finished));
    assert!(!is_pending(&root).expect("look"));
}

#[test]
fn a_journal_that_is_held_or_damaged_is_respected() {
    let dir = tree();
    let root = Root::open(dir.path()).expect("root");
    let journal = dir.path().join("var/lib/.ssmbake-journal");
    fs::write(&journal, "{\"schema\":1}").expect("journal");
    assert!(matches!(
        recover(&root),
        Err(TxnError::Journal(JournalError::Unusable(_)))
    ));
    let held = fs::File::open(&journal).expect("open");
    held.lock().expect("lock");
    assert!(matches!(
        recover(&root),
        Err(TxnError::Journal(JournalError::Busy))
    ));
}

#[test]
fn a_directory_swapped_for_a_link_stops_the_write() {
    let (dir, outside) = (tree(), tempfile::tempdir().expect("directory"));
    let root = Root::open(dir.path()).expect("root");
    let prepared = wants(&root);
    let swap = |path: &RootPath| {
        if path.as_str() == "/etc/new/deep/file" {
            fs::rename(dir.path().join("etc/new/deep"), dir.path().join("etc/moved"))?;
            std::os::unix::fs::symlink(outside.path(), dir.path().join("etc/new/deep"))?;
        }
        Ok(())
    };
    assert!(commit(&root, &prepared, None, &swap).is_err());
    assert_eq!(fs::read_dir(outside.path()).expect("list").count(), 0);
}
