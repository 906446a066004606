//! Pages that each partition of a table gives of its part: asked of its leader, wherever that is, or
//! for stale reads of any replica.

use std::sync::Arc;
use std::time::Duration;

use placement::{NodeId, Partition, PartitionId};
use proto::v1::{Failure, ForwardAnswer, ForwardRequest, HeldMoment, error_detail::Detail};
use tokio::time::Instant;

use super::asked;
use super::context::Context;
use super::failure;
use super::local::LocalError;
use super::moments;
use super::operations::Router;
use crate::observability::metrics::{Operation, Outcome};
use crate::raft::Group;
use crate::seams::{clock, runtime};

/// Partitions that are asked at once.
pub(super) const ASKED_AT_ONCE: usize = 8;
const PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no page.
pub(super) enum PageError {
    /// The map changed.
    Remap,
    Failed(Failure),
}

/// What a partition is asked for.
pub(super) trait PageRequest: Clone + Send + Sync + 'static {
    /// What it answers.
    type Page: Send;

    fn partition(&self) -> PartitionId;

    fn is_stale(&self) -> bool;

    /// The moment that the page is to be of, where that is held.
    fn moment(&self) -> Option<&HeldMoment>;

    /// Has a replica of this node answer.
    fn answer(
        self,
        router: &Router,
        group: &Arc<Group>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Self::Page, LocalError>> + Send;

    /// On its way to another node.
    fn forwarded(self) -> ForwardRequest;

    /// What the other node answered.
    fn page_of(answer: ForwardAnswer) -> Option<Self::Page>;

    /// Why it is no page, if it is none.
    fn failure_of(page: &mut Self::Page) -> Option<Failure>;

    /// What says so.
    fn refused(failure: Failure) -> Self::Page;
}

impl Router {
    /// Has a partition's leader, or any of its nodes for a stale read, give a page.
    pub(super) async fn ask<P: PageRequest>(
        self: &Arc<Self>,
        context: &Context,
        ask: P,
    ) -> Result<P::Page, PageError> {
        if moments::is_of_held(ask.moment()) {
            return self.ask_holder(context, ask).await;
        }
        let id = ask.partition();
        let mut told = None;
        for tried in 0.. {
            if context.left().is_zero() {
                return Err(PageError::Failed(failure::no_leader_in_time(id)));
            }
            let map = self.map();
            let Some(partition) = map.partition(id) else { return Err(PageError::Remap) };
            let here = self.parts.groups.get(id).filter(|group| ask.is_stale() || group.leads());
            let outcome = match here {
                Some(group) => ask.clone().answer(self, &group, context.deadline).await,
                None => self.ask_there(context, partition, ask.clone(), told.take(), tried).await,
            };
            match outcome {
                Ok(page) => return Ok(page),
                Err(LocalError::WrongEpoch) => return Err(PageError::Remap),
                Err(LocalError::Failed(failure)) => return Err(PageError::Failed(failure)),
                Err(LocalError::NotLeader(leader)) => told = leader,
                // Somebody may hold a moment under this id now: another must not hold another.
                Err(LocalError::NotNow) if ask.moment().is_some() => return Err(PageError::Remap),
                Err(LocalError::NotNow) => {}
            }
            // Two nodes may each take the other for the leader for a while.
            if told.is_none() || tried % 4 == 3 {
                let pause = Duration::from_millis(runtime::random_between(5, 50));
                tokio::time::sleep(pause.min(context.left())).await;
            }
        }
        Err(PageError::Remap)
    }

    async fn ask_there<P: PageRequest>(
        &self,
        context: &Context,
        partition: &Partition,
        ask: P,
        told: Option<NodeId>,
        tried: usize,
    ) -> Result<P::Page, LocalError> {
        let known = told.or_else(|| self.leaders_hint(partition.id)).filter(|_| tried % 3 != 2);
        let others: Vec<_> =
            partition.voters().map(|replica| replica.node).filter(|node| *node != self.parts.node).collect();
        let node = known
            .filter(|node| *node != self.parts.node)
            .or_else(|| others.get(tried % others.len().max(1)).copied());
        let Some(node) = node else { return Err(LocalError::NotNow) };
        self.ask_node(context, partition.id, node, ask).await
    }

    /// Has another node give a page of a partition that it has a replica of.
    pub(super) async fn ask_node<P: PageRequest>(
        &self,
        context: &Context,
        partition: PartitionId,
        node: NodeId,
        ask: P,
    ) -> Result<P::Page, LocalError> {
        let patience = context.left().min(PATIENCE);
        let request = ForwardRequest {
            timeout_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
            partition: partition.0,
            trace: self.parts.traces.forward(&context.trace),
            ..ask.forwarded()
        };
        self.parts.metrics.forwarded.increment();
        let Ok(answer) = self.parts.peers.forward(node, request).await else {
            return Err(LocalError::NotNow);
        };
        let Some(mut page) = P::page_of(answer) else {
            return Err(LocalError::Failed(failure::internal("a question for a page had no page")));
        };
        match P::failure_of(&mut page) {
            None => Ok(page),
            Some(failure) => Err(match failure.reason() {
                Some(Detail::NotLeader(other)) => {
                    LocalError::NotLeader(NodeId::from_bytes(&other.leader_node))
                }
                Some(Detail::WrongEpoch(_)) => LocalError::WrongEpoch,
                _ => LocalError::Failed(failure),
            }),
        }
    }

    /// Gives a page that another node asks for; `ask` is what the request holds.
    pub(super) async fn page_here<P: PageRequest>(&self, request: ForwardRequest, ask: Option<P>) -> P::Page {
        let id = PartitionId(request.partition);
        let deadline = clock::now() + Duration::from_millis(request.timeout_ms);
        let _inside = self.doorway.enter();
        if self.doorway.is_shut() {
            return P::refused(failure::not_leader(id, None, String::new()));
        }
        self.parts.metrics.forwarded_here.increment();
        let Some(ask) = ask else { return P::refused(failure::invalid("there is no question in it")) };
        let Some(group) = self.parts.groups.get(id) else {
            return P::refused(failure::not_leader(id, None, String::new()));
        };
        let span = asked::begin_forwarded(self, request.trace.as_ref(), Operation::Scan, &group);
        let answered = match ask.answer(self, &group, deadline).await {
            Ok(page) => Ok(page),
            Err(LocalError::NotLeader(leader)) => Err(failure::not_leader(id, leader, String::new())),
            Err(LocalError::NotNow) => Err(failure::not_leader(id, None, String::new())),
            Err(LocalError::WrongEpoch) => Err(failure::wrong_epoch(self.newer_map(None))),
            Err(LocalError::Failed(failure)) => Err(failure),
        };
        if let Some(span) = span {
            span.end(answered.as_ref().err().map_or(Outcome::Done, asked::ended_so));
        }
        answered.unwrap_or_else(P::refused)
    }
}
