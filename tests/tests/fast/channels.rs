//! What the channels of a mirror name.

use std::fs;

use ssmbake_tests::world::{V1, V2, mirror_of_two_architectures, world};
use ssmbake_tests::{outcome, ssmbake};

/// A mirror that gets [`V1`] for both architectures, then [`V2`] for one after the other.
#[test]
fn a_channel_waits_until_everybody_whom_it_serves_has_the_newer_version() {
    let (mirror, dir) = (
        mirror_of_two_architectures(),
        tempfile::tempdir().expect("directory"),
    );
    let to = dir.path().join("www");
    let step = |arch: &str, version: &str| {
        let mut sync = ssmbake(&["mirror", "sync", "--os", "debian-12", "--offer", "latest", "--to"]);
        sync.arg(&to).args(["--version", version, "--arch", arch]);
        sync.args(["--mirror", &mirror.url, "--keyring"])
            .arg(&world().keyring);
        let (code, _, err) = outcome(&mut sync);
        assert_eq!(code, 0, "{err}");
        err
    };
    let latest = |name: &str| fs::read(to.join("latest").join(name)).expect("file");
    let both: [String; 2] = ["amd64", "arm64"].map(|arch| format!("debian_{arch}/amazon-ssm-agent.deb"));
    step("amd64,arm64", V1);
    let before = both.each_ref().map(|name| latest(name));
    let err = step("amd64", V2);
    assert!(
        err.contains("`latest` does not name 3.3.3572.0") && err.contains("debian_arm64"),
        "{err}"
    );
    assert_eq!(latest("VERSION"), format!("{V1}\n").into_bytes());
    assert!(both.each_ref().map(|name| latest(name)) == before);
    let err = step("arm64", V2);
    assert!(!err.contains("does not name"), "{err}");
    assert_eq!(latest("VERSION"), format!("{V2}\n").into_bytes());
    let newest = both
        .each_ref()
        .map(|name| fs::read(to.join(V2).join(name)).expect("package"));
    assert!(both.each_ref().map(|name| latest(name)) == newest);
}
