//! What happens to a configuration file of a package: dpkg's rules with the answer "keep mine" to every question.

/// The digests that decide, hex MD5.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// As the earlier version of the package shipped it, from the database.
    pub shipped_before: Option<&'a str>,
    /// As it stands in the tree.
    pub present: Option<&'a str>,
    /// As the new package ships it.
    pub shipped_now: &'a str,
}

/// What to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Write the package's file.
    Install,
    /// Leave what is there, or its absence.
    Keep,
    /// Leave what is there and put the package's file beside it as `.dpkg-dist`.
    KeepAndOffer,
}

/// dpkg's table (deb-conffiles(5), `dpkg --force-confdef --force-confold`).
pub fn judge(situation: Situation<'_>) -> Verdict {
    let Situation {
        shipped_before,
        present,
        shipped_now,
    } = situation;
    match (shipped_before, present) {
        (_, Some(present)) if present == shipped_now => Verdict::Keep,
        (None, None) => Verdict::Install,
        (Some(before), _) if before == shipped_now => Verdict::Keep,
        (Some(before), Some(present)) if before == present => Verdict::Install,
        (_, Some(_)) => Verdict::KeepAndOffer,
        // The administrator deleted it, and deleted it stays.
        (Some(_), None) => Verdict::KeepAndOffer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_table() {
        let cases = [
            (None, None, "n", Verdict::Install),
            (None, Some("n"), "n", Verdict::Keep),
            (None, Some("u"), "n", Verdict::KeepAndOffer),
            (Some("o"), Some("o"), "o", Verdict::Keep),
            (Some("o"), Some("u"), "o", Verdict::Keep),
            (Some("o"), None, "o", Verdict::Keep),
            (Some("o"), Some("o"), "n", Verdict::Install),
            (Some("o"), Some("u"), "n", Verdict::KeepAndOffer),
            (Some("o"), None, "n", Verdict::KeepAndOffer),
            (Some("o"), Some("n"), "n", Verdict::Keep),
        ];
        for (shipped_before, present, shipped_now, wanted) in cases {
            let situation = Situation {
                shipped_before,
                present,
                shipped_now,
            };
            assert_eq!(judge(situation), wanted, "{situation:?}");
        }
    }
}
