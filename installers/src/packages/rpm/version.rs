//! rpm's order of versions (rpmvercmp, with `~` and `^`).

use std::cmp::Ordering;

/// Compares two `[EPOCH:]VERSION[-RELEASE]` as a dependency does: a release that one side lacks is not compared.
pub fn compare_evr(one: &str, other: &str) -> Ordering {
    let (one, other) = (split(one), split(other));
    one.0
        .cmp(&other.0)
        .then_with(|| compare(one.1, other.1))
        .then_with(|| match (one.2, other.2) {
            (Some(one), Some(other)) => compare(one, other),
            _ => Ordering::Equal,
        })
}

fn split(text: &str) -> (u64, &str, Option<&str>) {
    let (epoch, rest) = match text.split_once(':') {
        Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
        None => (0, text),
    };
    match rest.rsplit_once('-') {
        Some((version, release)) => (epoch, version, Some(release)),
        None => (epoch, rest, None),
    }
}

/// Compares two versions or two releases.
pub fn compare(one: &str, other: &str) -> Ordering {
    let (mut left, mut right) = (one.as_bytes(), other.as_bytes());
    loop {
        left = skip_separators(left);
        right = skip_separators(right);
        // A tilde sorts before everything, the end included; a caret after the end and before everything else.
        for (sign, before_end) in [(b'~', Ordering::Less), (b'^', Ordering::Greater)] {
            match (left.first() == Some(&sign), right.first() == Some(&sign)) {
                (true, true) => return compare_bytes(&left[1..], &right[1..]),
                (true, false) if sign == b'^' && !right.is_empty() => return Ordering::Less,
                (false, true) if sign == b'^' && !left.is_empty() => return Ordering::Greater,
                (true, false) => return before_end,
                (false, true) => return before_end.reverse(),
                (false, false) => {}
            }
        }
        if left.is_empty() || right.is_empty() {
            return left.len().cmp(&right.len());
        }
        let is_number = left[0].is_ascii_digit();
        let (left_part, left_rest) = segment(left, is_number);
        let (right_part, right_rest) = segment(right, is_number);
        if right_part.is_empty() {
            // Numbers are newer than words.
            return if is_number {
                Ordering::Greater
            } else {
                Ordering::Less
            };
        }
        let order = if is_number {
            let (left_part, right_part) = (significant(left_part), significant(right_part));
            left_part
                .len()
                .cmp(&right_part.len())
                .then(left_part.cmp(right_part))
        } else {
            left_part.cmp(right_part)
        };
        if order != Ordering::Equal {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
}

fn compare_bytes(one: &[u8], other: &[u8]) -> Ordering {
    compare(&String::from_utf8_lossy(one), &String::from_utf8_lossy(other))
}

fn skip_separators(text: &[u8]) -> &[u8] {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'~' || *byte == b'^';
    &text[text.iter().position(is_part).unwrap_or(text.len())..]
}

fn segment(text: &[u8], is_number: bool) -> (&[u8], &[u8]) {
    let fits = |byte: &u8| {
        if is_number {
            byte.is_ascii_digit()
        } else {
            byte.is_ascii_alphabetic()
        }
    };
    text.split_at(text.iter().position(|byte| !fits(byte)).unwrap_or(text.len()))
}

fn significant(digits: &[u8]) -> &[u8] {
    &digits[digits
        .iter()
        .position(|digit| *digit != b'0')
        .unwrap_or(digits.len())..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_as_rpm_does() {
        use Ordering::{Equal, Greater, Less};
        let cases = [
            ("1.0", "1.0", Equal),
            ("1.0", "2.0", Less),
            ("2.0.1", "2.0", Greater),
            ("2.0.1a", "2.0.1", Greater),
            ("5.5p1", "5.5p10", Less),
            ("10xyz", "10.1xyz", Less),
            ("xyz10", "xyz10.1", Less),
            ("xyz.4", "8", Less),
            ("5.6p1", "6.5p1", Less),
            ("6.0.rc1", "6.0", Greater),
            ("10b2", "10a1", Greater),
            ("1.0aa", "1.0a", Greater),
            ("10.0001", "10.1", Equal),
            ("10.0001", "10.0039", Less),
            ("4.999.9", "5.0", Less),
            ("20101121", "20101122", Less),
            ("2_0", "2.0", Equal),
            ("a", "b", Less),
            ("1.0~rc1", "1.0", Less),
            ("1.0~rc1", "1.0~rc2", Less),
            ("1.0^", "1.0", Greater),
            ("1.0^git1", "1.01", Less),
            ("1.0^git1", "1.0.1", Less),
            ("1.0~rc1^git1", "1.0~rc1", Greater),
            ("1.0^git1~pre", "1.0^git1", Less),
            ("fc4", "fc.4", Equal),
            ("3.3.1957.0", "3.3.988.0", Greater),
        ];
        for (one, other, order) in cases {
            assert_eq!(compare(one, other), order, "{one} {other}");
            assert_eq!(compare(other, one), order.reverse(), "{other} {one}");
        }
    }

    #[test]
    fn compares_epochs_and_only_releases_that_are_there() {
        assert_eq!(compare_evr("1:1.0", "2.0"), Ordering::Greater);
        assert_eq!(compare_evr("1.0-2", "1.0"), Ordering::Equal);
        assert_eq!(compare_evr("1.0-2", "1.0-10"), Ordering::Less);
    }
}
