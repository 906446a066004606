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

use crate::storage::log::Log;
use crate::storage::log::writer::LogMetrics;

pub use instrument::{Counter, Gauge, Histogram};
pub use lag::{Behind, Lag, ShownLag};
pub use operations::{InFlight, OfTable, Operation, Operations, Outcome};
pub use registry::Registry;

mod instrument;
mod lag;
pub mod memory;
mod operations;
pub mod process;
mod registry;

/// The figures of one node.
#[derive(Debug)]
pub struct Metrics {
    /// Operations, by door, table, kind and outcome, and how long they took.
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
    /// Items that have ended and are not removed yet.
    pub expired_keys: Gauge,
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
    /// How long flushes of the state took that the node asked for.
    pub state_flush_seconds: Histogram,
    /// Watches that are under way, at every door.
    pub watches: Gauge,
    /// Events that they were given.
    pub watch_events: Counter,
    /// How often a watch read history from disk: it began earlier, or was too slow for what is in memory.
    pub watch_history_reads: Counter,
    /// How far replicas are behind.
    pub lag: ShownLag,
    registry: Arc<Registry>,
}

impl Metrics {
    /// The figures of a node that has just started.
    pub fn new() -> Self {
        let registry = Arc::new(Registry::default());
        let counter = |name, help| registry.counter(name, help, &[]);
        let gauge = |name, help| registry.gauge(name, help, &[]);
        let metrics = Self {
            operations: Operations::new(&registry),
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
            expired_keys: gauge(
                "kvstore_expired_keys",
                "Keys of the partitions led here whose time is up and that are not removed yet; nobody is shown them.",
            ),
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
            state_flush_seconds: registry.histogram(
                "kvstore_state_flush_seconds",
                "How long flushing the state took, before the log was purged up to there.",
                &[],
            ),
            watches: gauge("kvstore_watches", "Watches under way."),
            watch_events: counter("kvstore_watch_events_total", "Events given to watches."),
            watch_history_reads: counter(
                "kvstore_watch_history_reads_total",
                "Times a watch read history from disk: it began earlier, or was slow.",
            ),
            lag: ShownLag::register(&registry),
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
            self.registry.counter_fn(name, help, &[], move || count(log.metrics()));
        };
        show("kvstore_log_fsyncs_total", "Syncs of the log to disk.", LogMetrics::fsyncs);
        show("kvstore_log_batches_total", "Batches written to the log.", LogMetrics::batches);
        show("kvstore_log_records_total", "Records written to the log, of all groups.", LogMetrics::records);
        show("kvstore_log_bytes_total", "About how many bytes these records had.", LogMetrics::bytes);
        self.registry.show_histogram(
            "kvstore_log_fsync_seconds",
            "How long writing a batch to the log and syncing it took.",
            &[],
            log.metrics().fsync_seconds(),
        );
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
    fn the_log_tells_what_it_counts() {
        let metrics = Metrics::new();
        metrics.follow_log(&Log::in_memory().unwrap());
        let text = metrics.text();
        for name in ["fsyncs", "batches", "records", "bytes"] {
            assert!(text.contains(&format!("# TYPE kvstore_log_{name}_total counter\n")), "{text}");
        }
        assert!(text.contains("# TYPE kvstore_log_fsync_seconds histogram\n"), "{text}");
    }

    #[test]
    fn the_process_tells_its_memory() {
        let text = Metrics::new().text();
        let line = text.lines().find(|line| line.starts_with("kvstore_memory_usage_bytes ")).unwrap();
        let bytes: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(bytes > 1e6, "{line}");
    }
}
