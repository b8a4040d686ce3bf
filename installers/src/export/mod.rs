//! Plans and command lines for others to carry out.

pub mod account;
pub mod powershell;
pub mod sh;
pub mod snippet;

/// One word of sh, whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
