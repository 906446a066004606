//! An operation as it is counted, from its arrival to its answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use placement::NodeId;
use prost::Message;
use proto::v1::{
    Failure, ScanRequest, error_detail::Detail, operation::Operation as Kind, result::Result as Outcome,
};
use tokio::time::Instant;
use tonic::Code;

use super::context::Door;
use super::operations::{Parts, Router, table_of};
use crate::observability::metrics::{InFlight, OfTable, Operation as Counted, Outcome as Ended};
use crate::observability::slow::SlowOperation;
use crate::partition::operations::key_of;
use crate::seams::clock;

/// What is remembered of an operation until it ends.
pub(super) struct Asked {
    router: Arc<Router>,
    door: Door,
    table: Arc<OfTable>,
    kind: Counted,
    /// The kinds of what a batch holds that is counted one by one.
    parts: Vec<Counted>,
    /// The key, or the first of several, and the size; where slow operations are noted.
    key: Bytes,
    bytes: usize,
    began: Instant,
    _in_flight: InFlight,
}

/// Which way an operation went, as far as that is known.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Way {
    /// How often it was tried.
    pub attempts: u32,
    /// The node that was asked last, if it was another one.
    pub forwarded_to: Option<NodeId>,
    /// When the last attempt began, if it was not the first.
    pub last_began: Option<Instant>,
}

impl Asked {
    /// Of an operation that has just arrived.
    pub fn of(router: &Arc<Router>, kind: &Kind, door: Door) -> Self {
        let mut asked = Self::new(router, table_of(kind), counted(kind), door);
        if let Kind::Batch(batch) = kind
            && !batch.atomic
        {
            let kinds = batch.operations.iter().filter_map(|operation| operation.operation.as_ref());
            asked.parts = kinds.map(counted).collect();
        }
        if router.parts.slow.is_on() {
            asked.key = first_key(kind).cloned().unwrap_or_default();
            asked.bytes = kind.encoded_len();
        }
        asked
    }

    /// Of one page of a scan.
    pub fn scan(router: &Arc<Router>, request: &ScanRequest, door: Door) -> Self {
        let mut asked = Self::new(router, &request.table, Counted::Scan, door);
        if router.parts.slow.is_on() {
            asked.key = (&request.start).max(&request.prefix).clone();
            asked.bytes = request.encoded_len();
        }
        asked
    }

    fn new(router: &Arc<Router>, table: &str, kind: Counted, door: Door) -> Self {
        let metrics = &router.parts.metrics;
        Self {
            table: metrics.operations.of_table(table, || router.table(table).is_ok()),
            _in_flight: metrics.operations.begin(door),
            router: Arc::clone(router),
            door,
            kind,
            parts: Vec::new(),
            key: Bytes::new(),
            bytes: 0,
            began: clock::now(),
        }
    }

    /// It was answered.
    pub fn end(self, outcome: &Outcome, way: Way) {
        match outcome {
            Outcome::Batch(batch) if !self.parts.is_empty() => {
                for (kind, result) in self.parts.iter().zip(&batch.results) {
                    let ended = result.result.as_ref().map_or(Ended::Failed, ended);
                    self.table.count(self.door, *kind, ended);
                }
                self.timed(Ended::Done, way);
            }
            outcome => self.ended(ended(outcome), way),
        }
    }

    /// A page was given or refused.
    pub fn end_page(self, refused: Option<&Failure>) {
        self.ended(refused.map_or(Ended::Done, ended_so), Way::default());
    }

    fn ended(&self, ended: Ended, way: Way) {
        self.table.count(self.door, self.kind, ended);
        self.timed(ended, way);
    }

    fn timed(&self, outcome: Ended, way: Way) {
        let took = self.began.elapsed();
        let Parts { metrics, slow, .. } = &self.router.parts;
        metrics.operations.time(self.door, self.kind, took);
        slow.note(self.door, took, || SlowOperation {
            door: self.door,
            operation: self.kind,
            table: self.table.name(),
            key: &self.key,
            bytes: self.bytes,
            outcome,
            took,
            waited: way.last_began.map_or(Duration::ZERO, |last| last.saturating_duration_since(self.began)),
            attempts: way.attempts,
            forwarded_to: way.forwarded_to.map(|node| self.name_of(node)),
        });
    }

    fn name_of(&self, node: NodeId) -> String {
        let map = self.router.map();
        map.map().nodes.get(&node).map_or_else(|| node.to_string(), |node| node.name.clone())
    }
}

/// The key of an operation, or the first of several.
fn first_key(kind: &Kind) -> Option<&Bytes> {
    match kind {
        Kind::Batch(batch) => batch.operations.iter().find_map(|inner| first_key(inner.operation.as_ref()?)),
        Kind::Txn(txn) => txn
            .compares
            .first()
            .map(|compare| &compare.key)
            .or_else(|| txn.then.iter().find_map(|inner| first_key(inner.operation.as_ref()?))),
        Kind::Copy(copy) => Some(&copy.from),
        kind => key_of(kind),
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
