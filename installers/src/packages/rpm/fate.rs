//! What happens to a file that is there already: rpm's rules for configuration files (lib/rpmfi.c).

/// How a path stands to the package's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation {
    /// What the new package calls it.
    pub new: Nature,
    /// What the installed package calls it; none when it does not own it.
    pub old: Option<Nature>,
    /// What is there.
    pub present: Present,
    /// Whether both packages ship the same bytes.
    pub ships_same: bool,
}

/// A file in a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// No configuration.
    Plain,
    /// `%config`.
    Config,
    /// `%config(noreplace)`.
    ConfigNoReplace,
}

/// A file in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Present {
    /// Nothing.
    Absent,
    /// What the new package ships.
    AsNew,
    /// What the installed package shipped.
    AsOld,
    /// Something else: the administrator's.
    Changed,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Write the package's file.
    Install,
    /// Leave what is there.
    Keep,
    /// Leave what is there, and put the package's file beside it as `.rpmnew`.
    Offer,
    /// Write the package's file, and keep what is there under this ending.
    Save(&'static str),
}

/// rpm's table.
pub fn judge(situation: Situation) -> Fate {
    let Situation {
        new,
        old,
        present,
        ships_same,
    } = situation;
    if present == Present::Absent {
        return Fate::Install;
    }
    let was_config = old.is_some_and(|old| old != Nature::Plain);
    match (was_config, new, present) {
        (false, Nature::Plain, _) | (false, _, Present::AsNew) => Fate::Install,
        (false, Nature::Config, _) => Fate::Save(".rpmorig"),
        (true, _, Present::AsNew) => Fate::Keep,
        (true, _, Present::AsOld) => Fate::Install,
        (true, Nature::Plain, _) => Fate::Save(".rpmsave"),
        (true, _, _) if ships_same => Fate::Keep,
        (true, Nature::Config, _) => Fate::Save(".rpmsave"),
        (_, Nature::ConfigNoReplace, _) => Fate::Offer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_table() {
        use Nature::{Config, ConfigNoReplace, Plain};
        use Present::{Absent, AsNew, AsOld, Changed};
        let cases = [
            (Plain, None, Changed, false, Fate::Install),
            (Plain, Some(Plain), Changed, false, Fate::Install),
            (Plain, Some(Config), Changed, false, Fate::Save(".rpmsave")),
            (Config, None, Changed, false, Fate::Save(".rpmorig")),
            (ConfigNoReplace, None, Changed, false, Fate::Offer),
            (ConfigNoReplace, None, AsNew, false, Fate::Install),
            (
                ConfigNoReplace,
                Some(ConfigNoReplace),
                Absent,
                false,
                Fate::Install,
            ),
            (ConfigNoReplace, Some(ConfigNoReplace), AsNew, false, Fate::Keep),
            (
                ConfigNoReplace,
                Some(ConfigNoReplace),
                AsOld,
                false,
                Fate::Install,
            ),
            (ConfigNoReplace, Some(ConfigNoReplace), Changed, true, Fate::Keep),
            (
                ConfigNoReplace,
                Some(ConfigNoReplace),
                Changed,
                false,
                Fate::Offer,
            ),
            (Config, Some(Config), Changed, false, Fate::Save(".rpmsave")),
            (ConfigNoReplace, Some(Plain), Changed, false, Fate::Offer),
        ];
        for (new, old, present, ships_same, wanted) in cases {
            let situation = Situation {
                new,
                old,
                present,
                ships_same,
            };
            assert_eq!(judge(situation), wanted, "{situation:?}");
        }
    }
}
