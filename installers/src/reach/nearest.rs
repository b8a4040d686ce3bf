//! Regions by the time that their endpoints take to answer.

use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use super::{Outcome, Reach};
use crate::error::IoError;
use crate::tls::Trust;

/// The best of all are asked again, one after another: asked at once, answers wait for each other here.
const FINALISTS: usize = 5;
/// Each of them so often; the shortest counts, for the first also fills caches.
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

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nearest {
    /// The nearest first.
    pub measured: Vec<Measured>,
    /// Why most of those that did not answer did not.
    pub failure: Option<Outcome>,
}

/// Asks all `hosts` (region, host).
pub fn measure(
    hosts: &[(String, String)],
    roots_der: Vec<Vec<u8>>,
    timeout: Duration,
) -> Result<Nearest, IoError> {
    let reach = Reach {
        trust: Trust::Only(roots_der),
        // Through a proxy all regions are as far as it is.
        proxy: None,
        timeout,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| IoError::new("start", "the network", error))?;
    let outcomes = runtime.block_on(join_all(hosts.iter().map(|(_, host)| reach.ask(host))));
    let mut found: Vec<(&(String, String), Option<Duration>)> =
        hosts.iter().zip(outcomes.iter().map(took)).collect();
    found.sort_by_key(|(_, took)| took.unwrap_or(Duration::MAX));
    for ((_, host), best) in found
        .iter_mut()
        .take(FINALISTS)
        .filter(|(_, best)| best.is_some())
    {
        let again: Vec<Duration> = (0..ROUNDS)
            .filter_map(|_| took(&runtime.block_on(reach.ask(host))))
            .collect();
        *best = again.into_iter().min().or(*best);
    }
    // The others stay behind them.
    let finalists = found.len().min(FINALISTS);
    found[..finalists].sort_by_key(|(_, took)| took.unwrap_or(Duration::MAX));
    let measured = found
        .into_iter()
        .map(|((region, _), took)| Measured {
            region: region.clone(),
            milliseconds: took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
        })
        .collect();
    Ok(Nearest {
        measured,
        failure: commonest(outcomes),
    })
}

fn took(outcome: &Outcome) -> Option<Duration> {
    match outcome {
        Outcome::Answered(answer) => Some(answer.took),
        _ => None,
    }
}

fn commonest(outcomes: Vec<Outcome>) -> Option<Outcome> {
    let failures: Vec<Outcome> = outcomes.into_iter().filter(|one| took(one).is_none()).collect();
    let kind = |one: &Outcome| std::mem::discriminant(one);
    let alike = |one: &Outcome| failures.iter().filter(|other| kind(one) == kind(other)).count();
    failures.iter().max_by_key(|one| alike(one)).cloned()
}
