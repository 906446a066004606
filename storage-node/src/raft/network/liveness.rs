//! Whether the other nodes are there: one question a heartbeat to each, whatever the number of
//! groups that two nodes share.
//!
//! A group that sleeps sends no heartbeats, so its followers go by this: while the leader's
//! node answers, and is the same process as when they fell asleep, the leader leads.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use placement::NodeId;
use proto::v1::message::Body;
use proto::v1::{Ping, Pong};
use tokio::time::Instant;

use super::lane::LaneKind;
use super::peers::{NO_ROUTE, Peer, Peers};
use crate::seams::{clock, runtime};

/// A process of another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process(u64);

/// When the other nodes last answered.
#[derive(Debug)]
pub struct Liveness {
    own: u64,
    seen: Mutex<HashMap<NodeId, Seen>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// When the question was sent that was answered last, and by which process.
    answered: Option<(Instant, u64)>,
    /// A question asked after that one failed.
    failing: bool,
    asking: bool,
}

impl Default for Liveness {
    fn default() -> Self {
        Self { own: runtime::random_u64(), seen: Mutex::default() }
    }
}

impl Liveness {
    /// What this process answers.
    pub fn pong(&self) -> Pong {
        Pong { process: self.own }
    }

    /// The process of a node that answered within that time, and has not failed to since.
    pub fn alive(&self, node: NodeId, within: Duration) -> Option<Process> {
        let seen = self.seen.lock().get(&node).copied()?;
        let (at, process) = seen.answered?;
        (!seen.failing && at.elapsed() <= within).then_some(Process(process))
    }

    /// Whether a process has been silent for longer than that, or another is in its place.
    pub fn is_gone(&self, node: NodeId, process: Process, silent_for: Duration) -> bool {
        let seen = self.seen.lock().get(&node).copied().unwrap_or_default();
        seen.answered.is_none_or(|(at, by)| by != process.0 || at.elapsed() > silent_for)
    }

    fn begin(&self, node: NodeId) -> bool {
        let mut seen = self.seen.lock();
        let seen = seen.entry(node).or_default();
        !std::mem::replace(&mut seen.asking, true)
    }

    fn note(&self, node: NodeId, sent: Instant, process: Option<u64>) {
        let mut seen = self.seen.lock();
        let seen = seen.entry(node).or_default();
        seen.asking = false;
        seen.failing = process.is_none();
        if let Some(process) = process {
            seen.answered = Some((sent, process));
        }
    }

    fn keep_only(&self, nodes: &[Arc<Peer>]) {
        self.seen.lock().retain(|node, _| nodes.iter().any(|peer| peer.node() == *node));
    }
}

/// Asks every peer that often whether it is there, for as long as it is polled.
pub async fn watch(peers: Arc<Peers>, every: Duration, patience: Duration) {
    let mut turns = tokio::time::interval(every);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let known = peers.known();
        peers.liveness().keep_only(&known);
        for peer in known {
            let liveness = Arc::clone(peers.liveness());
            if liveness.begin(peer.node()) {
                tokio::spawn(async move {
                    let sent = clock::now();
                    let asked = peer.lane(LaneKind::Control).call(NO_ROUTE, Body::Ping(Ping {}));
                    let process = match tokio::time::timeout(patience, asked).await {
                        Ok(Ok(Body::Pong(pong))) => Some(pong.process),
                        _ => None,
                    };
                    liveness.note(peer.node(), sent, process);
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn a_node_is_alive_while_its_answers_are_fresh() {
        let (liveness, node) = (Liveness::default(), NodeId(Uuid::from_u128(1)));
        assert_eq!(liveness.alive(node, SECOND), None);
        liveness.note(node, clock::now(), Some(7));
        assert_eq!(liveness.alive(node, SECOND), Some(Process(7)));
        assert!(!liveness.is_gone(node, Process(7), SECOND));
        liveness.note(node, clock::now(), None);
        assert_eq!(liveness.alive(node, SECOND), None, "the last question failed");
        assert!(!liveness.is_gone(node, Process(7), SECOND), "one lost answer is no death");
        liveness.note(node, clock::now() - 2 * SECOND, Some(7));
        assert!(liveness.is_gone(node, Process(7), SECOND), "it counts when the question was sent");
    }

    #[tokio::test]
    async fn a_restarted_node_is_another_process() {
        let (liveness, node) = (Liveness::default(), NodeId(Uuid::from_u128(1)));
        liveness.note(node, clock::now(), Some(7));
        liveness.note(node, clock::now(), Some(8));
        assert!(liveness.is_gone(node, Process(7), SECOND));
        assert!(!liveness.is_gone(node, Process(8), SECOND));
    }

    #[tokio::test]
    async fn a_peer_is_asked_one_question_at_a_time() {
        let (liveness, node) = (Liveness::default(), NodeId(Uuid::from_u128(1)));
        assert!(liveness.begin(node));
        assert!(!liveness.begin(node));
        liveness.note(node, clock::now(), None);
        assert!(liveness.begin(node));
    }
}
