//! What is counted of operations: by door, table, kind and outcome.
//!
//! A batch that is not atomic is counted as the operations that it holds; how long it took is
//! counted as that of a batch.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use super::registry::Registry;
use super::{Counter, Gauge, Histogram};
use crate::router::context::Door;

/// Tables with counts of their own; those of more are counted together.
const MOST_TABLES: usize = 100;
const OTHER_TABLES: &str = "(other)";

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

/// Counts and times of operations.
#[derive(Debug)]
pub struct Operations {
    registry: Arc<Registry>,
    of_tables: RwLock<HashMap<String, Arc<OfTable>>>,
    in_flight: [Gauge; Door::ALL.len()],
    seconds: [[Histogram; Operation::ALL.len()]; Door::ALL.len()],
}

/// The counts of a table, by door and kind.
#[derive(Debug)]
pub struct OfTable {
    name: String,
    counts: [[[Counter; Outcome::ALL.len()]; Operation::ALL.len()]; Door::ALL.len()],
}

/// An operation that is under way until this is dropped.
#[derive(Debug)]
pub struct InFlight {
    gauge: Gauge,
}

impl Operations {
    /// Counts what begins from now on.
    pub fn new(registry: &Arc<Registry>) -> Self {
        let in_flight = Door::ALL.map(|door| {
            let help = "Operations of clients that are under way.";
            registry.gauge("kvstore_operations_in_flight", help, &[("door", door.label())])
        });
        let seconds = Door::ALL.map(|door| {
            Operation::ALL.map(|operation| {
                registry.histogram(
                    "kvstore_operation_seconds",
                    "How long operations of clients took, from their arrival to their answer.",
                    &[("door", door.label()), ("operation", operation.label())],
                )
            })
        });
        Self { registry: Arc::clone(registry), of_tables: RwLock::default(), in_flight, seconds }
    }

    /// Counts an operation as under way.
    pub fn begin(&self, door: Door) -> InFlight {
        // The arrays have a place for each variant, in the order of their declaration.
        let gauge = self.in_flight[door as usize].clone();
        gauge.add(1);
        InFlight { gauge }
    }

    /// How long an operation took.
    pub fn time(&self, door: Door, operation: Operation, took: Duration) {
        self.seconds[door as usize][operation as usize].record(took);
    }

    /// The counts of a table. Names of which there is none are counted together, for clients may
    /// think of any number of them.
    pub fn of_table(&self, name: &str, exists: impl FnOnce() -> bool) -> Arc<OfTable> {
        let name = if name.is_empty() { "default" } else { name };
        if let Some(known) = self.of_tables.read().get(name) {
            return Arc::clone(known);
        }
        let exists = exists();
        let mut tables = self.of_tables.write();
        let many = tables.len() >= MOST_TABLES && !tables.contains_key(name);
        let name = if many || !exists { OTHER_TABLES } else { name };
        let table = tables.entry(name.to_owned()).or_insert_with(|| Arc::new(self.register(name)));
        Arc::clone(table)
    }

    fn register(&self, table: &str) -> OfTable {
        let counter = |door: Door, operation: Operation, outcome: Outcome| {
            self.registry.counter(
                "kvstore_operations_total",
                "Operations of clients that ended, by door, table, kind and outcome.",
                &[
                    ("door", door.label()),
                    ("operation", operation.label()),
                    ("outcome", outcome.label()),
                    ("table", table),
                ],
            )
        };
        let of_operation = |door, operation| Outcome::ALL.map(|outcome| counter(door, operation, outcome));
        OfTable {
            name: table.to_owned(),
            counts: Door::ALL.map(|door| Operation::ALL.map(|operation| of_operation(door, operation))),
        }
    }
}

impl OfTable {
    /// Its name, or the one that many share.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts an operation that ended.
    pub fn count(&self, door: Door, operation: Operation, outcome: Outcome) {
        self.counts[door as usize][operation as usize][outcome as usize].increment();
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.gauge.subtract(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_counted_by_door_table_kind_and_outcome() {
        let registry = Arc::new(Registry::default());
        let operations = Operations::new(&registry);
        let table = operations.of_table("", || true);
        table.count(Door::Redis, Operation::Put, Outcome::Done);
        table.count(Door::Redis, Operation::Put, Outcome::Done);
        operations.of_table("default", || true).count(Door::Http, Operation::Scan, Outcome::Unknown);
        operations.time(Door::Redis, Operation::Put, Duration::from_micros(700));
        let under_way = operations.begin(Door::Text);
        let text = registry.text();
        for line in [
            "kvstore_operations_total{door=\"redis\",operation=\"put\",outcome=\"done\",table=\"default\"} 2",
            "kvstore_operations_total{door=\"redis\",operation=\"put\",outcome=\"failed\",table=\"default\"} 0",
            "kvstore_operations_total{door=\"http\",operation=\"scan\",outcome=\"unknown\",table=\"default\"} 1",
            "kvstore_operation_seconds_count{door=\"redis\",operation=\"put\"} 1",
            "kvstore_operation_seconds_sum{door=\"redis\",operation=\"put\"} 0.0007",
            "kvstore_operations_in_flight{door=\"text\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        drop(under_way);
        assert!(registry.text().contains("kvstore_operations_in_flight{door=\"text\"} 0\n"));
    }

    #[test]
    fn tables_beyond_many_are_counted_together() {
        let operations = Operations::new(&Arc::default());
        for number in 0..MOST_TABLES + 10 {
            operations.of_table(&format!("t{number}"), || true);
        }
        assert_eq!(operations.of_tables.read().len(), MOST_TABLES + 1);
        operations.of_table("none", || false);
        assert!(!operations.of_tables.read().contains_key("none"));
    }

    #[test]
    fn every_variant_has_its_place() {
        for (place, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, place);
        }
        for (place, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, place);
        }
        for (place, door) in Door::ALL.into_iter().enumerate() {
            assert_eq!(door as usize, place);
        }
    }
}
