//! Where scans stand.
//!
//! A cursor of SCAN is a whole number, and a key does not fit into one. So a cursor holds the
//! bucket and a hash of the last key that was given; any node can go on from that by looking for
//! the key. The node that gave it also remembers the key itself, for a while, which spares it the
//! search.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;
use placement::Bucket;

use crate::partition::read::{HASH_BITS, key_hash};
use crate::router::whole_table::FromKey;

/// Positions that are remembered.
const REMEMBERED: usize = 4096;

/// The positions that this node gave.
#[derive(Debug, Default)]
pub struct Cursors {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    keys: HashMap<(String, u64), Bytes>,
    order: VecDeque<(String, u64)>,
}

/// The cursor at the beginning of a bucket. That of the first is 0.
pub fn at_bucket(bucket: u16) -> u64 {
    if bucket == 0 { 0 } else { (u64::from(bucket) + 1) << HASH_BITS }
}

impl Cursors {
    /// The cursor after a key.
    pub fn after(&self, table: &str, bucket: Bucket, key: &Bytes) -> u64 {
        let cursor = (u64::from(bucket.0) + 1) << HASH_BITS | key_hash(key);
        let mut known = self.known.lock();
        let name = (table.to_owned(), cursor);
        match known.keys.get_mut(&name) {
            // Of two keys with the same hash the earlier counts: showing a key again is allowed,
            // leaving one out is not.
            Some(other) if *other <= *key => {}
            Some(other) => *other = key.clone(),
            None => {
                known.keys.insert(name.clone(), key.clone());
                known.order.push_back(name);
                if known.order.len() > REMEMBERED
                    && let Some(oldest) = known.order.pop_front()
                {
                    known.keys.remove(&oldest);
                }
            }
        }
        cursor
    }

    /// Where a cursor stands; none if no scan ever gave it.
    pub fn position(&self, table: &str, cursor: u64) -> Option<(u16, FromKey)> {
        if cursor == 0 {
            return Some((0, FromKey::First));
        }
        let bucket = u16::try_from((cursor >> HASH_BITS).checked_sub(1)?).ok()?;
        let hash = cursor & ((1 << HASH_BITS) - 1);
        if hash == 0 {
            return Some((bucket, FromKey::First));
        }
        let known = self.known.lock().keys.get(&(table.to_owned(), cursor)).cloned();
        Some(match known {
            Some(key) => (bucket, FromKey::after(&key)),
            None => (bucket, FromKey::AfterHash(hash)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_node_can_go_on() {
        let (one, other) = (Cursors::default(), Cursors::default());
        let key = Bytes::from_static(b"k");
        let cursor = one.after("t", Bucket(1023), &key);
        assert!(cursor < 1 << 53, "it is a whole number in every language");
        assert_eq!(one.position("t", cursor), Some((1023, FromKey::At(Bytes::from_static(b"k\0")))));
        assert_eq!(other.position("t", cursor), Some((1023, FromKey::AfterHash(key_hash(b"k")))));
        assert_eq!(other.position("t", at_bucket(5)), Some((5, FromKey::First)));
        assert_eq!(other.position("t", 0), Some((0, FromKey::First)));
        assert_eq!(other.position("t", 7), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let cursors = Cursors::default();
        for number in 0..REMEMBERED + 100 {
            cursors.after("t", Bucket(0), &Bytes::from(number.to_string()));
        }
        assert_eq!(cursors.known.lock().keys.len(), REMEMBERED);
    }
}
