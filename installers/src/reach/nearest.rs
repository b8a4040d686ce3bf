//! Regions by the time that their endpoints take to answer.

use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use super::{Outcome, Reach};
use crate::error::IoError;
use crate::tls::Trust;

/// Each is asked so often; the shortest counts, for the first also fills caches.
const ROUNDS: usize = 2;

/// One region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Its id.
    pub region: String,
    /// Connection, TLS and answer; none when it did not answer.
    pub milliseconds: Option<u64>,
}

/// Asks all `hosts` (region, host), the nearest first.
pub fn measure(
    hosts: &[(String, String)],
    roots_der: Vec<Vec<u8>>,
    timeout: Duration,
) -> Result<Vec<Measured>, IoError> {
    let reach = Reach {
        trust: Trust::Only(roots_der),
        // Through a proxy all regions are as far as it is.
        proxy: None,
        timeout,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| IoError::new("start", "the network", error))?;
    let mut best: Vec<Option<Duration>> = vec![None; hosts.len()];
    for _ in 0..ROUNDS {
        let outcomes = runtime.block_on(join_all(hosts.iter().map(|(_, host)| reach.ask(host))));
        for (best, outcome) in best.iter_mut().zip(outcomes) {
            if let Outcome::Answered(answer) = outcome {
                *best = Some(best.map_or(answer.took, |known| known.min(answer.took)));
            }
        }
    }
    let mut measured: Vec<Measured> = hosts
        .iter()
        .zip(best)
        .map(|((region, _), took)| Measured {
            region: region.clone(),
            milliseconds: took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
        })
        .collect();
    measured.sort_by_key(|one| one.milliseconds.unwrap_or(u64::MAX));
    Ok(measured)
}
