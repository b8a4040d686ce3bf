//! The words of ssmbake: arguments, rendering, progress, exit codes. Knows no file format.
//!
//! | module | what it does |
//! |---|---|
//! | [`args`] | the command line |
//! | [`exit`] | errors → exit code and hint |
//! | `commands` | one function a verb, a few lines each |
//! | `request` | arguments → request |
//! | `host` | reads the user's own files |
//! | `console` | the only place that prints |

pub mod args;
mod commands;
mod console;
pub mod exit;
mod host;
mod render;
mod request;

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::Parser;

/// The environment, read once.
pub type Environment = BTreeMap<String, String>;

/// Runs a command line; returns the exit code.
pub fn run(arguments: Vec<OsString>, environment: Environment) -> u8 {
    let cli = match args::Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return console::usage(&error),
    };
    let console = console::Console::new(cli.common.output, cli.common.quiet);
    match commands::run(&cli, &environment, &console) {
        Ok(code) => code,
        Err(failure) => {
            console.failure(&failure);
            failure.code
        }
    }
}
