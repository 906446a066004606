//! Groups that nobody uses sleep, so that what a node costs follows from what is used and not
//! from how much there is.
//!
//! A leader whose group has had nothing to do for a while asks its followers to sleep. A
//! follower agrees when its log ends where the leader's does, all of it committed; it then
//! stops its clock, and so stands for no election. When all have agreed the leader stops its
//! own, and with it the heartbeats.
//!
//! # What keeps it right
//!
//! Nothing here is needed for safety: a replica that sleeps differs from one whose clock is
//! slow. A leader's lease runs out while it sleeps, so the first read asks a quorum.
//!
//! # What wakes a replica
//!
//! - Anything that is asked of the leader: a write, a read, a change of members, a transfer.
//! - Anything that comes from another replica of the group; so a leader that woke wakes its
//!   followers with its first append or heartbeat.
//! - A follower: that the leader's node is silent, or has started again; see
//!   [`liveness`](super::network::liveness). Its vote is old by then, and it stands at once.
//! - A request for a vote, unless the leader's node is there: then the replica that asks was
//!   cut off or has just started; it is refused as it would be in a leader's lease, the leader
//!   hears the same request, wakes, and tells it who leads.
//! - A follower that has not been told for long that its leader still means it to sleep.

pub mod endpoint;
pub mod keeper;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use placement::{NodeId, PartitionId, ReplicaId};
use proto::v1::SleepRequest;
use proto::v1::message::Body;
use tokio::time::Instant;

use super::group::{RaftHandle, Timing};
use super::network::lane::{LaneKind, Route};
use super::network::liveness::Process;
use super::network::peers::Peers;
use super::network::wire;
use super::type_config::{LogId, Vote};
use crate::seams::clock;

/// A leader that sleeps tells its followers this often that it still means them to.
const RENEWED_AFTER: Duration = Duration::from_secs(20);
/// A follower that was not told for so long wakes by itself.
const TRUSTS_FOR: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(1);

/// The sleep of one replica.
pub struct Sleep {
    group: PartitionId,
    replica: ReplicaId,
    raft: RaftHandle,
    peers: Arc<Peers>,
    timing: Timing,
    /// Counts what happened to the replica: when it stands still, nothing did.
    uses: AtomicU64,
    idle: Mutex<(u64, Instant)>,
    asleep: AtomicBool,
    state: Mutex<Option<Asleep>>,
}

/// How a replica fell asleep.
#[derive(Debug, Clone, Copy)]
struct Asleep {
    since: Instant,
    /// The leader's node; none: this replica leads.
    leader: Option<(NodeId, Process)>,
}

/// A leader's group in which nothing is under way.
struct AtRest {
    vote: Vote,
    last: LogId,
    followers: Vec<(u64, NodeId)>,
}

impl Sleep {
    pub(super) fn new(
        group: PartitionId,
        replica: ReplicaId,
        raft: RaftHandle,
        peers: Arc<Peers>,
        timing: Timing,
    ) -> Self {
        let idle = Mutex::new((0, clock::now()));
        let (uses, asleep, state) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::default());
        Self { group, replica, raft, peers, timing, uses, idle, asleep, state }
    }

    /// Something is asked of the replica: it wakes, and stays awake for a while.
    pub fn touch(&self) {
        self.uses.fetch_add(1, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Whether it sleeps.
    pub fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::SeqCst)
    }

    fn wake(&self) {
        let mut state = self.state.lock();
        if state.take().is_some() {
            self.asleep.store(false, Ordering::SeqCst);
            self.raft.runtime_config().tick(true);
            tracing::trace!(partition = %self.group, replica = %self.replica, "awake");
        }
    }

    /// Falls asleep, unless something happened since `uses` was read: whoever touches counts
    /// first and looks then, and this looks in the opposite order.
    fn fall_asleep(&self, leader: Option<(NodeId, Process)>, uses: u64) -> bool {
        {
            let mut state = self.state.lock();
            *state = Some(Asleep { since: clock::now(), leader });
            self.asleep.store(true, Ordering::SeqCst);
            self.raft.runtime_config().tick(false);
        }
        let undisturbed = self.uses.load(Ordering::SeqCst) == uses;
        if !undisturbed {
            self.wake();
        }
        undisturbed
    }

    /// How long nothing has been asked of it, to the accuracy of the calls.
    fn idle_for(&self) -> Duration {
        let uses = self.uses.load(Ordering::SeqCst);
        let mut idle = self.idle.lock();
        if idle.0 != uses {
            *idle = (uses, clock::now());
        }
        idle.1.elapsed()
    }

    /// What is due for the replica; called now and then.
    pub(in crate::raft) async fn look(&self) {
        let asleep = *self.state.lock();
        match asleep {
            Some(Asleep { leader: Some((node, process)), since }) => {
                // As long as a follower that is awake waits for its leader.
                let patience = self.timing.election_timeout_max + self.timing.election_timeout_min;
                let gone = self.peers.liveness().is_gone(node, process, patience);
                if gone || since.elapsed() > TRUSTS_FOR {
                    self.wake();
                }
            }
            Some(Asleep { leader: None, since }) if since.elapsed() < RENEWED_AFTER => {}
            Some(Asleep { leader: None, .. }) | None => {
                if self.idle_for() >= self.timing.sleep_after && !self.send_to_sleep().await {
                    self.wake();
                    self.idle.lock().1 = clock::now();
                }
            }
        }
    }

    /// As the leader: has the followers sleep, and sleeps.
    async fn send_to_sleep(&self) -> bool {
        let uses = self.uses.load(Ordering::SeqCst);
        let Some(AtRest { vote, last, followers }) = self.at_rest() else { return false };
        let asked = followers.into_iter().map(|(replica, node)| async move {
            let route = Route { group: self.group.0, from: self.replica.0, to: replica };
            let (vote, last) = (Some(wire::vote_out(&vote)), Some(wire::log_id_out(&last)));
            let body = Body::Sleep(SleepRequest { vote, last });
            let peer = self.peers.peer(node);
            let call = peer.lane(LaneKind::Control).call(route, body);
            matches!(
                tokio::time::timeout(PATIENCE, call).await,
                Ok(Ok(Body::SleepAnswer(answer))) if answer.asleep
            )
        });
        join_all(asked).await.into_iter().all(|asleep| asleep) && self.fall_asleep(None, uses)
    }

    /// None unless this replica leads and nothing is under way: every voter is there and has
    /// the whole log, all of it is applied, and nobody joins or leaves.
    fn at_rest(&self) -> Option<AtRest> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let last = metrics.last_applied?;
        let membership = metrics.membership_config.membership();
        let settled = metrics.membership_config.log_id() == metrics.committed_membership_config.log_id()
            && membership.get_joint_config().len() == 1
            && membership.learner_ids().next().is_none();
        let leads = metrics.vote.is_committed() && metrics.vote.leader_id().voted_for == self.replica.0;
        if !leads || !settled || metrics.last_log_index != Some(last.index()) {
            return None;
        }
        let replication = metrics.replication.as_ref()?;
        let others = membership.voter_ids().filter(|voter| *voter != self.replica.0);
        let follower = |voter: u64| {
            let caught_up = replication.get(&voter).copied().flatten() == Some(last);
            let node = membership.get_node(&voter).filter(|_| caught_up)?.node;
            self.alive(node).map(|_| (voter, node))
        };
        let followers = others.map(follower).collect::<Option<Vec<_>>>()?;
        Some(AtRest { vote: metrics.vote, last, followers })
    }

    /// As a follower: sleeps if nothing is missing. Returns whether it does.
    async fn follow_to_sleep(&self, vote: Vote, last: LogId) -> Result<bool, String> {
        let uses = self.uses.load(Ordering::SeqCst);
        let leader = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.get_node(&vote.leader_id().voted_for).map(|place| place.node)
        };
        let process = leader.and_then(|node| Some((node, self.alive(node)?)));
        if process.is_none() {
            return Ok(false);
        }
        let follows = self
            .raft
            .with_raft_state(move |state| {
                *state.vote_ref() == vote
                    && vote.is_committed()
                    && state.log_ids.last() == Some(&last)
                    && state.local_committed() == Some(&last)
            })
            .await
            .map_err(|fatal| fatal.to_string())?;
        Ok(follows && self.fall_asleep(process, uses))
    }

    fn alive(&self, node: NodeId) -> Option<Process> {
        // A follower may never have had anything to say to its leader's node: from now on it
        // asks.
        self.peers.peer(node);
        self.peers.liveness().alive(node, self.timing.heartbeat_interval * 2)
    }

    /// Whether a request for a vote is refused because the leader is there although it is not
    /// heard: it sleeps.
    fn refuses_votes(&self) -> bool {
        let Some(asleep) = *self.state.lock() else { return false };
        match asleep.leader {
            Some((node, process)) => self.alive(node) == Some(process),
            None => true,
        }
    }
}
