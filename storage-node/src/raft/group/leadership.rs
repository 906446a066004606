//! Whether this replica may answer reads as the leader.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use placement::ReplicaId;
use tokio::time::Instant;

use super::{GroupError, RaftHandle};
use crate::raft::network::contacts::Contacts;
use crate::raft::state_machine::Applied;
use crate::seams::clock;

/// What a replica needs to know to read as the leader.
pub(super) struct Leadership {
    pub(super) replica: ReplicaId,
    pub(super) raft: RaftHandle,
    pub(super) applied: Arc<Applied>,
    /// When each follower was last known to follow.
    pub(super) contacts: Arc<Contacts>,
    /// How long a read waits for a quorum to answer.
    pub(super) patience: Duration,
    /// The term in which this replica, as its leader, began to hand leadership over: no
    /// lease counts in it any more.
    pub(super) handed_over_in: AtomicU64,
    /// The term in which this replica, as its leader, has proposed a split that it may not have
    /// applied yet; 0: there is none. The others may have, and whoever leads the new partition by
    /// then may have acknowledged what is not seen here.
    pub(super) splitting_in: AtomicU64,
}

impl Leadership {
    /// The term that this replica leads.
    ///
    /// openraft's own answer goes by the vote that is on disk. After a restart that is still the
    /// one by which this replica led before, although it leads no more and may not have applied
    /// what it acknowledged then.
    pub(super) fn leading_term(&self) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let on_disk = metrics.vote.leader_id();
        let leads = metrics.current_leader == Some(self.replica.0)
            && metrics.vote.is_committed()
            && on_disk.voted_for == self.replica.0
            && on_disk.term == metrics.current_term;
        leads.then_some(on_disk.term)
    }

    /// The term that this replica leads, once everything from before it is applied, and no split is
    /// under way.
    pub(super) fn serving_term(&self) -> Option<u64> {
        let term = self.leading_term()?;
        if self.splitting_in.load(Ordering::SeqCst) == term {
            return None;
        }
        let caught_up = self.applied.progress().applied.is_some_and(|id| **id.committed_leader_id() == term);
        caught_up.then_some(term)
    }

    /// Whether a quorum answered, as followers of that term's leader, what was sent since.
    pub(super) fn followed_since(&self, since: Instant, term: u64) -> bool {
        let membership = Arc::clone(&self.raft.server_metrics().borrow_watched().membership_config);
        self.contacts.quorum_since(since, term, self.replica.0, membership.membership())
    }

    fn elsewhere(&self) -> GroupError {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        match metrics.current_leader.filter(|leader| *leader != self.replica.0) {
            Some(leader) => {
                GroupError::NotLeader(metrics.membership_config.get_node(&leader).map(|place| place.node))
            }
            None => GroupError::NotNow,
        }
    }
}

/// Asks a quorum whether this replica still leads; what it answers was asked after this call.
pub(super) async fn confirm(leadership: Arc<Leadership>) -> Result<(), GroupError> {
    let since = clock::now();
    let deadline = since + leadership.patience;
    let mut asked = false;
    loop {
        let contact = leadership.contacts.listen();
        if leadership.leading_term().is_none() {
            return Err(leadership.elsewhere());
        }
        if let Some(term) = leadership.serving_term() {
            if leadership.followed_since(since, term) {
                return Ok(());
            }
            if !asked {
                asked = true;
                leadership.raft.trigger().heartbeat().await.map_err(|_| GroupError::NotNow)?;
            }
        }
        // A leader that has not applied its own first entry yet gets there without a contact.
        let pause = Duration::from_millis(if asked { 100 } else { 5 });
        let _ = tokio::time::timeout_at(deadline.min(clock::now() + pause), contact).await;
        if clock::now() >= deadline {
            return Err(GroupError::NotNow);
        }
    }
}
