//! What a load is, and how it is carried out and measured.
//!
//! A load is a number of clients, each with a window of operations that it may have in
//! flight, and a [`Pace`]. In a **closed** loop a client sends the next operation when an
//! answer has come, so a slow server is also asked less often. In an **open** loop
//! operations have intended start times, whatever the server does, and latency counts from
//! there: a stall is charged to every operation that should have started during it.
//!
//! Read on in [`run`](run()), then in [`worker`], which is one client's loop.

pub mod keys;
pub mod latency;
pub mod run;
pub mod schedule;
pub mod timeline;
pub mod worker;
pub mod workload;

use std::time::Duration;

pub use keys::{Distribution, Keys};
pub use latency::Latencies;
pub use run::{Measured, run};
pub use timeline::Timeline;
pub use workload::Workload;

/// When operations start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As soon as the client has room in its window.
    Closed,
    /// At this many per second over all clients, at evenly spaced intended times.
    Open {
        /// Operations that should start in a second.
        per_second: f64,
    },
}

/// A load, complete: the same value and the same seed ask for the same operations.
#[derive(Debug, Clone)]
pub struct Load {
    /// Clients that run side by side.
    pub clients: usize,
    /// Operations that one client may have in flight. More than one needs a target that
    /// pipelines.
    pub window: usize,
    /// When operations start.
    pub pace: Pace,
    /// Load that is generated but not measured, before the measured time.
    pub warm_up: Duration,
    /// The measured time.
    pub duration: Duration,
    /// Ends the load earlier, after this many operations in all.
    pub operations: Option<u64>,
    /// How long a client waits for an answer before it counts the operation as failed.
    pub patience: Duration,
    /// Which operations are asked for.
    pub workload: Workload,
}

impl Load {
    /// A closed loop of `clients` that have one operation in flight each.
    pub fn closed(clients: usize, duration: Duration, workload: Workload) -> Self {
        Self {
            clients,
            window: 1,
            pace: Pace::Closed,
            warm_up: Duration::ZERO,
            duration,
            operations: None,
            patience: Duration::from_secs(10),
            workload,
        }
    }

    /// The same load with a window of `window` operations for each client.
    #[must_use]
    pub fn with_window(mut self, window: usize) -> Self {
        self.window = window.max(1);
        self
    }

    /// The same load with some time before it that is not measured.
    #[must_use]
    pub fn with_warm_up(mut self, warm_up: Duration) -> Self {
        self.warm_up = warm_up;
        self
    }
}
