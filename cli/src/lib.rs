//! The words of ssmbake: arguments, rendering, progress, exit codes. Knows no file format.
//!
//! | module | what it does |
//! |---|---|
//! | [`args`] | the command line |
//! | [`exit`] | errors → exit code and hint |
//! | `commands` | one function a verb, a few lines each |
//! | `request` | arguments → request |
//! | `formats` | an audit as SARIF, JUnit, HTML |
//! | `host` | reads the user's own files |
//! | `memory` | the newest catalog that was taken |
//! | `console` | the only place that prints |

pub mod args;
mod commands;
mod console;
pub mod exit;
mod formats;
mod host;
mod memory;
mod render;
mod request;
mod signals;

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches};

/// The environment, read once.
pub type Environment = BTreeMap<String, String>;

/// Runs a command line; returns the exit code.
pub fn run(arguments: Vec<OsString>, environment: Environment) -> u8 {
    let parsed = args::Cli::command()
        .try_get_matches_from(arguments)
        .and_then(|matches| Ok((args::Cli::from_arg_matches(&matches)?, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return console::usage(&error),
    };
    let console = console::Console::new(cli.common.output, cli.common.quiet);
    match commands::run(&cli, &matches, &environment, &console) {
        Ok(code) => code,
        Err(failure) => {
            console.failure(&failure);
            failure.code
        }
    }
}
