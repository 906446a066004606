//! The meta group's state, and what a command does to it.
//!
//! Commands are checked completely before anything is changed: a refusal leaves the state
//! as it was. What a command changed comes out as records, which the caller writes in the
//! batch that also says that the command was applied.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use placement::{
    Bucket, BucketRange, ClusterId, Epoch, Move, NodeId, NodeState, Partition, PartitionId, PartitionMap,
    Replica, ReplicaId, Revision, Role, Table, TableId,
};
use proto::convert::{self, BadMessage};
use proto::v1::meta_answer::Outcome;
use proto::v1::meta_command::Command;
use proto::v1::{
    Addresses, AllocateIds, AllocatedIds, InitCluster, MetaAnswer, MetaCommand, MetaDone, MoveStage,
    NodeEntry, PartitionBirth, SetClusterVersion, SplitPolicy, StoredMove, TableEntry, TableSettings,
};

use super::changes::{ChangeIndex, KEPT_DROPS};
use super::records::{RecordChange, RecordKey};
use super::refusal::Refusal;

/// How many replica ids one command may take.
const MOST_IDS: u32 = 10_000;

/// A move's number; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MoveId(pub u64);

impl fmt::Display for MoveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// All that the cluster knows of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct MetaState {
    pub(super) cluster: Option<ClusterId>,
    pub(super) cluster_version: u32,
    pub(super) map: PartitionMap,
    /// What placement does not care about, of every node of the map.
    pub(super) nodes: BTreeMap<NodeId, NodeDetails>,
    /// The same of every table.
    pub(super) tables: BTreeMap<TableId, TableDetails>,
    /// Of every partition of the map.
    pub(super) births: BTreeMap<PartitionId, Birth>,
    /// The meta group itself; its table and buckets mean nothing.
    pub(super) meta: Partition,
    /// Those under way, and the last that ended.
    pub(super) moves: BTreeMap<MoveId, MoveRecord>,
    /// The moves that ended, in the order in which they did.
    pub(super) ended: BTreeMap<u64, MoveId>,
    pub(super) counters: Counters,
    pub(super) changes: ChangeIndex,
    /// What the command being applied has changed so far; empty between commands.
    touched: BTreeSet<RecordKey>,
}

/// What placement does not care about, of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeDetails {
    /// Where it is reached.
    pub addresses: Addresses,
    /// The newest cluster version that its program supports.
    pub supports_version: u32,
}

/// What placement does not care about, of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct TableDetails {
    /// Who declared it; empty: nobody in particular.
    pub owner: String,
    /// How many partitions it has.
    pub partitions: u32,
    /// How many it is to have, where it has not so many yet; else 0.
    pub wanted_partitions: u32,
    /// When they are split by themselves; none: never.
    pub split: Option<SplitPolicy>,
    /// What its partitions must know; none: nobody has said anything.
    pub settings: Option<TableSettings>,
}

/// What a partition was when it was created: where every replica of it starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Birth {
    /// The table that it is part of.
    pub table: TableId,
    /// What it owned.
    pub buckets: BucketRange,
    /// Its first voters. The first of them starts the group.
    pub replicas: Vec<Replica>,
    /// Of its group's own record of what it owns.
    pub epoch: Epoch,
    /// The entry that last made it smaller; 0: none did. Buckets, epoch and this follow each split,
    /// because a replica that is made later begins after it.
    pub since: u64,
    /// It began by a split, and not by its first voters' agreeing to.
    pub by_split: bool,
    /// What is about to be cut off it.
    pub split: Option<PendingSplit>,
}

/// A partition that is about to be cut off another. Its ids are given out before, so that whoever
/// goes on with it after a crash goes on with the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingSplit {
    /// The new partition.
    pub child: PartitionId,
    /// Its first bucket; it goes to the end of the other's.
    pub first: Bucket,
    /// Its replicas.
    pub replicas: Vec<Replica>,
    /// Maps from here on know of it.
    pub revision: Revision,
}

/// A move that was ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveRecord {
    /// Its number.
    pub id: MoveId,
    /// What was ordered.
    pub order: Move,
    /// How far it is.
    pub stage: MoveStage,
    /// How it ends once it has cleaned up.
    pub ending: MoveStage,
    /// The replica that was allocated for it.
    pub new_replica: Option<ReplicaId>,
    /// What there is to say about it.
    pub detail: String,
    /// The voters before it began; empty until it did.
    pub voters_before: BTreeSet<ReplicaId>,
    /// Its place among the moves that ended; none: it is under way.
    pub ended: Option<u64>,
}

/// The next id of each kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counters {
    pub table: u32,
    pub partition: u64,
    pub replica: u64,
    pub order: u64,
    pub end: u64,
}

/// What a command led to.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// For whoever proposed it.
    pub answer: MetaAnswer,
    /// For the disk.
    pub changes: Vec<RecordChange>,
}

/// A command that this program does not know. It must stop: skipping the command would
/// make its state differ from the others'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a command of the meta group that this program does not know: run a newer one")]
pub struct UnknownCommand;

/// An answer in the making: the outcome, and whether it was so already.
pub(super) struct Answer {
    pub outcome: Outcome,
    pub already: bool,
}

impl Answer {
    pub(super) fn new(outcome: Outcome) -> Self {
        Self { outcome, already: false }
    }

    pub(super) fn already(outcome: Outcome) -> Self {
        Self { outcome, already: true }
    }

    pub(super) fn done() -> Self {
        Self::new(Outcome::Done(MetaDone {}))
    }
}

impl Default for MetaState {
    fn default() -> Self {
        let nothing = BucketRange { first: Bucket(0), last: Bucket(0) };
        Self {
            cluster: None,
            cluster_version: 0,
            map: PartitionMap::default(),
            nodes: BTreeMap::new(),
            tables: BTreeMap::new(),
            births: BTreeMap::new(),
            meta: Partition {
                id: PartitionId::META,
                table: TableId(0),
                buckets: nothing,
                epoch: Epoch(0),
                replicas: Vec::new(),
            },
            moves: BTreeMap::new(),
            ended: BTreeMap::new(),
            // Table 0 and partition 0 are the meta group's; 0 as a replica or move means none.
            counters: Counters { table: 1, partition: 1, replica: 1, order: 1, end: 1 },
            changes: ChangeIndex::default(),
            touched: BTreeSet::new(),
        }
    }
}

impl MetaState {
    /// Carries a command out. Deterministic: the same commands give the same state, the
    /// same answers and the same records on every replica.
    pub fn apply(&mut self, command: MetaCommand) -> Result<Applied, UnknownCommand> {
        let command = command.command.ok_or(UnknownCommand)?;
        let outcome = match command {
            Command::InitCluster(init) => self.init_cluster(&init),
            _ if self.cluster.is_none() => Err(Refusal::NotInitialised),
            Command::RegisterNode(register) => self.register_node(register),
            Command::SetNodeState(set) => self.set_node_state(&set),
            Command::CreateTable(create) => self.create_table(&create),
            Command::AlterTable(alter) => self.alter_table(&alter),
            Command::DropTable(drop) => self.drop_table(&drop),
            Command::StartMoves(start) => self.start_moves(&start),
            Command::AdvanceMove(advance) => self.advance_move(advance),
            Command::CancelMove(cancel) => self.cancel_move(cancel),
            Command::ChangeMeta(change) => self.change_meta(&change),
            Command::SetClusterVersion(set) => self.set_cluster_version(set),
            Command::AllocateIds(allocate) => self.allocate_ids(allocate),
            Command::StartSplit(start) => self.start_split(start),
            Command::RecordSplit(record) => self.record_split(record),
        };
        let changes = self.settle();
        let answer = match outcome {
            Ok(Answer { outcome, already }) => {
                MetaAnswer { revision: self.map.revision.0, outcome: Some(outcome), already }
            }
            Err(refusal) => MetaAnswer {
                revision: self.map.revision.0,
                outcome: Some(Outcome::Refused(refusal.to_message())),
                already: false,
            },
        };
        Ok(Applied { answer, changes })
    }

    /// The cluster's id; none until it was created.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// The cluster version that is active.
    pub fn cluster_version(&self) -> u32 {
        self.cluster_version
    }

    /// Nodes, tables and partitions.
    pub fn map(&self) -> &PartitionMap {
        &self.map
    }

    /// What placement does not care about, of a node.
    pub fn node_details(&self, node: NodeId) -> Option<&NodeDetails> {
        self.nodes.get(&node)
    }

    /// What a partition was when it was created.
    pub fn birth(&self, partition: PartitionId) -> Option<&Birth> {
        self.births.get(&partition)
    }

    /// The meta group's own replicas.
    pub fn meta(&self) -> &Partition {
        &self.meta
    }

    /// A move under way, or one of the last that ended.
    pub fn order(&self, id: MoveId) -> Option<&MoveRecord> {
        self.moves.get(&id)
    }

    /// The moves under way, oldest first.
    pub fn moves_under_way(&self) -> impl Iterator<Item = &MoveRecord> {
        self.moves.values().filter(|record| record.ended.is_none())
    }

    /// The last moves that ended, the newest first.
    pub fn moves_ended(&self) -> impl Iterator<Item = &MoveRecord> {
        self.ended.values().rev().filter_map(|id| self.moves.get(id))
    }

    /// The node that a text names: a UUID, or the name of a node that was not removed.
    pub fn find_node(&self, text: &str) -> Option<NodeId> {
        if let Ok(id) = text.parse::<NodeId>()
            && self.map.nodes.contains_key(&id)
        {
            return Some(id);
        }
        let named = |node: &&placement::Node| node.name == text && node.state != NodeState::Removed;
        self.map.nodes.values().find(named).map(|node| node.id)
    }

    /// What people call a node.
    pub fn name_of(&self, node: NodeId) -> String {
        self.map.nodes.get(&node).map_or_else(|| node.to_string(), |known| known.name.clone())
    }

    /// A node with everything that is known about it.
    pub fn node_entry(&self, node: NodeId) -> Option<NodeEntry> {
        let details = self.nodes.get(&node)?;
        Some(convert::node_entry(self.map.nodes.get(&node)?, &details.addresses, details.supports_version))
    }

    /// A table with everything that is known about it.
    pub fn table_entry(&self, table: TableId) -> Option<TableEntry> {
        let details = self.tables.get(&table)?;
        Some(details.entry(self.map.tables.get(&table)?))
    }

    /// Notes that a record was changed, created or removed.
    pub(super) fn touch(&mut self, key: RecordKey) {
        self.touched.insert(key);
    }

    /// The next replica id.
    pub(super) fn next_replica(&mut self) -> ReplicaId {
        let id = self.counters.replica;
        self.counters.replica += 1;
        self.touch(RecordKey::Head);
        ReplicaId(id)
    }

    /// Gives what was touched its revision, and says how the records are now.
    fn settle(&mut self) -> Vec<RecordChange> {
        let touched = std::mem::take(&mut self.touched);
        if touched.is_empty() {
            return Vec::new();
        }
        if touched.iter().any(|key| key.is_followed() || matches!(key, RecordKey::Meta)) {
            self.map.revision.0 += 1;
        }
        let revision = self.map.revision;
        let mut out = Vec::with_capacity(touched.len() + 1);
        for key in touched.into_iter().filter(|key| *key != RecordKey::Head) {
            let value = self.record(key, revision);
            if value.is_some() && key.is_followed() {
                self.changes.note(key, revision);
            }
            if value.is_none() {
                self.changes.remove(key);
                if let Some(dropped) = key.dropped() {
                    self.changes.note(dropped, revision);
                    out.push(RecordChange { key: dropped.to_bytes(), value: self.record(dropped, revision) });
                }
            }
            out.push(RecordChange { key: key.to_bytes(), value });
        }
        for key in self.changes.forget_old_drops(KEPT_DROPS) {
            out.push(RecordChange { key: key.to_bytes(), value: None });
        }
        // Last, because it says how many drops were forgotten.
        out.push(RecordChange {
            key: RecordKey::Head.to_bytes(),
            value: self.record(RecordKey::Head, revision),
        });
        out
    }

    fn init_cluster(&mut self, init: &InitCluster) -> Result<Answer, Refusal> {
        let wanted = ClusterId::from_bytes(&init.cluster)
            .ok_or_else(|| Refusal::Invalid("a cluster's id has 16 bytes".to_owned()))?;
        if let Some(actual) = self.cluster {
            return if actual == wanted {
                Ok(Answer::already(Outcome::Done(MetaDone {})))
            } else {
                Err(Refusal::OtherCluster { expected: wanted, actual })
            };
        }
        let entry = init.first_node.clone().unwrap_or_default();
        let node = self.check_registration(&entry)?;
        if init.first_meta_replica == 0 {
            return Err(Refusal::Invalid("the first meta replica has no id".to_owned()));
        }
        self.cluster = Some(wanted);
        self.cluster_version = entry.supports_version.max(1);
        self.counters.replica = init.first_meta_replica + 1;
        let replica = Replica { id: ReplicaId(init.first_meta_replica), node: node.id, role: Role::Voter };
        self.meta.replicas = vec![replica];
        self.meta.epoch = Epoch(1);
        self.touch(RecordKey::Meta);
        self.put_node(node, &entry);
        Ok(Answer::done())
    }

    fn set_cluster_version(&mut self, set: SetClusterVersion) -> Result<Answer, Refusal> {
        if set.version == self.cluster_version {
            return Ok(Answer::already(Outcome::Done(MetaDone {})));
        }
        if set.version < self.cluster_version {
            return Err(Refusal::VersionRefused(format!(
                "the cluster version is {} and never goes down",
                self.cluster_version
            )));
        }
        let behind = self.map.nodes.values().find(|node| {
            let supports = self.nodes.get(&node.id).map_or(0, |details| details.supports_version);
            node.state != NodeState::Removed && supports < set.version
        });
        if let Some(node) = behind {
            return Err(Refusal::VersionRefused(format!(
                "{} does not support cluster version {}: run a newer program there first",
                node.name, set.version
            )));
        }
        self.cluster_version = set.version;
        // Followers are told at once.
        self.touch(RecordKey::Meta);
        Ok(Answer::done())
    }

    fn allocate_ids(&mut self, allocate: AllocateIds) -> Result<Answer, Refusal> {
        if allocate.replicas > MOST_IDS {
            return Err(Refusal::OverBound {
                what: "ids at once",
                limit: u64::from(MOST_IDS),
                actual: u64::from(allocate.replicas),
            });
        }
        let first_replica = self.counters.replica;
        self.counters.replica += u64::from(allocate.replicas);
        self.touch(RecordKey::Head);
        Ok(Answer::new(Outcome::Allocated(AllocatedIds { first_replica, replicas: allocate.replicas })))
    }
}

impl NodeDetails {
    pub(super) fn of(entry: &NodeEntry) -> Self {
        Self {
            addresses: entry.addresses.clone().unwrap_or_default(),
            supports_version: entry.supports_version,
        }
    }
}

impl TableDetails {
    pub(super) fn of(entry: &TableEntry) -> Self {
        Self {
            owner: entry.owner.clone(),
            partitions: entry.partitions,
            wanted_partitions: entry.wanted_partitions,
            split: entry.split,
            settings: entry.settings.clone(),
        }
    }

    /// The table with everything that is known about it.
    pub(super) fn entry(&self, table: &Table) -> TableEntry {
        TableEntry {
            wanted_partitions: self.wanted_partitions,
            split: self.split,
            ..convert::table_entry(table, self.partitions, &self.owner, self.settings.clone())
        }
    }
}

impl Birth {
    /// The birth of that partition as it travels.
    pub fn to_message(&self, partition: PartitionId) -> PartitionBirth {
        PartitionBirth {
            partition: partition.0,
            table: self.table.0,
            first_bucket: u32::from(self.buckets.first.0),
            last_bucket: u32::from(self.buckets.last.0),
            replicas: self.replicas.iter().map(Into::into).collect(),
            // As it was before there were any: what older programs wrote stays as it is.
            epoch: if self.epoch == Epoch(1) { 0 } else { self.epoch.0 },
            since: self.since,
            by_split: self.by_split,
            split: self.split.as_ref().map(Into::into),
        }
    }
}

impl From<&PendingSplit> for proto::v1::PendingSplit {
    fn from(split: &PendingSplit) -> Self {
        Self {
            child: split.child.0,
            first_bucket: split.first.0.into(),
            replicas: split.replicas.iter().map(Into::into).collect(),
            map_revision: split.revision.0,
        }
    }
}

impl TryFrom<&proto::v1::PendingSplit> for PendingSplit {
    type Error = BadMessage;

    fn try_from(split: &proto::v1::PendingSplit) -> Result<Self, BadMessage> {
        Ok(Self {
            child: PartitionId(split.child),
            first: convert::bucket_range(split.first_bucket, split.first_bucket)?.first,
            replicas: split.replicas.iter().map(Replica::try_from).collect::<Result<_, _>>()?,
            revision: Revision(split.map_revision),
        })
    }
}

impl TryFrom<&PartitionBirth> for Birth {
    type Error = BadMessage;

    fn try_from(birth: &PartitionBirth) -> Result<Self, BadMessage> {
        Ok(Self {
            table: TableId(birth.table),
            buckets: convert::bucket_range(birth.first_bucket, birth.last_bucket)?,
            replicas: birth.replicas.iter().map(Replica::try_from).collect::<Result<_, _>>()?,
            epoch: Epoch(birth.epoch.max(1)),
            since: birth.since,
            by_split: birth.by_split,
            split: birth.split.as_ref().map(PendingSplit::try_from).transpose()?,
        })
    }
}

impl MoveRecord {
    /// The partition that it changes.
    pub fn partition(&self) -> PartitionId {
        self.order.partition()
    }

    /// The replica that it takes away, where it does.
    pub fn old_replica(&self) -> Option<ReplicaId> {
        match self.order {
            Move::Replace { replica, .. } | Move::Remove { replica, .. } => Some(replica),
            Move::Add { .. } | Move::TransferLeader { .. } => None,
        }
    }

    pub(super) fn to_message(&self) -> StoredMove {
        StoredMove {
            id: self.id.0,
            r#move: Some((&self.order).into()),
            stage: self.stage.into(),
            ending: self.ending.into(),
            new_replica: self.new_replica.map_or(0, |replica| replica.0),
            detail: self.detail.clone(),
            voters_before: self.voters_before.iter().map(|replica| replica.0).collect(),
            ended: self.ended.unwrap_or(0),
        }
    }
}

impl TryFrom<&StoredMove> for MoveRecord {
    type Error = BadMessage;

    fn try_from(stored: &StoredMove) -> Result<Self, BadMessage> {
        let stage = |number: i32| {
            MoveStage::try_from(number)
                .map_err(|_| BadMessage::new(format!("an unknown stage {number} of a move")))
        };
        let order = stored.r#move.as_ref().ok_or_else(|| BadMessage::new("no move"))?;
        Ok(Self {
            id: MoveId(stored.id),
            order: order.try_into()?,
            stage: stage(stored.stage)?,
            ending: stage(stored.ending)?,
            new_replica: Some(ReplicaId(stored.new_replica)).filter(|replica| replica.0 != 0),
            detail: stored.detail.clone(),
            voters_before: stored.voters_before.iter().map(|replica| ReplicaId(*replica)).collect(),
            ended: Some(stored.ended).filter(|ended| *ended != 0),
        })
    }
}

#[cfg(test)]
mod tests;
