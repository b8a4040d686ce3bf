//! Names as text. Linux names are bytes: those that are no UTF-8, and control characters, stand in a [`super::RootPath`]
//! as one character each of a private area, so that every name can be stored, compared and printed on one line.

#[cfg(unix)]
use std::borrow::Cow;
use std::fmt::{self, Write};

/// The character for a byte; a name that really holds such a character has each of its bytes replaced.
const AREA: u32 = 0xF700;

/// The byte that a character stands for.
fn byte_of(char: char) -> Option<u8> {
    let byte = u8::try_from(u32::from(char).checked_sub(AREA)?).ok()?;
    matches!(byte, 0x01..=0x1f | 0x7f..).then_some(byte)
}

#[cfg(unix)]
fn char_of(byte: u8) -> char {
    // No byte leads out of the area.
    char::from_u32(AREA + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// A name, or several with slashes, as text.
#[cfg(unix)]
pub(super) fn to_text(raw: &[u8]) -> String {
    let mut text = String::with_capacity(raw.len());
    for chunk in raw.utf8_chunks() {
        for char in chunk.valid().chars() {
            if char.is_ascii_control() || byte_of(char).is_some() {
                let mut bytes = [0; 4];
                text.extend(char.encode_utf8(&mut bytes).bytes().map(char_of));
            } else {
                text.push(char);
            }
        }
        text.extend(chunk.invalid().iter().copied().map(char_of));
    }
    text
}

/// What the kernel knows it by.
#[cfg(unix)]
pub(crate) fn to_raw(text: &str) -> Cow<'_, [u8]> {
    if !text.chars().any(|char| byte_of(char).is_some()) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut raw = Vec::with_capacity(text.len());
    for char in text.chars() {
        match byte_of(char) {
            Some(byte) => raw.push(byte),
            None => raw.extend(char.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    Cow::Owned(raw)
}

/// Bytes of the name itself.
pub(super) fn raw_len(text: &str) -> usize {
    text.chars()
        .map(|char| byte_of(char).map_or(char.len_utf8(), |_| 1))
        .sum()
}

/// For people: `\xff`.
pub(super) fn show(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    text.chars().try_for_each(|char| match byte_of(char) {
        Some(byte) => write!(f, "\\x{byte:02x}"),
        None => f.write_char(char),
    })
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn every_name_survives_and_none_becomes_another_s() {
        for raw in [
            b"plain".as_slice(),
            "h\u{fc}bsch \u{1f600}".as_bytes(),
            b"k\xffey",
            b"a\nb\x7f\x01",
            b"\xed\xa0\x80",
            "\u{f781}\u{f72e}\u{f72f}".as_bytes(),
            b"\xef\x9c",
        ] {
            let text = to_text(raw);
            assert_eq!(to_raw(&text), raw, "{text:?}");
            assert_eq!(raw_len(&text), raw.len());
            assert!(!text.chars().any(|char| char.is_ascii_control()));
        }
        // Neither a dot, a slash nor a NUL has a character there.
        for text in ["\u{f72e}\u{f72e}", "\u{f72f}", "\u{f700}"] {
            assert_eq!(to_raw(text), text.as_bytes());
        }
    }
}
