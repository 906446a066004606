//! A node with one replica of one group, and its disks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use placement::{Bucket, BucketCount, BucketRange, Epoch, PartitionId, ReplicaId, TableId};
use proto::v1::operation::Operation as Kind;
use proto::v1::{Operation, PutRequest, command};

use super::eventually;
use crate::partition::read::{Found, read_key};
use crate::partition::{Answer, Descriptor};
use crate::raft::group::Start;
use crate::raft::machine::Birth;
use crate::raft::network::guard::Guard;
use crate::raft::network::tests::node::{Book, Node, node_id};
use crate::raft::type_config::ReplicaPlace;
use crate::raft::{Group, GroupError, Timing};
use crate::seams::clock;
use crate::storage::log::engine::{ReplicaRecord, ReplicaState};
use crate::storage::log::memory::MemoryEngine;
use crate::storage::log::{Log, LogOptions};
use crate::storage::state::StateEngine;

pub const GROUP: PartitionId = PartitionId(7);

pub const TIMING: Timing = Timing {
    heartbeat_interval: Duration::from_millis(100),
    election_timeout_min: Duration::from_millis(500),
    election_timeout_max: Duration::from_millis(1000),
    // Only where a test looks after it.
    sleep_after: Duration::from_millis(50),
};

pub fn descriptor() -> Descriptor {
    Descriptor {
        table: TableId(1),
        bucket_count: BucketCount::DEFAULT,
        buckets: BucketRange { first: Bucket(0), last: Bucket(BucketCount::DEFAULT.get() - 1) },
        epoch: Epoch(1),
        since: 0,
    }
}

/// The record of a replica of [`GROUP`] that was made from the first map.
pub fn record(replica: u64) -> ReplicaRecord {
    let mut birth = BytesMut::new();
    birth.put_u64(1);
    birth.put_slice(&descriptor().encode());
    ReplicaRecord {
        group: GROUP,
        replica: ReplicaId(replica),
        birth: birth.freeze(),
        state: ReplicaState::Alive,
    }
}

pub fn put(key: &str, value: &str) -> command::Command {
    let put = PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..PutRequest::default()
    };
    command::Command::Operation(Operation { operation: Some(Kind::Put(put)) })
}

/// All that an engine holds of what a group owns, its own records included.
pub fn dump(group: &Group) -> BTreeMap<Bytes, Bytes> {
    let mut all = BTreeMap::new();
    for range in group.applied().ranges() {
        let mut walk = group.engine().iterate(&range, false).unwrap();
        while let Some((key, value)) = walk.current() {
            all.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            walk.advance().unwrap();
        }
    }
    all
}

/// A node with one replica of [`GROUP`], both of the same number.
pub struct Site {
    pub number: u64,
    pub node: Node,
    pub disk: Arc<MemoryEngine>,
    pub log: Arc<Log>,
    pub engine: Arc<dyn StateEngine>,
    pub group: Arc<Group>,
}

impl Site {
    pub async fn start(number: u64, book: &Arc<Book>, engine: Arc<dyn StateEngine>) -> Self {
        let node = Node::start(number, book).await;
        let disk = Arc::new(MemoryEngine::default());
        let log = open(&disk, number).await;
        let group = start(&node, &log, &engine, number, Guard::none()).await;
        Self { number, node, disk, log, engine, group }
    }

    /// Ends the replica, loses what the log's disk did not sync, does the same to the state,
    /// and starts again from what is left.
    pub async fn crash(&mut self, lose_state: impl FnOnce(), guard: Guard) {
        self.node.holds.endpoints.lock().clear();
        self.group.stop().await;
        self.group.applied().ended().await;
        let left = Arc::new(self.disk.crash());
        self.disk.release_syncs();
        lose_state();
        self.disk = left;
        self.log = open(&self.disk, self.number).await;
        self.group = start(&self.node, &self.log, &self.engine, self.number, guard).await;
    }

    pub fn applied_index(&self) -> u64 {
        self.group.applied().progress().applied.map_or(0, |id| id.index())
    }

    pub fn value(&self, key: &str) -> Option<Bytes> {
        match read_key(&*self.engine, &descriptor(), key.as_bytes(), 0, 0).unwrap() {
            Found::Item(item) => Some(item.value),
            Found::Nothing | Found::Ending => None,
        }
    }
}

async fn open(disk: &Arc<MemoryEngine>, number: u64) -> Arc<Log> {
    let log = Log::with_engine(Arc::clone(disk) as _, &LogOptions::default()).unwrap();
    if log.replica_records().is_empty() {
        log.put_replica_record(record(number)).await.unwrap();
    }
    log
}

async fn start(
    node: &Node,
    log: &Log,
    engine: &Arc<dyn StateEngine>,
    number: u64,
    guard: Guard,
) -> Arc<Group> {
    let group = Group::start(Start {
        group: GROUP,
        replica: ReplicaId(number),
        birth: Birth::Partition(descriptor()),
        log: log.store(GROUP, ReplicaId(number)).unwrap(),
        engine: Arc::clone(engine),
        peers: Arc::clone(&node.peers),
        timing: TIMING,
        stamp: Arc::new(|| Some(1)),
        guard,
        metrics: Arc::default(),
        seeds: None,
    })
    .await
    .unwrap();
    node.hold(GROUP.0, number, group.endpoint());
    group
}

pub fn places(numbers: impl IntoIterator<Item = u64>) -> BTreeMap<u64, ReplicaPlace> {
    numbers.into_iter().map(|number| (number, ReplicaPlace { node: node_id(number) })).collect()
}

pub fn voters(numbers: impl IntoIterator<Item = u64>) -> BTreeSet<u64> {
    numbers.into_iter().collect()
}

/// Which of them leads and may write, once one does.
pub async fn leader_of(sites: &[Site]) -> usize {
    let mut found = None;
    eventually("there is a leader", || {
        found = sites.iter().position(|site| site.group.lease_holds());
        found.is_some()
    })
    .await;
    found.unwrap()
}

/// Writes until it is acknowledged; a leader that has just begun refuses for a moment.
pub async fn write(site: &Site, key: &str, value: &str) {
    let deadline = clock::now() + super::DEADLINE;
    loop {
        match site.group.propose(put(key, value), None).await {
            Ok(Answer::Operation(_)) => return,
            Err(GroupError::NotNow | GroupError::NotLeader(_)) if clock::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Waits until all have applied the same, and as much as any had when this was called.
pub async fn all_equal(sites: &[Site]) {
    let most = sites.iter().map(Site::applied_index).max().unwrap_or(0);
    eventually("all have applied as much", || {
        let applied: BTreeSet<u64> = sites.iter().map(Site::applied_index).collect();
        applied.len() == 1 && applied.iter().all(|index| *index >= most)
    })
    .await;
}
