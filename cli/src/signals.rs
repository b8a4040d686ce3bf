//! SIGHUP, SIGINT and SIGTERM: the first lets a change be taken back and half a file be removed, the second ends the program
//! at once (the next run takes the change back then).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[cfg(unix)]
use signal_hook::consts::SIGHUP;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use ssmbake_installers::interrupt::Interrupt;

use crate::exit::{Failure, INCOMPLETE, INTERNAL, NOT_STARTED, SIGNAL_BASE, UNREPORTED};
use crate::host;

/// Between two looks for the first signal.
const LOOK: Duration = Duration::from_millis(50);
/// Within it a second signal is the first once more.
const PAUSE: Duration = Duration::from_millis(500);

const SIGNALS: &[(i32, &str)] = &[
    #[cfg(unix)]
    (SIGHUP, "SIGHUP"),
    (SIGINT, "SIGINT"),
    (SIGTERM, "SIGTERM"),
];

/// Listens from now on.
pub(crate) fn listen() -> Result<Interrupt, Failure> {
    let (interrupt, is_second) = (Interrupt::new(), Arc::new(AtomicBool::new(false)));
    let fail = |error: io::Error| Failure::new(INTERNAL, error, "please report this");
    let ignored = host::ignored_signals();
    for &(signal, _) in SIGNALS {
        // `nohup` and shells in the background want it to stay so.
        if ignored >> (signal - 1) & 1 == 1 {
            continue;
        }
        flag::register_conditional_shutdown(signal, i32::from(SIGNAL_BASE) + signal, Arc::clone(&is_second))
            .and_then(|_| flag::register_usize(signal, interrupt.slot(), signal as usize))
            .map_err(fail)?;
    }
    arm_after_first(interrupt.clone(), is_second).map_err(fail)?;
    Ok(interrupt)
}

/// Lets another signal end the program, but only a little after the first: `timeout` and some terminals send the same one
/// twice, to the program and to its group. Waits by looking: a pipe that a handler writes to would be a call of the network's
/// kind, which whoever traces an air-gapped run should not see.
fn arm_after_first(interrupt: Interrupt, is_second: Arc<AtomicBool>) -> io::Result<()> {
    let wait = move || {
        while interrupt.signal().is_none() {
            std::thread::sleep(LOOK);
        }
        std::thread::sleep(PAUSE);
        is_second.store(true, Ordering::SeqCst);
    };
    std::thread::Builder::new().spawn(wait).map(drop)
}

/// What a failure is called that a signal caused.
pub(crate) fn explain(failure: Failure, interrupt: &Interrupt, hint: &str) -> Failure {
    let Some((signal, name)) = interrupt
        .signal()
        .and_then(|number| SIGNALS.iter().find(|(signal, _)| *signal as usize == number))
    else {
        return failure;
    };
    // The tree is what counts: it is changed, in part or as a whole.
    if [INCOMPLETE, NOT_STARTED, UNREPORTED].contains(&failure.code) {
        return failure;
    }
    let message = format!("interrupted by {name}: {}", failure.message);
    Failure::new(SIGNAL_BASE + *signal as u8, message, hint)
}
