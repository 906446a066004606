//! An item as it is stored under its key.
//!
//! ```text
//! format and content u8 │ version u64 │ deadline u64 (0: none) │ value
//! ```
//!
//! The high half of the first byte is the format (1), the low half the content kind.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use proto::v1::{ContentKind, Item};

const FORMAT: u8 = 1;
const HEAD: usize = 1 + 8 + 8;

/// A stored item, without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredItem {
    /// Grows with every change.
    pub version: u64,
    /// When it ends, by its partition's clock; 0: never.
    pub deadline_ms: u64,
    /// What the value is, for those who show it.
    pub content: ContentKind,
    /// The value.
    pub value: Bytes,
}

/// Why bytes are not an item.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadItem {
    /// Written by a newer program.
    #[error("item of format {0}; this program knows format {FORMAT}: run a newer one")]
    Format(u8),
    /// Cut short or damaged.
    #[error("damaged item record")]
    Damaged,
}

impl StoredItem {
    /// The item as bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEAD + self.value.len());
        out.put_u8(FORMAT << 4 | self.content as u8);
        out.put_u64(self.version);
        out.put_u64(self.deadline_ms);
        out.put_slice(&self.value);
        out.freeze()
    }

    /// The item that bytes hold; the value shares them.
    pub fn decode(mut bytes: Bytes) -> Result<Self, BadItem> {
        if bytes.len() < HEAD {
            return Err(BadItem::Damaged);
        }
        let first = bytes.get_u8();
        if first >> 4 != FORMAT {
            return Err(BadItem::Format(first >> 4));
        }
        let content = ContentKind::try_from(i32::from(first & 0x0F)).map_err(|_| BadItem::Damaged)?;
        let version = bytes.get_u64();
        let deadline_ms = bytes.get_u64();
        Ok(Self { version, deadline_ms, content, value: bytes })
    }

    /// Only what is needed to know whether the item exists: version and deadline.
    pub fn decode_head(bytes: &[u8]) -> Result<(u64, u64), BadItem> {
        let head: &[u8; HEAD] = bytes.first_chunk().ok_or(BadItem::Damaged)?;
        let mut head = &head[..];
        let first = head.get_u8();
        if first >> 4 != FORMAT {
            return Err(BadItem::Format(first >> 4));
        }
        Ok((head.get_u64(), head.get_u64()))
    }

    /// Whether it has ended by that clock. An item is gone *at* its deadline.
    pub fn is_due(&self, clock_ms: u64) -> bool {
        is_due(self.deadline_ms, clock_ms)
    }

    /// The item as it is shown, with its key.
    pub fn show(self, key: Bytes, clock_ms: u64) -> Item {
        let ttl_ms = (self.deadline_ms > 0).then(|| self.deadline_ms.saturating_sub(clock_ms));
        let deadline_ms = (self.deadline_ms > 0).then_some(self.deadline_ms);
        Item {
            key,
            value: self.value,
            version: self.version,
            content: self.content.into(),
            ttl_ms,
            deadline_ms,
            size: 0,
        }
    }

    /// The item without its value, with the value's length instead.
    pub fn outline(self, key: Bytes, clock_ms: u64) -> Item {
        let size = self.value.len() as u64;
        Item { value: Bytes::new(), size, ..self.show(key, clock_ms) }
    }
}

/// Whether something with that deadline has ended by that clock.
pub fn is_due(deadline_ms: u64, clock_ms: u64) -> bool {
    deadline_ms > 0 && deadline_ms <= clock_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item() -> StoredItem {
        StoredItem {
            version: 3,
            deadline_ms: 9,
            content: ContentKind::Json,
            value: Bytes::from_static(b"{}"),
        }
    }

    #[test]
    fn the_bytes_are_pinned_and_read_back() {
        let bytes = item().encode();
        assert_eq!(&bytes[..], [0x12, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 9, b'{', b'}']);
        assert_eq!(StoredItem::decode_head(&bytes), Ok((3, 9)));
        assert_eq!(StoredItem::decode(bytes), Ok(item()));
    }

    #[test]
    fn an_item_is_gone_at_its_deadline() {
        assert!(!item().is_due(8) && item().is_due(9));
        assert!(!StoredItem { deadline_ms: 0, ..item() }.is_due(u64::MAX));
    }

    #[test]
    fn damage_is_noticed() {
        assert_eq!(StoredItem::decode(Bytes::from_static(b"x")), Err(BadItem::Damaged));
        let mut newer = item().encode().to_vec();
        newer[0] = 0x20;
        assert_eq!(StoredItem::decode(newer.into()), Err(BadItem::Format(2)));
    }
}
