//! Replicas that a node makes, starts again and destroys.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::raft::VoteRequest;
use placement::{PartitionId, ReplicaId};
use proto::v1::meta_command::Command;
use proto::v1::{Addresses, InitCluster, MetaCommand, NodeEntry};

use super::site::{TIMING, places};
use super::{DEADLINE, eventually};
use crate::meta::{FollowedMap, MetaState, follow::follow_apply};
use crate::partition::Progress;
use crate::raft::groups::{Groups, Parts};
use crate::raft::network::endpoint::Replicas;
use crate::raft::network::tests::node::{Book, Node, cluster, node_id};
use crate::raft::type_config::{LogId, TypeConfig, Vote};
use crate::seams::clock;
use crate::storage::keys::{self, GroupRecord};
use crate::storage::log::Log;
use crate::storage::state::{Changes, MemoryState, StateEngine};

const META: PartitionId = PartitionId::META;

pub async fn open_groups(node: &Node, log: &Arc<Log>, engine: &Arc<dyn StateEngine>) -> Arc<Groups> {
    let parts = Parts {
        node: node.id,
        log: Arc::clone(log),
        engine: Arc::clone(engine),
        peers: Arc::clone(&node.peers),
        timing: TIMING,
        stamp: Arc::new(|| Some(1)),
        process_began: clock::now(),
        metrics: Arc::default(),
    };
    Groups::open(parts).await.unwrap()
}

fn all(engine: &dyn StateEngine) -> BTreeMap<Bytes, Bytes> {
    let mut found = BTreeMap::new();
    for range in [keys::records_of(META), keys::meta_records()] {
        let mut walk = engine.iterate(&range, false).unwrap();
        while let Some((key, value)) = walk.current() {
            found.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            walk.advance().unwrap();
        }
    }
    found
}

/// A candidate that any replica without a lease or a guard would vote for.
fn candidate() -> VoteRequest<TypeConfig> {
    let mut request = VoteRequest::new(Vote::new(1000, 99), Some(LogId::new_term_index(999, 9999)));
    request.leadership_transfer = true;
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_starts_again_keeps_still_for_a_lease_and_a_new_one_does_not() {
    let node = Node::start(1, &Arc::new(Book::default())).await;
    let log = Log::in_memory().unwrap();
    let engine: Arc<dyn StateEngine> = MemoryState::new();
    let groups = open_groups(&node, &log, &engine).await;
    let began = clock::now();
    let meta = groups.make_meta(ReplicaId(1)).await.unwrap();
    meta.initialize(places([1])).await.unwrap();
    eventually("a new replica leads", || meta.leads()).await;
    assert!(began.elapsed() < TIMING.election_timeout_max, "it need not wait");
    let asked = clock::now();
    assert_eq!(groups.hand_over_all(&HashSet::new(), DEADLINE).await, (0, 1));
    assert!(asked.elapsed() < Duration::from_secs(2), "nobody else is there to take it");
    groups.stop().await;

    let began = clock::now();
    let groups = open_groups(&node, &log, &engine).await;
    let endpoint = groups.endpoint(META.0, 1).unwrap();
    assert!(groups.endpoint(META.0, 2).is_none(), "a replica answers to its own name only");
    let vote = endpoint.vote(candidate()).await.unwrap();
    assert!(!vote.vote_granted && vote.vote.leader_id().voted_for != 99, "{vote}");
    let meta = groups.get(META).unwrap();
    // The vote by which it led is on disk still. What it acknowledged then need not be applied.
    assert!(!meta.lease_holds(), "it reads by a leadership that has ended");
    eventually("it leads again", || {
        let leads = meta.leads();
        assert!(!leads || began.elapsed() >= TIMING.election_timeout_max, "it stood under its guard");
        leads
    })
    .await;
    groups.stop().await;
}

/// A map of a cluster that is on node 1 alone.
fn map_of_node_one() -> FollowedMap {
    let mut state = MetaState::default();
    let first_node = NodeEntry {
        node: Bytes::copy_from_slice(&node_id(1).to_bytes()),
        name: "node-1".to_owned(),
        addresses: Some(Addresses {
            grpc: "127.0.0.1:1".to_owned(),
            peer: "127.0.0.1:2".to_owned(),
            http: "127.0.0.1:3".to_owned(),
            ..Addresses::default()
        }),
        supports_version: 1,
        ..NodeEntry::default()
    };
    let init = InitCluster {
        cluster: Bytes::copy_from_slice(&cluster().to_bytes()),
        first_node: Some(first_node),
        first_meta_replica: 1,
    };
    state.apply(MetaCommand { command: Some(Command::InitCluster(init)) }).unwrap();
    let mut map = FollowedMap::default();
    follow_apply(&mut map, &state.changes_since(placement::Revision(0))).unwrap();
    map
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_a_newer_map_does_not_have_leaves_nothing() {
    let node = Node::start(2, &Arc::new(Book::default())).await;
    let log = Log::in_memory().unwrap();
    let engine: Arc<dyn StateEngine> = MemoryState::new();
    let groups = open_groups(&node, &log, &engine).await;
    let meta = groups.make_meta(ReplicaId(5)).await.unwrap();
    meta.initialize([(5, places([2])[&2])].into()).await.unwrap();
    eventually("it applies", || meta.applied().progress().applied.is_some_and(|id| id.index() >= 1)).await;
    groups.follow(&FollowedMap::default()).await.unwrap();
    assert!(groups.get(META).is_some(), "a map that was never read destroys nothing");

    groups.follow(&map_of_node_one()).await.unwrap();
    assert!(groups.get(META).is_none());
    assert_eq!(all(&*engine), BTreeMap::new());
    assert!(log.replica_records().is_empty());
    groups.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_replica_does_not_take_leftovers_for_its_own() {
    let node = Node::start(1, &Arc::new(Book::default())).await;
    let log = Log::in_memory().unwrap();
    let engine: Arc<dyn StateEngine> = MemoryState::new();
    let progress = Progress { applied: Some(LogId::new_term_index(4, 40)), ..Progress::default() };
    let mut changes = Changes::default();
    changes.put(keys::group_record(META, GroupRecord::Progress), progress.encode());
    engine.write(changes).unwrap();
    let groups = open_groups(&node, &log, &engine).await;
    let meta = groups.make_meta(ReplicaId(9)).await.unwrap();
    assert_eq!(meta.applied().progress().applied, None);
    assert!(!meta.is_initialized().await);
    assert_eq!(all(&*engine), BTreeMap::new());
    tokio::time::timeout(Duration::from_secs(10), groups.stop()).await.unwrap();
}
