//! A replica of a group, as the rest of the node uses it. Nothing above names openraft.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal, RaftError};
use openraft::{Config, SnapshotPolicy};
use parking_lot::Mutex;
use placement::{NodeId, PartitionId, ReplicaId};
use proto::v1::{Command, FollowerReport, GroupReport, Tick, command};
use tokio::task::JoinHandle;

use self::leadership::{Leadership, confirm};
use super::barrier::SharedBarrier;
use super::floor::FloorEndpoint;
use super::groups::Seeds;
use super::log_store::LogStore;
use super::machine::Birth;
use super::network::endpoint::Endpoint;
use super::network::guard::Guard;
use super::network::peers::Peers;
use super::network::raft_endpoint::RaftEndpoint;
use super::proposals::{Proposals, ProposeError, Room};
use super::sleep::Sleep;
use super::sleep::endpoint::SleepyEndpoint;
use super::state_machine::{Applied, Flushed, StateMachine};
use super::type_config::{LogId, ReplicaPlace, SnapshotMeta, StoredMembership, TypeConfig};
use crate::observability::metrics::{Lag, Metrics};
use crate::partition::Answer;
use crate::partition::read::Found;
use crate::seams::clock;
use crate::storage::state::{PinnedState, StateEngine, StateError, StateResult};

mod leadership;
mod splitting;
mod upkeep;

/// The handle of a running replica.
pub type RaftHandle = openraft::Raft<TypeConfig, StateMachine>;

/// A read goes ahead on the lease for this part of it; the rest is a margin for clocks that
/// run at different speeds.
const LEASE_MARGIN: f64 = 0.8;
/// Entries that are kept in the log for followers that are a little behind.
const ENTRIES_KEPT: u64 = 1000;

/// How soon a silent leader is replaced.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How often a leader is heard.
    pub heartbeat_interval: Duration,
    /// The shortest time from the end of a lease until a follower stands.
    pub election_timeout_min: Duration,
    /// The longest such time, and a leader's lease.
    pub election_timeout_max: Duration,
    /// A group that nobody used for so long sleeps.
    pub sleep_after: Duration,
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
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who is told of partitions that are cut off this one.
    pub seeds: Option<Arc<Seeds>>,
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
    /// While ended items are being removed: from when on.
    expiring_from_ms: AtomicU64,
    /// The version of the table's settings that the group was told of from here.
    told_version: AtomicU64,
    flushed: Arc<Mutex<Option<Flushed>>>,
    proposals: Arc<Proposals>,
    barrier: SharedBarrier<GroupError>,
    endpoint: Arc<dyn Endpoint>,
    stamp: Arc<dyn Fn() -> Option<u64> + Send + Sync>,
    leadership: Arc<Leadership>,
    sleep: Arc<Sleep>,
    lease: Duration,
    peers: Arc<Peers>,
    /// Whose turn it is to have the partition cut in two.
    splitting: Arc<tokio::sync::Mutex<()>>,
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
        // An answered append says what a heartbeat would, if there is time for the next.
        heartbeat_min_interval: (timing.heartbeat_interval.mul_f64(2.25) < timing.election_timeout_min)
            .then(|| ms(timing.heartbeat_interval)),
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
        let Start { group, replica, birth, log, engine, peers, timing, stamp, guard, metrics, seeds } = start;
        let failed = |why: String| StartError::Raft { group, replica, why };
        let mut machine = StateMachine::load(group, birth, Arc::clone(&engine))?;
        machine.count_in(metrics.entries_applied.clone());
        if let Some(seeds) = seeds {
            machine.tell_of_seeds(seeds);
        }
        let (applied, flushed, started) = (machine.applied(), machine.flushed(), machine.started());
        let config = config(group, timing).validate().map_err(|error| failed(error.to_string()))?;
        #[cfg(test)]
        let config = super::tests::as_the_test_wants(config);
        let network = peers.factory(group, replica);
        let contacts = network.contacts();
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
            tokio::spawn(Arc::clone(&proposals).run(raft.clone(), move || dated().unwrap_or(0), metrics)),
        ];
        let sleep = Arc::new(Sleep::new(group, replica, raft.clone(), Arc::clone(&peers), timing));
        let endpoint = FloorEndpoint::new(RaftEndpoint::new(raft.clone(), guard), Arc::clone(&applied));
        let endpoint = Arc::new(SleepyEndpoint::new(endpoint, Arc::clone(&sleep)));
        let leadership = Arc::new(Leadership {
            replica,
            raft: raft.clone(),
            applied: Arc::clone(&applied),
            contacts,
            patience: timing.election_timeout_max * 2,
            handed_over_in: AtomicU64::new(0),
            splitting_in: AtomicU64::new(0),
        });
        Ok(Arc::new(Self {
            group,
            replica,
            raft,
            engine,
            applied,
            expiring_from_ms: AtomicU64::new(u64::MAX),
            told_version: AtomicU64::new(0),
            flushed,
            proposals,
            barrier: SharedBarrier::default(),
            endpoint,
            stamp,
            leadership,
            sleep,
            lease: timing.election_timeout_max.mul_f64(LEASE_MARGIN),
            peers,
            splitting: Arc::default(),
            tasks,
        }))
    }

    /// What peers reach the replica by.
    pub fn endpoint(&self) -> Arc<dyn Endpoint> {
        Arc::clone(&self.endpoint)
    }

    /// Its sleep.
    pub fn sleep(&self) -> &Sleep {
        &self.sleep
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
        self.sleep.touch();
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
        self.sleep.touch();
        if self.lease_holds() {
            return Ok(());
        }
        let leadership = Arc::clone(&self.leadership);
        let check = move || confirm(leadership.clone());
        self.barrier.pass(check).await.unwrap_or(Err(GroupError::NotNow))
    }

    /// Whether a read that was made just before this call needs no more than that: this
    /// replica leads, a quorum promised a short while ago to follow nobody else, and all that
    /// was acknowledged before it led is applied.
    ///
    /// The promise counts from when the question was *sent*, it was not given back by handing
    /// leadership over, and what this leader itself acknowledged was applied first.
    pub fn lease_holds(&self) -> bool {
        self.lease_term().is_some()
    }

    /// The term in which it does.
    fn lease_term(&self) -> Option<u64> {
        let term = self.leadership.serving_term()?;
        let since = clock::now().checked_sub(self.lease)?;
        let holds = self.leadership.handed_over_in.load(Ordering::Acquire) != term
            && self.leadership.followed_since(since, term);
        holds.then_some(term)
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
        self.sleep.touch();
        let mut confirmed = false;
        loop {
            let (found, vouched) = self.look(&mut read)?;
            if !confirmed && !vouched {
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

    /// The same without waiting, where the lease vouches for what was read and nothing is due.
    pub fn read_at_once<T>(
        &self,
        mut read: impl FnMut(&dyn StateEngine, u64, u64) -> StateResult<Ending<T>>,
    ) -> Result<Option<T>, GroupError> {
        self.sleep.touch();
        Ok(match self.look(&mut read)? {
            (Ending::Read(value), true) => Some(value),
            _ => None,
        })
    }

    /// Reads, and says whether the lease vouches for it.
    fn look<T>(
        &self,
        read: &mut impl FnMut(&dyn StateEngine, u64, u64) -> StateResult<Ending<T>>,
    ) -> StateResult<(Ending<T>, bool)> {
        // A replica that began to lead only while it read may have read the past.
        let led = self.leadership.serving_term();
        let now_ms = self.leader_clock_ms();
        let clock_ms = self.applied.progress().clock_ms;
        let found = read(&*self.engine, clock_ms, now_ms)?;
        Ok((found, led.is_some() && led == self.lease_term()))
    }

    /// Whether what this replica applies is what the group commits, but for a moment: it leads and
    /// is followed, or follows a leader whose node is heard. One that sleeps is woken when that ends.
    pub fn is_in_touch(&self) -> bool {
        const HEARD_WITHIN: Duration = Duration::from_secs(5);
        if self.sleep.is_asleep() {
            return true;
        }
        if self.leads() {
            return self.lease_holds();
        }
        let heard = |node| self.peers.liveness().alive(node, HEARD_WITHIN).is_some();
        self.leader().is_some_and(heard)
    }

    /// Whether this replica leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.leadership.leading_term().is_some()
    }

    /// Why the replica came to an end although nobody stopped it, if it did.
    pub fn broken(&self) -> Option<String> {
        match &self.raft.metrics().borrow_watched().running_state {
            Ok(()) | Err(Fatal::Stopped) => None,
            Err(why) => Some(why.to_string()),
        }
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
        self.forget_log_before_split().await?;
        let added = self.raft.add_learner(replica.0, ReplicaPlace { node }, false).await;
        added.map(|_| ()).map_err(refused)
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
        changed.map(|_| ()).map_err(refused)
    }

    /// Begins to hand leadership to another replica; from here on no read relies on the
    /// lease in this term.
    pub async fn transfer_leader(&self, to: ReplicaId) -> Result<(), GroupError> {
        self.leadership.handed_over_in.store(self.term(), Ordering::Release);
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
        // Asked before the metrics are held: `leads` holds them too, and whoever holds them twice
        // waits for ever once openraft wants to write them in between.
        let leads = self.leads();
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let leads = leads && metrics.current_leader == Some(self.replica.0);
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
            expired_keys: 0,
            followers,
            voters: membership.voter_ids().collect(),
            learners: membership.membership().learner_ids().collect(),
            joint: configs.len() > 1 || metrics.membership_config.log_id() != membership.log_id(),
            last_index: metrics.last_log_index.unwrap_or(0),
            indexes: if leads { self.applied.indexes() } else { Vec::new() },
            descriptor: self.applied.descriptor().map(|owned| owned.to_message()),
            versions: self.applied.progress().counter,
        }
    }

    /// Counts how far its followers are behind, where it leads, and what it has not applied yet.
    pub fn count_lag(&self, lag: &mut Lag) {
        let leads = self.leads();
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let count = |index: Option<u64>| index.map_or(0, |index| index.saturating_add(1));
        let index = |id: LogId| id.index();
        let unapplied =
            count(metrics.local_committed.map(index)).saturating_sub(count(metrics.last_applied.map(index)));
        lag.apply.count(self.group, unapplied);
        let last = count(metrics.last_log_index);
        let followers = metrics.replication.iter().flatten().filter(|_| leads);
        for (replica, matched) in followers.filter(|(replica, _)| **replica != self.replica.0) {
            if let Some(place) = metrics.membership_config.get_node(replica) {
                let behind = last.saturating_sub(count(matched.map(index)));
                lag.followers.count((self.group, place.node), behind);
            }
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
