//! The one door to other programs. They get no input, a small environment and the C locale; what they say on stderr is
//! kept for the error.
#![expect(clippy::disallowed_methods, reason = "the boundary to other programs")]

use std::ffi::OsStr;
use std::process::{Command, Stdio};

const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// As much of stderr as an error repeats.
const TAIL: usize = 400;

/// A program that failed or could not be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{program}` failed: {why}")]
pub(crate) struct RunError {
    /// Its name.
    pub program: String,
    /// Exit status and the end of what it said.
    pub why: String,
}

/// Runs `program` to its end; what it wrote to stdout.
pub(crate) fn run<I: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = I>,
) -> Result<String, RunError> {
    let fail = |why: String| RunError {
        program: program.to_owned(),
        why,
    };
    let output = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        // rpm looks for settings of its user there.
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| fail(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        let start = said.char_indices().rev().nth(TAIL).map_or(0, |(at, _)| at);
        return Err(fail(format!("{}: {}", output.status, &said[start..])));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
