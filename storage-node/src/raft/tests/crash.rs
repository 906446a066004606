//! A leader loses what its disk had not synced, although others already had it.

use std::sync::Arc;

use super::site::{Site, all_equal, dump, leader_of, places, write};
use super::{DEADLINE, LEADERS_ARE_RESTORED};
use crate::raft::network::guard::Guard;
use crate::raft::network::tests::node::Book;
use crate::seams::clock;
use crate::storage::state::MemoryState;

/// What three replicas held at the end.
struct Outcome {
    /// Acknowledged writes that not every replica has.
    lost: Vec<String>,
    /// The replicas hold the same.
    equal: bool,
}

/// Writes, cuts the leader's disk off, writes on, crashes the leader and starts it again
/// before anybody has missed it; then writes on through whoever leads.
async fn a_leader_loses_its_tail() -> Outcome {
    let book = Arc::new(Book::default());
    let (mut sites, mut states) = (Vec::new(), Vec::new());
    for number in 1..=3 {
        let state = MemoryState::new();
        states.push(Arc::clone(&state));
        sites.push(Site::start(number, &book, state).await);
    }
    sites[0].group.initialize(places(1..=3)).await.unwrap();
    let leader = leader_of(&sites).await;
    let mut acknowledged = Vec::new();
    for number in 0..20 {
        write(&sites[leader], &format!("before-{number}"), "x").await;
        acknowledged.push(format!("before-{number}"));
    }
    // The other two are a quorum without this disk.
    sites[leader].disk.hold_syncs();
    for number in 0..30 {
        write(&sites[leader], &format!("tail-{number}"), "x").await;
        acknowledged.push(format!("tail-{number}"));
    }
    let lose = || states[leader].crash();
    sites[leader]
        .crash(lose, Guard::after_restart(clock::now(), super::site::TIMING.election_timeout_max))
        .await;
    assert!(sites[leader].value("tail-0").is_none(), "the tail is lost here");

    let leader = leader_of(&sites).await;
    for number in 0..60 {
        write(&sites[leader], &format!("after-{number}"), "x").await;
        acknowledged.push(format!("after-{number}"));
    }
    all_equal(&sites).await;
    let has_all = |key: &String| sites.iter().all(|site| site.value(key).is_some());
    let first = dump(&sites[0].group);
    Outcome {
        lost: acknowledged.into_iter().filter(|key| !has_all(key)).collect(),
        equal: sites.iter().all(|site| dump(&site.group) == first),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_lost_its_tail_gets_it_back_and_nothing_diverges() {
    let outcome = a_leader_loses_its_tail().await;
    assert!(outcome.lost.is_empty(), "{:?}", outcome.lost);
    assert!(outcome.equal);
}

/// Why `enable_leader_restore` is off: what a leader lost it would propose again as something
/// else, under the same ids.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_went_on_in_its_old_term_would_diverge() {
    let run = LEADERS_ARE_RESTORED.scope(true, a_leader_loses_its_tail());
    let outcome = tokio::time::timeout(DEADLINE, run).await.expect("the group came to a halt");
    assert!(!outcome.lost.is_empty() || !outcome.equal, "nothing went wrong");
}
