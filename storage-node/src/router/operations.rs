//! The operations that every door offers, on whichever node leads the partition.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use placement::{Bucket, ClusterId, Leaders, NodeId, Partition, PartitionId, Revision, Table, TableName};
use prost::Message;
use proto::convert;
use proto::v1::{
    Failure, ForwardRequest, Lifetime, Operation, Result as OperationResult, WrongEpoch,
    error_detail::Detail, lifetime::Lasts, modify_request::Change, operation::Operation as Kind,
    result::Result as Outcome,
};
use tokio::sync::watch;
use tonic::Code;

use super::admission::Admission;
use super::asked::{self, Asked, Way};
use super::context::Context;
use super::doorway::Doorway;
use super::failure;
use super::limits::Limits;
use super::local::{self, LocalError};
use super::moments::Moments;
use super::newer;
use super::newest::NewestMap;
use super::touch::{self, Touches};
use crate::disk::DiskWatch;
use crate::meta::FollowedMap;
use crate::observability::metrics::Metrics;
use crate::observability::slow::SlowOperations;
use crate::observability::traces::Traces;
use crate::partition::operations::keys_of;
use crate::raft::network::forward::ForwardError;
use crate::raft::network::peers::Peers;
use crate::raft::{Group, Groups};
use crate::seams::{clock, runtime};

/// A read that another node does not answer is tried again after this long.
const READ_PATIENCE: Duration = Duration::from_secs(1);
const SHORTEST_PAUSE_MS: u64 = 4;
/// Leaders that may be known of partitions that are not on the map.
const HINTS_AHEAD: usize = 256;
const LONGEST_PAUSE_MS: u64 = 100;

/// What the router is made of.
pub struct Parts {
    /// The cluster.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// The replicas that it holds.
    pub groups: Arc<Groups>,
    /// The cluster's map as this node follows it.
    pub map: watch::Receiver<Arc<FollowedMap>>,
    /// The other nodes.
    pub peers: Arc<Peers>,
    /// What is refused for its size.
    pub limits: Limits,
    /// Asks for the newest map.
    pub newest: Arc<NewestMap>,
    /// How many bytes of writes may wait.
    pub waiting_write_bytes: usize,
    /// How full the disk is.
    pub disk: Arc<DiskWatch>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Which operations were slow.
    pub slow: Arc<SlowOperations>,
    /// What is told of operations as they go from node to node.
    pub traces: Arc<Traces>,
}

/// Takes operations to where they are done.
pub struct Router {
    pub(super) parts: Parts,
    /// What waits to be written.
    pub admission: Admission,
    /// What is under way, and whether more is let in.
    pub doorway: Doorway,
    hints: Mutex<HashMap<PartitionId, NodeId>>,
    /// What is held for scans and queries.
    pub(super) moments: Arc<Moments>,
}

/// An operation that was checked, with its table looked up.
pub(super) struct Prepared {
    pub(super) table: Table,
    pub(super) kind: Kind,
}

/// Why an operation was not begun.
pub(super) enum Unprepared {
    Refused(Failure),
    /// This node has not heard of the table.
    NoTable(String),
}

impl From<Failure> for Unprepared {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

/// How an operation ended, and which way it went.
pub(super) type Ended = (Result<Outcome, Failure>, Way);

/// A partition, the node that is asked if it is another one, and its answer.
type Begun = (PartitionId, Option<NodeId>, BoxFuture<'static, Attempt>);

enum Target {
    Here(Arc<crate::raft::Group>),
    There(NodeId),
    Nowhere,
}

enum Attempt {
    Done(Outcome),
    /// Nothing was done: it can be tried again, at this node if one is named.
    Again(Option<NodeId>),
    /// Nothing was done: the map was wrong.
    Remap,
    Failed(Failure),
}

impl Router {
    /// A router for a node.
    pub fn new(parts: Parts) -> Arc<Self> {
        let refused = parts.metrics.writes_refused_overload.clone();
        let admission = Admission::new(parts.waiting_write_bytes, refused);
        Arc::new(Self {
            parts,
            admission,
            hints: Mutex::default(),
            doorway: Doorway::default(),
            moments: Arc::default(),
        })
    }

    /// The cluster's map as this node follows it.
    pub fn map(&self) -> Arc<FollowedMap> {
        Arc::clone(&self.parts.map.borrow())
    }

    /// There was a sign that the map has changed.
    pub(super) fn map_is_old(&self) {
        self.parts.newest.ask();
    }

    /// The map as it changes.
    pub fn watch_map(&self) -> watch::Receiver<Arc<FollowedMap>> {
        self.parts.map.clone()
    }

    /// What the node counts.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.parts.metrics
    }

    /// The cluster.
    pub fn cluster(&self) -> ClusterId {
        self.parts.cluster
    }

    /// The replicas that this node holds.
    pub fn groups(&self) -> &Arc<Groups> {
        &self.parts.groups
    }

    /// The other nodes.
    pub fn peers(&self) -> &Arc<Peers> {
        &self.parts.peers
    }

    /// The sizes that are allowed.
    pub fn limits(&self) -> &Limits {
        &self.parts.limits
    }

    /// Begins an operation. What is written through a group that this node leads is in the
    /// group's queue when this returns, so that the order of calls is the order of writes.
    pub fn begin(self: &Arc<Self>, context: &Context, kind: Kind) -> BoxFuture<'static, OperationResult> {
        let counted = Asked::of(self, &kind, context);
        let within = counted.within(context);
        let context = &*within;
        let inside = self.doorway.enter();
        let prepared = self.prepare(kind);
        let touches =
            prepared.as_ref().ok().and_then(|done| Touches::of(done.table.name.as_str(), &done.kind));
        let outcome = match prepared {
            Err(Unprepared::Refused(failure)) => std::future::ready((Err(failure), Way::default())).boxed(),
            Err(Unprepared::NoTable(name)) => {
                let (router, context) = (Arc::clone(self), context.clone());
                async move { (Err(router.after_asking(&context, &name).await), Way::default()) }.boxed()
            }
            Ok(Prepared { kind: Kind::Batch(batch), table }) if !batch.atomic => {
                self.scatter(context, &table, batch).map(|outcome| (Ok(outcome), Way::default())).boxed()
            }
            Ok(prepared) => self.begin_prepared(context, Arc::new(prepared)),
        };
        let outcome = match touches {
            None => outcome,
            Some(touches) => {
                let (router, context) = (Arc::clone(self), context.clone());
                async move {
                    let (mut outcome, way) = outcome.await;
                    if let Ok(outcome) = &mut outcome {
                        touches.carry_out(&router, &context, outcome).await;
                    }
                    (outcome, way)
                }
                .boxed()
            }
        };
        outcome
            .map(move |(outcome, way)| {
                drop(inside);
                let outcome = outcome.unwrap_or_else(Outcome::Failure);
                counted.end(&outcome, way);
                OperationResult { result: Some(outcome) }
            })
            .boxed()
    }

    /// Does an operation.
    pub async fn run(self: &Arc<Self>, context: &Context, kind: Kind) -> Result<Outcome, Failure> {
        let again = self.table(table_of(&kind)).is_err().then(|| kind.clone());
        let mut result = self.begin(context, kind).await.result;
        // The map was asked for meanwhile, and has the table.
        if let Some(Outcome::Failure(failure)) = &result
            && matches!(failure.reason(), Some(Detail::WrongEpoch(_)))
            && let Some(kind) = again
        {
            result = self.begin(context, kind).await.result;
        }
        match result {
            Some(Outcome::Failure(failure)) => Err(failure),
            Some(outcome) => Ok(outcome),
            None => Err(failure::internal("an operation had no result")),
        }
    }

    /// The table of that name as the meta leader knows it now, if this node has not heard of it.
    pub async fn known_table(&self, context: &Context, name: &str) -> Result<Table, Failure> {
        match self.table(name) {
            Err(failure) if matches!(failure.reason(), Some(Detail::UnknownTable(_))) => {}
            found => return found,
        }
        let reached = tokio::time::timeout_at(context.deadline, self.parts.newest.reached()).await;
        reached.map_err(|_| failure::table_in_doubt(name))?;
        self.table(name)
    }

    /// Why an operation whose table this node did not know was not done. Where there is the table
    /// after all, others may have been begun meanwhile that came later: it is for the caller to
    /// begin it again.
    async fn after_asking(&self, context: &Context, table: &str) -> Failure {
        match self.known_table(context, table).await {
            Ok(_) => failure::wrong_epoch(self.newer_map(None)),
            Err(failure) => failure,
        }
    }

    /// The table of that name, as far as this node has heard.
    pub fn table(&self, name: &str) -> Result<Table, Failure> {
        let name = TableName::parse(name).map_err(|error| failure::invalid(error.to_string()))?;
        self.map().table(&name).cloned().ok_or_else(|| failure::unknown_table(name.as_str()))
    }

    pub(super) fn prepare(&self, mut kind: Kind) -> Result<Prepared, Unprepared> {
        self.parts.limits.check(&kind)?;
        let name = table_of(&kind);
        let table = self.table(name).map_err(|failure| match failure.reason() {
            Some(Detail::UnknownTable(_)) => Unprepared::NoTable(name.to_owned()),
            _ => Unprepared::Refused(failure),
        })?;
        let map = self.map();
        newer::check(&kind, map.cluster_version())?;
        self.check_disk(&kind)?;
        settle(&mut kind, &table, &self.parts.limits);
        touch::settle(&mut kind, map.touch_on_read_ms(table.id));
        Ok(Prepared { table, kind })
    }

    fn check_disk(&self, kind: &Kind) -> Result<(), Failure> {
        if has_put(kind) && self.parts.disk.is_nearly_full() {
            self.parts.metrics.writes_refused_disk.increment();
            return Err(failure::disk_nearly_full(self.parts.disk.percent()));
        }
        Ok(())
    }

    pub(super) fn begin_prepared(
        self: &Arc<Self>,
        context: &Context,
        prepared: Arc<Prepared>,
    ) -> BoxFuture<'static, Ended> {
        let refused = |failure| std::future::ready((Err(failure), Way::default())).boxed();
        let Some(bucket) = bucket_of(&prepared) else {
            return refused(failure::invalid("an operation without a key"));
        };
        let map = self.map();
        let owner = map.owner_of(prepared.table.id, bucket);
        if self.doorway.is_shut() {
            let partition = owner.map_or(PartitionId::META, |partition| partition.id);
            return refused(self.leaving(partition));
        }
        let first = owner.map(|partition| (partition.id, self.target(partition, 0)));
        if let Some((_, Target::Here(group))) = &first
            && let Some(outcome) = local::read_at_once(group, &prepared.kind)
        {
            return std::future::ready((Ok(outcome), Way::default())).boxed();
        }
        // Only the first attempt is begun at once.
        let begun = first.map(|(id, target)| self.begin_attempt(context, id, target, &prepared.kind));
        let begun = (begun, map.revision());
        let (router, context) = (Arc::clone(self), context.clone());
        async move {
            let mut way = Way::default();
            let ended = router.until_done(context, prepared, bucket, begun, &mut way).await;
            (ended, way)
        }
        .boxed()
    }

    async fn until_done(
        self: Arc<Self>,
        context: Context,
        prepared: Arc<Prepared>,
        bucket: Bucket,
        (mut begun, began_with): (Option<Begun>, Revision),
        way: &mut Way,
    ) -> Result<Outcome, Failure> {
        let mut pause_ms = SHORTEST_PAUSE_MS;
        let mut tried = 0;
        let mut told = 0;
        let mut map_revision = began_with;
        loop {
            let mut at_once = false;
            let mut partition = PartitionId::META;
            if let Some((id, there, attempt)) = begun.take() {
                partition = id;
                way.attempts += 1;
                way.forwarded_to = there;
                match attempt.await {
                    Attempt::Done(outcome) => return Ok(outcome),
                    Attempt::Failed(failure) => return Err(failure),
                    Attempt::Again(Some(leader)) => {
                        self.note_leader(id, leader);
                        told += 1;
                        at_once = told < 4;
                    }
                    Attempt::Again(None) => {
                        self.hints.lock().remove(&id);
                    }
                    // What came together may have to go different ways now.
                    Attempt::Remap if may_be_parted(&prepared.kind) => {
                        self.map_is_old();
                        return Err(failure::wrong_epoch(self.news_for(&prepared, id)));
                    }
                    Attempt::Remap => {
                        self.map_is_old();
                        self.newer_than(map_revision, Duration::from_millis(LONGEST_PAUSE_MS)).await;
                        at_once = true;
                    }
                }
            }
            if at_once && context.left().is_zero() {
                return Err(failure::no_leader_in_time(partition));
            }
            if !at_once {
                let pause = Duration::from_millis(runtime::random_between(pause_ms / 2, pause_ms));
                if context.left() <= pause {
                    return Err(failure::no_leader_in_time(partition));
                }
                tokio::time::sleep(pause).await;
                pause_ms = (pause_ms * 2).min(LONGEST_PAUSE_MS);
            }
            tried += 1;
            let map = self.map();
            map_revision = map.revision();
            if !map.map().tables.contains_key(&prepared.table.id) {
                return Err(failure::unknown_table(prepared.table.name.as_str()));
            }
            way.last_began = Some(clock::now());
            begun = map.owner_of(prepared.table.id, bucket).map(|partition| {
                let target = self.target(partition, tried);
                self.begin_attempt(&context, partition.id, target, &prepared.kind)
            });
        }
    }

    /// Returns once this node's map is newer than that, or is not for a while: a partition does not
    /// own what that map says.
    async fn newer_than(&self, revision: Revision, patience: Duration) {
        let mut map = self.watch_map();
        let newer = async {
            while map.borrow_and_update().revision() <= revision {
                if map.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(patience, newer).await;
    }

    /// What somebody needs whose operation came to a partition that does not own all of its keys.
    fn news_for(&self, prepared: &Prepared, asked: PartitionId) -> WrongEpoch {
        let map = self.map();
        let keys = keys_of(&prepared.kind);
        let owners = keys.into_iter().filter_map(|key| map.route(&prepared.table, key));
        let mut owners: Vec<&Partition> = owners.chain(map.partition(asked)).collect();
        owners.sort_by_key(|partition| partition.id);
        owners.dedup_by_key(|partition| partition.id);
        self.newer_map(owners)
    }

    /// The refusal of a node that is about to end: nothing was done, and who leads is elsewhere.
    fn leaving(&self, partition: PartitionId) -> Failure {
        let leader = self.leaders_hint(partition).filter(|node| *node != self.parts.node);
        let map = self.map();
        let details = leader.and_then(|node| map.node_details(node));
        let address = details.map(|details| details.addresses.grpc.clone()).unwrap_or_default();
        failure::not_leader(partition, leader, address)
    }

    /// Who is asked: this node where it leads, else the leader as far as it is known; after a
    /// vain attempt the replicas in turn.
    fn target(&self, partition: &Partition, tried: usize) -> Target {
        let here = self.parts.groups.get(partition.id);
        if let Some(group) = here.as_ref().filter(|group| group.leads()) {
            return Target::Here(Arc::clone(group));
        }
        let known = self.leaders_hint(partition.id);
        let other = |node: &NodeId| *node != self.parts.node;
        if let Some(node) = known.filter(other).filter(|_| tried % 3 != 2) {
            return Target::There(node);
        }
        let others: Vec<_> = partition.voters().map(|replica| replica.node).filter(other).collect();
        match (others.get(tried % others.len().max(1)), here) {
            (Some(node), _) => Target::There(*node),
            (None, Some(group)) => Target::Here(group),
            (None, None) => Target::Nowhere,
        }
    }

    fn begin_attempt(
        self: &Arc<Self>,
        context: &Context,
        partition: PartitionId,
        target: Target,
        kind: &Kind,
    ) -> Begun {
        let there = match &target {
            Target::There(node) => Some(*node),
            Target::Here(_) | Target::Nowhere => None,
        };
        (partition, there, self.attempt(context, partition, target, kind))
    }

    fn attempt(
        self: &Arc<Self>,
        context: &Context,
        partition: PartitionId,
        target: Target,
        kind: &Kind,
    ) -> BoxFuture<'static, Attempt> {
        match target {
            Target::Nowhere => std::future::ready(Attempt::Again(None)).boxed(),
            Target::Here(group) => {
                if is_write(kind) {
                    self.tell_settings(&group);
                }
                let answer = local::begin(&group, kind.clone(), &self.admission, context.deadline);
                answer.map(from_local).boxed()
            }
            Target::There(node) => {
                let (router, context) = (Arc::clone(self), context.clone());
                let (operation, writes) = (encoded(kind), is_write(kind));
                async move { router.forward(&context, partition, node, operation, writes).await }.boxed()
            }
        }
    }

    /// Tells a group that this node leads what its table is like as far as this node has heard, before
    /// whatever is proposed to it next.
    pub(super) fn tell_settings(&self, group: &Group) {
        let map = self.map();
        if map.cluster_version() < newer::SINCE_VERSION {
            return;
        }
        if let Some(partition) = map.partition(group.group) {
            let table = partition.table;
            group.configure_first(map.settings_version(table), || map.settings(table));
        }
    }

    async fn forward(
        &self,
        context: &Context,
        partition: PartitionId,
        node: NodeId,
        operation: Bytes,
        writes: bool,
    ) -> Attempt {
        // Held until the answer is there.
        let room = writes.then(|| self.admission.admit(operation.len()));
        if let Some(None) = room {
            return Attempt::Failed(failure::too_much_waits());
        }
        self.parts.metrics.forwarded.increment();
        let patience = if writes { context.left() } else { context.left().min(READ_PATIENCE) };
        let timeout_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let request = ForwardRequest {
            operation,
            timeout_ms,
            partition: partition.0,
            trace: self.parts.traces.forward(&context.trace),
            ..ForwardRequest::default()
        };
        match self.parts.peers.forward(node, request).await {
            Ok(answer) => match OperationResult::decode(answer.result).ok().and_then(|done| done.result) {
                Some(Outcome::Failure(failure)) => from_failure(failure),
                Some(outcome) => Attempt::Done(outcome),
                None if writes => Attempt::Failed(failure::outcome_unknown("its answer cannot be read")),
                None => Attempt::Failed(failure::internal("the answer to a forwarded read cannot be read")),
            },
            Err(ForwardError::NotSent { .. }) => Attempt::Again(None),
            Err(ForwardError::Unknown { .. }) if !writes => Attempt::Again(None),
            Err(ForwardError::Unknown { why, .. }) => Attempt::Failed(failure::outcome_unknown(&why)),
        }
    }

    /// Remembers who leads a partition that this node holds no replica of.
    pub fn note_leader(&self, partition: PartitionId, leader: NodeId) {
        let map = self.map();
        let mut hints = self.hints.lock();
        hints.insert(partition, leader);
        // Some may be of partitions that this node's map does not have yet; most of what is over
        // is of tables that were dropped.
        if hints.len() > map.map().partitions.len() + HINTS_AHEAD {
            hints.retain(|partition, _| map.partition(*partition).is_some());
        }
    }

    /// Who leads a partition, as far as this node knows.
    pub(super) fn leaders_hint(&self, partition: PartitionId) -> Option<NodeId> {
        let known = self.parts.groups.get(partition).and_then(|group| group.leader());
        known.or_else(|| self.hints.lock().get(&partition).copied())
    }

    /// Who leads a partition, as far as this node knows; this node only if it really does.
    pub fn leader_of(&self, partition: PartitionId) -> Option<NodeId> {
        if self.parts.groups.get(partition).is_some_and(|group| group.leads()) {
            return Some(self.parts.node);
        }
        self.leaders_hint(partition).filter(|node| *node != self.parts.node)
    }

    /// Who leads what, as far as this node knows.
    pub fn leaders(&self) -> Leaders {
        let mut leaders: Leaders = self.hints.lock().iter().map(|(id, node)| (*id, *node)).collect();
        leaders
            .extend(self.parts.groups.all().iter().filter_map(|group| Some((group.group, group.leader()?))));
        leaders
    }

    /// What somebody with an old map needs.
    pub fn newer_map<'a>(&self, partitions: impl IntoIterator<Item = &'a Partition>) -> WrongEpoch {
        let map = self.map();
        let leaders = self.hints.lock();
        let entry =
            |partition: &Partition| convert::partition_entry(partition, leaders.get(&partition.id).copied());
        WrongEpoch { partitions: partitions.into_iter().map(entry).collect(), map_revision: map.revision().0 }
    }

    /// Does what another node forwarded; never passes it on.
    pub async fn operate_here(&self, request: ForwardRequest) -> Result<Outcome, Failure> {
        let id = PartitionId(request.partition);
        let _inside = self.doorway.enter();
        if self.doorway.is_shut() {
            return Err(failure::not_leader(id, None, String::new()));
        }
        self.parts.metrics.forwarded_here.increment();
        let Some(kind) = Operation::decode(request.operation).ok().and_then(|done| done.operation) else {
            return Err(failure::invalid("a forwarded operation is none that this node knows"));
        };
        let Some(group) = self.parts.groups.get(id) else {
            return Err(failure::not_leader(id, None, String::new()));
        };
        self.check_disk(&kind)?;
        let deadline = clock::now() + Duration::from_millis(request.timeout_ms);
        let span = asked::begin_forwarded(self, request.trace.as_ref(), asked::counted(&kind), &group);
        if is_write(&kind) {
            self.tell_settings(&group);
        }
        let done = local::begin(&group, kind, &self.admission, deadline).await;
        let done = done.map_err(|error| match error {
            LocalError::NotLeader(leader) => failure::not_leader(id, leader, String::new()),
            LocalError::NotNow => failure::not_leader(id, None, String::new()),
            LocalError::WrongEpoch => {
                let map = self.map();
                failure::wrong_epoch(self.newer_map(map.partition(id)))
            }
            LocalError::Failed(failure) => failure,
        });
        if let Some(span) = span {
            span.end(done.as_ref().map_or_else(asked::ended_so, asked::ended));
        }
        done
    }
}

fn from_local(outcome: Result<Outcome, LocalError>) -> Attempt {
    match outcome {
        Ok(outcome) => Attempt::Done(outcome),
        Err(LocalError::NotLeader(leader)) => Attempt::Again(leader),
        Err(LocalError::NotNow) => Attempt::Again(None),
        Err(LocalError::WrongEpoch) => Attempt::Remap,
        Err(LocalError::Failed(failure)) => Attempt::Failed(failure),
    }
}

/// Whether an operation's parts may belong to several partitions, and it is no whole.
fn may_be_parted(kind: &Kind) -> bool {
    match kind {
        Kind::Batch(batch) => !batch.atomic,
        Kind::Clear(_) => true,
        _ => false,
    }
}

/// An operation for the way to another node.
fn encoded(kind: &Kind) -> Bytes {
    let mut out = BytesMut::with_capacity(kind.encoded_len());
    kind.encode(&mut out);
    out.freeze()
}

/// What another node refused, where it says that nothing was done.
fn from_failure(failure: Failure) -> Attempt {
    match failure.reason() {
        Some(Detail::NotLeader(other)) => Attempt::Again(NodeId::from_bytes(&other.leader_node)),
        Some(Detail::WrongEpoch(_)) => Attempt::Remap,
        _ => Attempt::Failed(failure),
    }
}

pub(super) fn table_of(kind: &Kind) -> &str {
    match kind {
        Kind::Get(get) => &get.table,
        Kind::Put(put) => &put.table,
        Kind::Delete(delete) => &delete.table,
        Kind::Exists(exists) => &exists.table,
        Kind::Batch(batch) => &batch.table,
        Kind::Txn(txn) => &txn.table,
        Kind::Modify(modify) => &modify.table,
        Kind::Copy(copy) => &copy.table,
        Kind::Clear(clear) => &clear.table,
    }
}

/// The name of the table that an operation is for.
pub fn table_mut(kind: &mut Kind) -> &mut String {
    match kind {
        Kind::Get(get) => &mut get.table,
        Kind::Put(put) => &mut put.table,
        Kind::Delete(delete) => &mut delete.table,
        Kind::Exists(exists) => &mut exists.table,
        Kind::Batch(batch) => &mut batch.table,
        Kind::Txn(txn) => &mut txn.table,
        Kind::Modify(modify) => &mut modify.table,
        Kind::Copy(copy) => &mut copy.table,
        Kind::Clear(clear) => &mut clear.table,
    }
}

/// The bucket by which an operation finds its partition.
fn bucket_of(prepared: &Prepared) -> Option<Bucket> {
    match &prepared.kind {
        Kind::Clear(clear) => u16::try_from(clear.first_bucket).ok().map(Bucket),
        kind => keys_of(kind).first().map(|key| prepared.table.buckets.bucket_of_key(key)),
    }
}

/// Whether an operation goes through the log.
pub fn is_write(kind: &Kind) -> bool {
    match kind {
        Kind::Get(_) | Kind::Exists(_) => false,
        Kind::Batch(batch) if !batch.atomic => {
            batch.operations.iter().filter_map(|operation| operation.operation.as_ref()).any(is_write)
        }
        _ => true,
    }
}

fn has_put(kind: &Kind) -> bool {
    let any = |operations: &[Operation]| {
        operations.iter().filter_map(|operation| operation.operation.as_ref()).any(has_put)
    };
    match kind {
        Kind::Put(_) => true,
        Kind::Modify(modify) => !matches!(modify.change, Some(Change::Take(_) | Change::Renew(_))),
        Kind::Copy(copy) => !copy.remove_source,
        Kind::Batch(batch) => any(&batch.operations),
        Kind::Txn(txn) => any(&txn.then) || any(&txn.otherwise),
        _ => false,
    }
}

/// Writes into the operation what the table decides, and takes out what the log need not
/// carry.
fn settle(kind: &mut Kind, table: &Table, limits: &Limits) {
    let inner = |operations: &mut Vec<Operation>| {
        operations
            .iter_mut()
            .filter_map(|operation| operation.operation.as_mut())
            .for_each(|kind| settle(kind, table, limits));
    };
    table_mut(kind).clear();
    match kind {
        Kind::Put(put) => {
            if put.ttl_ms == 0 {
                put.ttl_ms = table.default_ttl_ms;
            }
        }
        Kind::Modify(modify) => {
            modify.most_bytes = limits.value_bytes as u64;
            modify.default_ttl_ms = table.default_ttl_ms;
            if let Some(Change::Replace(replace)) = &mut modify.change {
                let default = Lifetime { lasts: Some(Lasts::TtlMs(table.default_ttl_ms)) };
                if replace.lifetime.is_none() && table.default_ttl_ms > 0 {
                    replace.lifetime = Some(default);
                }
            }
        }
        Kind::Batch(batch) => inner(&mut batch.operations),
        Kind::Txn(txn) => {
            inner(&mut txn.then);
            inner(&mut txn.otherwise);
        }
        Kind::Get(_) | Kind::Exists(_) | Kind::Delete(_) | Kind::Copy(_) | Kind::Clear(_) => {}
    }
}

/// The status code that stands for a deadline that passed.
pub fn too_late() -> Failure {
    Failure::new(Code::DeadlineExceeded, "the deadline passed before there was an answer", None)
}
