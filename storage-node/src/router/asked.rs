//! An operation as it is counted, from its arrival to its answer.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use placement::NodeId;
use prost::Message;
use proto::v1::{
    Failure, QueryRequest, ScanRequest, TraceContext, error_detail::Detail, operation::Operation as Kind,
    result::Result as Outcome,
};
use tokio::time::Instant;
use tonic::Code;

use super::context::{Context, Door};
use super::operations::{Parts, Router, table_of};
use crate::observability::metrics::{InFlight, OfTable, Operation as Counted, Outcome as Ended};
use crate::observability::slow::SlowOperation;
use crate::observability::traces::Span;
use crate::partition::operations::key_of;
use crate::raft::Group;
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
    span: Option<Box<Span>>,
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
    pub fn of(router: &Arc<Router>, kind: &Kind, context: &Context) -> Self {
        let mut asked = Self::new(router, table_of(kind), counted(kind), context);
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
    pub fn scan(router: &Arc<Router>, request: &ScanRequest, context: &Context) -> Self {
        let mut asked = Self::new(router, &request.table, Counted::Scan, context);
        if router.parts.slow.is_on() {
            asked.key = (&request.start).max(&request.prefix).clone();
            asked.bytes = request.encoded_len();
        }
        asked
    }

    /// Of one page of a query, which is counted as a scan.
    pub fn query(router: &Arc<Router>, request: &QueryRequest, context: &Context) -> Self {
        let mut asked = Self::new(router, &request.table, Counted::Scan, context);
        if router.parts.slow.is_on() {
            asked.key = request.index.clone().into();
            asked.bytes = request.encoded_len();
        }
        asked
    }

    fn new(router: &Arc<Router>, table: &str, kind: Counted, context: &Context) -> Self {
        let Parts { metrics, traces, .. } = &router.parts;
        let door = context.door;
        let table = metrics.operations.of_table(table, || router.table(table).is_ok());
        Self {
            span: traces.begin(&context.trace, door.label(), kind, table.name()).map(Box::new),
            table,
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

    /// The context of what is done for it: its own span, where it has one.
    pub fn within<'c>(&self, context: &'c Context) -> Cow<'c, Context> {
        match &self.span {
            Some(span) => Cow::Owned(context.clone().in_trace(span.trace())),
            None => Cow::Borrowed(context),
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

    fn ended(self, ended: Ended, way: Way) {
        self.table.count(self.door, self.kind, ended);
        self.timed(ended, way);
    }

    fn timed(mut self, outcome: Ended, way: Way) {
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
        if let Some(mut span) = self.span.take() {
            if let Some(node) = way.forwarded_to {
                span.note("trilith.forwarded_to", self.name_of(node));
            }
            span.end(outcome);
        }
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

/// Begins what this node does for another, if that says that it is to be recorded.
pub(super) fn begin_forwarded(
    router: &Router,
    trace: Option<&TraceContext>,
    operation: Counted,
    group: &Group,
) -> Option<Span> {
    let traces = &router.parts.traces;
    let table = || {
        let map = router.map();
        let table =
            group.applied().descriptor().and_then(|owned| map.map().tables.get(&owned.table).cloned());
        table.map(|table| table.name.to_string()).unwrap_or_default()
    };
    let mut span = traces.begin_forwarded(&traces.forwarded(trace), operation, table)?;
    span.note("trilith.partition", group.group.to_string());
    Some(span)
}

pub(super) fn counted(kind: &Kind) -> Counted {
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

pub(super) fn ended(outcome: &Outcome) -> Ended {
    match outcome {
        Outcome::Failure(failure) => ended_so(failure),
        _ => Ended::Done,
    }
}

pub(super) fn ended_so(failure: &Failure) -> Ended {
    match (failure.reason(), Code::from(failure.code)) {
        (Some(Detail::OutcomeUnknown(_)), _) => Ended::Unknown,
        (Some(Detail::NotLeader(_) | Detail::WrongEpoch(_)), _) => Ended::Redirected,
        (_, Code::Internal | Code::Unavailable | Code::DeadlineExceeded) => Ended::Failed,
        _ => Ended::Refused,
    }
}
