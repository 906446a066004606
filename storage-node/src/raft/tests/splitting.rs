//! Partitions that are cut in two, on nodes that follow a map.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use placement::{Bucket, BucketCount, PartitionId, ReplicaId};
use proto::v1::meta_answer::Outcome;
use proto::v1::meta_command::Command;
use proto::v1::{
    Addresses, CreateTable, InitCluster, MetaCommand, NodeEntry, NodeList, RecordSplit, RegisterNode, Split,
    StartMoves, StartSplit,
};

use super::site::{dump, put};
use super::{DEADLINE, eventually};
use crate::meta::{FollowedMap, MetaState, follow::follow_apply};
use crate::partition::Answer;
use crate::raft::network::tests::node::{Book, Node, cluster, node_id};
use crate::raft::{Group, GroupError, Groups};
use crate::seams::clock;
use crate::storage::item::StoredItem;
use crate::storage::keys;
use crate::storage::log::memory::MemoryEngine;
use crate::storage::log::{Log, LogOptions};
use crate::storage::state::{MemoryState, StateEngine, StateView};

use super::lifecycle::open_groups;

const PARENT: PartitionId = PartitionId(1);
const CHILD: PartitionId = PartitionId(2);
const CUT_AT: u16 = 32;

/// A node with all that it holds.
struct Host {
    node: Node,
    disk: Arc<MemoryEngine>,
    log: Arc<Log>,
    state: Arc<MemoryState>,
    groups: Arc<Groups>,
}

impl Host {
    async fn start(number: u64, book: &Arc<Book>) -> Self {
        let node = Node::start(number, book).await;
        let (disk, state) = (Arc::new(MemoryEngine::default()), MemoryState::new());
        let log = open_log(&disk);
        let engine: Arc<dyn StateEngine> = Arc::clone(&state) as _;
        let groups = open_groups(&node, &log, &engine).await;
        *node.holds.more.lock() = Some(Arc::clone(&groups) as _);
        Self { node, disk, log, state, groups }
    }

    async fn stop(&self) {
        *self.node.holds.more.lock() = None;
        self.groups.stop().await;
    }

    /// Loses what neither disk has.
    async fn crash(&mut self) {
        self.stop().await;
        self.disk = Arc::new(self.disk.crash());
        self.state.crash();
        self.start_again().await;
    }

    async fn start_again(&mut self) {
        self.log = open_log(&self.disk);
        let engine: Arc<dyn StateEngine> = Arc::clone(&self.state) as _;
        self.groups = open_groups(&self.node, &self.log, &engine).await;
        *self.node.holds.more.lock() = Some(Arc::clone(&self.groups) as _);
    }

    fn value(&self, key: &str) -> Option<Bytes> {
        let bucket = BucketCount::DEFAULT.bucket_of_key(key.as_bytes());
        let stored = self.state.get(&keys::item(placement::TableId(1), bucket, key.as_bytes())).unwrap()?;
        Some(StoredItem::decode(stored).unwrap().value)
    }

    fn applied(&self, group: PartitionId) -> Option<u64> {
        Some(self.groups.get(group)?.applied().progress().applied?.index())
    }
}

fn open_log(disk: &Arc<MemoryEngine>) -> Arc<Log> {
    Log::with_engine(Arc::clone(disk) as _, &LogOptions::default()).unwrap()
}

/// Nodes, and the records that they follow.
struct World {
    meta: MetaState,
    hosts: Vec<Host>,
    /// Hosts that are down.
    down: Vec<usize>,
}

fn entry(number: u64) -> NodeEntry {
    NodeEntry {
        node: Bytes::copy_from_slice(&node_id(number).to_bytes()),
        name: format!("node-{number}"),
        addresses: Some(Addresses {
            grpc: format!("127.0.0.1:{number}"),
            peer: format!("127.0.0.1:1{number}"),
            http: format!("127.0.0.1:2{number}"),
            ..Addresses::default()
        }),
        supports_version: 2,
        ..NodeEntry::default()
    }
}

impl World {
    /// A table of one partition on the first three of that many nodes.
    async fn new(nodes: u64) -> Self {
        let book = Arc::new(Book::default());
        let mut hosts = Vec::new();
        for number in 1..=nodes {
            hosts.push(Host::start(number, &book).await);
        }
        let mut world = Self { meta: MetaState::default(), hosts, down: Vec::new() };
        let cluster = Bytes::copy_from_slice(&cluster().to_bytes());
        world.must(Command::InitCluster(InitCluster {
            cluster,
            first_node: Some(entry(1)),
            first_meta_replica: 1,
        }));
        for number in 2..=nodes {
            world.must(Command::RegisterNode(RegisterNode { node: Some(entry(number)) }));
        }
        let places = (1..=3).map(|number| Bytes::copy_from_slice(&node_id(number).to_bytes())).collect();
        world.must(Command::CreateTable(CreateTable {
            name: "orders".to_owned(),
            buckets: 64,
            replicas: 3,
            partitions: vec![NodeList { nodes: places }],
            ..CreateTable::default()
        }));
        world.follow().await;
        world.leader(PARENT).await;
        world
    }

    fn must(&mut self, command: Command) {
        let answer = self.meta.apply(MetaCommand { command: Some(command) }).unwrap().answer;
        if let Some(Outcome::Refused(refused)) = answer.outcome {
            panic!("{}", refused.failure.unwrap().message);
        }
    }

    fn map(&self) -> FollowedMap {
        let mut map = FollowedMap::default();
        follow_apply(&mut map, &self.meta.changes_since(placement::Revision(0))).unwrap();
        map
    }

    fn up(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().enumerate().filter(|(at, _)| !self.down.contains(at)).map(|(_, host)| host)
    }

    /// All nodes make and destroy what the records say. The meta group's own replica is none of it.
    async fn follow(&self) {
        let map = self.map();
        for host in self.up() {
            host.groups.follow(&map).await.unwrap();
        }
    }

    /// The same until there is nothing left to do.
    async fn settle(&self) {
        let deadline = clock::now() + DEADLINE;
        loop {
            self.follow().await;
            if self.up().all(|host| !host.groups.has_more_to_do()) {
                return;
            }
            assert!(clock::now() < deadline, "the replicas are not made");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    async fn leader(&self, group: PartitionId) -> Arc<Group> {
        let mut found = None;
        eventually("there is a leader", || {
            let groups = self.up().filter_map(|host| host.groups.get(group));
            found = groups.into_iter().find(|group| group.lease_holds());
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    async fn write(&self, group: PartitionId, key: &str, value: &str) {
        let deadline = clock::now() + DEADLINE;
        loop {
            let leader = self.leader(group).await;
            match leader.propose(put(key, value), None).await {
                Ok(Answer::Operation(done)) => {
                    assert!(
                        matches!(done.result, Some(proto::v1::result::Result::Put(_))),
                        "{key}: {done:?}"
                    );
                    return;
                }
                Err(GroupError::NotNow | GroupError::NotLeader(_)) if clock::now() < deadline => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn order_split(&mut self) -> Split {
        self.must(Command::StartSplit(StartSplit { partition: PARENT.0, first_bucket: CUT_AT.into() }));
        let (_, pending) = self.meta.splits_under_way().next().unwrap();
        assert_eq!(pending.child, CHILD);
        Split {
            child: pending.child.0,
            first_bucket: CUT_AT.into(),
            last_bucket: 63,
            replicas: pending.replicas.iter().map(Into::into).collect(),
            epoch: self.meta.epoch_after_split(PARENT).0,
            map_revision: pending.revision.0,
        }
    }

    fn record_split(&mut self, since: u64) {
        self.must(Command::RecordSplit(RecordSplit { partition: PARENT.0, child: CHILD.0, since }));
    }

    /// All replicas of both have the same, and all that was written.
    async fn is_whole(&self, written: &BTreeMap<String, String>) {
        for group in [PARENT, CHILD] {
            let holders: Vec<_> = self.hosts.iter().filter(|host| host.groups.get(group).is_some()).collect();
            assert!(holders.len() >= 3, "partition {group} has {} replicas", holders.len());
            eventually("all have applied as much", || {
                let applied: Vec<_> = holders.iter().map(|host| host.applied(group)).collect();
                applied[0].is_some() && applied.iter().all(|index| *index == applied[0])
            })
            .await;
            let first = dump(&holders[0].groups.get(group).unwrap());
            for host in &holders[1..] {
                let other = dump(&host.groups.get(group).unwrap());
                assert!(first == other, "the replicas of partition {group} differ");
            }
        }
        for (key, value) in written {
            let group = owner_of(key);
            for host in self.hosts.iter().filter(|host| host.groups.get(group).is_some()) {
                assert_eq!(host.value(key).as_deref(), Some(value.as_bytes()), "{key}");
            }
        }
    }

    async fn stop(self) {
        for host in &self.hosts {
            host.stop().await;
        }
    }
}

fn owner_of(key: &str) -> PartitionId {
    let bucket = BucketCount::DEFAULT.bucket_of_key(key.as_bytes());
    if bucket < Bucket(CUT_AT) { PARENT } else { CHILD }
}

async fn write_all(world: &World, written: &mut BTreeMap<String, String>, value: &str, split: bool) {
    for number in 0..60 {
        let key = format!("key-{number}");
        let group = if split { owner_of(&key) } else { PARENT };
        world.write(group, &key, value).await;
        written.insert(key, value.to_owned());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_is_cut_in_two_and_both_go_on() {
    let (mut world, mut written) = (World::new(3).await, BTreeMap::new());
    write_all(&world, &mut written, "before", false).await;
    let split = world.order_split();
    // Not every node has heard that it was ordered.
    world.hosts[0].groups.follow(&world.map()).await.unwrap();
    let leader = world.leader(PARENT).await;
    let counter = leader.applied().progress().counter;
    leader.split(split.clone()).await.unwrap();
    let asked = clock::now();
    let child = world.leader(CHILD).await;
    assert!(
        asked.elapsed() < std::time::Duration::from_millis(900),
        "it did not wait for an election's time"
    );
    assert_eq!(child.applied().progress().counter, counter);
    leader.split(split).await.unwrap();

    let lost = leader.propose(put(&of(CHILD), "x"), None).await.unwrap();
    let Answer::Operation(lost) = lost else { panic!("{lost:?}") };
    assert!(matches!(lost.result, Some(proto::v1::result::Result::Failure(_))), "{lost:?}");
    write_all(&world, &mut written, "between", true).await;
    let since = leader.applied().descriptor().unwrap().since;
    world.record_split(since);
    world.settle().await;
    write_all(&world, &mut written, "after", true).await;
    world.is_whole(&written).await;
    world.stop().await;
}

/// A key that belongs there once the partition is cut.
fn of(group: PartitionId) -> String {
    (0..1_000).map(|number| format!("key-{number}")).find(|key| owner_of(key) == group).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_down_cuts_what_it_has_when_it_is_back() {
    let (mut world, mut written) = (World::new(3).await, BTreeMap::new());
    write_all(&world, &mut written, "before", false).await;
    let away = (0..3).find(|at| !world.hosts[*at].groups.get(PARENT).unwrap().leads()).unwrap();
    world.hosts[away].stop().await;
    world.down.push(away);
    let split = world.order_split();
    world.follow().await;
    let leader = world.leader(PARENT).await;
    leader.split(split).await.unwrap();
    write_all(&world, &mut written, "without it", true).await;
    world.record_split(leader.applied().descriptor().unwrap().since);
    world.settle().await;

    world.down.clear();
    world.hosts[away].start_again().await;
    // The map may be there before the parent has come to the split: nothing is made over it.
    world.follow().await;
    world.settle().await;
    write_all(&world, &mut written, "after", true).await;
    world.is_whole(&written).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_crash_at_any_moment_of_a_split_go_on_with_it() {
    for flush in [false, true] {
        let (mut world, mut written) = (World::new(3).await, BTreeMap::new());
        write_all(&world, &mut written, "before", false).await;
        let split = world.order_split();
        world.follow().await;
        let leader = world.leader(PARENT).await;
        leader.split(split.clone()).await.unwrap();
        if flush {
            world.hosts.iter().for_each(|host| host.state.flush().unwrap());
        } else {
            world.leader(CHILD).await;
            write_all(&world, &mut written, "lost by all states", true).await;
        }
        drop(leader);
        for host in &mut world.hosts {
            host.crash().await;
        }
        world.follow().await;
        let leader = world.leader(PARENT).await;
        leader.split(split).await.unwrap();
        world.leader(CHILD).await;
        world.record_split(leader.applied().descriptor().unwrap().since);
        world.settle().await;
        world.is_whole(&written).await;
        // One after the other, while it is used.
        for at in 0..3 {
            write_all(&world, &mut written, &format!("before crash {at}"), true).await;
            world.hosts[at].crash().await;
            world.settle().await;
            write_all(&world, &mut written, &format!("after crash {at}"), true).await;
        }
        world.is_whole(&written).await;
        world.stop().await;
    }
}

/// Both parts move to another node, one after the other and the lower one last: its log begins when
/// the keys of the other were its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_joins_later_leaves_alone_what_is_no_longer_its_partitions() {
    let (mut world, mut written) = (World::new(4).await, BTreeMap::new());
    write_all(&world, &mut written, "before", false).await;
    let split = world.order_split();
    let leader = world.leader(PARENT).await;
    leader.split(split).await.unwrap();
    world.leader(CHILD).await;
    world.record_split(leader.applied().descriptor().unwrap().since);
    world.settle().await;
    write_all(&world, &mut written, "after", true).await;
    for (group, replica) in [(CHILD, 200), (PARENT, 100)] {
        let order = placement::Move::Add { partition: group, to: node_id(4) };
        let start = StartMoves { moves: vec![(&order).into()], expected_revision: 0 };
        world.must(Command::StartMoves(start));
        let (id, from) = {
            let record = world.meta.moves_under_way().find(|record| record.partition() == group).unwrap();
            (record.id, record.stage)
        };
        world.must(Command::AdvanceMove(proto::v1::AdvanceMove {
            id: id.0,
            from: from.into(),
            to: proto::v1::MoveStage::CatchingUp.into(),
            ..proto::v1::AdvanceMove::default()
        }));
        world.settle().await;
        let learner = world.meta.order(id).unwrap().new_replica.unwrap();
        assert_ne!(learner, ReplicaId(replica));
        let leader = world.leader(group).await;
        leader.add_learner(learner, node_id(4)).await.unwrap();
        // The other one is written while this one comes.
        write_all(&world, &mut written, &format!("while {group} joins"), true).await;
        eventually("it has caught up", || {
            let index = leader.applied().progress().applied.map(|id| id.index());
            world.hosts[3].applied(group) >= index
        })
        .await;
    }
    world.is_whole(&written).await;
    assert!(world.hosts[3].node.received.read().snapshot_bytes_received > 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_sent_a_snapshot_over_the_split_gets_the_other_part_by_another() {
    let (mut world, mut written) = (World::new(3).await, BTreeMap::new());
    write_all(&world, &mut written, "before", false).await;
    let away = (0..3).find(|at| !world.hosts[*at].groups.get(PARENT).unwrap().leads()).unwrap();
    world.hosts[away].stop().await;
    world.down.push(away);
    let split = world.order_split();
    world.follow().await;
    let leader = world.leader(PARENT).await;
    leader.split(split).await.unwrap();
    world.leader(CHILD).await;
    world.record_split(leader.applied().descriptor().unwrap().since);
    world.settle().await;
    for host in world.up() {
        let group = host.groups.get(PARENT).unwrap();
        // What the one that is away would need is gone.
        group.forget_log_before_split().await.unwrap();
    }
    write_all(&world, &mut written, "without it", true).await;
    world.down.clear();
    world.hosts[away].start_again().await;
    world.settle().await;
    write_all(&world, &mut written, "after", true).await;
    assert!(world.hosts[away].node.received.read().snapshot_bytes_received > 0, "it came as a snapshot");
    world.is_whole(&written).await;
    world.stop().await;
}
