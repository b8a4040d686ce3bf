//! The environment that a service manager gives the agent: what its unit, its drop-ins and the files that they name say.

use std::collections::BTreeMap;

use ssmbake_manifests::ServiceManager;

use super::{InstallChannel, systemd, upstart};
use crate::error::IoError;
use crate::root::{Root, RootPath};

const LIMIT: usize = 1024 * 1024;

/// The agent's unit and its drop-ins, or its job and override, in the order in which they count.
pub(crate) fn files(
    root: &Root,
    manager: ServiceManager,
    channel: InstallChannel,
) -> Result<Vec<RootPath>, IoError> {
    if manager != ServiceManager::Systemd {
        return Ok([upstart::JOB, upstart::OVERRIDE].map(RootPath::fixed).into());
    }
    let mut files: Vec<RootPath> = systemd::find(root, channel.unit())?.into_iter().collect();
    files.extend(systemd::drop_ins(root, channel.unit())?);
    Ok(files)
}

/// The variables that are set and not empty: their names in small letters, and their values.
pub(crate) fn read(
    root: &Root,
    manager: ServiceManager,
    channel: InstallChannel,
) -> Result<Vec<(String, String)>, IoError> {
    let text = |path: &RootPath| -> Result<String, IoError> {
        let bytes = root.read_if_file(path, LIMIT)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let mut said = Said::default();
    for path in files(root, manager, channel)? {
        let text = text(&path)?;
        match manager {
            ServiceManager::Systemd => said.add_unit(&text),
            _ => said.variables.extend(job(&text)),
        }
    }
    let mut variables: BTreeMap<String, String> = said.variables.into_iter().collect();
    for name in said.files {
        // A minus: the file may be missing.
        if let Ok(path) = RootPath::new(name.trim_start_matches('-')) {
            variables.extend(environment_file(&text(&path)?));
        }
    }
    variables.retain(|_, value| !value.is_empty());
    // Backwards: of two spellings the agent takes the one in capitals, and of two equal names the last counts.
    let backwards = variables.into_iter().rev();
    Ok(backwards
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect())
}

/// What units say so far.
#[derive(Default)]
struct Said {
    variables: Vec<(String, String)>,
    files: Vec<String>,
}

impl Said {
    fn add_unit(&mut self, text: &str) {
        let mut section = String::new();
        for line in lines(text) {
            if line.starts_with('[') {
                section = line;
                continue;
            }
            let Some((key, value)) = line.split_once('=').filter(|_| section == "[Service]") else {
                continue;
            };
            match (key.trim_end(), value.trim()) {
                // An empty one takes back those before.
                ("Environment", "") => self.variables.clear(),
                ("EnvironmentFile", "") => self.files.clear(),
                // A percent sign begins a specifier.
                ("Environment", value) => {
                    let words = words(value).into_iter().map(|word| word.replace("%%", "%"));
                    self.variables.extend(words.filter_map(|word| pair(&word)));
                }
                ("EnvironmentFile", value) => self.files.extend(words(value).into_iter().next()),
                _ => {}
            }
        }
    }
}

/// What a job of upstart's sets.
fn job(text: &str) -> Vec<(String, String)> {
    let stanzas = text.lines().map(str::trim);
    let stanzas = stanzas.filter_map(|line| line.strip_prefix("env")?.strip_prefix([' ', '\t']));
    stanzas.filter_map(|rest| pair(words(rest).first()?)).collect()
}

/// What a file that `EnvironmentFile=` names sets.
fn environment_file(text: &str) -> Vec<(String, String)> {
    let unquoted = |(name, value): (String, String)| (name, words(&value).join(" "));
    lines(text)
        .iter()
        .filter_map(|line| pair(line))
        .map(unquoted)
        .collect()
}

fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let is_name = !name.trim_end().contains(char::is_whitespace);
    is_name.then(|| (name.trim_end().to_owned(), value.to_owned()))
}

/// The lines of a file of systemd's, without blanks at their ends and comments; a backslash goes on with the next.
fn lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut begun = String::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with(['#', ';']) {
            continue;
        }
        match line.strip_suffix('\\') {
            Some(part) => begun = format!("{begun}{part} "),
            None => lines.push(std::mem::take(&mut begun) + line),
        }
    }
    lines.push(begun);
    lines
}

/// Takes a value apart as systemd does: at blanks, with quotes of both kinds, and signs behind a backslash as they are.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut signs = text.chars();
    while let Some(sign) = signs.next() {
        match quote {
            Some(open) if sign == open => quote = None,
            None if matches!(sign, '"' | '\'') => {
                quote = Some(sign);
                word.get_or_insert_default();
            }
            _ if sign == '\\' => word.get_or_insert_default().extend(signs.next()),
            None if sign.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(sign),
        }
    }
    // systemd ignores a quote that nobody closes, and what is in it.
    words.extend(word.filter(|_| quote.is_none()));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(text: &str) -> Said {
        let mut said = Said::default();
        said.add_unit(text);
        said
    }

    #[test]
    fn values_are_taken_apart_as_systemd_does() {
        let cases: [(&str, &[&str]); 7] = [
            ("a b", &["a", "b"]),
            ("\"a b\" 'c d'", &["a b", "c d"]),
            ("a=\"b c\" d", &["a=b c", "d"]),
            ("'a\"b' \"c'd\"", &["a\"b", "c'd"]),
            ("a\\ b \"\\\"\"", &["a b", "\""]),
            ("\"\" a", &["", "a"]),
            ("a \"b", &["a"]),
        ];
        for (text, wanted) in cases {
            assert_eq!(words(text), wanted, "{text}");
        }
    }

    #[test]
    fn units_say_what_systemd_reads_in_them() {
        let said = unit(
            "Environment=a=0\n[Unit]\nEnvironment=a=1\n[Service]\n# Environment=a=2\n Environment = \"a=3\" \\\n 'b=4%%'\nEnvironmentFile=-/etc/x\n",
        );
        let pairs = [("a", "3"), ("b", "4%")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(said.variables, pairs);
        assert_eq!(said.files, ["-/etc/x"]);
        let said = unit("[Service]\nEnvironment=a=1\nEnvironment=\nEnvironmentFile=/x\nEnvironmentFile=\n");
        assert!(said.variables.is_empty() && said.files.is_empty());
    }

    #[test]
    fn other_files_say_what_their_readers_read() {
        let one = |text: &str| environment_file(text).into_iter().next();
        let pair = |value: &str| Some(("https_proxy".to_owned(), value.to_owned()));
        assert_eq!(one("# x=1\nhttps_proxy=http://p:1\n"), pair("http://p:1"));
        assert_eq!(one("https_proxy='http://p:1'"), pair("http://p:1"));
        assert_eq!(one("export https_proxy=http://p:1"), None);
        assert_eq!(
            job("env  https_proxy=\"http://p:1\"\nenviron x=1\n").first(),
            pair("http://p:1").as_ref()
        );
    }
}
