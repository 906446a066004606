//! An operation as it is counted, from its arrival to its answer.

use std::sync::Arc;

use proto::v1::{Failure, error_detail::Detail, operation::Operation as Kind, result::Result as Outcome};
use tokio::time::Instant;
use tonic::Code;

use super::context::Door;
use super::operations::{Router, table_of};
use crate::observability::metrics::{InFlight, Metrics, OfTable, Operation as Counted, Outcome as Ended};
use crate::seams::clock;

/// What is remembered of an operation until it ends.
pub(super) struct Asked {
    metrics: Arc<Metrics>,
    door: Door,
    table: Arc<OfTable>,
    kind: Counted,
    /// The kinds of what a batch holds that is counted one by one.
    parts: Vec<Counted>,
    began: Instant,
    _in_flight: InFlight,
}

impl Asked {
    /// Of an operation that has just arrived.
    pub fn of(router: &Router, kind: &Kind, door: Door) -> Self {
        let parts = match kind {
            Kind::Batch(batch) if !batch.atomic => {
                let kinds = batch.operations.iter().filter_map(|operation| operation.operation.as_ref());
                kinds.map(counted).collect()
            }
            _ => Vec::new(),
        };
        Self::new(router, table_of(kind), counted(kind), parts, door)
    }

    /// Of one page of a scan.
    pub fn scan(router: &Router, table: &str, door: Door) -> Self {
        Self::new(router, table, Counted::Scan, Vec::new(), door)
    }

    fn new(router: &Router, table: &str, kind: Counted, parts: Vec<Counted>, door: Door) -> Self {
        let metrics = &router.parts.metrics;
        Self {
            table: metrics.operations.of_table(table, || router.table(table).is_ok()),
            _in_flight: metrics.operations.begin(door),
            metrics: Arc::clone(metrics),
            door,
            kind,
            parts,
            began: clock::now(),
        }
    }

    /// It was answered.
    pub fn end(self, outcome: &Outcome) {
        match outcome {
            Outcome::Batch(batch) if !self.parts.is_empty() => {
                for (kind, result) in self.parts.iter().zip(&batch.results) {
                    let ended = result.result.as_ref().map_or(Ended::Failed, ended);
                    self.table.count(self.door, *kind, ended);
                }
                self.metrics.operations.time(self.door, self.kind, self.began.elapsed());
            }
            outcome => self.ended(ended(outcome)),
        }
    }

    /// A page was given or refused.
    pub fn end_page(self, refused: Option<&Failure>) {
        self.ended(refused.map_or(Ended::Done, ended_so));
    }

    fn ended(&self, ended: Ended) {
        self.table.count(self.door, self.kind, ended);
        self.metrics.operations.time(self.door, self.kind, self.began.elapsed());
    }
}

fn counted(kind: &Kind) -> Counted {
    match kind {
        Kind::Get(_) => Counted::Get,
        Kind::Put(_) => Counted::Put,
        Kind::Delete(_) => Counted::Delete,
        Kind::Exists(_) => Counted::Exists,
        Kind::Batch(_) => Counted::Batch,
        Kind::Txn(_) => Counted::Txn,
        Kind::Modify(_) => Counted::Modify,
        Kind::Copy(_) => Counted::Copy,
        Kind::Clear(_) => Counted::Clear,
    }
}

fn ended(outcome: &Outcome) -> Ended {
    match outcome {
        Outcome::Failure(failure) => ended_so(failure),
        _ => Ended::Done,
    }
}

fn ended_so(failure: &Failure) -> Ended {
    match (failure.reason(), Code::from(failure.code)) {
        (Some(Detail::OutcomeUnknown(_)), _) => Ended::Unknown,
        (Some(Detail::NotLeader(_) | Detail::WrongEpoch(_)), _) => Ended::Redirected,
        (_, Code::Internal | Code::Unavailable | Code::DeadlineExceeded) => Ended::Failed,
        _ => Ended::Refused,
    }
}
