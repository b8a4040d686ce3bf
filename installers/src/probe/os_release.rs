//! The grammar of os-release(5), tolerant where real files are.

/// A variable and the line that set it, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its value, unquoted.
    pub value: String,
    /// Line number.
    pub line: usize,
}

/// Variables of an os-release or lsb-release file; the last assignment wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OsRelease {
    variables: std::collections::BTreeMap<String, Variable>,
}

impl OsRelease {
    /// Parses a file of any bytes; what is no assignment is passed over.
    pub fn parse(bytes: &[u8]) -> Self {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = String::from_utf8_lossy(bytes);
        let mut variables = std::collections::BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            let Some((name, raw)) = line.split_once('=').filter(|_| !line.starts_with('#')) else {
                continue;
            };
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if !name.is_empty() && name.bytes().all(is_name) {
                variables.insert(
                    name.to_owned(),
                    Variable {
                        value: unquote(raw),
                        line: index + 1,
                    },
                );
            }
        }
        Self { variables }
    }

    /// A variable that is not empty.
    pub fn get(&self, name: &str) -> Option<&Variable> {
        self.variables
            .get(name)
            .filter(|variable| !variable.value.is_empty())
    }
}

/// Shell quoting as far as os-release allows it: single, double, backslash.
fn unquote(raw: &str) -> String {
    let mut value = String::new();
    let mut signs = raw.trim().chars();
    let mut quote = None;
    while let Some(sign) = signs.next() {
        match (quote, sign) {
            (None, '"' | '\'') => quote = Some(sign),
            (Some(open), sign) if sign == open => quote = None,
            (Some('\''), sign) => value.push(sign),
            (_, '\\') => value.extend(signs.next()),
            (_, sign) => value.push(sign),
        }
    }
    value.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_real_files_hold() {
        let cases: [(&[u8], &str); 9] = [
            (b"ID=debian\n", "debian"),
            (b"ID=\"debian\"\r\n", "debian"),
            (b"ID='debian'  \n", "debian"),
            (b"ID=rhel\nID=debian\n", "debian"),
            (b"\xef\xbb\xbfID=debian\n", "debian"),
            (b"NAME=\"caf\xe9\"\nID=debian\n", "debian"),
            (b"  ID=\"elementary OS\"\n", "elementary OS"),
            (b"ID=\"a\\\"b\\$c\"\n", "a\"b$c"),
            (b"#ID=x\n\n=y\nID=debian", "debian"),
        ];
        for (bytes, wanted) in cases {
            let release = OsRelease::parse(bytes);
            assert_eq!(
                release.get("ID").map(|id| id.value.as_str()),
                Some(wanted),
                "{bytes:?}"
            );
        }
        assert_eq!(OsRelease::parse(b"ID=\nVERSION_ID=\"\"\n").get("ID"), None);
        assert_eq!(
            OsRelease::parse(b"A=1\n\nID=x").get("ID").map(|id| id.line),
            Some(3)
        );
    }
}
