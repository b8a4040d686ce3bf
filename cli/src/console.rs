//! The only place that prints. stdout: results and progress, one a line; stderr: warnings and errors.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use ssmbake_installers::acquire::Progress;

use crate::args::Output;
use crate::exit::{Failure, USAGE};

/// A line. A reader that went away is no reason to stop what we are at.
macro_rules! say {
    ($stream:ident, $($words:tt)*) => {
        drop(writeln!(std::io::$stream(), $($words)*))
    };
}

/// Text as it is; stdout keeps what has no end of line, so it is sent on.
fn put_text(text: &str) {
    let mut stdout = std::io::stdout();
    drop(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()));
}

/// Where words go.
pub(crate) struct Console {
    output: Output,
    is_quiet: bool,
    bar: Mutex<Option<ProgressBar>>,
}

impl Console {
    pub(crate) fn new(output: Output, is_quiet: bool) -> Self {
        Self {
            output,
            is_quiet,
            bar: Mutex::new(None),
        }
    }

    /// A line for people, and the same as an event for programs.
    pub(crate) fn event(&self, name: &str, text: &str, details: Value) {
        match self.output {
            Output::Human if !self.is_quiet => say!(stdout, "{text}"),
            Output::Jsonl => say!(
                stdout,
                "{}",
                json!({ "schema": 1, "event": name, "details": details })
            ),
            _ => {}
        }
    }

    /// The result of the verb.
    pub(crate) fn result(&self, text: &str, document: &Value) {
        match self.output {
            Output::Human if !self.is_quiet => put_text(text),
            Output::Human => {}
            Output::Json => say!(stdout, "{document:#}"),
            Output::Jsonl => say!(
                stdout,
                "{}",
                json!({ "schema": 1, "event": "result", "details": document })
            ),
        }
    }

    /// Text that is the product itself: completions, manual page.
    pub(crate) fn raw(&self, text: &str) {
        put_text(text);
    }

    pub(crate) fn warn(&self, text: &str) {
        say!(stderr, "warning: {text}");
    }

    pub(crate) fn failure(&self, failure: &Failure) {
        // A bar that was interrupted.
        self.finished();
        let details = json!({ "code": failure.code, "message": failure.message, "hint": failure.hint });
        match self.output {
            Output::Human => {}
            Output::Json => say!(stdout, "{:#}", json!({ "schema": 1, "error": details })),
            Output::Jsonl => say!(
                stdout,
                "{}",
                json!({ "schema": 1, "event": "error", "details": details })
            ),
        }
        say!(stderr, "error: {}", failure.message);
        if !failure.hint.is_empty() {
            say!(stderr, "hint: {}", failure.hint);
        }
    }
}

/// clap's own words; help and version are no errors.
pub(crate) fn usage(error: &clap::Error) -> u8 {
    // A closed pipe is no reason for another exit code.
    let _ignored = error.print();
    if error.use_stderr() { USAGE } else { 0 }
}

impl Progress for Console {
    fn started(&self, what: &str, total: Option<u64>) {
        let size = total
            .map(|total| format!(" ({:.1} MB)", total as f64 / 1e6))
            .unwrap_or_default();
        if self.output == Output::Human && !self.is_quiet && std::io::stdout().is_terminal() {
            let style = ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}");
            let bar = ProgressBar::new(total.unwrap_or(0)).with_message(what.to_owned());
            let bar = style.map(|style| bar.clone().with_style(style)).unwrap_or(bar);
            if let Ok(mut slot) = self.bar.lock() {
                *slot = Some(bar);
            }
            return;
        }
        self.event(
            "download",
            &format!("downloading {what}{size}"),
            json!({ "file": what, "bytes": total }),
        );
    }

    fn advanced(&self, total: u64) {
        if let Ok(slot) = self.bar.lock()
            && let Some(bar) = slot.as_ref()
        {
            bar.set_position(total);
        }
    }

    fn retrying(&self, attempt: u32, why: &str) {
        self.warn(&format!("try {attempt} failed: {why}"));
    }

    fn finished(&self) {
        if let Ok(mut slot) = self.bar.lock()
            && let Some(bar) = slot.take()
        {
            bar.finish_and_clear();
        }
    }
}
