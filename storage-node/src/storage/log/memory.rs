//! The log in memory: the twin of the one on disk, for simulations.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use placement::ReplicaId;

use super::engine::{LogEngine, Positions, Record, ReplicaRecord};
use super::error::LogError;
use super::keys::{self, KeySink, Kind};
use crate::raft::entry::decode_entry;
use crate::raft::type_config::{Entry, LogId};

type Keys = BTreeMap<Vec<u8>, Bytes>;

/// Keeps the logs of all replicas in memory, with the bytes that a disk would hold.
///
/// A write is visible before it is synced and lost in a [crash](Self::crash) until then, as
/// with a disk.
#[derive(Default)]
pub struct MemoryEngine {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What reads see.
    visible: Keys,
    /// What a crash leaves.
    durable: Keys,
    held: bool,
    waiting: bool,
    syncs: u64,
}

impl MemoryEngine {
    /// The disk as a crash at this moment leaves it: without all that was not yet synced.
    /// Whoever still writes to the old one no longer changes anything that counts.
    #[must_use]
    pub fn crash(&self) -> Self {
        let durable = self.state.lock().durable.clone();
        let state = State { visible: durable.clone(), durable, ..State::default() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// From now on no sync ends before [`release_syncs`](Self::release_syncs).
    pub fn hold_syncs(&self) {
        self.state.lock().held = true;
    }

    /// Lets syncs end.
    pub fn release_syncs(&self) {
        self.state.lock().held = false;
        self.changed.notify_all();
    }

    /// Blocks until a sync waits for its release.
    pub fn wait_until_held(&self) {
        let mut state = self.state.lock();
        while !state.waiting {
            self.changed.wait(&mut state);
        }
    }

    /// How many syncs have ended.
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }
}

impl LogEngine for MemoryEngine {
    fn write(&self, records: &[Record]) -> Result<(), LogError> {
        let mut state = self.state.lock();
        for record in records {
            keys::lower(record, &mut state.visible);
        }
        state.waiting = true;
        self.changed.notify_all();
        while state.held {
            self.changed.wait(&mut state);
        }
        state.waiting = false;
        for record in records {
            keys::lower(record, &mut state.durable);
        }
        state.syncs += 1;
        Ok(())
    }

    fn read_entries(
        &self,
        replica: ReplicaId,
        range: Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, LogError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let state = self.state.lock();
        let bounds =
            keys::entry_key(replica, range.start).to_vec()..keys::entry_key(replica, range.end).to_vec();
        let mut entries = Vec::new();
        let mut bytes = 0;
        for (key, value) in state.visible.range(bounds) {
            if !entries.is_empty() {
                bytes += value.len();
                if bytes > max_bytes {
                    break;
                }
            }
            let index = keys::index_of(replica, key).unwrap_or_default();
            entries.push(decode_entry(value.clone()).map_err(|source| LogError::Entry {
                replica,
                index,
                source,
            })?);
        }
        Ok(entries)
    }

    fn positions(&self, replica: ReplicaId) -> Result<Positions, LogError> {
        let state = self.state.lock();
        let value = |kind| state.visible.get(&keys::replica_key(kind, replica)[..]).map(|value| &value[..]);
        let log_id = |kind, what| {
            let parse = |value| keys::decode_log_id(value).ok_or(LogError::Record { replica, what });
            value(kind).map(parse).transpose()
        };
        let purged = log_id(Kind::Purged, "the purged position")?;
        let entries = keys::entry_key(replica, 0).to_vec()..keys::entries_end(replica).to_vec();
        let last = state.visible.range(entries).next_back();
        let last = last.map(|(key, value)| last_of(replica, key, value.clone())).transpose()?;
        Ok(Positions {
            vote: value(Kind::Vote)
                .map(|value| keys::decode_vote(value).ok_or(LogError::Record { replica, what: "the vote" }))
                .transpose()?,
            committed: log_id(Kind::Committed, "the commit position")?,
            purged,
            last: last.max(purged),
        })
    }

    fn replica_records(&self) -> Result<Vec<ReplicaRecord>, LogError> {
        let state = self.state.lock();
        let from = keys::replica_key(Kind::Replica, ReplicaId(0)).to_vec();
        let records = state.visible.range(from..);
        records
            .map_while(|(key, value)| keys::replica_of(Kind::Replica, key).map(|replica| (replica, value)))
            .map(|(replica, value)| {
                keys::decode_replica_record(replica, value)
                    .ok_or(LogError::Record { replica, what: "the replica's own record" })
            })
            .collect()
    }

    fn replicas(&self) -> Result<Vec<ReplicaId>, LogError> {
        let state = self.state.lock();
        let of_key = |key: &[u8]| Kind::ALL.into_iter().find_map(|kind| keys::replica_of(kind, key));
        let all = (Bound::Unbounded::<Vec<u8>>, Bound::Unbounded);
        let mut replicas: Vec<_> = state.visible.range(all).filter_map(|(key, _)| of_key(key)).collect();
        replicas.sort_unstable();
        replicas.dedup();
        Ok(replicas)
    }

    fn reads_block(&self) -> bool {
        false
    }
}

/// The id of the entry under a key.
pub(super) fn last_of(replica: ReplicaId, key: &[u8], value: Bytes) -> Result<LogId, LogError> {
    let index = keys::index_of(replica, key).unwrap_or_default();
    let entry = decode_entry(value).map_err(|source| LogError::Entry { replica, index, source })?;
    Ok(entry.log_id)
}

impl KeySink for Keys {
    fn put(&mut self, key: &[u8], value: Bytes) {
        self.insert(key.to_vec(), value);
    }

    fn delete(&mut self, key: &[u8]) {
        self.remove(key);
    }

    fn delete_range(&mut self, from: &[u8], to: &[u8]) {
        let mut tail = self.split_off(from);
        self.append(&mut tail.split_off(to));
    }
}
