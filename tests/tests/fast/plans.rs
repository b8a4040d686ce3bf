//! A golden plan for every system of the catalog. `UPDATE_GOLDEN=1 cargo test` writes them anew.

use std::path::Path;

use ssmbake_manifests::{Arch, Family, Os, catalog};
use ssmbake_tests::family::tree_of;
use ssmbake_tests::{must, outcome, ssmbake};

/// They wait for the disk as much as for the processor.
const THREADS: usize = 4;

#[test]
fn each_system_has_its_plan() {
    let is_windows = |os: &&Os| os.family == Family::Windows;
    // Those are told by hives: see detect.
    let cases: Vec<(&Os, Arch)> = catalog()
        .oses()
        .iter()
        .filter(|os| !is_windows(os))
        .flat_map(|os| os.packages.keys().map(move |arch| (os, *arch)))
        .collect();
    std::thread::scope(|scope| {
        for first in 0..THREADS {
            let own = cases.iter().skip(first).step_by(THREADS);
            scope.spawn(move || own.for_each(|(os, arch)| check(os, *arch)));
        }
    });
}

fn check(os: &Os, arch: Arch) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let target = tree_of(os, arch);
    // Where a last agent is known, it has no signature.
    let version = match os.agent_max {
        Some(_) => [
            "--sha256",
            "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
        ],
        None => ["--version", "3.3.1957.0"],
    };
    let mut command = ssmbake(&["plan", "--root", target.arg(), "--region", "eu-west-1"]);
    // A refusal is a result, too.
    let (_, plan, error) = outcome(command.args(version));
    let plan = if plan.is_empty() { error } else { plan };
    let detect = must(&mut ssmbake(&["detect", "--root", target.arg()]));
    let text = format!("{}---\n{plan}", String::from_utf8_lossy(&detect.stdout));
    let file = golden.join(format!("{}-{arch}.txt", os.id));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(&golden).expect("directory");
        std::fs::write(&file, &text).expect("golden");
    }
    let wanted = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(text, wanted, "{}", file.display());
}
