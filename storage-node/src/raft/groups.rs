//! The replicas that this node holds: started, made and destroyed as the map says.
//!
//! A replica is made only from the meta record, never because a message arrived, and it is
//! destroyed only when a map that is *newer* than the one it was made from no longer has it:
//! a map that comes from a deposed meta leader, or before the rest was read, destroys
//! nothing. How the replicas of a partition begin that was cut off another is told in
//! [`adoption`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::stream::{self, StreamExt};
use parking_lot::{Mutex, RwLock};
use placement::{NodeId, Partition, PartitionId, ReplicaId, Revision};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use self::adoption::Seeds;
use self::adoption::{Beginning, Turn, descriptor_in, erase_buckets};
use super::group::{Group, Start, StartError, Timing};
use super::machine::Birth;
use super::network::endpoint::{Endpoint, Replicas};
use super::network::guard::Guard;
use super::network::peers::Peers;
use super::state_machine;
use super::type_config::ReplicaPlace;
use crate::meta::FollowedMap;
use crate::observability::metrics::Metrics;
use crate::partition::Descriptor;
use crate::seams::{clock, threads};
use crate::storage::keys;
use crate::storage::log::Log;
use crate::storage::log::engine::{ReplicaRecord, ReplicaState};
use crate::storage::log::error::LogError;
use crate::storage::state::{Changes, StateEngine, StateError};

mod adoption;

/// Replicas that are started at once.
const STARTED_AT_ONCE: usize = 8;
/// A group whose first replica does not begin it is begun by another after this long.
const FIRST_IS_LATE: Duration = Duration::from_secs(2);

/// Leadership that finds no taker for so long stays.
const NO_PROGRESS: Duration = Duration::from_secs(1);

/// What groups are made of.
pub struct Parts {
    /// This node.
    pub node: NodeId,
    /// The log of all groups.
    pub log: Arc<Log>,
    /// The state of all groups.
    pub engine: Arc<dyn StateEngine>,
    /// The other nodes.
    pub peers: Arc<Peers>,
    /// How soon a silent leader is replaced.
    pub timing: Timing,
    /// What dates entries.
    pub stamp: Arc<dyn Fn() -> Option<u64> + Send + Sync>,
    /// When this process began: what its replicas promised before is not known.
    pub process_began: Instant,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Why the replicas are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum GroupsError {
    /// A replica does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The log cannot be read or written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The state cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// A replica's record is damaged.
    #[error("the record of replica {replica} of partition {group} is damaged: {why}")]
    Record {
        /// The group.
        group: PartitionId,
        /// The replica.
        replica: ReplicaId,
        /// In what way.
        why: String,
    },
}

/// The replicas of this node.
pub struct Groups {
    parts: Parts,
    running: RwLock<HashMap<PartitionId, Arc<Group>>>,
    /// Of each replica: the map that it was made from.
    made_from: Mutex<HashMap<ReplicaId, Revision>>,
    /// Groups that this node may have to begin, and since when.
    to_begin: Mutex<HashMap<PartitionId, Instant>>,
    /// Told of partitions that are cut off others, once their beginning is written.
    seeds: Arc<Seeds>,
    adopter: Mutex<Option<JoinHandle<()>>>,
    /// The newest map that was followed, as far as it is this node's.
    followed: Mutex<Followed>,
    /// Groups of which a replica is being made.
    being_made: Mutex<HashSet<PartitionId>>,
    /// Replicas wait for others of this node to give up what will be theirs.
    wait_for_room: AtomicBool,
}

/// What a map says of this node.
#[derive(Default)]
struct Followed {
    revision: Revision,
    /// Its replicas, and those of partitions that are about to be cut off its own.
    replicas: HashSet<(PartitionId, ReplicaId)>,
}

/// What is kept with a replica: the map that it was made from, and what it was born with.
struct Made {
    revision: Revision,
    birth: Birth,
}

impl Groups {
    /// Ends what was half destroyed and starts the rest.
    pub async fn open(parts: Parts) -> Result<Arc<Self>, GroupsError> {
        let records = parts.log.replica_records();
        let (adopt, to_adopt) = mpsc::unbounded_channel();
        let groups = Arc::new(Self {
            parts,
            running: RwLock::default(),
            made_from: Mutex::default(),
            to_begin: Mutex::default(),
            seeds: Arc::new(Seeds::new(adopt)),
            adopter: Mutex::default(),
            followed: Mutex::default(),
            being_made: Mutex::default(),
            wait_for_room: AtomicBool::new(false),
        });
        let (alive, doomed): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| record.state == ReplicaState::Alive);
        for record in doomed {
            groups.erase(&record).await?;
        }
        let starts =
            stream::iter(alive).map(|record| groups.start(record, false)).buffer_unordered(STARTED_AT_ONCE);
        let started: Vec<_> = starts.collect().await;
        started.into_iter().collect::<Result<Vec<()>, _>>()?;
        groups.adopt_what_was_left()?;
        *groups.adopter.lock() = Some(tokio::spawn(adoption::run(Arc::downgrade(&groups), to_adopt)));
        Ok(groups)
    }

    /// The replica of a group, where this node holds one.
    pub fn get(&self, group: PartitionId) -> Option<Arc<Group>> {
        self.running.read().get(&group).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Group>> {
        self.running.read().values().cloned().collect()
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.parts.node
    }

    /// The state of all groups.
    pub fn engine(&self) -> &Arc<dyn StateEngine> {
        &self.parts.engine
    }

    /// Makes the meta group of a new cluster, with this node as its only voter.
    pub async fn make_meta(&self, replica: ReplicaId) -> Result<Arc<Group>, GroupsError> {
        if let Some(meta) = self.get(PartitionId::META) {
            return Ok(meta);
        }
        self.make(PartitionId::META, replica, Revision(0), Birth::Meta, Beginning::Empty).await?;
        let missing = || GroupsError::Record {
            group: PartitionId::META,
            replica,
            why: "it was made and is not there".to_owned(),
        };
        self.get(PartitionId::META).ok_or_else(missing)
    }

    /// Makes and destroys replicas, so that this node holds what the map says.
    pub async fn follow(&self, map: &FollowedMap) -> Result<(), GroupsError> {
        let wanted: HashMap<PartitionId, (Partition, ReplicaId)> = map
            .held_by(self.parts.node)
            .map(|(partition, replica)| (partition.id, (partition.clone(), replica.id)))
            .collect();
        let expected: HashSet<_> = map.about_to_be_cut_off(self.parts.node).collect();
        let replicas = wanted.iter().map(|(group, (_, replica))| (*group, *replica)).chain(expected);
        let replicas: HashSet<_> = replicas.collect();
        for group in self.all() {
            let stays = replicas.contains(&(group.group, group.replica));
            let made_from = self.made_from.lock().get(&group.replica).copied().unwrap_or_default();
            let newer = map.revision() > made_from && map.revision() > Revision(0);
            if !stays && newer {
                self.destroy(&group).await?;
            }
        }
        *self.followed.lock() = Followed { revision: map.revision(), replicas };
        self.wait_for_room.store(false, Ordering::Release);
        let missing = wanted.into_values().filter(|(partition, _)| self.get(partition.id).is_none());
        let made = stream::iter(missing)
            .map(|(partition, replica)| async move {
                let Some(birth) = birth_of(map, &partition) else { return Ok(()) };
                let first = map.birth(partition.id).is_some_and(|born| {
                    born.by_split && born.replicas.iter().any(|first| first.id == replica)
                });
                let beginning = if first { Beginning::BySplit } else { Beginning::Empty };
                self.make(partition.id, replica, map.revision(), birth, beginning).await
            })
            .buffer_unordered(STARTED_AT_ONCE);
        let made: Vec<_> = made.collect().await;
        made.into_iter().collect::<Result<Vec<()>, _>>()?;
        self.begin_new_groups(map).await;
        Ok(())
    }

    /// Begins the groups whose first voters are still without a log. The first of them does
    /// at once, and the others if it does not: they all begin with the same membership.
    pub async fn begin_new_groups(&self, map: &FollowedMap) {
        let waiting: Vec<_> = self.to_begin.lock().iter().map(|(group, since)| (*group, *since)).collect();
        for (id, since) in waiting {
            let Some(group) = self.get(id) else {
                self.to_begin.lock().remove(&id);
                continue;
            };
            let Some(birth) = map.birth(id) else { continue };
            let voters: BTreeMap<u64, ReplicaPlace> = birth
                .replicas
                .iter()
                .map(|replica| (replica.id.0, ReplicaPlace { node: replica.node }))
                .collect();
            if birth.by_split {
                self.to_begin.lock().remove(&id);
                continue;
            }
            let first = birth.replicas.first().is_some_and(|replica| replica.id == group.replica);
            let begun = !voters.contains_key(&group.replica.0)
                || group.is_initialized().await
                || (first || since.elapsed() > FIRST_IS_LATE) && group.initialize(voters).await.is_ok();
            if begun {
                self.to_begin.lock().remove(&id);
            }
        }
    }

    /// Whether the map is to be followed again soon although it does not change: a group waits to be
    /// begun, or a replica to be made.
    pub fn has_more_to_do(&self) -> bool {
        !self.to_begin.lock().is_empty() || self.wait_for_room.load(Ordering::Acquire)
    }

    async fn make(
        &self,
        group: PartitionId,
        replica: ReplicaId,
        revision: Revision,
        birth: Birth,
        beginning: Beginning,
    ) -> Result<(), GroupsError> {
        let Some(_turn) = Turn::take(self, group) else {
            // Whoever makes it may find that it cannot.
            self.wait_for_room.store(true, Ordering::Release);
            return Ok(());
        };
        if self.get(group).is_some() {
            return Ok(());
        }
        let record = ReplicaRecord {
            group,
            replica,
            birth: Made { revision, birth }.encode(),
            state: ReplicaState::Alive,
        };
        if beginning == Beginning::BySplit && self.has_state(group)? {
            // From here on nothing of it hangs on the other partition's log any more.
            let engine = Arc::clone(&self.parts.engine);
            threads::blocking(move || engine.flush()).await?;
        } else if self.is_taken(group, &record)? {
            self.wait_for_room.store(true, Ordering::Release);
            return Ok(());
        } else {
            self.remove_leftovers(&record).await?;
        }
        self.parts.log.put_replica_record(record.clone()).await?;
        self.seeds.settled(group);
        self.start(record, true).await
    }

    async fn start(&self, record: ReplicaRecord, new: bool) -> Result<(), GroupsError> {
        let ReplicaRecord { group, replica, .. } = record;
        let made =
            Made::decode(group, record.birth).map_err(|why| GroupsError::Record { group, replica, why })?;
        let guard = if new {
            Guard::none()
        } else {
            Guard::after_restart(self.parts.process_began, self.parts.timing.election_timeout_max)
        };
        let log = self.parts.log.store(group, replica)?;
        log.drop_overruled(state_machine::applied_in(group, &*self.parts.engine)?)?;
        let started = Group::start(Start {
            group,
            replica,
            birth: made.birth,
            log,
            engine: Arc::clone(&self.parts.engine),
            peers: Arc::clone(&self.parts.peers),
            timing: self.parts.timing,
            stamp: Arc::clone(&self.parts.stamp),
            guard,
            metrics: Arc::clone(&self.parts.metrics),
            seeds: Some(Arc::clone(&self.seeds)),
        })
        .await?;
        self.made_from.lock().insert(replica, made.revision);
        if group != PartitionId::META {
            self.to_begin.lock().insert(group, clock::now());
        }
        self.running.write().insert(group, started);
        tracing::info!(partition = %group, %replica, new, "a replica has started");
        Ok(())
    }

    /// Ends a replica and removes what it has, so that a crash in between is finished at the
    /// next start: the record is marked first, the data goes, and only then the log.
    async fn destroy(&self, group: &Arc<Group>) -> Result<(), GroupsError> {
        tracing::info!(partition = %group.group, replica = %group.replica, "a replica is destroyed: the map has it no longer");
        self.running.write().remove(&group.group);
        self.to_begin.lock().remove(&group.group);
        group.stop().await;
        group.applied().ended().await;
        self.parts.log.begin_destroy(group.replica).await?;
        let records = self.parts.log.replica_records();
        if let Some(record) = records.into_iter().find(|record| record.replica == group.replica) {
            self.erase(&record).await?;
        }
        self.made_from.lock().remove(&group.replica);
        Ok(())
    }

    /// A new replica has applied nothing. Were there anything of its group, it would take that
    /// for its own state and never ask for the rest.
    async fn remove_leftovers(&self, record: &ReplicaRecord) -> Result<(), GroupsError> {
        let (group, replica) = (record.group, record.replica);
        if state_machine::applied_in(group, &*self.parts.engine)?.is_some() {
            tracing::warn!(partition = %group, %replica, "what an earlier replica left is removed");
            self.erase_state(record).await?;
        }
        Ok(())
    }

    async fn erase(&self, record: &ReplicaRecord) -> Result<(), GroupsError> {
        self.erase_state(record).await?;
        self.parts.log.finish_destroy(record.replica).await?;
        Ok(())
    }

    async fn erase_state(&self, record: &ReplicaRecord) -> Result<(), GroupsError> {
        let (group, replica) = (record.group, record.replica);
        let made = Made::decode(group, record.birth.clone()).map_err(|why| GroupsError::Record {
            group,
            replica,
            why,
        })?;
        let engine = Arc::clone(&self.parts.engine);
        let others = self.owned_by_others(group)?;
        threads::blocking(move || -> Result<(), StateError> {
            let mut changes = Changes::default();
            match made.birth {
                Birth::Partition(born) => {
                    // What it owned in the end is on record, unless it never applied anything.
                    let owned = descriptor_in(group, &*engine)?.unwrap_or(born);
                    erase_buckets(&owned, &others, &mut changes);
                }
                Birth::Meta => changes.delete_range(keys::meta_records()),
            }
            changes.delete_range(keys::records_of(group));
            engine.write(changes)?;
            engine.flush()
        })
        .await?;
        Ok(())
    }

    /// Flushes the state and lets the log go up to there. Returns how many groups' logs were
    /// shortened.
    pub async fn purge_logs(&self) -> io::Result<usize> {
        let groups = self.all();
        let engine = Arc::clone(&self.parts.engine);
        let flush_seconds = self.parts.metrics.state_flush_seconds.clone();
        let marked = threads::blocking({
            let groups = groups.clone();
            move || -> io::Result<Vec<_>> {
                let pinned = engine.pin();
                let marks = groups.iter().map(|group| group.mark(&pinned)).collect::<io::Result<Vec<_>>>()?;
                let began = clock::now();
                engine.flush()?;
                flush_seconds.record(began.elapsed());
                Ok(marks)
            }
        })
        .await?;
        for (group, flushed) in groups.iter().zip(marked) {
            group.note_flushed(flushed).await;
        }
        Ok(groups.len())
    }

    /// Hands every leadership to other nodes, and waits until it is so, or nothing comes of it,
    /// or time is up. Returns how many were handed over and how many are left.
    pub async fn hand_over_all(&self, but_not_to: &HashSet<NodeId>, patience: Duration) -> (usize, usize) {
        let deadline = clock::now() + patience;
        let leading = || self.all().into_iter().filter(|group| group.leads()).collect::<Vec<_>>();
        let before = leading();
        let (mut fewest, mut progress) = (before.len(), clock::now());
        let mut asked: HashMap<PartitionId, Instant> = HashMap::new();
        loop {
            let left = leading();
            // Nodes that end at the same time hand the same groups to each other.
            if left.len() < fewest {
                (fewest, progress) = (left.len(), clock::now());
            }
            let but_not_to = but_not_to.iter().copied().chain(self.unreachable()).collect();
            let mut hopeful = progress.elapsed() < NO_PROGRESS;
            for group in &left {
                let again =
                    asked.get(&group.group).is_none_or(|at| at.elapsed() > Duration::from_millis(500));
                if again && group.hand_over(&but_not_to).await.unwrap_or(false) {
                    asked.insert(group.group, clock::now());
                }
            }
            hopeful &= left.iter().any(|group| asked.contains_key(&group.group));
            if left.is_empty() || !hopeful || clock::now() >= deadline {
                return (before.len().saturating_sub(left.len()), left.len());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The other nodes that do not answer.
    fn unreachable(&self) -> Vec<NodeId> {
        let (peers, within) = (&self.parts.peers, self.parts.timing.election_timeout_max);
        let silent = |node: &NodeId| peers.liveness().alive(*node, within).is_none();
        peers.known().iter().map(|peer| peer.node()).filter(silent).collect()
    }

    /// Ends all replicas; what they have on disk stays.
    pub async fn stop(&self) {
        let adopter = self.adopter.lock().take();
        if let Some(adopter) = adopter {
            adopter.abort();
            let _ = adopter.await;
        }
        let groups: Vec<_> = self.running.write().drain().map(|(_, group)| group).collect();
        stream::iter(groups)
            .for_each_concurrent(STARTED_AT_ONCE, |group| async move {
                group.stop().await;
                group.applied().ended().await;
            })
            .await;
    }
}

impl Replicas for Groups {
    fn endpoint(&self, group: u64, replica: u64) -> Option<Arc<dyn Endpoint>> {
        let running = self.running.read();
        let group = running.get(&PartitionId(group))?;
        (group.replica.0 == replica).then(|| group.endpoint())
    }
}

fn birth_of(map: &FollowedMap, partition: &Partition) -> Option<Birth> {
    if partition.id == PartitionId::META {
        return Some(Birth::Meta);
    }
    let birth = map.birth(partition.id)?;
    let table = map.map().tables.get(&birth.table)?;
    Some(Birth::Partition(Descriptor {
        table: birth.table,
        bucket_count: table.buckets,
        buckets: birth.buckets,
        epoch: birth.epoch,
        since: birth.since,
    }))
}

impl Made {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u64(self.revision.0);
        out.put_slice(&self.birth.encode());
        out.freeze()
    }

    fn decode(group: PartitionId, mut bytes: Bytes) -> Result<Self, String> {
        let revision = Revision(bytes.try_get_u64().map_err(|error| error.to_string())?);
        Ok(Self { revision, birth: Birth::decode(group, &bytes)? })
    }
}
