//! Debian version order (deb-version(7)): epoch, upstream version, revision.

use std::cmp::Ordering;

/// Compares two version texts as dpkg does.
pub fn compare(one: &str, other: &str) -> Ordering {
    let (left, right) = (split(one), split(other));
    left.0
        .cmp(&right.0)
        .then_with(|| part(left.1, right.1))
        .then_with(|| part(left.2, right.2))
}

/// The upstream part: without epoch and revision.
pub fn upstream(version: &str) -> &str {
    split(version).1
}

fn split(version: &str) -> (u64, &str, &str) {
    let (epoch, rest) = match version.split_once(':') {
        Some((epoch, rest)) => (epoch.trim().parse().unwrap_or(0), rest),
        None => (0, version),
    };
    match rest.rsplit_once('-') {
        Some((upstream, revision)) => (epoch, upstream, revision),
        None => (epoch, rest, ""),
    }
}

/// `~` sorts before everything, even the end; letters before other signs.
fn order(byte: Option<u8>) -> i32 {
    match byte {
        None => 0,
        Some(b'~') => -1,
        Some(byte) if byte.is_ascii_digit() => 0,
        Some(byte) if byte.is_ascii_alphabetic() => byte.into(),
        Some(byte) => i32::from(byte) + 256,
    }
}

fn part(one: &str, other: &str) -> Ordering {
    let (mut left, mut right) = (one.as_bytes(), other.as_bytes());
    while !left.is_empty() || !right.is_empty() {
        let is_text = |bytes: &[u8]| bytes.first().is_some_and(|byte| !byte.is_ascii_digit());
        while is_text(left) || is_text(right) {
            let decided = order(left.first().copied()).cmp(&order(right.first().copied()));
            if decided.is_ne() {
                return decided;
            }
            left = left.get(1..).unwrap_or(&[]);
            right = right.get(1..).unwrap_or(&[]);
        }
        let decided = number(&mut left, &mut right);
        if decided.is_ne() {
            return decided;
        }
    }
    Ordering::Equal
}

/// Takes the leading number of both; numbers may be longer than any integer type.
fn number(left: &mut &[u8], right: &mut &[u8]) -> Ordering {
    fn take<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
        let end = bytes
            .iter()
            .position(|byte| !byte.is_ascii_digit())
            .unwrap_or(bytes.len());
        let (digits, rest) = bytes.split_at(end);
        *bytes = rest;
        let zeros = digits
            .iter()
            .position(|byte| *byte != b'0')
            .unwrap_or(digits.len());
        &digits[zeros..]
    }
    let (one, other) = (take(left), take(right));
    one.len().cmp(&other.len()).then_with(|| one.cmp(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_as_dpkg() {
        let rising = [
            "0~~",
            "0~",
            "0",
            "1.0~rc1-1",
            "1.0-1",
            "1.0-1+b1",
            "1.0-2",
            "1.0a",
            "1.0+x",
            "1.9",
            "1.10",
            "1:0.1",
        ];
        for pair in rising.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(compare("1.01", "1.1"), Ordering::Equal);
        assert_eq!(compare("0:1-0", "1"), Ordering::Equal);
    }

    #[test]
    fn upstream_is_without_epoch_and_revision() {
        assert_eq!(upstream("3.3.1957.0-1"), "3.3.1957.0");
        assert_eq!(upstream("1:2.3-4-5"), "2.3-4");
        assert_eq!(upstream("7"), "7");
    }
}
