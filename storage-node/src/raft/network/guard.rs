//! What a restarted replica must not do at first.
//!
//! A follower that answers its leader promises it: *for as long as your lease lasts I help
//! nobody else to lead*. The leader serves reads on that promise without asking again. The
//! promise is kept in memory only, so a process that starts again may have broken it before it
//! knows. Therefore, for one `election_timeout_max` (the longest that a lease lasts) from the
//! start of the process, a replica that existed before it neither grants a vote or a pre-vote
//! nor stands itself. A replica that is new has promised nothing and needs no guard.
//!
//! # What lifts it early
//!
//! Only the leader to whom the promise was made can give it back, and it does when it hands
//! leadership on: from then on it serves no read and takes no write for the rest of its term. It tells every voter so, in a
//! transfer message that carries its own vote. When that vote is exactly the committed vote
//! that this replica has stored, the message is from the leader that the promise was made to
//! (a replica stores a leader's vote before it first answers it), and the guard is lifted.
//!
//! A vote request that says it belongs to a transfer does **not** lift the guard, although a
//! replica without one grants it in spite of a lease. The request carries the candidate's
//! vote and not that of the leader who let go, so a guarded replica cannot tell *whose*
//! transfer it belongs to: a leader that was deposed meanwhile, and does not know it, may hand
//! on what it no longer has, and its candidate, whose term may well be the highest, would get
//! a vote against a promise made to the real leader. Refusing costs at most the rest of the
//! guard, and only when the leader's own message, which goes to the same voters at the same
//! time as to the candidate, is lost or late.

use std::sync::Arc;
use std::time::Duration;

use openraft::Raft;
use openraft::storage::RaftStateMachine;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::raft::type_config::{TypeConfig, Vote};
use crate::seams::clock;

/// The guard of one replica.
#[derive(Debug)]
pub struct Guard {
    until: watch::Sender<Option<Instant>>,
}

impl Guard {
    /// For a replica that was made by this process and has promised nothing yet.
    pub fn none() -> Self {
        Self { until: watch::Sender::new(None) }
    }

    /// For a replica that existed before: `started` is when it could last not have made a
    /// promise, which is the start of the process, or when the replica was last stopped.
    pub fn after_restart(started: Instant, election_timeout_max: Duration) -> Self {
        Self { until: watch::Sender::new(Some(started + election_timeout_max)) }
    }

    /// Whether the replica must keep still.
    pub fn stands(&self) -> bool {
        self.until.borrow().is_some_and(|until| clock::now() < until)
    }

    /// Ends it if a transfer is from the leader that the replica has stored.
    pub fn lift_by_transfer(&self, from_leader: &Vote, stored: &Vote) {
        if stored.is_committed() && from_leader == stored && self.stands() {
            tracing::info!(leader = %from_leader, "the leader let go: the restart guard is lifted");
            self.until.send_replace(None);
        }
    }

    /// Returns once it has ended.
    pub async fn ended(&self) {
        let mut changes = self.until.subscribe();
        loop {
            let until = *changes.borrow_and_update();
            let Some(until) = until else { return };
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Keeps a replica from standing until the guard has ended: at once when it is called, and
    /// the returned future, run to its end, lets it stand again.
    ///
    /// The replica must have been built but not run: what runs may stand before it is told not
    /// to. So: `Raft::build`, this, `Raft::run`, then spawn the future. Calling this inside a
    /// future that is spawned would be too late.
    pub fn keep_from_standing<SM>(
        self: &Arc<Self>,
        raft: &Raft<TypeConfig, SM>,
    ) -> impl Future<Output = ()> + Send + 'static + use<SM>
    where
        SM: RaftStateMachine<TypeConfig>,
    {
        raft.runtime_config().elect(!self.stands());
        let (guard, raft) = (Arc::clone(self), raft.clone());
        async move {
            guard.ended().await;
            raft.runtime_config().elect(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn it_ends_by_itself() {
        let guard = Guard::after_restart(clock::now(), Duration::from_millis(30));
        assert!(guard.stands());
        guard.ended().await;
        assert!(!guard.stands());
        assert!(!Guard::none().stands());
        Guard::none().ended().await;
    }

    #[tokio::test]
    async fn only_the_stored_leader_lifts_it() {
        let guard = Arc::new(Guard::after_restart(clock::now(), LONG));
        let leader = Vote::new_committed(3, 1);
        for (from, stored) in [
            (Vote::new_committed(2, 1), leader),
            (Vote::new_committed(3, 2), leader),
            (Vote::new_committed(4, 1), leader),
            (Vote::new(3, 1), Vote::new(3, 1)),
        ] {
            guard.lift_by_transfer(&from, &stored);
            assert!(guard.stands(), "{from} against {stored}");
        }
        let waiting = tokio::spawn({
            let guard = Arc::clone(&guard);
            async move { guard.ended().await }
        });
        guard.lift_by_transfer(&leader, &leader);
        assert!(!guard.stands());
        waiting.await.unwrap();
    }
}
