//! Control paragraphs (deb822): fields in order, values as they stand.

use crate::packages::PackageError;

/// One paragraph. Values keep their continuation lines, with the leading blank of each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Paragraph {
    fields: Vec<(String, String)>,
}

impl Paragraph {
    /// Parses one paragraph; a second one, a doubled field or a line that is neither is an error (the line number).
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut fields: Vec<(String, String)> = Vec::new();
        for (number, line) in text.trim_end_matches('\n').split('\n').enumerate() {
            let line = line.trim_end_matches('\r');
            if line.starts_with([' ', '\t']) {
                let Some((_, value)) = fields.last_mut() else {
                    return Err(format!("line {}: a continuation without a field", number + 1));
                };
                value.push('\n');
                value.push_str(line);
                continue;
            }
            let Some((name, value)) = line.split_once(':') else {
                return Err(format!("line {}: no field", number + 1));
            };
            if !is_field_name(name) {
                return Err(format!("line {}: `{name}` is no field name", number + 1));
            }
            if fields.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                return Err(format!("line {}: `{name}` stands twice", number + 1));
            }
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
        Ok(Self { fields })
    }

    /// The value of a field, compared without regard to case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self
            .fields
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// A field that must be there.
    pub fn need(&self, name: &'static str) -> Result<&str, PackageError> {
        let value = self.get(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| PackageError::Malformed(format!("its control file lacks `{name}`")))
    }

    /// The fields in order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Sets or adds a field.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        match self
            .fields
            .iter_mut()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
        {
            Some((_, old)) => *old = value,
            None => self.fields.push((name.to_owned(), value)),
        }
    }

    /// As dpkg writes it in its status file: known fields in dpkg's order, the others after them.
    pub fn to_status(&self) -> String {
        let rank = |name: &str| {
            let known = STATUS_ORDER
                .iter()
                .position(|known| known.eq_ignore_ascii_case(name));
            known.unwrap_or(STATUS_ORDER.len())
        };
        let mut fields: Vec<&(String, String)> = self.fields.iter().collect();
        fields.sort_by_key(|(name, _)| rank(name));
        let mut text = String::new();
        for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
            text.push_str(name);
            text.push(':');
            if !value.starts_with('\n') {
                text.push(' ');
            }
            text.push_str(value);
            text.push('\n');
        }
        text
    }
}

/// dpkg's own field table (lib/dpkg/parse.c) in its order.
const STATUS_ORDER: [&str; 30] = [
    "Package",
    "Essential",
    "Protected",
    "Status",
    "Priority",
    "Section",
    "Installed-Size",
    "Origin",
    "Maintainer",
    "Bugs",
    "Architecture",
    "Multi-Arch",
    "Source",
    "Version",
    "Revision",
    "Config-Version",
    "Replaces",
    "Provides",
    "Depends",
    "Pre-Depends",
    "Recommends",
    "Suggests",
    "Breaks",
    "Conflicts",
    "Enhances",
    "Conffiles",
    "Filename",
    "Size",
    "MD5sum",
    "Description",
];

fn is_field_name(name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
    plain && !name.is_empty() && !name.starts_with(['-', '#'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_continuations_and_orders_for_status() {
        let text = "Package: a\nDescription: one\n two\n .\n three\nHomepage: https://h\nVersion: 1\n";
        let mut paragraph = Paragraph::parse(text).expect("valid");
        paragraph.set("Status", "install ok installed");
        let status = "Package: a\nStatus: install ok installed\nVersion: 1\nDescription: one\n two\n .\n three\nHomepage: https://h\n";
        assert_eq!(paragraph.to_status(), status);
    }

    #[test]
    fn refuses_what_could_smuggle_a_second_paragraph() {
        for text in [
            "Package: a\n\nPackage: b\n",
            " x\n",
            "Package a\n",
            "A: 1\na: 2\n",
            "-A: 1\n",
            "A b: 1",
        ] {
            assert!(Paragraph::parse(text).is_err(), "{text:?}");
        }
    }
}
