//! Follows the meta group's records, and makes this node's replicas follow them.

use std::sync::Arc;
use std::time::Duration;

use placement::{ClusterId, NodeId, PartitionId, Revision};
use proto::v1::{FollowRequest, FollowResponse};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::meta_link::MetaLink;
use crate::meta::{FollowedMap, MetaState, follow::follow_apply};
use crate::raft::Groups;
use crate::raft::network::connect;
use crate::router::NewestMap;
use crate::seams::{fatal, runtime};

/// A meta leader that says nothing for so long is asked again; it says something each second.
const SILENCE: Duration = Duration::from_secs(4);

/// Keeps the map of a node.
pub struct Follower {
    /// The cluster.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// The way to the meta leader.
    pub link: Arc<MetaLink>,
    /// The replicas of this node.
    pub groups: Arc<Groups>,
    /// Where the map is kept.
    pub map: watch::Sender<Arc<FollowedMap>>,
    /// Who asks for the newest map.
    pub newest: Arc<NewestMap>,
}

/// How following the meta leader ended.
enum Ended {
    /// It leads no more, is away, or was never found.
    Lost,
    /// Somebody asks for the newest map.
    Asked,
}

impl Follower {
    /// Follows until it is told to stop.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        // Both in one task: whoever ends it ends both.
        tokio::join!(self.make_replicas(&stop), self.follow(&stop));
    }

    async fn follow(&self, stop: &CancellationToken) {
        let mut turn = 0;
        while !stop.is_cancelled() {
            let follow = async {
                if self.link.leads() { self.follow_here().await } else { self.follow_there(turn).await }
            };
            let ended = tokio::select! {
                ended = follow => ended,
                () = stop.cancelled() => break,
            };
            // However many ask, the meta leader is asked so often at most.
            let (least_ms, most_ms) = match ended {
                Ended::Lost => {
                    turn += 1;
                    (20, 100)
                }
                Ended::Asked => (1, 5),
            };
            tokio::time::sleep(Duration::from_millis(runtime::random_between(least_ms, most_ms))).await;
        }
    }

    /// This node leads the meta group: its applied state is the newest there is.
    async fn follow_here(&self) -> Ended {
        let Some(meta) = self.groups.get(PartitionId::META) else { return Ended::Lost };
        let mut questions = self.newest.questions();
        let asked = *questions.borrow_and_update();
        if meta.read_barrier().await.is_err() {
            return Ended::Lost;
        }
        let mut changes = meta.applied().meta();
        while self.link.leads() {
            let state = changes.borrow_and_update().clone();
            if let Some(state) = state {
                self.take(&answer(&state, self.revision(), String::new()));
                self.newest.hear(asked);
            }
            tokio::select! {
                _ = tokio::time::timeout(Duration::from_secs(1), changes.changed()) => {}
                _ = questions.changed() => return Ended::Asked,
            }
        }
        Ended::Lost
    }

    async fn follow_there(&self, turn: usize) -> Ended {
        let mut questions = self.newest.questions();
        let asked = *questions.borrow_and_update();
        let candidates = self.link.candidates();
        let leader = Some(self.link.leader_address()).filter(|address| !address.is_empty());
        let other = candidates.get(turn % candidates.len().max(1)).cloned();
        let Some(address) = leader.filter(|_| turn.is_multiple_of(2)).or(other) else {
            return Ended::Lost;
        };
        let Ok(channel) = self.link.channel(&address).await else {
            self.link.forget_leader(&address);
            return Ended::Lost;
        };
        let request = FollowRequest {
            cluster: self.cluster.to_bytes().to_vec().into(),
            node: self.node.to_bytes().to_vec().into(),
            from_revision: self.revision().0,
        };
        let Ok(answers) = connect::client(channel).follow(request).await else {
            self.link.forget_leader(&address);
            return Ended::Lost;
        };
        let mut answers = answers.into_inner();
        let mut heard = false;
        loop {
            let answer = tokio::select! {
                biased;
                answer = tokio::time::timeout(SILENCE, answers.message()) => answer,
                // The first answer is what was asked for before.
                _ = questions.changed(), if heard => return Ended::Asked,
            };
            let Ok(Ok(Some(response))) = answer else { break };
            if response.not_leader {
                self.link.forget_leader(&address);
                self.link.note_leader(&response.meta_leader_address);
                return Ended::Lost;
            }
            self.link.note_leader(&address);
            self.take(&response);
            self.newest.hear(asked);
            heard = true;
            if self.link.leads() {
                return Ended::Lost;
            }
        }
        self.link.forget_leader(&address);
        Ended::Lost
    }

    fn revision(&self) -> Revision {
        self.map.borrow().revision()
    }

    fn take(&self, response: &FollowResponse) {
        let known = self.revision().0;
        // A deposed leader's answer may be older than what is known; revisions only grow.
        if response.revision < known || (response.revision == known && known > 0 && !response.full) {
            return;
        }
        let mut next = FollowedMap::clone(&self.map.borrow());
        match follow_apply(&mut next, response) {
            Ok(()) => {
                self.map.send_replace(Arc::new(next));
            }
            Err(error) => tracing::error!(%error, "the meta leader sent a map that cannot be read"),
        }
    }

    /// Makes and destroys replicas as the map changes.
    async fn make_replicas(&self, stop: &CancellationToken) {
        let mut changes = self.map.subscribe();
        loop {
            let map = changes.borrow_and_update().clone();
            if map.revision() > Revision(0)
                && let Err(error) = self.groups.follow(&map).await
            {
                if stop.is_cancelled() {
                    // The log takes nothing any more: the next start goes on with it.
                    return;
                }
                fatal::stop("this node's replicas cannot follow the map", &error);
            }
            let again = async {
                if self.groups.has_more_to_do() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = again => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

/// What somebody who knows a revision is told.
pub fn answer(state: &MetaState, known: Revision, leader_address: String) -> FollowResponse {
    FollowResponse { meta_leader_address: leader_address, ..state.changes_since(known) }
}
