//! Every key of the state database, in one place.
//!
//! ```text
//! table u32 │ bucket u16 │ kind u8 │ …            all integers big-endian, and must stay so:
//!                                                 the order of the bytes is the order of the scan
//!
//! a table's data   table ≥ 1
//!   item           table │ bucket │ 1 │ key
//!   expiry         table │ bucket │ 2 │ deadline u64 │ key
//!   changes        table │ bucket │ 3 │ last revision u64    what one entry changed in the bucket
//!   index entry    table │ bucket │ 4 │ index u32 │ 1 │ value as `index::value` encodes it │ key
//!   index claim    table │ bucket │ 4 │ index u32 │ 2 │ length u16 │ {tag} │ value      who has it
//!
//! reserved table 0, bucket 0
//!   format         0 │ 0 │ 0
//!   group record   0 │ 0 │ 16 │ group u64 │ record u8 │ …
//!   meta record    0 │ 0 │ 17 │ as `meta::records` lays it out
//! ```
//!
//! The bucket, not the partition, is in the key: a partition is split without moving a
//! byte, its data is one run of keys, and an ordered scan merges one sorted run per bucket.

use bytes::{BufMut, Bytes, BytesMut};
use placement::{Bucket, BucketRange, PartitionId, TableId};

const PREFIX: usize = 4 + 2 + 1;
const ITEM: u8 = 1;
const EXPIRY: u8 = 2;
const CHANGES: u8 = 3;
const INDEX: u8 = 4;
const INDEX_ENTRY: u8 = 1;
const INDEX_CLAIM: u8 = 2;
const RESERVED_TABLE: u32 = 0;
const FORMAT: u8 = 0;
const GROUP: u8 = 16;
const META: u8 = 17;

/// A record of a group, beside its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum GroupRecord {
    /// Applied id, clock, counters.
    Progress = 1,
    /// The membership that was applied last.
    Membership = 2,
    /// What the group owns.
    Descriptor = 3,
    /// A client's session; the client's id follows.
    Session = 4,
    /// What the table is like, as the group was told.
    Settings = 5,
    /// How much history there was at a revision, which follows.
    HistoryMark = 6,
    /// How far it is with an index, whose id follows.
    Index = 7,
    /// By which split the group began.
    Origin = 9,
}

/// A run of keys: from the first, up to but without the second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key of the run.
    pub start: Bytes,
    /// The first key after it.
    pub end: Bytes,
}

fn head(table: u32, bucket: u16, kind: u8, room: usize) -> BytesMut {
    let mut key = BytesMut::with_capacity(PREFIX + room);
    key.put_u32(table);
    key.put_u16(bucket);
    key.put_u8(kind);
    key
}

/// The key of an item.
pub fn item(table: TableId, bucket: Bucket, key: &[u8]) -> Bytes {
    let mut out = head(table.0, bucket.0, ITEM, key.len());
    out.put_slice(key);
    out.freeze()
}

/// The user's key in the key of an item.
pub fn user_key(item: &[u8]) -> &[u8] {
    item.get(PREFIX..).unwrap_or_default()
}

/// All items of a bucket.
pub fn items_of(table: TableId, bucket: Bucket) -> KeyRange {
    KeyRange {
        start: head(table.0, bucket.0, ITEM, 0).freeze(),
        end: head(table.0, bucket.0, ITEM + 1, 0).freeze(),
    }
}

/// The entry of an item in its bucket's expiry index.
pub fn expiry(table: TableId, bucket: Bucket, deadline_ms: u64, key: &[u8]) -> Bytes {
    let mut out = head(table.0, bucket.0, EXPIRY, 8 + key.len());
    out.put_u64(deadline_ms);
    out.put_slice(key);
    out.freeze()
}

/// A bucket's expiry index, up to and with a deadline.
pub fn due_by(table: TableId, bucket: Bucket, deadline_ms: u64) -> KeyRange {
    due_between(table, bucket, 0, deadline_ms)
}

/// A bucket's expiry index between two deadlines, both included.
pub fn due_between(table: TableId, bucket: Bucket, from_ms: u64, deadline_ms: u64) -> KeyRange {
    let start = expiry(table, bucket, from_ms, b"");
    let end = match deadline_ms.checked_add(1) {
        Some(after) => expiry(table, bucket, after, b""),
        None => head(table.0, bucket.0, EXPIRY + 1, 0).freeze(),
    };
    KeyRange { start, end }
}

/// The deadline and the user's key in an entry of the expiry index.
pub fn parse_expiry(entry: &[u8]) -> Option<(u64, &[u8])> {
    let (deadline, key) = entry.get(PREFIX..)?.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*deadline), key))
}

/// What an entry changed in a bucket, by the last revision of it.
pub fn changes(table: TableId, bucket: Bucket, last_revision: u64) -> Bytes {
    let mut out = head(table.0, bucket.0, CHANGES, 8);
    out.put_u64(last_revision);
    out.freeze()
}

/// What was changed in a bucket after a revision.
pub fn changes_after(table: TableId, bucket: Bucket, revision: u64) -> KeyRange {
    let end = head(table.0, bucket.0, CHANGES + 1, 0).freeze();
    let start = revision.checked_add(1).map(|next| changes(table, bucket, next));
    KeyRange { start: start.unwrap_or_else(|| end.clone()), end }
}

/// What was changed in a bucket up to and with a revision.
pub fn changes_up_to(table: TableId, bucket: Bucket, revision: u64) -> KeyRange {
    let KeyRange { start: end, .. } = changes_after(table, bucket, revision);
    KeyRange { start: head(table.0, bucket.0, CHANGES, 0).freeze(), end }
}

fn index_head(table: TableId, bucket: Bucket, index: u32, part: u8, room: usize) -> BytesMut {
    let mut out = head(table.0, bucket.0, INDEX, 5 + room);
    out.put_u32(index);
    out.put_u8(part);
    out
}

/// The entry of an item in an index of its bucket.
pub fn index_entry(table: TableId, bucket: Bucket, index: u32, value: &[u8], key: &[u8]) -> Bytes {
    let mut out = index_head(table, bucket, index, INDEX_ENTRY, value.len() + key.len());
    out.put_slice(value);
    out.put_slice(key);
    out.freeze()
}

/// The value and the user's key in an entry of an index, one behind the other.
pub fn parse_index_entry(entry: &[u8]) -> &[u8] {
    entry.get(PREFIX + 5..).unwrap_or_default()
}

/// The entries of an index in a bucket between two values, or places among them.
pub fn index_entries(table: TableId, bucket: Bucket, index: u32, start: &[u8], end: &[u8]) -> KeyRange {
    let bound = |value| index_entry(table, bucket, index, value, b"");
    KeyRange { start: bound(start), end: bound(end) }
}

/// Where it is kept who has a value that only one key of a `{tag}` may have.
pub fn index_claim(table: TableId, bucket: Bucket, index: u32, tag: &[u8], value: &[u8]) -> Bytes {
    let mut out = index_head(table, bucket, index, INDEX_CLAIM, 2 + tag.len() + value.len());
    out.put_u16(u16::try_from(tag.len()).unwrap_or(u16::MAX));
    out.put_slice(tag);
    out.put_slice(value);
    out.freeze()
}

/// Everything of an index in a bucket.
pub fn index_of(table: TableId, bucket: Bucket, index: u32) -> KeyRange {
    let start = index_head(table, bucket, index, 0, 0).freeze();
    let end = index_head(table, bucket, index, u8::MAX, 0).freeze();
    KeyRange { start, end }
}

/// Everything of all indexes in a bucket.
pub fn indexes_of(table: TableId, bucket: Bucket) -> KeyRange {
    KeyRange {
        start: head(table.0, bucket.0, INDEX, 0).freeze(),
        end: head(table.0, bucket.0, INDEX + 1, 0).freeze(),
    }
}

/// Everything that buckets of a table hold.
pub fn data_of(table: TableId, buckets: BucketRange) -> KeyRange {
    let end = match buckets.last.0.checked_add(1) {
        Some(next) => head(table.0, next, 0, 0).freeze(),
        None => Bytes::copy_from_slice(&(table.0 + 1).to_be_bytes()),
    };
    KeyRange { start: head(table.0, buckets.first.0, 0, 0).freeze(), end }
}

/// The format of the database.
pub fn format() -> Bytes {
    head(RESERVED_TABLE, 0, FORMAT, 0).freeze()
}

/// A record of a group.
pub fn group_record(group: PartitionId, record: GroupRecord) -> Bytes {
    let mut out = head(RESERVED_TABLE, 0, GROUP, 9);
    out.put_u64(group.0);
    out.put_u8(record as u8);
    out.freeze()
}

/// The record of a client's session in a group.
pub fn session(group: PartitionId, client: &[u8; 16]) -> Bytes {
    let mut out = BytesMut::from(group_record(group, GroupRecord::Session).as_ref());
    out.put_slice(client);
    out.freeze()
}

/// The client in the key of a session.
pub fn session_client(key: &[u8]) -> Option<[u8; 16]> {
    key.get(PREFIX + 9..)?.try_into().ok()
}

/// All sessions of a group.
pub fn sessions_of(group: PartitionId) -> KeyRange {
    all_of(group, GroupRecord::Session)
}

/// How far a group is with an index.
pub fn index_record(group: PartitionId, index: u32) -> Bytes {
    let mut out = BytesMut::from(group_record(group, GroupRecord::Index).as_ref());
    out.put_u32(index);
    out.freeze()
}

/// How much history a group had at a revision.
pub fn history_mark(group: PartitionId, revision: u64) -> Bytes {
    let mut out = BytesMut::from(group_record(group, GroupRecord::HistoryMark).as_ref());
    out.put_u64(revision);
    out.freeze()
}

/// The revision in the key of a mark.
pub fn history_mark_revision(key: &[u8]) -> Option<u64> {
    key.get(PREFIX + 9..)?.try_into().ok().map(u64::from_be_bytes)
}

/// All marks of a group.
pub fn history_marks_of(group: PartitionId) -> KeyRange {
    all_of(group, GroupRecord::HistoryMark)
}

fn all_of(group: PartitionId, record: GroupRecord) -> KeyRange {
    let mut end = head(RESERVED_TABLE, 0, GROUP, 9);
    end.put_u64(group.0);
    end.put_u8(record as u8 + 1);
    KeyRange { start: group_record(group, record), end: end.freeze() }
}

/// The same record of another group; none: the key is of no group's record.
pub fn record_of_another(key: &[u8], group: PartitionId) -> Option<Bytes> {
    let record = key.get(PREFIX + 8..).filter(|record| !record.is_empty())?;
    let mut out = head(RESERVED_TABLE, 0, GROUP, 8 + record.len());
    out.put_u64(group.0);
    out.put_slice(record);
    Some(out.freeze())
}

/// Which record of a group a key is of; see [`GroupRecord`].
pub fn record_kind(key: &[u8]) -> Option<u8> {
    key.get(PREFIX + 8).copied()
}

/// The group of a record's key.
pub fn record_group(key: &[u8]) -> Option<PartitionId> {
    let (group, _) = key.get(PREFIX..)?.split_first_chunk::<8>()?;
    Some(PartitionId(u64::from_be_bytes(*group)))
}

/// The records of the group of that number and of all with greater ones.
pub fn records_from(group: PartitionId) -> KeyRange {
    KeyRange { start: records_of(group).start, end: head(RESERVED_TABLE, 0, GROUP + 1, 0).freeze() }
}

/// All records of a group, its data not among them.
pub fn records_of(group: PartitionId) -> KeyRange {
    let bound = |group: Option<u64>| match group {
        Some(group) => {
            let mut out = head(RESERVED_TABLE, 0, GROUP, 8);
            out.put_u64(group);
            out.freeze()
        }
        None => head(RESERVED_TABLE, 0, GROUP + 1, 0).freeze(),
    };
    KeyRange { start: bound(Some(group.0)), end: bound(group.0.checked_add(1)) }
}

/// A record of the meta group's state.
pub fn meta_record(record: &[u8]) -> Bytes {
    let mut out = head(RESERVED_TABLE, 0, META, record.len());
    out.put_slice(record);
    out.freeze()
}

/// What `meta::records` calls a record whose key this is.
pub fn parse_meta_record(key: &[u8]) -> &[u8] {
    key.get(PREFIX..).unwrap_or_default()
}

/// The meta group's whole state.
pub fn meta_records() -> KeyRange {
    KeyRange {
        start: head(RESERVED_TABLE, 0, META, 0).freeze(),
        end: head(RESERVED_TABLE, 0, META + 1, 0).freeze(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: TableId = TableId(0x0102_0304);
    const BUCKET: Bucket = Bucket(0x0506);

    #[test]
    fn the_bytes_are_pinned() {
        assert_eq!(&item(TABLE, BUCKET, b"k")[..], [1, 2, 3, 4, 5, 6, 1, b'k']);
        assert_eq!(&expiry(TABLE, BUCKET, 7, b"k")[..], [1, 2, 3, 4, 5, 6, 2, 0, 0, 0, 0, 0, 0, 0, 7, b'k']);
        assert_eq!(&format()[..], [0, 0, 0, 0, 0, 0, 0]);
        let progress = group_record(PartitionId(9), GroupRecord::Progress);
        assert_eq!(&progress[..], [0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 9, 1]);
        assert_eq!(session(PartitionId(9), &[7; 16])[15], 4);
        assert_eq!(&meta_record(b"n")[..], [0, 0, 0, 0, 0, 0, 17, b'n']);
        assert_eq!(&changes(TABLE, BUCKET, 7)[..], [1, 2, 3, 4, 5, 6, 3, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(&history_mark(PartitionId(9), 8)[14..], [9, 6, 0, 0, 0, 0, 0, 0, 0, 8]);
        let entry = index_entry(TABLE, BUCKET, 9, &[2, 1], b"k");
        assert_eq!(&entry[..], [1, 2, 3, 4, 5, 6, 4, 0, 0, 0, 9, 1, 2, 1, b'k']);
        let claim = index_claim(TABLE, BUCKET, 9, b"t", &[2, 1]);
        assert_eq!(&claim[..], [1, 2, 3, 4, 5, 6, 4, 0, 0, 0, 9, 2, 0, 1, b't', 2, 1]);
        assert_eq!(&index_record(PartitionId(9), 8)[14..], [9, 7, 0, 0, 0, 8]);
    }

    #[test]
    fn what_a_key_holds_can_be_read_back() {
        assert_eq!(user_key(&item(TABLE, BUCKET, b"key")), b"key");
        assert_eq!(parse_expiry(&expiry(TABLE, BUCKET, 99, b"key")), Some((99, &b"key"[..])));
        assert_eq!(session_client(&session(PartitionId(3), &[5; 16])), Some([5; 16]));
        assert_eq!(parse_meta_record(&meta_record(b"xyz")), b"xyz");
        assert_eq!(history_mark_revision(&history_mark(PartitionId(3), 12)), Some(12));
        assert_eq!(parse_index_entry(&index_entry(TABLE, BUCKET, 9, &[2, 1], b"k")), [2, 1, b'k']);
    }

    #[test]
    fn ranges_hold_their_own_and_nothing_else() {
        let inside = |range: &KeyRange, key: &[u8]| &range.start[..] <= key && key < &range.end[..];
        let buckets = BucketRange { first: Bucket(2), last: Bucket(3) };
        let data = data_of(TABLE, buckets);
        assert!(
            inside(&data, &item(TABLE, Bucket(2), b"")) && inside(&data, &expiry(TABLE, Bucket(3), 1, b""))
        );
        assert!(
            !inside(&data, &item(TABLE, Bucket(4), b""))
                && !inside(&data, &item(TABLE, Bucket(1), &[255; 9]))
        );
        let due = due_by(TABLE, BUCKET, 10);
        assert!(
            inside(&due, &expiry(TABLE, BUCKET, 10, &[255; 9]))
                && !inside(&due, &expiry(TABLE, BUCKET, 11, b""))
        );
        let records = records_of(PartitionId(9));
        assert!(inside(&records, &session(PartitionId(9), &[255; 16])));
        assert!(!inside(&records, &group_record(PartitionId(10), GroupRecord::Progress)));
        assert!(!inside(&items_of(TABLE, BUCKET), &expiry(TABLE, BUCKET, 0, b"")));
        let index = index_of(TABLE, BUCKET, 9);
        let claim = index_claim(TABLE, BUCKET, 9, &[255; 9], &[255; 9]);
        assert!(inside(&index, &claim) && inside(&index, &index_entry(TABLE, BUCKET, 9, b"", b"")));
        assert!(inside(&indexes_of(TABLE, BUCKET), &claim));
        assert!(!inside(&index, &index_entry(TABLE, BUCKET, 10, b"", b"")));
        assert!(!inside(&index_entries(TABLE, BUCKET, 9, &[0], &[255]), &claim));
    }
}
