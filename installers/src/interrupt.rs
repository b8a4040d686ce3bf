//! A wish from outside that the work stop: it is taken back as far as it came.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Between two looks while waiting for a server.
const PAUSE: Duration = Duration::from_millis(50);

/// The number of the signal that arrived, 0 before one does. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// One that never comes unless somebody sets [`Interrupt::slot`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Where a signal handler writes its number.
    pub fn slot(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.signal)
    }

    /// The signal, if one arrived.
    pub fn signal(&self) -> Option<usize> {
        Some(self.signal.load(Ordering::Relaxed)).filter(|number| *number != 0)
    }

    /// An error once a signal arrived.
    pub fn check(&self) -> io::Result<()> {
        match self.signal() {
            None => Ok(()),
            Some(_) => Err(io::Error::other("interrupted")),
        }
    }

    /// Ends when a signal arrives.
    pub(crate) async fn arrived(&self) {
        while self.signal().is_none() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
