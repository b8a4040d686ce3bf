//! Closed enums that are words: one spelling for TOML, JSON, the command line and messages.

/// A word that names no value of an enum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {kind} `{}`", .word.escape_debug())]
pub struct UnknownWord {
    /// What was being named, such as `service`.
    pub kind: &'static str,
    /// The word, at most its first 64 characters.
    pub word: String,
    /// Every word that would have been understood.
    pub expected: &'static [&'static str],
}

impl UnknownWord {
    pub(crate) fn new(kind: &'static str, word: &str, expected: &'static [&'static str]) -> Self {
        Self {
            kind,
            word: word.chars().take(64).collect(),
            expected,
        }
    }
}

/// Defines an enum whose serde form, `Display` and `FromStr` are one and the same word.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident, $kind:literal { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_meta])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every value, in order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The word of each value, in the same order.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The kebab-case word for this value.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.word())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::words::UnknownWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::words::UnknownWord::new($kind, word, Self::WORDS)),
                }
            }
        }
    };
}
pub(crate) use words;
