//! Writes that begin at a fixed pace whatever becomes of earlier ones, and how long none of them
//! succeeded. A loop that waits for each answer would stand still during an outage, and so count
//! one slow write where many callers would have been kept waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use client::{PutOptions, Table};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::history::guarded::Guarded;
use crate::history::{History, Outcome, What};
use crate::workload::outcome_of;

/// How many keys the writes go round. Enough that every partition of a table has some.
const KEYS: u64 = 64;

/// Writes at a fixed pace, under way.
#[derive(Debug)]
pub struct Paced {
    seen: Arc<Guarded<Seen>>,
    stop: Arc<AtomicBool>,
    writes: JoinHandle<()>,
}

/// What became of the writes since a mark was set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// How many were acknowledged.
    pub acknowledged: u64,
    /// The longest time in which none succeeded, the time up to now included.
    pub longest_gap: Duration,
    /// The longest that one took from when it was due until it was acknowledged: a partition that
    /// does not serve shows here, also while others do.
    pub slowest: Duration,
}

#[derive(Debug)]
struct Seen {
    window: Window,
    last_success: Instant,
    errors: Vec<String>,
}

impl Default for Seen {
    fn default() -> Self {
        Self { window: Window::default(), last_success: Instant::now(), errors: Vec::new() }
    }
}

impl Paced {
    /// Begins, with a write each time this long has passed.
    pub fn begin(table: Table, history: Arc<History>, every: Duration) -> Self {
        let (seen, stop) = (Arc::new(Guarded::default()), Arc::new(AtomicBool::new(false)));
        let loops = Loop { table, history, seen: Arc::clone(&seen) };
        let writes = tokio::spawn(loops.run(every, Arc::clone(&stop)));
        Self { seen, stop, writes }
    }

    /// What became of the writes since the last mark.
    pub fn window(&self) -> Window {
        let seen = self.seen.lock();
        let open = seen.last_success.elapsed();
        Window { longest_gap: seen.window.longest_gap.max(open), ..seen.window }
    }

    /// Sets a mark, and gives what became of the writes since the one before.
    pub fn mark(&self) -> Window {
        let window = self.window();
        self.seen.lock().window = Window::default();
        window
    }

    /// The errors that writers were told since this was asked last.
    pub fn take_errors(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().errors)
    }

    /// Ends when every write under way has an outcome.
    pub async fn end(self) -> anyhow::Result<Vec<String>> {
        self.stop.store(true, Ordering::Release);
        self.writes.await.context("the writes failed")?;
        Ok(std::mem::take(&mut self.seen.lock().errors))
    }
}

#[derive(Clone)]
struct Loop {
    table: Table,
    history: Arc<History>,
    seen: Arc<Guarded<Seen>>,
}

impl Loop {
    async fn run(self, every: Duration, stop: Arc<AtomicBool>) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut writes = JoinSet::new();
        let mut number = 0_u64;
        while !stop.load(Ordering::Acquire) {
            let due = ticks.tick().await;
            number += 1;
            writes.spawn(self.clone().write(number, due));
            while writes.try_join_next().is_some() {}
        }
        while writes.join_next().await.is_some() {}
    }

    async fn write(self, number: u64, due: Instant) {
        let (key, value) = (format!("pace-{}", number % KEYS), format!("pace #{number}"));
        let ticket = self.history.begin(&key, What::Put(value.clone(), None));
        let told = self.table.put(key.clone(), value, PutOptions::default()).await;
        let outcome = match &told {
            Ok(put) => Outcome::Acknowledged(Some(put.version)),
            Err(error) => outcome_of(error),
        };
        self.history.end(&ticket, outcome);
        let mut seen = self.seen.lock();
        match told {
            Ok(_) => {
                let now = Instant::now();
                seen.window.acknowledged += 1;
                seen.window.longest_gap = seen.window.longest_gap.max(now - seen.last_success);
                seen.window.slowest = seen.window.slowest.max(now - due);
                seen.last_success = now;
            }
            Err(error) => seen.errors.push(format!("{key}: {error}")),
        }
    }
}
