//! dpkg's database: reading `/var/lib/dpkg/status` and replacing one paragraph of it, the others kept to the byte.

use std::ops::Range;

/// dpkg's database directory.
pub const DIR: &str = "/var/lib/dpkg";
/// The status file.
pub const STATUS: &str = "/var/lib/dpkg/status";
/// dpkg's copy of the status file before the last change.
pub const STATUS_OLD: &str = "/var/lib/dpkg/status-old";
/// The per-package files.
pub const INFO: &str = "/var/lib/dpkg/info";
/// No status file of a real system comes near.
pub const STATUS_LIMIT: usize = 64 * 1024 * 1024;

/// A status file, split into paragraphs.
#[derive(Debug)]
pub struct StatusDb<'a> {
    bytes: &'a [u8],
    paragraphs: Vec<Range<usize>>,
}

/// An installed package, as relations need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Installed<'a> {
    /// `Package`.
    pub name: &'a str,
    /// `Version`.
    pub version: &'a str,
    /// `Provides`, raw.
    pub provides: &'a str,
}

/// A line of `Conffiles`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conffile {
    /// Absolute path.
    pub path: String,
    /// MD5 in hex, or `newconffile` where no version of the file was ever shipped.
    pub digest: String,
    /// Whether the package no longer has it.
    pub obsolete: bool,
}

/// A package's paragraph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What the administrator wants: `install`, `hold`, `deinstall`, `purge`, `unknown`.
    pub want: String,
    /// Error flag: `ok` or `reinstreq`.
    pub flag: String,
    /// `installed`, `config-files`, `half-installed`, …
    pub state: String,
    /// `Version`.
    pub version: String,
    /// `Architecture`.
    pub arch: String,
    /// Its configuration files.
    pub conffiles: Vec<Conffile>,
    /// The whole paragraph as it stands.
    pub text: String,
    /// Line of its first field, from 1.
    pub line: usize,
}

impl<'a> StatusDb<'a> {
    /// Splits a status file. A paragraph without a package name is an error (its line number).
    pub fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let mut paragraphs = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let end = bytes[at..]
                .windows(2)
                .position(|pair| pair == b"\n\n")
                .map_or(bytes.len(), |end| at + end + 1);
            if bytes[at..end].iter().any(|byte| !byte.is_ascii_whitespace()) {
                paragraphs.push(at..end);
            }
            at = end + 1;
        }
        let db = Self { bytes, paragraphs };
        let nameless = db
            .paragraphs
            .iter()
            .find(|range| db.field(range, "Package").is_none());
        match nameless {
            Some(range) => Err(format!("line {}: a paragraph without `Package`", db.line(range))),
            None => Ok(db),
        }
    }

    /// The packages in state `installed`.
    pub fn installed(&self) -> impl Iterator<Item = Installed<'_>> {
        self.paragraphs.iter().filter_map(|range| {
            let status = self.field(range, "Status")?;
            let is_installed = status.split(' ').nth(2) == Some("installed");
            is_installed.then_some(Installed {
                name: self.field(range, "Package")?,
                version: self.field(range, "Version")?,
                provides: self.field(range, "Provides").unwrap_or(""),
            })
        })
    }

    /// The paragraph of `name`.
    pub fn find(&self, name: &str) -> Option<Record> {
        let range = self
            .paragraphs
            .iter()
            .find(|range| self.field(range, "Package") == Some(name))?;
        let text = String::from_utf8_lossy(&self.bytes[range.clone()]).into_owned();
        let mut words = self
            .field(range, "Status")
            .unwrap_or("unknown ok not-installed")
            .split(' ');
        let mut word = || words.next().unwrap_or("").to_owned();
        Some(Record {
            want: word(),
            flag: word(),
            state: word(),
            version: self.field(range, "Version").unwrap_or("").to_owned(),
            arch: self.field(range, "Architecture").unwrap_or("").to_owned(),
            conffiles: conffiles(&text),
            text,
            line: self.line(range),
        })
    }

    /// The file with the paragraph of `name` replaced by `stanza`, or `stanza` put where dpkg's order (by name) wants it.
    pub fn with(&self, name: &str, stanza: &str) -> Vec<u8> {
        let own = self
            .paragraphs
            .iter()
            .find(|range| self.field(range, "Package") == Some(name));
        if let Some(range) = own {
            return [
                &self.bytes[..range.start],
                stanza.as_bytes(),
                &self.bytes[range.end..],
            ]
            .concat();
        }
        let next = self
            .paragraphs
            .iter()
            .find(|range| self.field(range, "Package").is_some_and(|known| known > name));
        match next {
            Some(range) => [
                &self.bytes[..range.start],
                stanza.as_bytes(),
                b"\n",
                &self.bytes[range.start..],
            ]
            .concat(),
            None => {
                let mut bytes = self.bytes.to_vec();
                while !bytes.is_empty() && !bytes.ends_with(b"\n\n") {
                    bytes.push(b'\n');
                }
                bytes.extend_from_slice(stanza.as_bytes());
                bytes.push(b'\n');
                bytes
            }
        }
    }

    /// The file without the paragraph of `name`.
    pub fn without(&self, name: &str) -> Vec<u8> {
        match self
            .paragraphs
            .iter()
            .find(|range| self.field(range, "Package") == Some(name))
        {
            Some(range) => {
                let end = (range.end + 1).min(self.bytes.len());
                [&self.bytes[..range.start], &self.bytes[end..]].concat()
            }
            None => self.bytes.to_vec(),
        }
    }

    /// The first line of a field. A field whose bytes are no UTF-8 counts as missing.
    fn field(&self, range: &Range<usize>, name: &str) -> Option<&'a str> {
        let paragraph = &self.bytes[range.clone()];
        paragraph.split(|byte| *byte == b'\n').find_map(|line| {
            let (head, value) = line.split_at_checked(name.len())?;
            let value = value.strip_prefix(b":")?;
            if !head.eq_ignore_ascii_case(name.as_bytes()) {
                return None;
            }
            std::str::from_utf8(value).ok().map(str::trim)
        })
    }

    fn line(&self, range: &Range<usize>) -> usize {
        self.bytes[..range.start]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1
    }
}

fn conffiles(paragraph: &str) -> Vec<Conffile> {
    let after = paragraph
        .lines()
        .skip_while(|line| !line.to_ascii_lowercase().starts_with("conffiles:"))
        .skip(1);
    let lines = after.take_while(|line| line.starts_with(' '));
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some(Conffile {
                path: words.next()?.to_owned(),
                digest: words.next()?.to_owned(),
                obsolete: words.any(|word| word == "obsolete"),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[u8] = b"Package: aa\nStatus: install ok installed\nVersion: 1\nConffiles:\n /etc/a 0123 \n /etc/b 4567 obsolete\n\n\
        Package: zz\nStatus: hold ok installed\nVersion: 2\nDescription: \xe9\n\n";

    #[test]
    fn reads_records() {
        let db = StatusDb::parse(TWO).expect("valid");
        let record = db.find("aa").expect("there");
        assert_eq!(
            (record.want.as_str(), record.state.as_str(), record.line),
            ("install", "installed", 1)
        );
        assert_eq!(record.conffiles.len(), 2);
        assert!(record.conffiles[1].obsolete);
        assert_eq!(
            db.find("zz").map(|record| (record.want, record.line)),
            Some(("hold".to_owned(), 8))
        );
        assert_eq!(db.installed().count(), 2);
        assert_eq!(db.find("a"), None);
    }

    #[test]
    fn inserts_in_order_and_takes_back_to_the_byte() {
        let stanza = "Package: mm\nVersion: 3\n";
        for start in [
            TWO,
            b"".as_slice(),
            b"Package: aa\nVersion: 1\n\n",
            b"Package: zz\nVersion: 1\n\n",
        ] {
            let added = StatusDb::parse(start).expect("valid").with("mm", stanza);
            let db = StatusDb::parse(&added).expect("valid");
            assert_eq!(db.find("mm").map(|record| record.version), Some("3".to_owned()));
            assert!(added.ends_with(b"\n\n"));
            assert_eq!(db.without("mm"), start, "{:?}", String::from_utf8_lossy(&added));
            assert_eq!(db.with("mm", stanza), added);
        }
        assert!(StatusDb::parse(b"Version: 1\n\n").is_err());
    }
}
