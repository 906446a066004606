//! Between messages and the types of `placement`.
//!
//! What arrives is parsed here once; after that nobody checks it again. What is sent is
//! built from types that cannot be wrong, so that direction never fails.

mod moves;

use std::fmt;

use placement::{
    Bucket, BucketCount, BucketRange, Epoch, Node, NodeId, NodeState, Partition, PartitionId, PartitionMap,
    Replica, ReplicaId, Revision, Role, Table, TableId, TableName,
};

use crate::v1;

/// A message that does not say what it must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadMessage {
    what: String,
}

impl BadMessage {
    /// With what is wrong, as the end of the sentence "the message has …".
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }
}

impl fmt::Display for BadMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message has {}", self.what)
    }
}

impl std::error::Error for BadMessage {}

/// The node that 16 bytes name.
pub fn node_id(bytes: &[u8]) -> Result<NodeId, BadMessage> {
    NodeId::from_bytes(bytes)
        .ok_or_else(|| BadMessage::new(format!("a node id of {} bytes instead of 16", bytes.len())))
}

/// A node's id as it travels.
pub fn node_bytes(node: NodeId) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&node.to_bytes())
}

impl From<NodeState> for v1::NodeState {
    fn from(state: NodeState) -> Self {
        match state {
            NodeState::Serving => Self::Serving,
            NodeState::Draining => Self::Draining,
            NodeState::Drained => Self::Drained,
            NodeState::Removed => Self::Removed,
        }
    }
}

impl From<v1::NodeState> for NodeState {
    fn from(state: v1::NodeState) -> Self {
        match state {
            v1::NodeState::Serving => Self::Serving,
            v1::NodeState::Draining => Self::Draining,
            v1::NodeState::Drained => Self::Drained,
            v1::NodeState::Removed => Self::Removed,
        }
    }
}

/// A node with what placement does not care about.
pub fn node_entry(node: &Node, addresses: &v1::Addresses, supports_version: u32) -> v1::NodeEntry {
    v1::NodeEntry {
        node: node_bytes(node.id),
        name: node.name.clone(),
        state: v1::NodeState::from(node.state).into(),
        addresses: Some(addresses.clone()),
        zone: node.zone.clone(),
        host: node.host.clone(),
        supports_version,
    }
}

impl TryFrom<&v1::NodeEntry> for Node {
    type Error = BadMessage;

    fn try_from(entry: &v1::NodeEntry) -> Result<Self, BadMessage> {
        let state = v1::NodeState::try_from(entry.state)
            .map_err(|_| BadMessage::new(format!("an unknown state of a node, {}", entry.state)))?;
        Ok(Self {
            id: node_id(&entry.node)?,
            name: entry.name.clone(),
            state: state.into(),
            zone: entry.zone.clone(),
            host: entry.host.clone(),
        })
    }
}

/// A table with what placement does not care about.
pub fn table_entry(
    table: &Table,
    partitions: u32,
    owner: &str,
    settings: Option<v1::TableSettings>,
) -> v1::TableEntry {
    v1::TableEntry {
        table: table.id.0,
        name: table.name.to_string(),
        buckets: u32::from(table.buckets.get()),
        partitions,
        replicas: u32::from(table.replicas),
        default_ttl_ms: table.default_ttl_ms,
        owner: owner.to_owned(),
        settings,
        wanted_partitions: 0,
        split: None,
    }
}

impl TryFrom<&v1::TableEntry> for Table {
    type Error = BadMessage;

    fn try_from(entry: &v1::TableEntry) -> Result<Self, BadMessage> {
        Ok(Self {
            id: TableId(entry.table),
            name: TableName::parse(&entry.name).map_err(|error| BadMessage::new(error.to_string()))?,
            buckets: BucketCount::new(entry.buckets).map_err(|error| BadMessage::new(error.to_string()))?,
            replicas: u8::try_from(entry.replicas)
                .map_err(|_| BadMessage::new(format!("{} replicas for a table", entry.replicas)))?,
            default_ttl_ms: entry.default_ttl_ms,
        })
    }
}

impl From<Role> for v1::ReplicaRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Voter => Self::Voter,
            Role::Learner => Self::Learner,
        }
    }
}

impl From<&Replica> for v1::ReplicaEntry {
    fn from(replica: &Replica) -> Self {
        Self {
            replica: replica.id.0,
            node: node_bytes(replica.node),
            role: v1::ReplicaRole::from(replica.role).into(),
        }
    }
}

impl TryFrom<&v1::ReplicaEntry> for Replica {
    type Error = BadMessage;

    fn try_from(entry: &v1::ReplicaEntry) -> Result<Self, BadMessage> {
        let role = match v1::ReplicaRole::try_from(entry.role) {
            Ok(v1::ReplicaRole::Voter) => Role::Voter,
            Ok(v1::ReplicaRole::Learner) => Role::Learner,
            Err(_) => return Err(BadMessage::new(format!("an unknown role of a replica, {}", entry.role))),
        };
        Ok(Self { id: ReplicaId(entry.replica), node: node_id(&entry.node)?, role })
    }
}

/// The run of buckets between two numbers, both included.
pub fn bucket_range(first: u32, last: u32) -> Result<BucketRange, BadMessage> {
    let bucket = |number: u32| {
        u16::try_from(number)
            .ok()
            .filter(|number| u32::from(*number) < BucketCount::MAX)
            .ok_or_else(|| BadMessage::new(format!("bucket {number}, which no table has")))
    };
    let range = BucketRange { first: Bucket(bucket(first)?), last: Bucket(bucket(last)?) };
    if range.first > range.last {
        return Err(BadMessage::new(format!("a run of buckets that ends before it begins, {range}")));
    }
    Ok(range)
}

impl From<&Partition> for v1::PartitionEntry {
    fn from(partition: &Partition) -> Self {
        Self {
            partition: partition.id.0,
            table: partition.table.0,
            first_bucket: u32::from(partition.buckets.first.0),
            last_bucket: u32::from(partition.buckets.last.0),
            epoch: partition.epoch.0,
            replicas: partition.replicas.iter().map(Into::into).collect(),
            leader: bytes::Bytes::new(),
        }
    }
}

/// A partition as an entry that names who leads it.
pub fn partition_entry(partition: &Partition, leader: Option<NodeId>) -> v1::PartitionEntry {
    let leader = leader.map(node_bytes).unwrap_or_default();
    v1::PartitionEntry { leader, ..partition.into() }
}

/// The leader that an entry names, where it does.
pub fn leader_of(entry: &v1::PartitionEntry) -> Option<NodeId> {
    NodeId::from_bytes(&entry.leader)
}

impl TryFrom<&v1::PartitionEntry> for Partition {
    type Error = BadMessage;

    fn try_from(entry: &v1::PartitionEntry) -> Result<Self, BadMessage> {
        Ok(Self {
            id: PartitionId(entry.partition),
            table: TableId(entry.table),
            buckets: bucket_range(entry.first_bucket, entry.last_bucket)?,
            epoch: Epoch(entry.epoch),
            replicas: entry.replicas.iter().map(Replica::try_from).collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<&v1::MapResponse> for PartitionMap {
    type Error = BadMessage;

    fn try_from(map: &v1::MapResponse) -> Result<Self, BadMessage> {
        let nodes = map.nodes.iter().map(Node::try_from).map(|node| node.map(|node| (node.id, node)));
        let tables = map.tables.iter().map(Table::try_from).map(|table| table.map(|table| (table.id, table)));
        let partitions =
            map.partitions.iter().map(Partition::try_from).map(|part| part.map(|part| (part.id, part)));
        Ok(Self {
            revision: Revision(map.revision),
            nodes: nodes.collect::<Result<_, _>>()?,
            tables: tables.collect::<Result<_, _>>()?,
            partitions: partitions.collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes(&[number; 16]).unwrap()
    }

    #[test]
    fn partitions_survive_their_messages() {
        let before = Partition {
            id: PartitionId(7),
            table: TableId(2),
            buckets: BucketRange { first: Bucket(8), last: Bucket(15) },
            epoch: Epoch(4),
            replicas: vec![
                Replica { id: ReplicaId(31), node: node(1), role: Role::Voter },
                Replica { id: ReplicaId(32), node: node(2), role: Role::Learner },
            ],
        };
        let entry = partition_entry(&before, Some(node(1)));
        assert_eq!(Partition::try_from(&entry), Ok(before));
        assert_eq!(leader_of(&entry), Some(node(1)));
    }

    #[test]
    fn what_no_map_can_hold_is_refused_by_name() {
        assert!(node_id(b"short").unwrap_err().to_string().contains("5 bytes"));
        assert!(
            bucket_range(3, 2).is_err() && bucket_range(0, 1024).is_err() && bucket_range(0, 70_000).is_err()
        );
        let table = v1::TableEntry { buckets: 48, name: "t".to_owned(), ..Default::default() };
        assert!(Table::try_from(&table).unwrap_err().to_string().contains("48"));
    }
}
