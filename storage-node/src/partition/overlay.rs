//! The state as it will be once the commands at hand are written: later commands see what
//! earlier ones did, and each key is written once however often it changed.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use placement::{Bucket, BucketRange, TableId};

use super::descriptor::Descriptor;
use crate::storage::item::StoredItem;
use crate::storage::keys;
use crate::storage::state::{Changes, StateError, StateResult, StateView};

/// Changes that are not written yet, over the state as it is written.
#[derive(Debug, Default)]
pub struct Overlay {
    pending: HashMap<Bytes, Pending>,
    /// What a command that may still be undone has replaced.
    undo: Vec<(Bytes, Option<Pending>)>,
    recording: bool,
    bytes: usize,
    /// Buckets of which nothing that is written counts any more.
    cleared: BTreeSet<Bucket>,
}

#[derive(Debug, Clone)]
struct Pending {
    bucket: Bucket,
    item: Option<StoredItem>,
}

impl Overlay {
    /// The item of a key, ended ones included.
    pub fn get(
        &self,
        key: &[u8],
        bucket: Bucket,
        table: TableId,
        state: &dyn StateView,
    ) -> StateResult<Option<StoredItem>> {
        match self.pending.get(key) {
            Some(pending) => Ok(pending.item.clone()),
            None if self.cleared.contains(&bucket) => Ok(None),
            None => read_item(state, table, bucket, key),
        }
    }

    /// Removes everything in a run of buckets. It is not among what can be undone.
    pub fn clear(&mut self, buckets: BucketRange) {
        self.pending.retain(|_, pending| !buckets.contains(pending.bucket));
        self.cleared.extend(buckets.iter());
        self.bytes += 64;
    }

    /// Sets or, with none, removes the item of a key.
    pub fn set(&mut self, key: Bytes, bucket: Bucket, item: Option<StoredItem>) {
        self.bytes += key.len() + item.as_ref().map_or(0, |item| item.value.len()) + 64;
        let before = self.pending.insert(key.clone(), Pending { bucket, item });
        if self.recording {
            self.undo.push((key, before));
        }
    }

    /// From here on, changes can be undone together.
    pub fn begin(&mut self) {
        self.undo.clear();
        self.recording = true;
    }

    /// The changes since [`Overlay::begin`] stay.
    pub fn keep(&mut self) {
        self.undo.clear();
        self.recording = false;
    }

    /// The changes since [`Overlay::begin`] never happened.
    pub fn undo(&mut self) {
        self.recording = false;
        for (key, before) in std::mem::take(&mut self.undo).into_iter().rev() {
            match before {
                Some(before) => self.pending.insert(key, before),
                None => self.pending.remove(&key),
            };
        }
    }

    /// Whether nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.cleared.is_empty()
    }

    /// About how much there is to write.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Turns everything pending into changes, and is empty then.
    ///
    /// An expiry entry that an older item of the same key has is left where it is: when it is
    /// due, the item is found to say otherwise, and only the entry goes.
    pub fn drain_into(&mut self, descriptor: &Descriptor, changes: &mut Changes) {
        self.bytes = 0;
        for bucket in std::mem::take(&mut self.cleared) {
            changes.delete_range(keys::items_of(descriptor.table, bucket));
            changes.delete_range(keys::due_by(descriptor.table, bucket, u64::MAX));
        }
        for (key, Pending { bucket, item }) in self.pending.drain() {
            let stored = keys::item(descriptor.table, bucket, &key);
            let Some(item) = item else {
                changes.delete(stored);
                continue;
            };
            if item.deadline_ms > 0 {
                changes.put(keys::expiry(descriptor.table, bucket, item.deadline_ms, &key), Bytes::new());
            }
            changes.put(stored, item.encode());
        }
    }
}

/// The item of a key as it is written, ended ones included.
pub fn read_item(
    state: &dyn StateView,
    table: TableId,
    bucket: Bucket,
    key: &[u8],
) -> StateResult<Option<StoredItem>> {
    let Some(bytes) = state.get(&keys::item(table, bucket, key))? else { return Ok(None) };
    StoredItem::decode(bytes).map(Some).map_err(|why| damaged(table, key, &why))
}

/// The error for an item that cannot be read.
pub fn damaged(table: TableId, key: &[u8], why: &dyn std::error::Error) -> StateError {
    StateError::Damaged {
        what: format!("the item {:?} of table {table}", String::from_utf8_lossy(key)),
        why: why.to_string(),
    }
}
