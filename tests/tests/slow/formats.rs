//! An audit's documents, read by other programs than ours. Needs root and what scripts/setup installs.

use std::fs;
use std::path::Path;
use std::process::Command;

use ssmbake_tests::plant::plant;
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::{must, outcome, ssmbake, tool};

/// The audit of a tree with failures, remarks and an allowed failure.
fn document(format: &str, place: &Path) -> String {
    let tree = MiniTree::debian();
    plant(tree.path());
    tree.put(
        "etc/environment",
        "https_proxy=http://u:secret@p:1\n# <script>alert('&')</script>\n",
    );
    let options = [
        "audit",
        "--profile",
        "image",
        "--allow",
        "SSMB010",
        "--format",
        format,
    ];
    let (code, out, err) = outcome(ssmbake(&options).arg("--root").arg(tree.path()));
    assert_eq!(code, 9, "{err}");
    fs::write(place, &out).expect("document");
    out
}

#[test]
fn other_programs_read_sarif_and_junit() {
    let dir = tempfile::tempdir().expect("directory");
    let (sarif, junit) = (dir.path().join("audit.sarif"), dir.path().join("audit.xml"));
    document("sarif", &sarif);
    document("junit", &junit);
    let said = must(Command::new(tool("sarif")).arg("summary").arg(&sarif)).stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("SSMB002") && said.contains("SSMB044"), "{said}");
    let script = "import sys, junitparser\n\
        suite, = junitparser.JUnitXml.fromfile(sys.argv[1])\n\
        cases = list(suite)\n\
        failed = sum(any(isinstance(r, junitparser.Failure) for r in case.result) for case in cases)\n\
        skipped = sum(any(isinstance(r, junitparser.Skipped) for r in case.result) for case in cases)\n\
        assert (suite.tests, suite.failures, suite.skipped) == (len(cases), failed, skipped), suite\n\
        assert failed > 5 and skipped == 1, (failed, skipped)\n";
    must(Command::new(tool("python")).args(["-c", script]).arg(&junit));
}

#[test]
fn a_browser_shows_the_page_in_light_and_dark() {
    let dir = tempfile::tempdir().expect("directory");
    let page = dir.path().join("audit.html");
    let text = document("html", &page);
    // A reader may follow links of the catalog's.
    let mut rest = text.clone();
    for check in ssmbake_manifests::catalog().checks() {
        rest = rest.replace(&format!("<a href=\"{}\" rel=\"noreferrer\">", check.link), "");
    }
    assert_ne!(rest, text);
    // Nothing from elsewhere, and nothing of the tree's that a browser would run.
    for mark in ["://", "src=", "href=", "url(", "@import", "<script"] {
        assert!(!rest.contains(mark), "{mark}");
    }
    let browser = |scheme: u8, more: &str| {
        let mut command = Command::new("chromium");
        command
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--window-size=900,1200",
            ])
            .arg(format!(
                "--user-data-dir={}/profile{scheme}",
                dir.path().display()
            ))
            .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
            .arg(more)
            .arg(format!("file://{}", page.display()));
        must(&mut command).stdout
    };
    let dom = browser(1, "--dump-dom");
    assert!(String::from_utf8_lossy(&dom).contains("<h1>Not ready for Systems Manager</h1>"));
    // The colour of the paper is that of the first pixel.
    let script = "import struct, sys, zlib\n\
        data, at, packed = open(sys.argv[1], 'rb').read(), 8, b''\n\
        while at < len(data):\n    \
            size, kind = struct.unpack('>I4s', data[at:at + 8])\n    \
            packed += data[at + 8:at + 8 + size] if kind == b'IDAT' else b''\n    \
            at += size + 12\n\
        print(max(zlib.decompress(packed)[1:4]))\n";
    let mut shades = [0, 1].map(|scheme| {
        let picture = dir.path().join(format!("{scheme}.png"));
        browser(scheme, &format!("--screenshot={}", picture.display()));
        let shade = must(Command::new("python3").args(["-c", script]).arg(&picture)).stdout;
        String::from_utf8_lossy(&shade)
            .trim()
            .parse::<u8>()
            .expect("shade")
    });
    shades.sort_unstable();
    assert!(shades[0] < 60 && shades[1] > 200, "{shades:?}");
}
