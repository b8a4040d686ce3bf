//! A golden plan for every system of the catalog. `UPDATE_GOLDEN=1 cargo test` writes them anew.

use std::path::Path;

use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::{must, outcome, ssmbake};

#[test]
fn each_system_has_its_plan() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let is_windows = |os: &&ssmbake_manifests::Os| os.family == ssmbake_manifests::Family::Windows;
    // Those are told by hives: see detect.
    for os in ssmbake_manifests::catalog()
        .oses()
        .iter()
        .filter(|os| !is_windows(os))
    {
        for arch in os.packages.keys() {
            let rule = &os.matches[0];
            let version = rule.version.example();
            let name = rule.names.first().map_or("", String::as_str);
            let target = MiniTree::new(&rule.id, name, version, arch.debian_name());
            if let Some(marker) = rule.markers.first() {
                target.put(marker, "x\n");
            }
            // A refusal is a result, too.
            let (_, plan, error) = outcome(&mut ssmbake(&[
                "plan",
                "--root",
                target.arg(),
                "--region",
                "eu-west-1",
                "--version",
                "3.3.1957.0",
            ]));
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
    }
}
