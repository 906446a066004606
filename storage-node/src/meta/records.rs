//! The meta group's records as bytes.
//!
//! ```text
//! key:    kind u8 │ id            value:  format u8 (1) │ revision u64 │ message
//!
//! kind 1  the cluster as a whole  (no id)     StoredHead
//!      2  a node                  16 bytes    NodeEntry
//!      3  a table                 u32         TableEntry
//!      4  a partition             u64         StoredPartition
//!      5  the meta group itself   (no id)     PartitionEntry
//!      6  a move                  u64         StoredMove
//!      7  a dropped table         u32         (nothing)
//!      8  a dropped partition     u64         (nothing)
//! ```
//!
//! Integers are big-endian, so that records of a kind sort by id. The revision is the one
//! at which the record last changed. Every key is below 0x09, which leaves room for more
//! kinds.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use placement::{NodeId, Partition, PartitionId, Revision, TableId};
use prost::Message;
use proto::convert::BadMessage;
use proto::v1::{NodeEntry, PartitionEntry, StoredHead, StoredMove, StoredPartition, TableEntry};

use super::changes::ChangeIndex;
use super::state::{Birth, Counters, MetaState, MoveId, MoveRecord, NodeDetails, TableDetails};

const FORMAT: u8 = 1;

/// Which record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKey {
    /// The cluster as a whole. The first, because ranges begin with it.
    Head,
    /// A node.
    Node(NodeId),
    /// A table.
    Table(TableId),
    /// A partition.
    Partition(PartitionId),
    /// The meta group's own replicas.
    Meta,
    /// A move.
    Move(MoveId),
    /// A table that was dropped.
    DroppedTable(TableId),
    /// A partition that was dropped.
    DroppedPartition(PartitionId),
}

/// A record as it is now on disk, or that it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordChange {
    /// Its key, below the group's own prefix.
    pub key: Vec<u8>,
    /// Its value; none: it is deleted.
    pub value: Option<Bytes>,
}

/// Why records are not a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Written by a newer program.
    #[error("a meta record of format {0}; this program knows format {FORMAT}: run a newer one")]
    Format(u8),
    /// Written by a newer program, or not by this one at all.
    #[error("a meta record of unknown kind {0}: run a newer program")]
    Kind(u8),
    /// Cut short or damaged.
    #[error("a damaged meta record with key {key:02x?}: {why}")]
    Damaged {
        /// Its key.
        key: Vec<u8>,
        /// What is wrong with it.
        why: String,
    },
}

impl RecordKey {
    /// Whether nodes that follow the map are told about it one by one.
    pub fn is_followed(self) -> bool {
        matches!(self, Self::Node(_) | Self::Table(_) | Self::Partition(_)) || self.is_drop()
    }

    /// Whether it only says that something is gone.
    pub fn is_drop(self) -> bool {
        matches!(self, Self::DroppedTable(_) | Self::DroppedPartition(_))
    }

    /// The key that takes this one's place when the record is dropped.
    pub fn dropped(self) -> Option<Self> {
        match self {
            Self::Table(table) => Some(Self::DroppedTable(table)),
            Self::Partition(partition) => Some(Self::DroppedPartition(partition)),
            _ => None,
        }
    }

    /// The key as bytes.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(17);
        match self {
            Self::Head => out.put_u8(1),
            Self::Node(node) => {
                out.put_u8(2);
                out.put_slice(&node.to_bytes());
            }
            Self::Table(table) => {
                out.put_u8(3);
                out.put_u32(table.0);
            }
            Self::Partition(partition) => {
                out.put_u8(4);
                out.put_u64(partition.0);
            }
            Self::Meta => out.put_u8(5),
            Self::Move(id) => {
                out.put_u8(6);
                out.put_u64(id.0);
            }
            Self::DroppedTable(table) => {
                out.put_u8(7);
                out.put_u32(table.0);
            }
            Self::DroppedPartition(partition) => {
                out.put_u8(8);
                out.put_u64(partition.0);
            }
        }
        out
    }

    /// The key that bytes hold.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LoadError> {
        let damaged = |why: &str| LoadError::Damaged { key: bytes.to_vec(), why: why.to_owned() };
        let mut rest = bytes;
        let cut = |_| damaged("the key is cut short");
        let key = match rest.try_get_u8().map_err(cut)? {
            1 => Self::Head,
            2 => {
                let mut id = [0; 16];
                rest.try_copy_to_slice(&mut id).map_err(cut)?;
                Self::Node(NodeId::from_bytes(&id).ok_or_else(|| damaged("no node id"))?)
            }
            3 => Self::Table(TableId(rest.try_get_u32().map_err(cut)?)),
            4 => Self::Partition(PartitionId(rest.try_get_u64().map_err(cut)?)),
            5 => Self::Meta,
            6 => Self::Move(MoveId(rest.try_get_u64().map_err(cut)?)),
            7 => Self::DroppedTable(TableId(rest.try_get_u32().map_err(cut)?)),
            8 => Self::DroppedPartition(PartitionId(rest.try_get_u64().map_err(cut)?)),
            kind => return Err(LoadError::Kind(kind)),
        };
        if rest.is_empty() { Ok(key) } else { Err(damaged("the key is too long")) }
    }
}

/// A value as bytes.
fn seal(revision: Revision, message: &impl Message) -> Bytes {
    let mut out = BytesMut::with_capacity(9 + message.encoded_len());
    out.put_u8(FORMAT);
    out.put_u64(revision.0);
    out.extend_from_slice(&message.encode_to_vec());
    out.freeze()
}

impl MetaState {
    /// A record as it would be written at a revision; none: there is no such record.
    pub(super) fn record(&self, key: RecordKey, revision: Revision) -> Option<Bytes> {
        match key {
            RecordKey::Head => {
                self.cluster?;
                Some(seal(revision, &self.head()))
            }
            RecordKey::Node(node) => Some(seal(revision, &self.node_entry(node)?)),
            RecordKey::Table(table) => Some(seal(revision, &self.table_entry(table)?)),
            RecordKey::Partition(partition) => {
                let stored = StoredPartition {
                    entry: Some(self.map.partitions.get(&partition)?.into()),
                    birth: Some(self.births.get(&partition)?.to_message(partition)),
                };
                Some(seal(revision, &stored))
            }
            RecordKey::Meta => {
                self.cluster?;
                Some(seal(revision, &PartitionEntry::from(&self.meta)))
            }
            RecordKey::Move(id) => Some(seal(revision, &self.moves.get(&id)?.to_message())),
            RecordKey::DroppedTable(_) | RecordKey::DroppedPartition(_) => {
                self.changes.changed_at(key).map(|at| seal(at, &()))
            }
        }
    }

    fn head(&self) -> StoredHead {
        StoredHead {
            cluster: self.cluster.map(|id| Bytes::copy_from_slice(&id.to_bytes())).unwrap_or_default(),
            cluster_version: self.cluster_version,
            revision: self.map.revision.0,
            next_table: self.counters.table,
            next_partition: self.counters.partition,
            next_replica: self.counters.replica,
            next_move: self.counters.order,
            next_end: self.counters.end,
            forgotten: self.changes.forgotten().0,
        }
    }

    /// All records of the state, for a snapshot and for tests.
    pub fn records(&self) -> Vec<RecordChange> {
        let mut keys = vec![RecordKey::Head, RecordKey::Meta];
        keys.extend(self.map.nodes.keys().map(|id| RecordKey::Node(*id)));
        keys.extend(self.map.tables.keys().map(|id| RecordKey::Table(*id)));
        keys.extend(self.map.partitions.keys().map(|id| RecordKey::Partition(*id)));
        keys.extend(self.moves.keys().map(|id| RecordKey::Move(*id)));
        keys.extend(self.changes.since(Revision(0)).filter(|key| key.is_drop()));
        let record = |key: RecordKey| {
            let revision = self.changes.changed_at(key).unwrap_or(self.map.revision);
            self.record(key, revision).map(|value| RecordChange { key: key.to_bytes(), value: Some(value) })
        };
        keys.into_iter().filter_map(record).collect()
    }

    /// The state that records hold: exactly the one that wrote them.
    pub fn load(records: impl IntoIterator<Item = (Vec<u8>, Bytes)>) -> Result<Self, LoadError> {
        let mut state = Self::default();
        let mut changed = BTreeMap::new();
        let mut head = None;
        for (key, mut value) in records {
            let damaged = |why: String| LoadError::Damaged { key: key.clone(), why };
            let short = |_| damaged("the value is cut short".to_owned());
            let record = RecordKey::from_bytes(&key)?;
            let format = value.try_get_u8().map_err(short)?;
            if format != FORMAT {
                return Err(LoadError::Format(format));
            }
            let revision = Revision(value.try_get_u64().map_err(short)?);
            if record.is_followed() {
                changed.insert(record, revision);
            }
            if record == RecordKey::Head {
                head = Some(StoredHead::decode(value).map_err(|error| damaged(error.to_string()))?);
            } else {
                state.restore(record, value).map_err(|bad| damaged(bad.to_string()))?;
            }
        }
        if let Some(head) = head {
            state.restore_head(&head);
        }
        for (key, revision) in changed {
            state.changes.note(key, revision);
        }
        Ok(state)
    }

    fn restore_head(&mut self, head: &StoredHead) {
        self.cluster = placement::ClusterId::from_bytes(&head.cluster);
        self.cluster_version = head.cluster_version;
        self.map.revision = Revision(head.revision);
        self.counters = Counters {
            table: head.next_table,
            partition: head.next_partition,
            replica: head.next_replica,
            order: head.next_move,
            end: head.next_end,
        };
        self.changes = ChangeIndex::forgetting(Revision(head.forgotten));
    }

    fn restore(&mut self, key: RecordKey, value: Bytes) -> Result<(), BadMessage> {
        match key {
            RecordKey::Node(id) => {
                let entry = parse::<NodeEntry>(value)?;
                self.map.nodes.insert(id, placement::Node::try_from(&entry)?);
                self.nodes.insert(id, NodeDetails::of(&entry));
            }
            RecordKey::Table(id) => {
                let entry = parse::<TableEntry>(value)?;
                self.map.tables.insert(id, placement::Table::try_from(&entry)?);
                self.tables.insert(id, TableDetails::of(&entry));
            }
            RecordKey::Partition(id) => {
                let stored = parse::<StoredPartition>(value)?;
                let entry = stored.entry.ok_or_else(|| BadMessage::new("no partition"))?;
                let birth = stored.birth.ok_or_else(|| BadMessage::new("no birth of the partition"))?;
                self.map.partitions.insert(id, Partition::try_from(&entry)?);
                self.births.insert(id, Birth::try_from(&birth)?);
            }
            RecordKey::Meta => self.meta = Partition::try_from(&parse::<PartitionEntry>(value)?)?,
            RecordKey::Move(id) => {
                let record = MoveRecord::try_from(&parse::<StoredMove>(value)?)?;
                if let Some(end) = record.ended {
                    self.ended.insert(end, id);
                }
                self.moves.insert(id, record);
            }
            RecordKey::Head | RecordKey::DroppedTable(_) | RecordKey::DroppedPartition(_) => {}
        }
        Ok(())
    }
}

fn parse<M: Message + Default>(value: Bytes) -> Result<M, BadMessage> {
    M::decode(value).map_err(|error| BadMessage::new(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_keys_are_pinned() {
        let node = NodeId::from_bytes(&[0xab; 16]).unwrap();
        let mut node_key = vec![2];
        node_key.extend([0xab; 16]);
        for (key, bytes) in [
            (RecordKey::Head, vec![1]),
            (RecordKey::Node(node), node_key),
            (RecordKey::Table(TableId(0x0102)), vec![3, 0, 0, 1, 2]),
            (RecordKey::Partition(PartitionId(0x0102)), vec![4, 0, 0, 0, 0, 0, 0, 1, 2]),
            (RecordKey::Meta, vec![5]),
            (RecordKey::Move(MoveId(9)), vec![6, 0, 0, 0, 0, 0, 0, 0, 9]),
            (RecordKey::DroppedTable(TableId(3)), vec![7, 0, 0, 0, 3]),
            (RecordKey::DroppedPartition(PartitionId(4)), vec![8, 0, 0, 0, 0, 0, 0, 0, 4]),
        ] {
            assert_eq!(key.to_bytes(), bytes);
            assert_eq!(RecordKey::from_bytes(&bytes), Ok(key));
        }
    }

    #[test]
    fn the_bytes_of_a_value_are_pinned() {
        let stored = StoredMove { id: 5, ..StoredMove::default() };
        assert_eq!(&seal(Revision(0x0304), &stored)[..], [1, 0, 0, 0, 0, 0, 0, 3, 4, 0x08, 5]);
    }

    #[test]
    fn what_is_not_a_record_is_refused_by_name() {
        let load = |key: &[u8], value: &'static [u8]| {
            MetaState::load([(key.to_vec(), Bytes::from_static(value))]).unwrap_err()
        };
        assert_eq!(load(&[1], &[9, 0, 0, 0, 0, 0, 0, 0, 0]), LoadError::Format(9));
        assert_eq!(load(&[200], &[1]), LoadError::Kind(200));
        assert!(matches!(load(&[4, 1], &[1]), LoadError::Damaged { .. }));
        assert!(matches!(load(&[1], &[1, 0]), LoadError::Damaged { .. }));
        assert!(matches!(load(&[5, 0], &[1, 0]), LoadError::Damaged { .. }));
        assert!(load(&[5], &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0xff]).to_string().contains("[05]"));
    }
}
