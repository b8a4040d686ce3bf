//! SIGHUP, SIGINT and SIGTERM: the first lets a change be taken back and half a file be removed, the second ends the program
//! at once (the next run takes the change back then).

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

#[cfg(unix)]
use signal_hook::consts::SIGHUP;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use ssmbake_installers::interrupt::Interrupt;

use crate::exit::{Failure, INCOMPLETE, INTERNAL, NOT_STARTED, SIGNAL_BASE, UNREPORTED};
use crate::host;

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
    let first = First::of(&is_second).map_err(fail)?;
    let ignored = host::ignored_signals();
    for &(signal, _) in SIGNALS {
        // `nohup` and shells in the background want it to stay so.
        if ignored >> (signal - 1) & 1 == 1 {
            continue;
        }
        // Handlers run in this order: the first signal does not see itself.
        flag::register_conditional_shutdown(signal, i32::from(SIGNAL_BASE) + signal, Arc::clone(&is_second))
            .and_then(|_| first.hear(signal))
            .and_then(|()| flag::register_usize(signal, interrupt.slot(), signal as usize))
            .map_err(fail)?;
    }
    Ok(interrupt)
}

/// Hears of the first signal, and lets others end the program a little later: `timeout` and some terminals send the same one
/// twice, to the program and to its group.
#[cfg(unix)]
struct First(std::os::unix::net::UnixStream);

#[cfg(unix)]
impl First {
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

    fn of(is_second: &Arc<AtomicBool>) -> io::Result<Self> {
        let (mut heard, told) = std::os::unix::net::UnixStream::pair()?;
        let is_second = Arc::clone(is_second);
        std::thread::Builder::new().spawn(move || {
            if io::Read::read_exact(&mut heard, &mut [0]).is_ok() {
                std::thread::sleep(Self::PAUSE);
                is_second.store(true, std::sync::atomic::Ordering::SeqCst);
            }
        })?;
        Ok(Self(told))
    }

    fn hear(&self, signal: i32) -> io::Result<()> {
        signal_hook::low_level::pipe::register(signal, self.0.try_clone()?).map(drop)
    }
}

/// A console sends one event for what a user does.
#[cfg(not(unix))]
struct First(Arc<AtomicBool>);

#[cfg(not(unix))]
impl First {
    fn of(is_second: &Arc<AtomicBool>) -> io::Result<Self> {
        Ok(Self(Arc::clone(is_second)))
    }

    fn hear(&self, signal: i32) -> io::Result<()> {
        flag::register(signal, Arc::clone(&self.0)).map(drop)
    }
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
