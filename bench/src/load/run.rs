//! Carries out a load.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::{task::JoinSet, time::Instant};

use super::{
    Load, Pace,
    latency::{HistogramError, LatencySummary},
    schedule::Schedule,
    worker::{Tally, Worker},
};
use crate::target::Target;

/// Why a load gave no figures.
#[derive(Debug, Error)]
pub enum LoadError {
    /// There was nothing to measure.
    #[error("no operation succeeded; {failed} failed, the last one with: {last}")]
    NothingSucceeded {
        /// How many failed.
        failed: u64,
        /// Why the last one did.
        last: String,
    },
    /// Latencies could not be kept.
    #[error(transparent)]
    Histogram(#[from] HistogramError),
    /// A client's task ended in a panic.
    #[error("a client stopped: {0}")]
    Client(#[from] tokio::task::JoinError),
}

/// What a load measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// Operations that were started in the measured time and succeeded.
    pub operations: u64,
    /// How long that took, to the last answer.
    pub seconds: f64,
    /// Operations per second.
    pub per_second: f64,
    /// Operations that succeeded, the warm-up included. Counters of a server that are read
    /// before and after the load are compared with this.
    pub succeeded: u64,
    /// Reads that found nothing.
    pub missing: u64,
    /// Operations that failed or were not answered in time.
    pub failed: u64,
    /// Why the last of them did.
    pub last_failure: Option<String>,
    /// Latencies: from being sent in a closed loop, from the intended start in an open one.
    pub latency: LatencySummary,
    /// The same corrected for coordinated omission; in an open loop there is none to correct.
    pub corrected: LatencySummary,
    /// The longest time without a success.
    pub longest_gap_ms: u64,
    /// The time between the last success and the end.
    pub silence_at_end_ms: u64,
}

/// Runs a load to its end.
///
/// Every client is a task of the caller's runtime. The generator shares the machine with the
/// servers it measures, so one thread (a current-thread runtime) takes the least from them.
pub async fn run<T: Target>(target: &Arc<T>, load: &Load) -> Result<Measured, LoadError> {
    let begin = Instant::now();
    let measure_from = begin + load.warm_up;
    let end = measure_from + load.duration;
    let schedule = Arc::new(Schedule::new(load.pace, begin, end, load.operations));
    let mut clients = JoinSet::new();
    for client in 0..load.clients.max(1) {
        let worker = Worker {
            client,
            target: Arc::clone(target),
            schedule: Arc::clone(&schedule),
            operations: load.workload.of_client(client),
            window: load.window.max(1),
            patience: load.patience,
            measure_from,
        };
        clients.spawn(worker.run());
    }
    let mut total = Tally::new(measure_from)?;
    while let Some(tally) = clients.join_next().await {
        total.merge(tally??)?;
    }
    summarise(total, load, measure_from, end)
}

fn summarise(total: Tally, load: &Load, measure_from: Instant, end: Instant) -> Result<Measured, LoadError> {
    if total.succeeded == 0 {
        let last = total.last_failure.unwrap_or_else(|| "nothing was tried".to_owned());
        return Err(LoadError::NothingSucceeded { failed: total.failed, last });
    }
    let corrected = match load.pace {
        Pace::Closed => total.latencies.corrected(),
        Pace::Open { .. } => total.latencies.clone(),
    };
    let elapsed = total.last_answer.saturating_duration_since(measure_from).max(Duration::from_micros(1));
    Ok(Measured {
        operations: total.measured,
        seconds: elapsed.as_secs_f64(),
        per_second: total.measured as f64 / elapsed.as_secs_f64(),
        succeeded: total.succeeded,
        missing: total.missing,
        failed: total.failed,
        last_failure: total.last_failure,
        latency: total.latencies.summary(),
        corrected: corrected.summary(),
        longest_gap_ms: total.timeline.longest_gap().as_millis() as u64,
        silence_at_end_ms: total.timeline.silence_before(end).as_millis() as u64,
    })
}
