//! The figures that a node publishes at `/metrics`, all named `kvstore_…`.
//!
//! ```text
//!     Metrics (this file): what is counted, as plain fields
//!        │ each made by
//!     registry.rs: names, labels, the text that Prometheus reads
//!        │ out of
//!     instrument.rs: Counter, Gauge, Histogram: atomics, no locks
//! ```
//!
//! Whoever has figures of its own adds them with [`Registry::gauge_fn`] and
//! [`Registry::counter_fn`], which are asked when somebody reads.

use std::sync::Arc;
use std::time::Duration;

use crate::storage::log::Log;
use crate::storage::log::writer::LogMetrics;

pub use instrument::{Counter, Gauge, Histogram};
pub use registry::Registry;

mod instrument;
pub mod process;
mod registry;

/// What a client can ask for; the label `operation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Read one key.
    Get,
    /// Write one key.
    Put,
    /// Remove one key.
    Delete,
    /// Whether there is a key.
    Exists,
    /// Many operations in one call.
    Batch,
    /// Compare, then do.
    Txn,
    /// One page of a scan.
    Scan,
    /// Change one key by what it is.
    Modify,
    /// Copy or rename a key.
    Copy,
    /// Remove everything in a part of a table.
    Clear,
}

/// How an operation ended; the label `outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done; a condition that did not hold is an answer too.
    Done,
    /// The caller was told where to ask instead, and nothing was done.
    Redirected,
    /// It was refused, by a limit or because it makes no sense, and nothing was done.
    Refused,
    /// It was not done because of a failure here or at another node.
    Failed,
    /// Nobody knows whether it was done.
    Unknown,
}

/// The figures of one node.
#[derive(Debug)]
pub struct Metrics {
    /// Operations, by kind and outcome, and how long they took.
    pub operations: Operations,
    /// Operations that were passed on to the leader's node.
    pub forwarded: Counter,
    /// Operations that a peer passed on to this node.
    pub forwarded_here: Counter,
    /// Raft entries that this node proposed.
    pub entries_proposed: Counter,
    /// Commands in those entries; more than one for each entry when they gather.
    pub commands_proposed: Counter,
    /// Raft entries that were applied.
    pub entries_applied: Counter,
    /// Elections that a replica of this node won.
    pub leaderships_won: Counter,
    /// Bytes of writes that wait on this node.
    pub waiting_write_bytes: Gauge,
    /// Writes that were refused because too many were waiting.
    pub writes_refused_overload: Counter,
    /// Writes that were refused because the disk is nearly full.
    pub writes_refused_disk: Counter,
    /// Replicas on this node, the meta group's included.
    pub replicas: Gauge,
    /// Those of them that lead.
    pub leaders: Gauge,
    /// Replicas whose group nobody uses.
    pub replicas_asleep: Gauge,
    /// Bytes in the data folder.
    pub disk_usage_bytes: Gauge,
    /// Bytes that the disk has left.
    pub disk_free_bytes: Gauge,
    /// Bytes that the disk has in all.
    pub disk_size_bytes: Gauge,
    /// 1 while writes are refused because the disk is nearly full.
    pub disk_nearly_full: Gauge,
    registry: Arc<Registry>,
}

/// Counts and times of operations.
#[derive(Debug)]
pub struct Operations {
    kinds: [OfOperation; Operation::ALL.len()],
}

#[derive(Debug)]
struct OfOperation {
    ended: [Counter; Outcome::ALL.len()],
    seconds: Histogram,
}

impl Operation {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 10] = [
        Self::Get,
        Self::Put,
        Self::Delete,
        Self::Exists,
        Self::Batch,
        Self::Txn,
        Self::Scan,
        Self::Modify,
        Self::Copy,
        Self::Clear,
    ];

    /// Its name as a label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Exists => "exists",
            Self::Batch => "batch",
            Self::Txn => "txn",
            Self::Scan => "scan",
            Self::Modify => "modify",
            Self::Copy => "copy",
            Self::Clear => "clear",
        }
    }
}

impl Outcome {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 5] = [Self::Done, Self::Redirected, Self::Refused, Self::Failed, Self::Unknown];

    /// Its name as a label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Redirected => "redirected",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

impl Operations {
    /// Counts an operation that ended.
    pub fn record(&self, operation: Operation, outcome: Outcome, took: Duration) {
        // Both arrays have a place for each variant, in the order of their declaration.
        let kind = &self.kinds[operation as usize];
        kind.ended[outcome as usize].increment();
        kind.seconds.record(took);
    }

    /// How many operations of a kind ended so.
    pub fn count(&self, operation: Operation, outcome: Outcome) -> u64 {
        self.kinds[operation as usize].ended[outcome as usize].get()
    }

    fn register(registry: &Registry) -> Self {
        let kinds = Operation::ALL.map(|operation| OfOperation {
            ended: Outcome::ALL.map(|outcome| {
                registry.counter(
                    "kvstore_operations_total",
                    "Operations of clients that ended, by kind and outcome.",
                    &[("operation", operation.label()), ("outcome", outcome.label())],
                )
            }),
            seconds: registry.histogram(
                "kvstore_operation_seconds",
                "How long operations of clients took, from their arrival to their answer.",
                &[("operation", operation.label())],
            ),
        });
        Self { kinds }
    }
}

impl Metrics {
    /// The figures of a node that has just started.
    pub fn new() -> Self {
        let registry = Arc::new(Registry::default());
        let counter = |name, help| registry.counter(name, help, &[]);
        let gauge = |name, help| registry.gauge(name, help, &[]);
        let metrics = Self {
            operations: Operations::register(&registry),
            forwarded: counter("kvstore_forwarded_total", "Operations passed on to the leader's node."),
            forwarded_here: counter(
                "kvstore_forwarded_here_total",
                "Operations that a peer passed on to here.",
            ),
            entries_proposed: counter("kvstore_entries_proposed_total", "Raft entries proposed here."),
            commands_proposed: counter(
                "kvstore_commands_proposed_total",
                "Commands in the entries proposed here.",
            ),
            entries_applied: counter("kvstore_entries_applied_total", "Raft entries applied here."),
            leaderships_won: counter(
                "kvstore_leaderships_won_total",
                "Elections won by replicas of this node.",
            ),
            waiting_write_bytes: gauge(
                "kvstore_waiting_write_bytes",
                "Bytes of writes that wait on this node.",
            ),
            writes_refused_overload: counter(
                "kvstore_writes_refused_overload_total",
                "Writes refused because too many were waiting.",
            ),
            writes_refused_disk: counter(
                "kvstore_writes_refused_disk_total",
                "Writes refused because the disk was nearly full.",
            ),
            replicas: gauge("kvstore_replicas", "Replicas on this node."),
            leaders: gauge("kvstore_leaders", "Replicas on this node that lead."),
            replicas_asleep: gauge(
                "kvstore_replicas_asleep",
                "Replicas on this node whose group nobody uses.",
            ),
            disk_usage_bytes: gauge("kvstore_disk_usage_bytes", "Bytes in the data folder."),
            disk_free_bytes: gauge("kvstore_disk_free_bytes", "Bytes that the disk has left."),
            disk_size_bytes: gauge("kvstore_disk_size_bytes", "Bytes that the disk has in all."),
            disk_nearly_full: gauge(
                "kvstore_disk_nearly_full",
                "1 while writes are refused because the disk is nearly full.",
            ),
            registry: Arc::clone(&registry),
        };
        let version = env!("CARGO_PKG_VERSION");
        registry
            .gauge(
                "kvstore_build_info",
                "Always 1; the label says which version runs.",
                &[("version", version)],
            )
            .set(1);
        process::register(&registry);
        metrics
    }

    /// Shows what the log counts for itself. It is kept for as long as these figures are.
    pub fn follow_log(&self, log: &Arc<Log>) {
        let show = |name, help, count: fn(&LogMetrics) -> u64| {
            let log = Arc::clone(log);
            self.registry.counter_fn(name, help, move || count(log.metrics()));
        };
        show("kvstore_log_fsyncs_total", "Syncs of the log to disk.", LogMetrics::fsyncs);
        show("kvstore_log_batches_total", "Batches written to the log.", LogMetrics::batches);
        show("kvstore_log_records_total", "Records written to the log, of all groups.", LogMetrics::records);
        show("kvstore_log_bytes_total", "About how many bytes these records had.", LogMetrics::bytes);
    }

    /// Where others add figures of their own.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Everything as Prometheus reads it.
    pub fn text(&self) -> String {
        self.registry.text()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_counted_by_kind_and_outcome() {
        let metrics = Metrics::new();
        metrics.operations.record(Operation::Put, Outcome::Done, Duration::from_micros(300));
        metrics.operations.record(Operation::Put, Outcome::Done, Duration::from_micros(400));
        metrics.operations.record(Operation::Scan, Outcome::Unknown, Duration::from_secs(2));
        let text = metrics.text();
        for line in [
            "kvstore_operations_total{operation=\"put\",outcome=\"done\"} 2",
            "kvstore_operations_total{operation=\"put\",outcome=\"failed\"} 0",
            "kvstore_operations_total{operation=\"scan\",outcome=\"unknown\"} 1",
            "kvstore_operation_seconds_count{operation=\"put\"} 2",
            "kvstore_operation_seconds_sum{operation=\"put\"} 0.0007",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn every_variant_has_its_place() {
        for (place, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, place);
        }
        for (place, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, place);
        }
    }

    #[test]
    fn the_log_tells_what_it_counts() {
        let metrics = Metrics::new();
        metrics.follow_log(&Log::in_memory().unwrap());
        let text = metrics.text();
        for name in ["fsyncs", "batches", "records", "bytes"] {
            assert!(text.contains(&format!("# TYPE kvstore_log_{name}_total counter\n")), "{text}");
        }
    }

    #[test]
    fn the_process_tells_its_memory() {
        let text = Metrics::new().text();
        let line = text.lines().find(|line| line.starts_with("kvstore_memory_usage_bytes ")).unwrap();
        let bytes: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(bytes > 1e6, "{line}");
    }
}
