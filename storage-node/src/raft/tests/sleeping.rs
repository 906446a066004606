//! Groups that nobody uses.

use std::sync::Arc;

use openraft::raft::VoteRequest;
use tokio::task::JoinSet;

use super::DEADLINE;
use super::site::{Site, TIMING, all_equal, leader_of, places, write};
use crate::raft::network::liveness;
use crate::raft::network::tests::node::Book;
use crate::raft::type_config::Vote;
use crate::seams::clock;
use crate::storage::state::MemoryState;

/// Three replicas whose nodes ask each other whether they are there.
struct Three {
    sites: Vec<Site>,
    _watching: JoinSet<()>,
}

impl Three {
    async fn start() -> Self {
        let book = Arc::new(Book::default());
        let (mut sites, mut watching) = (Vec::new(), JoinSet::new());
        for number in 1..=3 {
            let site = Site::start(number, &book, MemoryState::new()).await;
            let peers = Arc::clone(&site.node.peers);
            watching.spawn(liveness::watch(peers, TIMING.heartbeat_interval, TIMING.election_timeout_max));
            sites.push(site);
        }
        sites[0].group.initialize(places(1..=3)).await.unwrap();
        Self { sites, _watching: watching }
    }

    /// Looks after them, as their nodes do, until a condition holds.
    async fn until(&self, what: &str, mut holds: impl FnMut(&[Site]) -> bool) {
        let deadline = clock::now() + DEADLINE;
        while !holds(&self.sites) {
            assert!(clock::now() < deadline, "{what} within {DEADLINE:?}");
            for site in &self.sites {
                site.group.sleep().look().await;
            }
            tokio::time::sleep(TIMING.heartbeat_interval / 4).await;
        }
    }

    async fn asleep(&self) {
        self.until("all sleep", |sites| sites.iter().all(|site| site.group.sleep().is_asleep())).await;
    }
}

fn awake(site: &Site) -> bool {
    !site.group.sleep().is_asleep()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_sleeps_when_nobody_uses_it_and_a_write_wakes_all_of_it() {
    let three = Three::start().await;
    let leader = leader_of(&three.sites).await;
    write(&three.sites[leader], "key", "first").await;
    three.asleep().await;
    three.until("the lease runs out", |sites| !sites[leader].group.lease_holds()).await;
    assert!(!awake(&three.sites[leader]));

    write(&three.sites[leader], "key", "second").await;
    three.until("all are awake", |sites| sites.iter().all(awake)).await;
    all_equal(&three.sites).await;
    assert!(three.sites.iter().all(|site| site.value("key").unwrap() == "second"));

    three.asleep().await;
    three.sites[leader].group.read_barrier().await.unwrap();
    assert!(awake(&three.sites[leader]), "so does a read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_wake_and_elect_when_the_leaders_node_is_gone() {
    let mut three = Three::start().await;
    let leader = leader_of(&three.sites).await;
    write(&three.sites[leader], "key", "value").await;
    three.asleep().await;
    let gone = three.sites.swap_remove(leader);
    gone.group.stop().await;
    drop(gone);
    three.until("another leads", |sites| sites.iter().any(|site| site.group.lease_holds())).await;
    let leader = leader_of(&three.sites).await;
    write(&three.sites[leader], "key", "after").await;
    assert_eq!(three.sites[leader].value("key").unwrap(), "after");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_missed_the_sleeping_leader_elects_nobody() {
    let three = Three::start().await;
    let leader = leader_of(&three.sites).await;
    write(&three.sites[leader], "key", "value").await;
    three.asleep().await;
    let (asks, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let last = three.sites[asks].group.applied().progress().applied;
    let request = || VoteRequest::new(Vote::new(99, three.sites[asks].number), last);

    let answer = three.sites[other].group.endpoint().pre_vote(request()).await.unwrap();
    assert!(!answer.vote_granted);
    assert!(!awake(&three.sites[other]), "a follower leaves it to its leader");
    // Nobody uses the group, so a leader may sleep again before all have heard it. Who has not asks again.
    let deadline = clock::now() + DEADLINE;
    let mut heard = [false; 3];
    while !heard.iter().all(|heard| *heard) {
        assert!(clock::now() < deadline, "it is heard within {DEADLINE:?}: {heard:?}");
        let answer = three.sites[leader].group.endpoint().pre_vote(request()).await.unwrap();
        assert!(!answer.vote_granted);
        assert!(awake(&three.sites[leader]), "the leader shows itself");
        tokio::time::sleep(TIMING.heartbeat_interval / 4).await;
        for (heard, site) in heard.iter_mut().zip(&three.sites) {
            *heard |= awake(site);
            site.group.sleep().look().await;
        }
    }
    assert!(three.sites[leader].group.leads());
}
