use std::fs;
use std::os::unix::fs::symlink;

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;

use super::*;

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("directory");
    fs::create_dir_all(dir.path().join("etc/real")).expect("directory");
    fs::write(dir.path().join("etc/real/file"), "inside").expect("file");
    let links = [
        ("etc/absolute", "/etc/real/file"),
        ("etc/up", "../../../../etc/real/file"),
        ("etc/loop", "loop"),
        ("etc/dir", "/etc/real"),
        ("etc/dangling", "/etc/none"),
        ("etc/host", "/proc/self/status"),
    ];
    for (link, target) in links {
        symlink(target, dir.path().join(link)).expect("link");
    }
    dir
}

fn path(text: &str) -> RootPath {
    RootPath::new(text).expect("path")
}

#[test]
fn links_are_resolved_inside() {
    let dir = tree();
    for resolver in [Resolver::Kernel, Resolver::Walker] {
        let root = Root::open(dir.path()).expect("root").with_resolver(resolver);
        for name in ["/etc/absolute", "/etc/up", "/etc/dir/file", "/etc/real/file"] {
            assert_eq!(
                root.read(&path(name), 100).expect(name).as_deref(),
                Some(b"inside".as_slice()),
                "{name}"
            );
        }
        for name in ["/etc/dangling", "/etc/host", "/etc/none", "/etc/real/file/below"] {
            assert_eq!(root.read(&path(name), 100).expect(name), None, "{name}");
        }
        let error = root.read(&path("/etc/loop"), 100).expect_err("loop");
        assert_eq!(error.source.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
        assert_eq!(
            root.read_link(&path("/etc/dir")).expect("link").as_deref(),
            Some("/etc/real")
        );
        assert_eq!(
            root.canonical(&path("/etc/dir/new/er"), Last::Follow)
                .expect("path"),
            path("/etc/real/new/er")
        );
        assert_eq!(
            root.canonical(&path("/etc/absolute"), Last::Keep).expect("path"),
            path("/etc/absolute")
        );
        assert!(root.strict_dir(&path("/etc/dir")).is_err());
        assert!(root.read(&path("/etc/real/file"), 3).is_err());
    }
}

#[test]
fn only_regular_files_are_opened() {
    let dir = tree();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.path().join("fifo"),
        FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )
    .expect("fifo");
    for resolver in [Resolver::Kernel, Resolver::Walker] {
        let root = Root::open(dir.path()).expect("root").with_resolver(resolver);
        for name in ["/fifo", "/etc"] {
            assert!(root.read(&path(name), 100).is_err(), "{name}");
        }
    }
}

/// The kernel's resolution of `..` fails while somebody renames anything; ours must not.
#[test]
fn renames_elsewhere_do_not_disturb() {
    let (dir, other) = (tree(), tempfile::tempdir().expect("directory"));
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (one, two) = (other.path().join("one"), other.path().join("two"));
            fs::write(&one, "").expect("file");
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                fs::rename(&one, &two).expect("rename");
                fs::rename(&two, &one).expect("rename");
            }
        });
        let root = Root::open(dir.path()).expect("root");
        let results: Vec<_> = (0..20_000)
            .map(|_| root.meta(&path("/etc/up"), Last::Follow))
            .collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        let failed: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        assert!(failed.is_empty(), "{} times: {}", failed.len(), failed[0]);
    });
}

#[test]
fn links_of_a_directory_are_told_with_their_targets() {
    let dir = tree();
    let root = Root::open(dir.path()).expect("root");
    for root in [
        Root::open(dir.path()).expect("root"),
        root.with_resolver(Resolver::Walker),
    ] {
        let links = root.links(&path("/etc")).expect("links");
        assert_eq!(
            links.get("up").map(String::as_str),
            Some("../../../../etc/real/file")
        );
        assert_eq!(links.len(), 6);
        assert_eq!(root.links(&path("/etc/dir")).expect("links").len(), 0);
        assert_eq!(root.links(&path("/none")).expect("links").len(), 0);
    }
}
