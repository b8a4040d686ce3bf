//! The program: hands arguments, environment and clock to the library.
#![expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]

use std::process::ExitCode;

fn main() -> ExitCode {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    ExitCode::from(ssmbake::run(std::env::args_os().collect(), environment))
}
