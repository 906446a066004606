//! What a group does to be cut in two.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use proto::v1::{Split, command};

use super::{Group, GroupError};
use crate::partition::Answer;
use crate::seams::{clock, threads};

/// A replica of a new partition that should lead it asks for votes until it does, or so long.
const CAMPAIGN: Duration = Duration::from_secs(3);
/// The others' replicas may not be there yet.
const ASK_AGAIN: Duration = Duration::from_millis(10);
/// How long it may take until the log before a split is gone.
const FORGET: Duration = Duration::from_secs(3);

impl Group {
    /// Has the partition cut in two, if it is not yet.
    ///
    /// Until that is applied here, this replica reads for nobody: a follower may apply it first, and
    /// what the new partition acknowledges is not applied by this group. It goes on to its end also
    /// when nobody waits for it.
    pub async fn split(self: &Arc<Self>, split: Split) -> Result<(), GroupError> {
        let group = Arc::clone(self);
        let done = tokio::spawn(async move {
            let _turn = group.splitting.lock().await;
            let Some(term) = group.leadership.leading_term() else {
                return Err(GroupError::NotLeader(group.leader()));
            };
            group.leadership.splitting_in.store(term, Ordering::SeqCst);
            let answer = group.propose(command::Command::Split(split), None).await;
            // One whose outcome is not known may yet be applied, but then in another term: this
            // one is over.
            if !matches!(answer, Err(GroupError::Unknown(_))) {
                group.leadership.splitting_in.store(0, Ordering::SeqCst);
            }
            answer
        });
        match done.await.map_err(|_| GroupError::NotNow)?? {
            Answer::Split(true) => Ok(()),
            _ => Err(GroupError::Refused("the partition is not as it was when the split was ordered")),
        }
    }

    /// Has on disk what was applied before this call.
    pub async fn flush(&self) -> Result<(), GroupError> {
        let engine = Arc::clone(&self.engine);
        Ok(threads::blocking(move || engine.flush()).await?)
    }

    /// Stands for election at once, for a group that has had no leader yet: nobody has promised
    /// anything to anybody.
    pub async fn campaign(&self) {
        let until = clock::now() + CAMPAIGN;
        let mut pause = ASK_AGAIN;
        while self.leader().is_none() && clock::now() < until {
            if self.raft.trigger().elect(true).await.is_err() {
                return;
            }
            tokio::time::sleep(pause).await;
            // Votes may take longer than that on a busy machine: another round would undo them.
            pause *= 2;
        }
    }

    pub(super) fn has_learners(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().learner_ids().next().is_some()
    }

    /// Whether every follower has what came before the last split.
    pub fn all_are_past_split(&self) -> bool {
        let since = self.applied.descriptor().map_or(0, |owned| owned.since);
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let followers = metrics.replication.iter().flatten();
        let mut followers = followers.filter(|(replica, _)| **replica != self.replica.0);
        followers.all(|(_, matched)| matched.is_some_and(|id| id.index() >= since))
    }

    /// Drops the entries from before the last split from the log, once what they led to is on disk:
    /// they speak of keys that another partition has now, so no new replica must apply them.
    pub async fn forget_log_before_split(&self) -> Result<(), GroupError> {
        let since = self.applied.descriptor().map_or(0, |owned| owned.since);
        if since == 0 || self.purged_up_to() >= Some(since) {
            return Ok(());
        }
        let pinned = self.engine.pin();
        let not_now = |_| GroupError::NotNow;
        let flushed = self.mark(&pinned).map_err(not_now)?;
        self.flush().await?;
        self.note_flushed(flushed).await;
        let until = clock::now() + FORGET;
        // What is asked for takes effect only once the snapshot before it is recorded.
        while self.purged_up_to() < Some(since) {
            if clock::now() >= until {
                return Err(GroupError::Refused(
                    "the log from before the partition was split is still in use",
                ));
            }
            self.raft.trigger().purge_log(since).await.map_err(|_| GroupError::NotNow)?;
            tokio::time::sleep(ASK_AGAIN).await;
        }
        Ok(())
    }

    fn purged_up_to(&self) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.purged.map(|id| id.index())
    }
}
