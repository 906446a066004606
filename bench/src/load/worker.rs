//! One client's loop.
//!
//! ```text
//!          ┌── room in the window, and a turn is due ──► send ──┐
//!   turn ──┤                                                    ├─► again
//!          └── otherwise ──────────────────► receive and record ┘
//! ```
//!
//! The loop is the same for a unary call, whose window is one operation, and for a stream
//! that has many in flight: what differs is behind [`Connection`].

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    latency::{HistogramError, Latencies},
    schedule::{Schedule, Turn},
    timeline::Timeline,
    workload::Operations,
};
use crate::target::{Answer, Connection, Issued, Outcome, Target, Ticket};

/// A client that cannot connect, or whose operation failed, waits this long, so that a dead
/// server is not asked in a tight loop that takes the processor from its survivors.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);

/// What one client, or all of them together, saw.
#[derive(Debug)]
pub struct Tally {
    /// Of operations that succeeded within the measured time.
    pub latencies: Latencies,
    /// Operations that succeeded and were started within the measured time.
    pub measured: u64,
    /// Operations that succeeded, the warm-up included.
    pub succeeded: u64,
    /// Reads among them that found nothing.
    pub missing: u64,
    /// Operations that failed, or were not answered in time.
    pub failed: u64,
    /// Why the last of them did.
    pub last_failure: Option<String>,
    /// When operations succeeded, since the end of the warm-up.
    pub timeline: Timeline,
    /// When the last answer came.
    pub last_answer: Instant,
}

impl Tally {
    /// Nothing seen yet; measuring begins at `measure_from`.
    pub fn new(measure_from: Instant) -> Result<Self, HistogramError> {
        Ok(Self {
            latencies: Latencies::new()?,
            measured: 0,
            succeeded: 0,
            missing: 0,
            failed: 0,
            last_failure: None,
            timeline: Timeline::new(measure_from),
            last_answer: measure_from,
        })
    }

    /// Adds what another client saw.
    pub fn merge(&mut self, other: Self) -> Result<(), HistogramError> {
        self.latencies.merge(&other.latencies)?;
        self.measured += other.measured;
        self.succeeded += other.succeeded;
        self.missing += other.missing;
        self.failed += other.failed;
        self.last_failure = other.last_failure.or(self.last_failure.take());
        self.timeline.merge(&other.timeline);
        self.last_answer = self.last_answer.max(other.last_answer);
        Ok(())
    }

    fn fail(&mut self, operations: usize, why: impl Into<String>) {
        self.failed += operations as u64;
        self.last_failure = Some(why.into());
    }
}

/// A client at work.
pub struct Worker<T: Target> {
    /// Its number among the clients.
    pub client: usize,
    /// What it talks to.
    pub target: Arc<T>,
    /// Where it takes its turns.
    pub schedule: Arc<Schedule>,
    /// What it asks for.
    pub operations: Operations,
    /// How many operations it may have in flight.
    pub window: usize,
    /// How long it waits for an answer.
    pub patience: Duration,
    /// What is answered before that is not measured.
    pub measure_from: Instant,
}

impl<T: Target> Worker<T> {
    /// Runs until there is no turn left and every answer has come or is given up.
    pub async fn run(mut self) -> Result<Tally, HistogramError> {
        let mut tally = Tally::new(self.measure_from)?;
        let mut waiting_turn = None;
        while let Some(turn) = waiting_turn.take().or_else(|| self.schedule.take(Instant::now())) {
            match self.target.connect(self.client).await {
                Ok(connection) => waiting_turn = self.converse(connection, turn, &mut tally).await,
                Err(error) => {
                    tally.fail(1, error.to_string());
                    sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
        }
        Ok(tally)
    }

    /// Keeps the window of one connection full until the load ends, or the connection does.
    /// Gives back a turn that was taken and not sent.
    async fn converse(
        &mut self,
        mut connection: T::Connection,
        first: Turn,
        tally: &mut Tally,
    ) -> Option<Turn> {
        let mut turn = Some(first);
        let mut in_flight = 0;
        let mut batch: Vec<Issued> = Vec::with_capacity(self.window);
        let mut answers: Vec<Answer> = Vec::with_capacity(self.window);
        loop {
            let now = Instant::now();
            while in_flight + batch.len() < self.window {
                let Some(next) = turn.take().or_else(|| self.schedule.take(now)) else { break };
                if next.due.is_some_and(|due| due > now) {
                    turn = Some(next);
                    break;
                }
                batch.push(self.issue(next, now));
            }
            if !batch.is_empty() {
                let sent = batch.len();
                in_flight += sent;
                if let Err(error) = connection.send(&mut batch).await {
                    tally.fail(in_flight, error.to_string());
                    sleep(PAUSE_AFTER_FAILURE).await;
                    return turn;
                }
            }
            // Only a turn that there is room for is ever held back, so a full window waits
            // for nothing but its answers.
            let due = turn.and_then(|turn| turn.due);
            if in_flight == 0 {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => return None,
                }
                continue;
            }
            let received = match due {
                None => timeout(self.patience, connection.receive(&mut answers)).await,
                Some(due) => tokio::select! {
                    () = sleep_until(due) => continue,
                    received = timeout(self.patience, connection.receive(&mut answers)) => received,
                },
            };
            match received {
                Ok(Ok(())) => {
                    in_flight = in_flight.saturating_sub(answers.len());
                    self.record(&mut answers, tally).await;
                }
                Ok(Err(error)) => {
                    tally.fail(in_flight, error.to_string());
                    sleep(PAUSE_AFTER_FAILURE).await;
                    return turn;
                }
                Err(_) => {
                    tally.fail(in_flight, format!("no answer within {:?}", self.patience));
                    return turn;
                }
            }
        }
    }

    fn issue(&mut self, turn: Turn, now: Instant) -> Issued {
        Issued { operation: self.operations.next(turn.number), ticket: Ticket { start: turn.start(now) } }
    }

    async fn record(&self, answers: &mut Vec<Answer>, tally: &mut Tally) {
        let now = Instant::now();
        let mut any_failed = false;
        for Answer { ticket, outcome } in answers.drain(..) {
            if let Outcome::Failed(why) = outcome {
                tally.fail(1, why);
                any_failed = true;
                continue;
            }
            tally.succeeded += 1;
            tally.missing += u64::from(outcome == Outcome::Missing);
            tally.timeline.record(now);
            if ticket.start >= self.measure_from {
                tally.measured += 1;
                tally.latencies.record(now.saturating_duration_since(ticket.start));
            }
        }
        tally.last_answer = tally.last_answer.max(now);
        if any_failed {
            sleep(PAUSE_AFTER_FAILURE).await;
        }
    }
}
