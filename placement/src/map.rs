//! The partition map: which partition owns which buckets, and which nodes hold it.

use std::collections::BTreeMap;

use crate::bucket::{Bucket, BucketCount, BucketRange};
use crate::id::{Epoch, NodeId, PartitionId, ReplicaId, Revision, TableId, TableName};

/// All that placement knows of a cluster, at one revision.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PartitionMap {
    /// Grows with each change of the map.
    pub revision: Revision,
    /// The nodes, those that were removed included.
    pub nodes: BTreeMap<NodeId, Node>,
    /// The tables.
    pub tables: BTreeMap<TableId, Table>,
    /// The partitions of all tables; the meta group is not among them.
    pub partitions: BTreeMap<PartitionId, Partition>,
}

/// A storage node, as far as placement cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its identity.
    pub id: NodeId,
    /// What people call it.
    pub name: String,
    /// Where it is in its life.
    pub state: NodeState,
    /// The zone that it fails with; empty: not known.
    pub zone: String,
    /// The machine that it fails with; empty: a machine of its own.
    pub host: String,
}

/// The life of a node. Cancellable until it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeState {
    /// Holds replicas and may be given more.
    Serving,
    /// Is being emptied.
    Draining,
    /// Holds nothing, and may go.
    Drained,
    /// Gone for good.
    Removed,
}

impl NodeState {
    /// Whether the node is on its way out or already empty.
    pub fn is_leaving(self) -> bool {
        matches!(self, Self::Draining | Self::Drained)
    }
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its number, which its keys carry on disk.
    pub id: TableId,
    /// What people call it.
    pub name: TableName,
    /// Fixed for its life.
    pub buckets: BucketCount,
    /// How many copies of each partition there should be: 1, 3, 5 or 7.
    pub replicas: u8,
    /// How long items live that do not say; 0: until they are deleted.
    pub default_ttl_ms: u64,
}

/// A partition: a run of a table's buckets, replicated by a Raft group of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number, and its group's.
    pub id: PartitionId,
    /// The table that it is part of.
    pub table: TableId,
    /// What it owns.
    pub buckets: BucketRange,
    /// Grows when its buckets or its replicas change.
    pub epoch: Epoch,
    /// Its copies.
    pub replicas: Vec<Replica>,
}

/// One copy of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replica {
    /// Its name in Raft, never reused.
    pub id: ReplicaId,
    /// Where it is.
    pub node: NodeId,
    /// Whether it counts.
    pub role: Role,
}

/// Whether a replica counts for a quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It votes.
    Voter,
    /// It is being caught up.
    Learner,
}

impl PartitionMap {
    /// The table of that name.
    pub fn table_named(&self, name: &TableName) -> Option<&Table> {
        self.tables.values().find(|table| &table.name == name)
    }

    /// The partitions of a table, in the order of their buckets.
    pub fn partitions_of(&self, table: TableId) -> Vec<&Partition> {
        let mut found: Vec<_> = self.partitions.values().filter(|part| part.table == table).collect();
        found.sort_by_key(|part| part.buckets.first);
        found
    }

    /// The partition that owns a bucket of a table.
    pub fn owner_of(&self, table: TableId, bucket: Bucket) -> Option<&Partition> {
        self.partitions.values().find(|part| part.table == table && part.buckets.contains(bucket))
    }
}

impl Partition {
    /// The copies that vote.
    pub fn voters(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.iter().filter(|replica| replica.role == Role::Voter)
    }

    /// The copy that a node holds.
    pub fn replica_on(&self, node: NodeId) -> Option<&Replica> {
        self.replicas.iter().find(|replica| replica.node == node)
    }
}
