//! The README's table of systems is what the catalog says. `UPDATE_GOLDEN=1` writes it anew.

use std::fmt::Write;
use std::path::Path;

use ssmbake_manifests::{PackageFormat, catalog};
use ssmbake_tests::{must, ssmbake};

const BEGIN: &str = "<!-- systems -->\n";
const END: &str = "<!-- end of systems -->\n";

fn table() -> String {
    let mut text = String::from(
        "| system | architectures | agent | service manager | newest agent | Patch Manager | Session Manager | agent updates itself | `apply` |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for os in catalog().oses() {
        let arches: Vec<String> = os.packages.keys().map(ToString::to_string).collect();
        let newest = os
            .agent_max
            .map_or_else(|| "any".to_owned(), |version| version.to_string());
        let apply = if os.package == PackageFormat::Exe {
            "not yet"
        } else {
            "yes"
        };
        // Writing to a String cannot fail.
        let _infallible = writeln!(
            text,
            "| {} (`{}`) | {} | {} | {} | {newest} | {} | {} | {} | {apply} |",
            os.name,
            os.id,
            arches.join(" "),
            os.package,
            os.service,
            os.capabilities.patch_manager,
            os.capabilities.session_manager,
            os.capabilities.self_update,
        );
    }
    text
}

#[test]
fn the_readme_names_the_systems_of_the_catalog() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(&path).expect("README");
    let (before, rest) = readme.split_once(BEGIN).expect("the table's beginning");
    let (there, after) = rest.split_once(END).expect("the table's end");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", table())).expect("README");
        return;
    }
    assert_eq!(there, table());
}

#[test]
fn the_readme_names_every_format_of_export() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(&path).expect("README");
    for format in <ssmbake::args::FormatArg as clap::ValueEnum>::value_variants() {
        let value = clap::ValueEnum::to_possible_value(format).expect("shown");
        let name = value.get_name();
        let is_named =
            readme.contains(&format!("| `{name}` |")) || readme.contains("export --os") && name == "sh";
        assert!(is_named, "{name}");
    }
}

#[test]
fn every_exit_code_is_told() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(top.join("../README.md")).expect("README");
    let help = String::from_utf8(must(&mut ssmbake(&["--help"])).stdout).expect("UTF-8");
    // Lines end where the terminal's do.
    let help: Vec<&str> = help.split_whitespace().collect();
    let help = help.join(" ");
    let (_, codes) = help.split_once("Exit codes:").expect("exit codes");
    for code in ssmbake::exit::ALL {
        assert!(readme.contains(&format!("\n| {code} |")), "{code}");
        let is_told = codes
            .split(',')
            .any(|one| one.trim().starts_with(&format!("{code} ")));
        assert!(is_told, "{code}: {codes}");
    }
}

#[test]
fn the_threat_model_s_tests_are_there() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(top.join("../docs/threat-model.md")).expect("document");
    let named: Vec<&str> = text.split('`').filter(|word| word.contains(".rs::")).collect();
    assert!(named.len() >= 20, "{named:?}");
    for test in named {
        let (file, function) = test.split_once("::").expect("name");
        let source = std::fs::read_to_string(top.join("tests").join(file)).unwrap_or_default();
        assert!(source.contains(&format!("\nfn {function}() {{")), "{test}");
    }
}

#[test]
fn every_dependency_that_is_explained_is_one() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |name: &str| std::fs::read_to_string(top.join(name)).expect("file");
    let (document, lock) = (read("docs/dependencies.md"), read("Cargo.lock"));
    let rows = document
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| crate"));
    for row in rows {
        for name in row.split('|').nth(1).expect("cell").split(", ") {
            assert!(lock.contains(&format!("name = \"{}\"\n", name.trim())), "{name}");
        }
    }
}
