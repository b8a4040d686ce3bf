//! Hexadecimal text of bytes, also for `serde(with)`.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// A SHA-256 from its 64 digits; none when they are not.
pub fn digest(text: &str) -> Option<[u8; 32]> {
    decode(text)?.try_into().ok()
}

/// Lower-case digits only: one spelling for one value.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let digit = |b: &u8| match *b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| Some((digit(&pair[0])? << 4) | digit(&pair[1])?))
        .collect()
}

/// Two lower-case digits a byte.
pub fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) mod bytes {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&encode(value))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        decode(&text).ok_or_else(|| D::Error::custom("expected lower-case hexadecimal digits in pairs"))
    }
}

pub(crate) mod array {
    use super::*;

    pub(crate) fn serialize<S: Serializer, const N: usize>(
        value: &[u8; N],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&encode(value))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        from: D,
    ) -> Result<[u8; N], D::Error> {
        let bytes = bytes::deserialize(from)?;
        bytes
            .try_into()
            .map_err(|_| D::Error::custom(format!("expected {N} bytes in hexadecimal")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_one_spelling_only() {
        assert_eq!(decode("00ff1a"), Some(vec![0, 255, 26]));
        assert_eq!(encode(&[0, 255, 26]), "00ff1a");
        for bad in ["0", "0F", "zz", " 0", "é"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
