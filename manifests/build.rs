//! Lists os/*.toml and roots/*.pem, so that a new operating system is one TOML file and no Rust.
#![expect(
    clippy::disallowed_methods,
    reason = "a build script reads the source tree and its environment"
)]

use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

/// What is embedded of a file.
type Convert = fn(&str) -> Result<String, Box<dyn Error>>;

fn main() -> Result<(), Box<dyn Error>> {
    let code = table("OS_FILES", "os", "toml", as_json)? + &table("ROOT_FILES", "roots", "pem", as_is)?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("embedded.rs"), code)?;
    println!("cargo::rerun-if-changed=build.rs");
    Ok(())
}

fn as_is(text: &str) -> Result<String, Box<dyn Error>> {
    Ok(text.to_owned())
}

/// Each start of the program reads all systems: JSON is read several times faster than TOML.
fn as_json(text: &str) -> Result<String, Box<dyn Error>> {
    Ok(toml::from_str::<serde_json::Value>(text)?.to_string())
}

/// A constant of (file stem, content), ordered by name because directory order differs between hosts.
fn table(name: &str, folder: &str, extension: &str, convert: Convert) -> Result<String, Box<dyn Error>> {
    println!("cargo::rerun-if-changed={folder}");
    let mut stems = Vec::new();
    for entry in fs::read_dir(folder)? {
        let file = entry?
            .file_name()
            .into_string()
            .map_err(|name| format!("{name:?} is not UTF-8"))?;
        if let Some(stem) = file.strip_suffix(extension).and_then(|s| s.strip_suffix('.')) {
            stems.push(stem.to_owned());
        }
    }
    stems.sort();
    let mut code = format!("pub(crate) const {name}: &[(&str, &str)] = &[\n");
    for stem in stems {
        let path = format!("{folder}/{stem}.{extension}");
        let content = convert(&fs::read_to_string(&path)?).map_err(|error| format!("{path}: {error}"))?;
        writeln!(code, "({stem:?}, {content:?}),")?;
    }
    Ok(code + "];\n")
}
