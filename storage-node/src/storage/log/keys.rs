//! Every key and value layout of the log database.
//!
//! ```text
//! format      00                                        u32
//! replica     01 │ replica u64                          state u8 │ group u64 │ birth
//! vote        02 │ replica u64                          term u64 │ voted for u64 │ committed u8
//! committed   03 │ replica u64                          term u64 │ index u64
//! purged      04 │ replica u64                          term u64 │ index u64
//! entry       05 │ replica u64 │ index u64              see `raft::entry`
//! ```
//!
//! Integers are big-endian, so that the entries of one replica lie together in the order of
//! their indexes, and one range delete purges them. A replica id is never used twice, which
//! is why it alone names a log.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::type_config::alias::LeaderIdOf;
use placement::{PartitionId, ReplicaId};

use super::engine::{Record, ReplicaRecord, ReplicaState};
use crate::raft::entry::encode_entry;
use crate::raft::type_config::{LogId, TypeConfig, Vote};

/// The format of all that this file describes.
pub const FORMAT: u32 = 1;
/// Where the format is kept.
pub const FORMAT_KEY: [u8; 1] = [0];

const ALIVE: u8 = 1;
const DESTROYING: u8 = 2;

/// The kinds of records that are kept once for each replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// That the replica exists.
    Replica = 1,
    /// Its vote.
    Vote = 2,
    /// Its commit position.
    Committed = 3,
    /// The last entry purged.
    Purged = 4,
    /// An entry.
    Entry = 5,
}

impl Kind {
    /// All of them, in the order of their keys.
    pub const ALL: [Self; 5] = [Self::Replica, Self::Vote, Self::Committed, Self::Purged, Self::Entry];
}

/// The key of what is kept once for a replica; also where its entries begin.
pub fn replica_key(kind: Kind, replica: ReplicaId) -> [u8; 9] {
    let mut key = [0; 9];
    let mut to = &mut key[..];
    to.put_u8(kind as u8);
    to.put_u64(replica.0);
    key
}

/// The key of an entry.
pub fn entry_key(replica: ReplicaId, index: u64) -> [u8; 17] {
    let mut key = [0; 17];
    let mut to = &mut key[..];
    to.put_u8(Kind::Entry as u8);
    to.put_u64(replica.0);
    to.put_u64(index);
    key
}

/// Greater than the key of any entry of the replica, and less than any of the next one.
pub fn entries_end(replica: ReplicaId) -> [u8; 18] {
    let mut key = [0; 18];
    let mut to = &mut key[..];
    to.put_slice(&entry_key(replica, u64::MAX));
    to.put_u8(0);
    key
}

/// The index in the key of an entry of that replica; nothing if the key is another one's.
pub fn index_of(replica: ReplicaId, key: &[u8]) -> Option<u64> {
    let index = key.strip_prefix(&replica_key(Kind::Entry, replica))?;
    index.try_into().ok().map(u64::from_be_bytes)
}

/// The replica that a key of that kind belongs to.
pub fn replica_of(kind: Kind, key: &[u8]) -> Option<ReplicaId> {
    let replica = key.strip_prefix(&[kind as u8])?.first_chunk::<8>()?;
    Some(ReplicaId(u64::from_be_bytes(*replica)))
}

/// Takes the changes of a record, in order.
pub trait KeySink {
    /// Stores a value.
    fn put(&mut self, key: &[u8], value: Bytes);
    /// Removes a key.
    fn delete(&mut self, key: &[u8]);
    /// Removes the keys from the first, included, to the second, excluded.
    fn delete_range(&mut self, from: &[u8], to: &[u8]);
}

/// The changes of keys that a record means. Both engines go through here, so that they
/// cannot differ.
pub fn lower(record: &Record, sink: &mut impl KeySink) {
    match record {
        Record::Append { replica, entries } => {
            for entry in entries {
                sink.put(&entry_key(*replica, entry.log_id.index()), encode_entry(entry));
            }
        }
        Record::Vote { replica, vote } => sink.put(&replica_key(Kind::Vote, *replica), encode_vote(vote)),
        Record::Committed { replica, log_id: Some(log_id) } => {
            sink.put(&replica_key(Kind::Committed, *replica), encode_log_id(log_id));
        }
        Record::Committed { replica, log_id: None } => sink.delete(&replica_key(Kind::Committed, *replica)),
        Record::Truncate { replica, from } => {
            sink.delete_range(&entry_key(*replica, *from), &entries_end(*replica));
        }
        Record::Purge { replica, log_id } => {
            sink.put(&replica_key(Kind::Purged, *replica), encode_log_id(log_id));
            let mut end = [0; 18];
            let mut to = &mut end[..];
            // The successor of the last key to go, also where the index is the greatest.
            to.put_slice(&entry_key(*replica, log_id.index()));
            to.put_u8(0);
            sink.delete_range(&entry_key(*replica, 0), &end);
        }
        Record::Replica(record) => {
            sink.put(&replica_key(Kind::Replica, record.replica), encode_replica_record(record));
        }
        Record::Destroy { replica } => {
            sink.delete_range(&entry_key(*replica, 0), &entries_end(*replica));
            for kind in [Kind::Vote, Kind::Committed, Kind::Purged, Kind::Replica] {
                sink.delete(&replica_key(kind, *replica));
            }
        }
    }
}

fn encode_vote(vote: &Vote) -> Bytes {
    let mut out = BytesMut::with_capacity(17);
    out.put_u64(vote.leader_id.term);
    out.put_u64(vote.leader_id.voted_for);
    out.put_u8(u8::from(vote.committed));
    out.freeze()
}

/// The vote that bytes hold.
pub fn decode_vote(mut bytes: &[u8]) -> Option<Vote> {
    let term = bytes.try_get_u64().ok()?;
    let voted_for = bytes.try_get_u64().ok()?;
    let committed = match bytes {
        [0] => false,
        [1] => true,
        _ => return None,
    };
    Some(Vote { leader_id: LeaderIdOf::<TypeConfig> { term, voted_for }, committed })
}

fn encode_log_id(log_id: &LogId) -> Bytes {
    let mut out = BytesMut::with_capacity(16);
    out.put_u64(**log_id.committed_leader_id());
    out.put_u64(log_id.index());
    out.freeze()
}

/// The position that bytes hold.
pub fn decode_log_id(mut bytes: &[u8]) -> Option<LogId> {
    let term = bytes.try_get_u64().ok()?;
    let index = bytes.try_get_u64().ok()?;
    bytes.is_empty().then(|| LogId::new_term_index(term, index))
}

fn encode_replica_record(record: &ReplicaRecord) -> Bytes {
    let mut out = BytesMut::with_capacity(9 + record.birth.len());
    out.put_u8(match record.state {
        ReplicaState::Alive => ALIVE,
        ReplicaState::Destroying => DESTROYING,
    });
    out.put_u64(record.group.0);
    out.put_slice(&record.birth);
    out.freeze()
}

/// The replica record that bytes hold.
pub fn decode_replica_record(replica: ReplicaId, mut bytes: &[u8]) -> Option<ReplicaRecord> {
    let state = match bytes.try_get_u8().ok()? {
        ALIVE => ReplicaState::Alive,
        DESTROYING => ReplicaState::Destroying,
        _ => return None,
    };
    let group = PartitionId(bytes.try_get_u64().ok()?);
    Some(ReplicaRecord { group, replica, birth: Bytes::copy_from_slice(bytes), state })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLICA: ReplicaId = ReplicaId(0x0102);

    #[test]
    fn the_bytes_of_keys_are_pinned() {
        assert_eq!(FORMAT_KEY, [0]);
        assert_eq!(replica_key(Kind::Replica, REPLICA), [1, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(replica_key(Kind::Vote, REPLICA), [2, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(replica_key(Kind::Committed, REPLICA), [3, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(replica_key(Kind::Purged, REPLICA), [4, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(entry_key(REPLICA, 0x0304), [5, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 3, 4]);
    }

    #[test]
    fn the_bytes_of_values_are_pinned() {
        let vote = Vote { leader_id: LeaderIdOf::<TypeConfig> { term: 7, voted_for: 9 }, committed: true };
        let bytes = encode_vote(&vote);
        assert_eq!(&bytes[..], [0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9, 1]);
        assert_eq!(decode_vote(&bytes), Some(vote));

        let log_id = LogId::new_term_index(7, 42);
        let bytes = encode_log_id(&log_id);
        assert_eq!(&bytes[..], [0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 42]);
        assert_eq!(decode_log_id(&bytes), Some(log_id));

        let record = ReplicaRecord {
            group: PartitionId(3),
            replica: REPLICA,
            birth: Bytes::from_static(b"b"),
            state: ReplicaState::Destroying,
        };
        let bytes = encode_replica_record(&record);
        assert_eq!(&bytes[..], [2, 0, 0, 0, 0, 0, 0, 0, 3, b'b']);
        assert_eq!(decode_replica_record(REPLICA, &bytes), Some(record));
    }

    #[test]
    fn entries_lie_in_the_order_of_their_indexes_and_apart_from_other_replicas() {
        let next = ReplicaId(REPLICA.0 + 1);
        assert!(entry_key(REPLICA, 255) < entry_key(REPLICA, 256));
        assert!(entry_key(REPLICA, u64::MAX)[..] < entries_end(REPLICA)[..]);
        assert!(entries_end(REPLICA)[..] < entry_key(next, 0)[..]);
        assert_eq!(index_of(REPLICA, &entry_key(REPLICA, 5)), Some(5));
        assert_eq!(index_of(REPLICA, &entry_key(next, 5)), None);
        assert_eq!(replica_of(Kind::Entry, &entry_key(next, 5)), Some(next));
        assert_eq!(replica_of(Kind::Vote, &entry_key(next, 5)), None);
    }

    #[test]
    fn damaged_values_are_not_taken_for_good_ones() {
        assert_eq!(decode_vote(&[0; 16]), None);
        assert_eq!(decode_vote(&[2; 17]), None);
        assert_eq!(decode_log_id(&[0; 17]), None);
        assert_eq!(decode_replica_record(REPLICA, &[9; 9]), None);
    }
}
