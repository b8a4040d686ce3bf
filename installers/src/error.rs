//! The one shape of an I/O error. Phases wrap it; the cli turns it into an exit code and a hint.

use std::fmt;
use std::io;

/// What was being done, to which path, and what the kernel answered.
#[derive(Debug)]
pub struct IoError {
    /// A verb phrase such as `read` or `create directory`.
    pub verb: &'static str,
    /// The path inside the target root, or on the build machine where the verb says so.
    pub path: String,
    /// The kernel's answer.
    pub source: io::Error,
}

impl IoError {
    /// An error for `verb` on `path`.
    pub fn new(verb: &'static str, path: impl fmt::Display, source: impl Into<io::Error>) -> Self {
        Self {
            verb,
            path: path.to_string(),
            source: source.into(),
        }
    }

    /// Whether links lead in a circle: nobody can read such a path, the agent neither.
    pub fn is_loop(&self) -> bool {
        #[cfg(unix)]
        let is_loop = self.source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
        #[cfg(not(unix))]
        let is_loop = false;
        is_loop
    }

    /// The kind, for callers that treat a missing file or a loop specially.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} `{}`: {}", self.verb, self.path, self.source)
    }
}

impl std::error::Error for IoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
