//! Edits a JSON file in place: keys that are set change, everything else keeps its bytes, order and spacing.
//!
//! The agent reads with Go's encoding/json: keys match without regard to case and of doubled keys the last wins,
//! but a BOM, a comment or a trailing comma stops it.

use std::borrow::Cow;

use serde_json::Value;

/// Why the agent could not read a text, or why it cannot be edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// A byte-order mark.
    #[error("it begins with a byte-order mark, which the agent cannot read")]
    Bom,
    /// UTF-16 or other.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// A syntax error, with line and column.
    #[error("it is not valid JSON: {0}")]
    Syntax(String),
    /// A value of another kind than the agent expects.
    #[error("`{0}` is not an object")]
    NotObject(String),
}

/// The text as the agent takes it, if it can read it.
pub fn check(bytes: &[u8]) -> Result<Cow<'_, str>, JsonError> {
    if bytes.starts_with(b"\xef\xbb\xbf") || bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff")
    {
        return Err(JsonError::Bom);
    }
    // Go takes what is no UTF-8 for U+FFFD in a string, and for a syntax error elsewhere.
    let text = String::from_utf8_lossy(bytes);
    let value: Value = serde_json::from_str(&text).map_err(|error| JsonError::Syntax(error.to_string()))?;
    match value {
        Value::Object(_) | Value::Null => Ok(text),
        _ => Err(JsonError::NotObject("the whole".to_owned())),
    }
}

/// The value at `Section.Key`, as the agent would find it.
pub fn get(text: &str, section: &str, key: &str) -> Option<Value> {
    let whole = Object::scan(text, text.find('{')?);
    let section = whole.find(text, section)?;
    let start = section.value.start;
    let inner = text[start..]
        .starts_with('{')
        .then(|| Object::scan(text, start))?;
    let member = inner.find(text, key)?;
    serde_json::from_str(&text[member.value.clone()]).ok()
}

/// The text with `Section.Key` set; the same text when it has that value already. `text` must have passed [`check`].
pub fn set(text: &str, section: &str, key: &str, value: &Value) -> Result<String, JsonError> {
    if get(text, section, key).as_ref() == Some(value) {
        return Ok(text.to_owned());
    }
    if text.contains(char::REPLACEMENT_CHARACTER) {
        return Err(JsonError::NotUtf8);
    }
    let start = text
        .find('{')
        .ok_or_else(|| JsonError::NotObject("the whole".to_owned()))?;
    let whole = Object::scan(text, start);
    let indent = whole.indent(text, "");
    let fresh = format!("{{\n{indent}{indent}{}: {value}\n{indent}}}", quote(key));
    let Some(found) = whole.find(text, section) else {
        return Ok(whole.insert(text, "", &format!("{}: {fresh}", quote(section))));
    };
    match &text[found.value.clone()] {
        object if object.starts_with('{') => {}
        "null" => {
            let (before, after) = (&text[..found.value.start], &text[found.value.end..]);
            return Ok(format!("{before}{fresh}{after}"));
        }
        _ => return Err(JsonError::NotObject(section.to_owned())),
    }
    let object = Object::scan(text, found.value.start);
    Ok(match object.find(text, key) {
        Some(member) => {
            format!(
                "{}{value}{}",
                &text[..member.value.start],
                &text[member.value.end..]
            )
        }
        None => object.insert(
            text,
            &line_indent(text, found.value.start),
            &format!("{}: {value}", quote(key)),
        ),
    })
}

fn quote(name: &str) -> String {
    Value::String(name.to_owned()).to_string()
}

/// The blanks at the beginning of the line that holds `at`.
fn line_indent(text: &str, at: usize) -> String {
    let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
    text[line..]
        .chars()
        .take_while(|sign| matches!(sign, ' ' | '\t'))
        .collect()
}

struct Member {
    key: std::ops::Range<usize>,
    value: std::ops::Range<usize>,
}

/// The extent of an object in valid JSON.
struct Object {
    start: usize,
    end: usize,
    members: Vec<Member>,
}

impl Object {
    /// Scans the object that begins at `start`.
    fn scan(text: &str, start: usize) -> Self {
        let bytes = text.as_bytes();
        let mut members = Vec::new();
        let mut at = blanks(bytes, start + 1);
        while at < bytes.len() && bytes[at] != b'}' {
            let key = at..skip_value(bytes, at);
            let colon = blanks(bytes, key.end);
            let begin = blanks(bytes, colon + 1);
            let value = begin..skip_value(bytes, begin);
            at = blanks(bytes, value.end);
            members.push(Member { key, value });
            if bytes.get(at) == Some(&b',') {
                at = blanks(bytes, at + 1);
            }
        }
        Self {
            start,
            end: at,
            members,
        }
    }

    /// The last member of that name, without regard to case.
    fn find(&self, text: &str, name: &str) -> Option<&Member> {
        let is_named = |member: &&Member| {
            let key: Option<String> = serde_json::from_str(&text[member.key.clone()]).ok();
            key.is_some_and(|key| key.eq_ignore_ascii_case(name))
        };
        self.members.iter().rev().find(is_named)
    }

    /// The blanks before the members, or four more than `outer`.
    fn indent(&self, text: &str, outer: &str) -> String {
        let own = self
            .members
            .last()
            .map(|member| &text[self.start..member.key.start]);
        match own.and_then(|before| before.rfind('\n').map(|at| &before[at + 1..])) {
            Some(blanks) if blanks.chars().all(|sign| matches!(sign, ' ' | '\t')) => blanks.to_owned(),
            _ => format!("{outer}    "),
        }
    }

    /// The text with one member more, after the last.
    fn insert(&self, text: &str, outer: &str, member: &str) -> String {
        let indent = self.indent(text, outer);
        match self.members.last() {
            Some(last) => {
                let one_line = !text[self.start..last.key.start].contains('\n');
                let gap = if one_line {
                    " ".to_owned()
                } else {
                    format!("\n{indent}")
                };
                format!(
                    "{},{gap}{member}{}",
                    &text[..last.value.end],
                    &text[last.value.end..]
                )
            }
            None => format!(
                "{}\n{indent}{member}\n{outer}{}",
                &text[..=self.start],
                &text[self.end..]
            ),
        }
    }
}

fn blanks(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

/// The end of the value that begins at `at`.
fn skip_value(bytes: &[u8], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut position = at;
    while let Some(byte) = bytes.get(position) {
        match byte {
            b'"' => {
                position = skip_string(bytes, position);
                if depth == 0 {
                    return position;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return position,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return position + 1;
                }
            }
            b',' | b':' if depth == 0 => return position,
            blank if depth == 0 && blank.is_ascii_whitespace() => return position,
            _ => {}
        }
        position += 1;
    }
    position
}

fn skip_string(bytes: &[u8], at: usize) -> usize {
    let mut position = at + 1;
    while let Some(byte) = bytes.get(position) {
        match byte {
            b'\\' => position += 2,
            b'"' => return position + 1,
            _ => position += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tells_what_the_agent_cannot_read() {
        assert_eq!(check(b"\xef\xbb\xbf{}"), Err(JsonError::Bom));
        assert_eq!(check(b"\xff\xfe{\0}\0"), Err(JsonError::Bom));
        assert_eq!(check(b"{\"a\":\"\xe9\"}").as_deref(), Ok("{\"a\":\"\u{fffd}\"}"));
        assert!(matches!(check(b"{\"a\":1\xe9}"), Err(JsonError::Syntax(_))));
        assert_eq!(
            set("{\"a\":\"\u{fffd}\"}", "A", "B", &json!(1)),
            Err(JsonError::NotUtf8)
        );
        for text in ["null", "{\"Mds\": null}", "{\"Foo\": 1}"] {
            assert!(check(text.as_bytes()).is_ok(), "{text}");
        }
        assert_eq!(get("{\"Mds\": null}", "Mds", "Endpoint"), None);
        let new = set("{\"Mds\": null}", "Mds", "Endpoint", &json!("h")).expect("set");
        assert_eq!(get(&new, "Mds", "Endpoint"), Some(json!("h")));
        assert_eq!(
            set("{\"Mds\": 1}", "Mds", "Endpoint", &json!("h")),
            Err(JsonError::NotObject("Mds".to_owned()))
        );
        for text in ["", "{\"Mds\":{},}", "// x\n{}", "{\"Mds\":{}} x"] {
            assert!(
                matches!(check(text.as_bytes()), Err(JsonError::Syntax(_))),
                "{text}"
            );
        }
        assert_eq!(check(b"[]"), Err(JsonError::NotObject("the whole".to_owned())));
    }

    #[test]
    fn changes_one_value_and_nothing_else() {
        let text = "{\n  \"Zeta\": {\"X\" : [1, {\"Endpoint\": \"no\"}] },\n  \"ssm\" : {\n    \"endpoint\":\"a\\\"}\" , \"Other\": 1\n  }\n}\n";
        let new = set(text, "Ssm", "Endpoint", &json!("b")).expect("set");
        assert_eq!(new, text.replace("\"a\\\"}\"", "\"b\""));
        assert_eq!(
            set(&new, "Ssm", "Endpoint", &json!("b")).as_deref(),
            Ok(new.as_str())
        );
    }

    #[test]
    fn adds_keys_and_sections_in_the_style_of_the_file() {
        let one = set("{}", "Ssm", "Endpoint", &json!("h")).expect("set");
        assert_eq!(one, "{\n    \"Ssm\": {\n        \"Endpoint\": \"h\"\n    }\n}");
        let two = set(&one, "Ssm", "HealthFrequencyMinutes", &json!(10)).expect("set");
        assert_eq!(
            two,
            "{\n    \"Ssm\": {\n        \"Endpoint\": \"h\",\n        \"HealthFrequencyMinutes\": 10\n    }\n}"
        );
        let three = set("{\n\t\"A\": {}\n}\n", "A", "B", &json!(true)).expect("set");
        assert_eq!(three, "{\n\t\"A\": {\n\t    \"B\": true\n\t}\n}\n");
        let four = set("{\"A\": {\"x\": 1}}", "A", "B", &json!([1])).expect("set");
        assert_eq!(four, "{\"A\": {\"x\": 1, \"B\": [1]}}");
        for text in [one, two, three, four] {
            assert!(check(text.as_bytes()).is_ok());
        }
    }

    #[test]
    fn of_doubled_keys_the_last_is_the_one() {
        let text = "{\"Ssm\":{\"Endpoint\":\"a\"},\"SSM\":{\"Endpoint\":\"b\"}}";
        assert_eq!(get(text, "ssm", "endpoint"), Some(json!("b")));
        let new = set(text, "Ssm", "Endpoint", &json!("c")).expect("set");
        assert_eq!(new, "{\"Ssm\":{\"Endpoint\":\"a\"},\"SSM\":{\"Endpoint\":\"c\"}}");
    }

    proptest::proptest! {
        #[test]
        fn set_then_get_on_any_object(sections in proptest::collection::btree_map("[a-z]{1,4}",
            proptest::collection::btree_map("[ -~]{0,6}", "[ -~]{0,8}", 0..4), 0..4), pretty: bool) {
            let value = json!(sections);
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let text = text.expect("json");
            let new = set(&text, "Ssm", "Endpoint", &json!("h")).expect("set");
            proptest::prop_assert!(check(new.as_bytes()).is_ok(), "{}", new);
            proptest::prop_assert_eq!(get(&new, "ssm", "endpoint"), Some(json!("h")));
            let again = set(&new, "Ssm", "Endpoint", &json!("h")).expect("set");
            proptest::prop_assert_eq!(again, new);
        }
    }
}
