//! The restart guard, on replicas that openraft runs.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::VoteRequest;

use super::eventually;
use super::node::{Book, Node};
use super::replicas::{GROUP, Replica, all_have, group_of_three, leader_of, write};
use crate::raft::network::endpoint::{Endpoint, Replicas};
use crate::raft::network::guard::Guard;
use crate::raft::type_config::{LogId, TypeConfig, Vote};
use crate::seams::clock;

const LONG: Duration = Duration::from_secs(3600);

fn endpoint(node: &Node, number: u64) -> Arc<dyn Endpoint> {
    node.holds.endpoint(GROUP, number).unwrap()
}

/// Stops a follower and starts it again under a guard of so long.
async fn restart(nodes: &[Node], replicas: &mut [Replica], number: u64, guard: Duration) {
    let at = usize::try_from(number).unwrap() - 1;
    replicas[at].raft.shutdown().await.unwrap();
    let log = replicas[at].log.clone();
    let guard = Guard::after_restart(clock::now(), guard);
    replicas[at] = Replica::start(&nodes[at], number, log, guard).await;
}

/// A candidate that any replica without a lease or a guard would vote for.
fn candidate(transfer: bool) -> VoteRequest<TypeConfig> {
    let mut request = VoteRequest::new(Vote::new(1000, 99), Some(LogId::new_term_index(999, 9999)));
    request.leadership_transfer = transfer;
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_replica_votes_for_nobody_until_its_guard_ends() {
    let book = Arc::new(Book::default());
    let (nodes, mut replicas, leader) = group_of_three(&book).await;
    let number = (1..=3).find(|number| *number != leader).unwrap();
    let node = &nodes[usize::try_from(number).unwrap() - 1];
    restart(&nodes, &mut replicas, number, LONG).await;
    for transfer in [false, true] {
        let vote = endpoint(node, number).vote(candidate(transfer)).await.unwrap();
        assert!(!vote.vote_granted && vote.vote.leader_id().voted_for != 99, "{vote}");
        assert!(vote.last_log_id.is_some());
    }
    assert!(!endpoint(node, number).pre_vote(candidate(false)).await.unwrap().vote_granted);

    // The same request is granted by a replica whose guard has ended: nothing else refuses it.
    restart(&nodes, &mut replicas, number, Duration::ZERO).await;
    assert!(endpoint(node, number).vote(candidate(true)).await.unwrap().vote_granted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_from_its_leader_lifts_the_guard() {
    let book = Arc::new(Book::default());
    let (nodes, mut replicas, leader) = group_of_three(&book).await;
    let at = usize::try_from(leader).unwrap() - 1;
    write(&replicas[at], 0..10).await;
    all_have(&replicas, 10).await;
    let number = (1..=3).find(|number| *number != leader).unwrap();
    restart(&nodes, &mut replicas, number, LONG).await;
    all_have(&replicas, 10).await;
    replicas[at].raft.trigger().transfer_leader(number).await.unwrap();
    let moved = || replicas[at].raft.metrics().borrow_watched().current_leader == Some(number);
    eventually("leadership moves to the restarted replica", moved).await;
    let chosen = usize::try_from(number).unwrap() - 1;
    assert_eq!(leader_of(&replicas[chosen]).await, number);
    // It would refuse this one, too, if the guard still stood.
    assert!(endpoint(&nodes[chosen], number).vote(candidate(true)).await.unwrap().vote_granted);
}
