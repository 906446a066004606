//! A replica of a group, as the rest of the node uses it. Nothing above names openraft.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::raft::linearizable_read::LinearizerOption;
use openraft::{Config, SnapshotPolicy};
use openraft_rt::Instant as _;
use parking_lot::Mutex;
use placement::{NodeId, PartitionId, ReplicaId};
use proto::v1::{Command, Expire, FollowerReport, GroupReport, Tick, command};
use tokio::task::JoinHandle;

use super::barrier::SharedBarrier;
use super::log_store::LogStore;
use super::machine::Birth;
use super::network::endpoint::Endpoint;
use super::network::guard::Guard;
use super::network::peers::Peers;
use super::network::raft_endpoint::RaftEndpoint;
use super::proposals::{Proposals, ProposeError, Room};
use super::state_machine::{Applied, Flushed, StateMachine};
use super::type_config::{ReplicaPlace, SnapshotMeta, StoredMembership, TypeConfig};
use crate::partition::Answer;
use crate::partition::read::Found;
use crate::storage::state::{PinnedState, StateEngine, StateError, StateResult};

/// The handle of a running replica.
pub type RaftHandle = openraft::Raft<TypeConfig, StateMachine>;

/// A read goes ahead on the lease for this part of it; the rest is a margin for clocks that
/// run at different speeds.
const LEASE_MARGIN: f64 = 0.8;
/// Entries that are kept in the log for followers that are a little behind.
const ENTRIES_KEPT: u64 = 1000;
/// At most so many items are removed by one entry.
const EXPIRE_AT_ONCE: u32 = 1000;

/// How soon a silent leader is replaced.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How often a leader is heard.
    pub heartbeat_interval: Duration,
    /// The shortest silence after which a follower stands.
    pub election_timeout_min: Duration,
    /// The longest such silence, and a leader's lease.
    pub election_timeout_max: Duration,
}

/// Why a group does not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GroupError {
    /// This replica does not lead. Who does, where that is known.
    #[error("this replica does not lead")]
    NotLeader(Option<NodeId>),
    /// The leader cannot reach a quorum, or hands leadership over.
    #[error("the partition has no leader that can reach a quorum at the moment")]
    NotNow,
    /// It may have been done, or may yet be, or not.
    #[error("the outcome is unknown: {0}")]
    Unknown(&'static str),
    /// The change makes no sense as the group is now.
    #[error("{0}")]
    Refused(&'static str),
    /// The state could not be read.
    #[error("{0}")]
    State(Arc<StateError>),
}

impl From<ProposeError> for GroupError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader(place) => Self::NotLeader(place.map(|place| place.node)),
            ProposeError::NotNow => Self::NotNow,
            ProposeError::Unknown(why) => Self::Unknown(why),
        }
    }
}

impl From<StateError> for GroupError {
    fn from(error: StateError) -> Self {
        Self::State(Arc::new(error))
    }
}

/// What a replica is started with.
pub struct Start {
    /// Its group.
    pub group: PartitionId,
    /// Its name.
    pub replica: ReplicaId,
    /// What it begins with when nothing is written yet.
    pub birth: Birth,
    /// Its log.
    pub log: LogStore,
    /// The node's state.
    pub engine: Arc<dyn StateEngine>,
    /// The other nodes.
    pub peers: Arc<Peers>,
    /// How soon a silent leader is replaced.
    pub timing: Timing,
    /// What dates entries.
    pub stamp: Arc<dyn Fn() -> Option<u64> + Send + Sync>,
    /// What keeps it still at first.
    pub guard: Guard,
}

/// A running replica of a group.
pub struct Group {
    /// Its group.
    pub group: PartitionId,
    /// Its name.
    pub replica: ReplicaId,
    raft: RaftHandle,
    engine: Arc<dyn StateEngine>,
    applied: Arc<Applied>,
    flushed: Arc<Mutex<Option<Flushed>>>,
    proposals: Arc<Proposals>,
    barrier: SharedBarrier<GroupError>,
    endpoint: Arc<dyn Endpoint>,
    stamp: Arc<dyn Fn() -> Option<u64> + Send + Sync>,
    lease: Duration,
    /// The term in which this replica, as its leader, began to hand leadership over: no
    /// lease counts in it any more.
    handed_over_in: AtomicU64,
    tasks: Vec<JoinHandle<()>>,
}

/// Why a replica does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// Raft refused to go on from what is on disk.
    #[error("replica {replica} of partition {group} does not start: {why}")]
    Raft {
        /// The group.
        group: PartitionId,
        /// The replica.
        replica: ReplicaId,
        /// What Raft said.
        why: String,
    },
}

fn config(group: PartitionId, timing: Timing) -> Config {
    let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    Config {
        cluster_name: format!("partition {group}"),
        heartbeat_interval: ms(timing.heartbeat_interval),
        election_timeout_min: ms(timing.election_timeout_min),
        election_timeout_max: ms(timing.election_timeout_max),
        // A restarted leader must win an election: its own last entries may not be on disk.
        enable_leader_restore: Some(false),
        enable_pre_vote: Some(true),
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: ENTRIES_KEPT,
        replication_lag_threshold: u64::MAX,
        // Entries hold up to a megabyte each.
        max_payload_entries: 64,
        install_snapshot_timeout: 600_000,
        removed_leader_step_down: openraft::StepDownPolicy::Never,
        api_channel_size: Some(256),
        notification_channel_size: Some(1024),
        state_machine_channel_size: Some(256),
        backoff: "50ms 100ms 200ms ..500ms".to_owned(),
        ..Config::default()
    }
}

impl Group {
    /// Starts a replica from what is on disk; returns once what was committed is applied.
    pub async fn start(start: Start) -> Result<Arc<Self>, StartError> {
        let Start { group, replica, birth, log, engine, peers, timing, stamp, guard } = start;
        let failed = |why: String| StartError::Raft { group, replica, why };
        let machine = StateMachine::load(group, birth, Arc::clone(&engine))?;
        let (applied, flushed, started) = (machine.applied(), machine.flushed(), machine.started());
        let config = config(group, timing).validate().map_err(|error| failed(error.to_string()))?;
        let network = peers.factory(group, replica);
        let raft = RaftHandle::build(replica.0, Arc::new(config), network, log, machine)
            .await
            .map_err(|error| failed(error.to_string()))?;
        started.store(true, Ordering::Release);
        let guard = Arc::new(guard);
        let proposals = Arc::new(Proposals::default());
        // Before it runs: what runs may stand before it is told not to.
        let standing = guard.keep_from_standing(&raft);
        raft.run();
        let dated = Arc::clone(&stamp);
        let tasks = vec![
            tokio::spawn(standing),
            tokio::spawn(Arc::clone(&proposals).run(raft.clone(), move || dated().unwrap_or(0))),
        ];
        let endpoint = Arc::new(RaftEndpoint::new(raft.clone(), guard));
        Ok(Arc::new(Self {
            group,
            replica,
            raft,
            engine,
            applied,
            flushed,
            proposals,
            barrier: SharedBarrier::new(),
            endpoint,
            stamp,
            lease: timing.election_timeout_max.mul_f64(LEASE_MARGIN),
            handed_over_in: AtomicU64::new(0),
            tasks,
        }))
    }

    /// What peers reach the replica by.
    pub fn endpoint(&self) -> Arc<dyn Endpoint> {
        Arc::clone(&self.endpoint)
    }

    /// What it has applied.
    pub fn applied(&self) -> &Arc<Applied> {
        &self.applied
    }

    /// The node's state.
    pub fn engine(&self) -> &dyn StateEngine {
        &*self.engine
    }

    /// Pins the state as it is now.
    pub fn pin(&self) -> Arc<dyn PinnedState> {
        self.engine.pin()
    }

    /// Makes this the first of a new group: the voters begin with the same membership.
    pub async fn initialize(&self, voters: BTreeMap<u64, ReplicaPlace>) -> Result<(), GroupError> {
        match self.raft.initialize(voters).await {
            Ok(()) | Err(RaftError::APIError(openraft::errors::InitializeError::NotAllowed(_))) => Ok(()),
            Err(_) => Err(GroupError::NotNow),
        }
    }

    /// Whether the group ever began, as this replica knows.
    pub async fn is_initialized(&self) -> bool {
        self.raft.is_initialized().await.unwrap_or(true)
    }

    /// Has a command applied, in order after all that were proposed here before it.
    ///
    /// The command is in the queue when this returns; only its answer is waited for. So the
    /// order of calls is the order of commands.
    ///
    /// The room that it takes on the node is held until it is answered, also when nobody
    /// waits for that any more.
    pub fn propose(
        &self,
        command: command::Command,
        room: Room,
    ) -> impl Future<Output = Result<Answer, GroupError>> + use<> {
        let answer = self.proposals.push(Command { command: Some(command) }, room);
        async move {
            match answer.await {
                Ok(outcome) => outcome.map_err(GroupError::from),
                Err(_) => Err(GroupError::Unknown("the group stopped")),
            }
        }
    }

    /// Returns when reading the state now is linearizable.
    pub async fn read_barrier(&self) -> Result<(), GroupError> {
        if self.lease_holds() {
            return Ok(());
        }
        let (raft, lease) = (self.raft.clone(), self.lease);
        let age = if self.handing_over() { Duration::ZERO } else { lease };
        let check = move || confirm_leadership(raft.clone(), age);
        self.barrier.pass(check).await.unwrap_or(Err(GroupError::NotNow))
    }

    /// Whether a read that was made just before this call needs no more than that: this
    /// replica leads, a quorum promised a short while ago to follow nobody else, and all that
    /// was acknowledged before it led is applied.
    ///
    /// The promise counts from when the question was *sent*, it was not given back by handing
    /// leadership over, and what this leader itself acknowledged was applied first.
    pub fn lease_holds(&self) -> bool {
        let Ok(leader) = self.raft.as_leader() else { return false };
        let Some(acknowledged) = leader.last_quorum_acked() else { return false };
        let own_term = leader.to_committed_leader_id();
        let caught_up =
            self.applied.progress().applied.is_some_and(|id| *id.committed_leader_id() == own_term);
        caught_up
            && self.handed_over_in.load(Ordering::Acquire) != *own_term
            && acknowledged.elapsed() < self.lease
    }

    fn handing_over(&self) -> bool {
        self.handed_over_in.load(Ordering::Acquire) == self.term()
    }

    /// The leader's clock for reads: never behind the partition's.
    pub fn leader_clock_ms(&self) -> u64 {
        let applied = self.applied.progress().clock_ms;
        (self.stamp)().map_or(applied, |now| now.max(applied))
    }

    /// Reads linearizably through `read`, which is given the partition's clock and the
    /// leader's. Where it finds something that is due between the two, the partition's clock
    /// is moved on first, so that what was said to be gone stays gone.
    pub async fn read<T>(
        &self,
        mut read: impl FnMut(&dyn StateEngine, u64, u64) -> StateResult<Ending<T>>,
    ) -> Result<T, GroupError> {
        let mut confirmed = false;
        loop {
            let now_ms = self.leader_clock_ms();
            let clock_ms = self.applied.progress().clock_ms;
            let found = read(&*self.engine, clock_ms, now_ms)?;
            if !confirmed && !self.lease_holds() {
                self.read_barrier().await?;
                confirmed = true;
                continue;
            }
            match found {
                Ending::Read(value) => return Ok(value),
                Ending::Due => {
                    self.propose(command::Command::Tick(Tick {}), None).await?;
                    confirmed = false;
                }
            }
        }
    }

    /// Removes what is due, if this replica leads and something is. Returns whether more is.
    pub async fn expire(&self) -> Result<bool, GroupError> {
        let next = self.applied.next_due_ms();
        if next == u64::MAX || next > self.leader_clock_ms() || !self.leads() {
            return Ok(false);
        }
        self.applied.forget_next_due();
        let expired = self.propose(command::Command::Expire(Expire { limit: EXPIRE_AT_ONCE }), None).await;
        if let Some(descriptor) = self.applied.descriptor() {
            let earliest = crate::partition::state::earliest_deadline(&*self.engine, &descriptor)?;
            self.applied.note_due(earliest);
        }
        match expired? {
            Answer::Expired(answer) => Ok(answer.more),
            _ => Ok(false),
        }
    }

    /// Whether this replica leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.raft.as_leader().is_ok()
    }

    /// The node of the leader, as far as this replica knows.
    pub fn leader(&self) -> Option<NodeId> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let leader = metrics.current_leader?;
        metrics.membership_config.get_node(&leader).map(|place| place.node)
    }

    fn term(&self) -> u64 {
        self.raft.metrics().borrow_watched().current_term
    }

    /// Returns once this replica knows a leader, or has become it.
    pub async fn wait_for_leader(&self, patience: Duration) -> bool {
        let wait = self.raft.wait(Some(patience));
        wait.metrics(|metrics| metrics.current_leader.is_some(), "a leader").await.is_ok()
    }

    /// Returns once everything that was committed when this node stopped, and before, is
    /// applied.
    pub async fn caught_up(&self) -> bool {
        self.raft.wait_for_recovery(None).await.is_ok()
    }

    /// Adds a replica that does not vote, and begins to send it the log.
    pub async fn add_learner(&self, replica: ReplicaId, node: NodeId) -> Result<(), GroupError> {
        let added = self.raft.add_learner(replica.0, ReplicaPlace { node }, false).await;
        added.map(|_| ()).map_err(|error| refused(error))
    }

    /// Changes who votes, in one joint step; replicas that are not named are forgotten. The
    /// leader stays among the voters, and whoever becomes one was sent the log before.
    pub async fn set_voters(&self, voters: BTreeSet<u64>) -> Result<(), GroupError> {
        let known = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            voters.iter().all(|voter| metrics.membership_config.get_node(voter).is_some())
        };
        if !known || !voters.contains(&self.replica.0) {
            return Err(GroupError::Refused(
                "the leader, and replicas that it does not know, cannot be replaced so",
            ));
        }
        let changed = self.raft.change_membership(voters, false).await;
        changed.map(|_| ()).map_err(|error| refused(error))
    }

    /// Begins to hand leadership to another replica; from here on no read relies on the
    /// lease in this term.
    pub async fn transfer_leader(&self, to: ReplicaId) -> Result<(), GroupError> {
        self.handed_over_in.store(self.term(), Ordering::Release);
        self.raft.trigger().transfer_leader(to.0).await.map_err(|_| GroupError::NotNow)
    }

    /// Hands leadership to the voter that has most of the log, if this replica leads. Returns
    /// whether there was somebody to hand it to.
    pub async fn hand_over(&self, but_not_to: &BTreeSet<NodeId>) -> Result<bool, GroupError> {
        if !self.leads() {
            return Ok(false);
        }
        let target = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
            let followers = metrics.replication.iter().flatten();
            followers
                .filter(|(replica, _)| **replica != self.replica.0 && voters.contains(replica))
                .filter(|(replica, _)| {
                    let place = metrics.membership_config.get_node(replica);
                    place.is_some_and(|place| !but_not_to.contains(&place.node))
                })
                .max_by_key(|(replica, matched)| (matched.map(|id| id.index()), std::cmp::Reverse(**replica)))
                .map(|(replica, _)| ReplicaId(*replica))
        };
        match target {
            Some(target) => self.transfer_leader(target).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// The group as this replica sees it.
    pub fn report(&self) -> GroupReport {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let leads = metrics.current_leader == Some(self.replica.0) && self.leads();
        // What is committed counts; a later change that is not is said to be under way.
        let membership: &StoredMembership = &metrics.committed_membership_config;
        let configs = membership.get_joint_config();
        let followers = if leads {
            let of_each = metrics.replication.iter().flatten();
            of_each
                .map(|(replica, matched)| FollowerReport {
                    replica: *replica,
                    matched_index: matched.map_or(0, |id| id.index()),
                })
                .collect()
        } else {
            Vec::new()
        };
        GroupReport {
            partition: self.group.0,
            replica: self.replica.0,
            leads,
            term: metrics.current_term,
            applied_index: metrics.last_applied.map_or(0, |id| id.index()),
            approximate_bytes: 0,
            followers,
            voters: membership.voter_ids().collect(),
            learners: membership.membership().learner_ids().collect(),
            joint: configs.len() > 1 || metrics.membership_config.log_id() != membership.log_id(),
            last_index: metrics.last_log_index.unwrap_or(0),
        }
    }

    /// How far the group is applied in a pinned state, to be recorded once that is flushed.
    pub fn mark(&self, pinned: &Arc<dyn PinnedState>) -> std::io::Result<Flushed> {
        let meta: SnapshotMeta = super::state_machine::meta_of(self.group, |key| pinned.get(key))?;
        Ok(Flushed { meta, pinned: Arc::clone(pinned) })
    }

    /// Records how far the state is flushed; the log up to there, less what is kept for
    /// followers a little behind, is then purged.
    pub async fn note_flushed(&self, flushed: Flushed) {
        *self.flushed.lock() = Some(flushed);
        if let Err(error) = self.raft.trigger().snapshot().await {
            tracing::debug!(partition = %self.group, %error, "the log is not purged: the group has stopped");
        }
    }

    /// Ends the replica; what it has on disk stays.
    pub async fn stop(&self) {
        self.proposals.close();
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(partition = %self.group, %error, "the group did not end cleanly");
        }
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// What a read found.
pub enum Ending<T> {
    /// This.
    Read(T),
    /// Something that is due by the leader's clock and not yet by the partition's.
    Due,
}

impl Ending<Option<crate::storage::item::StoredItem>> {
    /// Of a single key.
    pub fn of(found: Found) -> Self {
        match found {
            Found::Item(item) => Self::Read(Some(item)),
            Found::Nothing => Self::Read(None),
            Found::Ending => Self::Due,
        }
    }
}

async fn confirm_leadership(raft: RaftHandle, age: Duration) -> Result<(), GroupError> {
    let option = LinearizerOption::new(Some(age), true);
    let linearizer = raft.get_read_linearizer(option).await.map_err(|error| match error {
        RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)) => match forward.leader_node {
            Some(place) => GroupError::NotLeader(Some(place.node)),
            None if forward.leader_id.is_some() => GroupError::NotLeader(None),
            None => GroupError::NotNow,
        },
        RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)) | RaftError::Fatal(_) => {
            GroupError::NotNow
        }
    })?;
    linearizer.await_ready(&raft).await.map(|_| ()).map_err(|_| GroupError::NotNow)
}

fn refused(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> GroupError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            GroupError::NotLeader(forward.leader_node.map(|place| place.node))
        }
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => {
            GroupError::Unknown("the leader changed")
        }
        RaftError::APIError(
            ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_),
        )
        | RaftError::Fatal(_) => GroupError::NotNow,
    }
}
