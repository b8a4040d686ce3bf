//! Samples of all that `seal` removes, made from its own rules: no rule is without one.

use std::fs;
use std::path::{Path, PathBuf};

use ssmbake_manifests::{SealAction, catalog};

/// What every sample holds.
pub const SECRET: &str = "planted-secret";

/// One sample.
#[derive(Debug)]
pub struct Sample {
    /// Its class.
    pub class: String,
    /// The file, relative to the root.
    pub path: PathBuf,
    /// What becomes of it.
    pub action: SealAction,
    /// The line of it that stays when lines are dropped.
    pub kept: &'static str,
}

/// A sample for each path of each rule below `root`; what it holds is [`SECRET`] and a number.
pub fn plant(root: &Path) -> Vec<Sample> {
    let mut samples = Vec::new();
    for rule in catalog().seal() {
        for pattern in &rule.paths {
            let mut path = PathBuf::from(pattern.replace('*', "x").trim_start_matches('/'));
            if matches!(rule.action, SealAction::Empty | SealAction::RemoveFiles) {
                path.push("below/file");
            }
            let mut text = format!("{SECRET} <{}>\n", samples.len());
            let (kept, dropped) = match rule.class.as_str() {
                "hostname" => ("localhost.localdomain", format!("HOSTNAME={SECRET}")),
                _ => (
                    "ssh-ed25519 AAAA me@home",
                    format!("ssh-rsa {SECRET} packer_01234567-89ab-cdef-0123-456789abcdef"),
                ),
            };
            if rule.action == SealAction::DropLines {
                text = format!("{kept}\n{dropped}\n");
            }
            let place = root.join(&path);
            fs::create_dir_all(place.parent().expect("directory")).expect("directory");
            fs::write(&place, text).expect("sample");
            samples.push(Sample {
                class: rule.class.clone(),
                path,
                action: rule.action,
                kept,
            });
        }
    }
    samples
}
