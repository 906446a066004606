//! Replicas that openraft runs, reaching each other over this network.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::{Config, Raft, SnapshotPolicy};
use placement::{PartitionId, ReplicaId};

use super::memory::{MemoryLog, MemoryMachine};
use super::node::{Book, Node, node_id};
use super::{DEADLINE, eventually};
use crate::raft::network::guard::Guard;
use crate::raft::network::raft_endpoint::RaftEndpoint;
use crate::raft::type_config::{EntryData, ReplicaPlace, TypeConfig};
use crate::seams::clock;

pub const GROUP: u64 = 7;

pub fn config() -> Arc<Config> {
    let config = Config {
        heartbeat_interval: 100,
        election_timeout_min: 500,
        election_timeout_max: 1000,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        ..Config::default()
    };
    Arc::new(config.validate().unwrap())
}

/// A replica of [`GROUP`] and what it keeps.
pub struct Replica {
    pub raft: Raft<TypeConfig, MemoryMachine>,
    pub log: MemoryLog,
    pub machine: MemoryMachine,
}

impl Replica {
    /// Starts the replica with a node's number on that node.
    pub async fn start(node: &Node, number: u64, log: MemoryLog, guard: Guard) -> Self {
        let machine = MemoryMachine::default();
        let factory = node.peers.factory(PartitionId(GROUP), ReplicaId(number));
        let raft = Raft::build(number, config(), factory, log.clone(), machine.clone()).await.unwrap();
        let guard = Arc::new(guard);
        let standing = guard.keep_from_standing(&raft);
        node.hold(GROUP, number, Arc::new(RaftEndpoint::new(raft.clone(), guard)));
        raft.run();
        tokio::spawn(standing);
        Self { raft, log, machine }
    }
}

/// Three nodes with a replica each, of which one leads.
pub async fn group_of_three(book: &Arc<Book>) -> (Vec<Node>, Vec<Replica>, u64) {
    let (mut nodes, mut replicas) = (Vec::new(), Vec::new());
    for number in 1..=3 {
        let node = Node::start(number, book).await;
        replicas.push(Replica::start(&node, number, MemoryLog::default(), Guard::none()).await);
        nodes.push(node);
    }
    let places: BTreeMap<u64, ReplicaPlace> =
        (1..=3).map(|number| (number, ReplicaPlace { node: node_id(number) })).collect();
    replicas[0].raft.initialize(places).await.unwrap();
    let leader = leader_of(&replicas[1]).await;
    for replica in &replicas {
        // The membership, and the entry that the leader begins its term with.
        replica.raft.wait(Some(DEADLINE)).log_index_at_least(Some(1), "a log").await.unwrap();
    }
    (nodes, replicas, leader)
}

pub async fn leader_of(replica: &Replica) -> u64 {
    let led = replica
        .raft
        .wait(Some(DEADLINE))
        .metrics(|metrics| metrics.current_leader.is_some(), "there is a leader")
        .await;
    led.unwrap().current_leader.unwrap()
}

pub fn command(number: usize) -> EntryData {
    EntryData(Bytes::from(format!("command {number}")))
}

/// Writes so many commands at once.
pub async fn write(leader: &Replica, numbers: std::ops::Range<usize>) {
    futures::future::join_all(numbers.map(|number| write_one(leader, number))).await;
}

/// A leader whose lease is not confirmed, because it is new or was cut off, refuses a write
/// before it does anything with it.
async fn write_one(leader: &Replica, number: usize) {
    let deadline = clock::now() + DEADLINE;
    loop {
        match leader.raft.client_write(command(number)).await {
            Ok(_) => return,
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) if clock::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

pub async fn all_have(replicas: &[Replica], count: usize) {
    for replica in replicas {
        eventually("a replica applies all", || replica.machine.commands().len() >= count).await;
    }
    let expected = replicas[0].machine.commands();
    assert_eq!(expected.len(), count);
    for replica in replicas {
        assert_eq!(replica.machine.commands(), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_elects_replicates_and_outlives_a_cut() {
    let book = Arc::new(Book::default());
    let (nodes, replicas, leader) = group_of_three(&book).await;
    let at = usize::try_from(leader).unwrap() - 1;
    write(&replicas[at], 0..1000).await;
    all_have(&replicas, 1000).await;

    let sent = nodes[at].peers.counters().read();
    assert!(
        sent.messages_sent > 0 && sent.frames_sent <= sent.messages_sent + sent.sessions_opened,
        "{sent:?}"
    );

    for other in (1..=3).filter(|other| *other != leader) {
        nodes[at].cut(node_id(other));
    }
    let leader = leader_of(&replicas[at]).await;
    let at = usize::try_from(leader).unwrap() - 1;
    write(&replicas[at], 1000..1200).await;
    all_have(&replicas, 1200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_replica_catches_up_by_snapshot() {
    let book = Arc::new(Book::default());
    let (mut nodes, mut replicas, leader) = group_of_three(&book).await;
    let at = usize::try_from(leader).unwrap() - 1;
    write(&replicas[at], 0..500).await;
    let raft = replicas[at].raft.clone();
    let applied = raft.wait(Some(DEADLINE)).applied_index_at_least(Some(500), "applied").await.unwrap();
    let applied = applied.last_applied.unwrap();
    raft.trigger().snapshot().await.unwrap();
    raft.wait(Some(DEADLINE)).snapshot(applied, "snapshot").await.unwrap();
    raft.trigger().purge_log(applied.index()).await.unwrap();
    raft.wait(Some(DEADLINE)).purged(Some(applied), "purged").await.unwrap();

    let node = Node::start(4, &book).await;
    replicas.push(Replica::start(&node, 4, MemoryLog::default(), Guard::none()).await);
    nodes.push(node);
    raft.add_learner(4, ReplicaPlace { node: node_id(4) }, true).await.unwrap();
    all_have(&replicas, 500).await;
    assert!(nodes[at].peers.counters().read().snapshot_bytes_sent > 0);
    assert!(nodes[3].received.read().snapshot_bytes_received > 0);
}
