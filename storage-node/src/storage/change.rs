//! What one entry changed in one bucket, as it is kept for those who follow.
//!
//! ```text
//! format u8 (1) │ clock u64 │ change, change, …
//!
//! change   kind u8 │ revision u64 │ key length u32 │ key │ after │ before
//! after    length u32 │ item as it is stored             only where something was written
//! before   length u32 │ item as it was stored            only where that is kept
//! cleared  kind u8 │ revision u64                         the whole bucket, nothing else
//! ```
//!
//! The low four bits of the kind say what happened, the highest that `before` follows. All
//! integers are big-endian.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::item::StoredItem;

const FORMAT: u8 = 1;
const HAS_BEFORE: u8 = 0x80;
const PUT: u8 = 1;
const DELETED: u8 = 2;
const EXPIRED: u8 = 3;
const CLEARED: u8 = 4;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredChange {
    /// The partition's counter after it: grows from change to change.
    pub revision: u64,
    /// What happened.
    pub what: Happened,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// A key was written.
    Put {
        /// The key.
        key: Bytes,
        /// What is there now.
        item: StoredItem,
        /// What was there, where that is kept and there was something.
        before: Option<StoredItem>,
    },
    /// A key went.
    Gone {
        /// The key.
        key: Bytes,
        /// Because its time had come; else somebody removed it.
        expired: bool,
        /// What was there, where that is kept.
        before: Option<StoredItem>,
    },
    /// Everything in the bucket went.
    Cleared,
}

/// What one entry changed in one bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeSet {
    /// The partition's clock when it was applied.
    pub clock_ms: u64,
    /// In the order in which it happened.
    pub changes: Vec<StoredChange>,
}

/// Why bytes are no change record.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadChanges {
    /// Written by a newer program.
    #[error("changes of format {0}; this program knows format {FORMAT}: run a newer one")]
    Format(u8),
    /// Cut short or damaged.
    #[error("damaged change record")]
    Damaged,
}

impl StoredChange {
    /// The key that changed; none: the whole bucket.
    pub fn key(&self) -> Option<&Bytes> {
        match &self.what {
            Happened::Put { key, .. } | Happened::Gone { key, .. } => Some(key),
            Happened::Cleared => None,
        }
    }

    /// About how much memory it takes.
    pub fn size(&self) -> usize {
        const AROUND: usize = 96;
        let of = |item: &Option<StoredItem>| item.as_ref().map_or(0, |item| item.value.len());
        AROUND
            + match &self.what {
                Happened::Put { key, item, before } => key.len() + item.value.len() + of(before),
                Happened::Gone { key, before, .. } => key.len() + of(before),
                Happened::Cleared => 0,
            }
    }

    fn encode(&self, out: &mut BytesMut) {
        let (kind, before) = match &self.what {
            Happened::Put { before, .. } => (PUT, before.as_ref()),
            Happened::Gone { expired: false, before, .. } => (DELETED, before.as_ref()),
            Happened::Gone { expired: true, before, .. } => (EXPIRED, before.as_ref()),
            Happened::Cleared => (CLEARED, None),
        };
        out.put_u8(kind | if before.is_some() { HAS_BEFORE } else { 0 });
        out.put_u64(self.revision);
        if let Some(key) = self.key() {
            put_block(out, key);
        }
        if let Happened::Put { item, .. } = &self.what {
            put_block(out, &item.encode());
        }
        if let Some(before) = before {
            put_block(out, &before.encode());
        }
    }

    fn decode(bytes: &mut Bytes) -> Result<Self, BadChanges> {
        let kind = bytes.try_get_u8().map_err(|_| BadChanges::Damaged)?;
        let revision = bytes.try_get_u64().map_err(|_| BadChanges::Damaged)?;
        let item =
            |bytes: &mut Bytes| StoredItem::decode(take_block(bytes)?).map_err(|_| BadChanges::Damaged);
        let before = |bytes: &mut Bytes| (kind & HAS_BEFORE != 0).then(|| item(bytes)).transpose();
        let what = match kind & !HAS_BEFORE {
            PUT => {
                let key = take_block(bytes)?;
                Happened::Put { key, item: item(bytes)?, before: before(bytes)? }
            }
            gone @ (DELETED | EXPIRED) => {
                let key = take_block(bytes)?;
                Happened::Gone { key, expired: gone == EXPIRED, before: before(bytes)? }
            }
            CLEARED => Happened::Cleared,
            _ => return Err(BadChanges::Damaged),
        };
        Ok(Self { revision, what })
    }
}

impl ChangeSet {
    /// As bytes.
    pub fn encode(&self) -> Bytes {
        let size: usize = self.changes.iter().map(StoredChange::size).sum();
        let mut out = BytesMut::with_capacity(9 + size);
        out.put_u8(FORMAT);
        out.put_u64(self.clock_ms);
        self.changes.iter().for_each(|change| change.encode(&mut out));
        out.freeze()
    }

    /// What [`ChangeSet::encode`] gave; keys and values share the bytes.
    pub fn decode(mut bytes: Bytes) -> Result<Self, BadChanges> {
        match bytes.try_get_u8() {
            Ok(FORMAT) => {}
            Ok(other) => return Err(BadChanges::Format(other)),
            Err(_) => return Err(BadChanges::Damaged),
        }
        let clock_ms = bytes.try_get_u64().map_err(|_| BadChanges::Damaged)?;
        let mut changes = Vec::new();
        while bytes.has_remaining() {
            changes.push(StoredChange::decode(&mut bytes)?);
        }
        Ok(Self { clock_ms, changes })
    }
}

fn put_block(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.put_slice(bytes);
}

fn take_block(bytes: &mut Bytes) -> Result<Bytes, BadChanges> {
    let length = bytes.try_get_u32().map_err(|_| BadChanges::Damaged)? as usize;
    if length > bytes.len() {
        return Err(BadChanges::Damaged);
    }
    Ok(bytes.split_to(length))
}

#[cfg(test)]
mod tests {
    use proto::v1::ContentKind;

    use super::*;

    fn item(version: u64) -> StoredItem {
        StoredItem { version, deadline_ms: 0, content: ContentKind::Text, value: Bytes::from_static(b"v") }
    }

    fn every_kind() -> ChangeSet {
        let key = Bytes::from_static(b"k");
        let change = |revision, what| StoredChange { revision, what };
        ChangeSet {
            clock_ms: 5,
            changes: vec![
                change(1, Happened::Put { key: key.clone(), item: item(1), before: None }),
                change(2, Happened::Put { key: key.clone(), item: item(2), before: Some(item(1)) }),
                change(3, Happened::Gone { key: key.clone(), expired: false, before: Some(item(2)) }),
                change(4, Happened::Gone { key, expired: true, before: None }),
                change(5, Happened::Cleared),
            ],
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(ChangeSet::decode(every_kind().encode()), Ok(every_kind()));
    }

    #[test]
    fn the_bytes_are_pinned() {
        let mut set = every_kind();
        set.changes.truncate(1);
        let mut wanted = vec![1, 0, 0, 0, 0, 0, 0, 0, 5];
        wanted.extend([1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, b'k', 0, 0, 0, 18]);
        wanted.extend_from_slice(&item(1).encode());
        assert_eq!(&set.encode()[..], wanted);
    }

    #[test]
    fn what_is_cut_short_is_noticed() {
        let whole = every_kind().encode();
        let ends: Vec<usize> = (1..=5)
            .map(|count| {
                let mut set = every_kind();
                set.changes.truncate(count);
                set.encode().len()
            })
            .collect();
        for length in (0..whole.len()).filter(|length| *length != 9 && !ends.contains(length)) {
            assert_eq!(ChangeSet::decode(whole.slice(..length)), Err(BadChanges::Damaged), "{length}");
        }
        let newer = [&[2_u8][..], &whole[1..]].concat();
        assert_eq!(ChangeSet::decode(newer.into()), Err(BadChanges::Format(2)));
    }
}
