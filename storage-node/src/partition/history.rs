//! What a partition remembers of its changes, for those who follow them.
//!
//! The changes of one entry to one bucket are one record, written with the data that they are
//! about. A record begins and ends with its entry on every replica, however many entries a replica
//! applied together, so all of them keep the same bytes.
//!
//! Every now and then a mark says how much history there was at a revision. Going by the marks, the
//! leader proposes to forget what is too old or too much; nobody forgets by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use placement::{Bucket, PartitionId};
use proto::v1::history_settings::Keep;
use proto::v1::{HistorySettings, TableSettings};

use super::descriptor::Descriptor;
use super::progress::Progress;
use crate::storage::change::{ChangeSet, StoredChange};
use crate::storage::keys;
use crate::storage::state::{Changes, StateError, StateResult, StateView};

/// How much is written between two marks, at least. A part of the format, as the next one is: all
/// replicas set the same marks.
const MARK_BYTES: u64 = 1 << 20;
/// How much time lies between two marks, at least, by the partition's clock.
const MARK_MS: u64 = 10_000;

/// How long a table's changes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// For so long.
    pub time: Duration,
    /// At most so many bytes.
    pub bytes: u64,
    /// Whether they say what was there before.
    pub before: bool,
}

/// What a table keeps that does not say.
pub const DEFAULT_RETENTION: Retention =
    Retention { time: Duration::from_secs(10 * 60), bytes: 64 << 20, before: false };

/// What one entry changed in one bucket, on its way to those who follow.
#[derive(Debug, Clone)]
pub struct Fresh {
    /// The bucket.
    pub bucket: Bucket,
    /// The changes.
    pub set: Arc<ChangeSet>,
}

impl Fresh {
    /// About how much memory it takes.
    pub fn size(&self) -> usize {
        self.set.changes.iter().map(StoredChange::size).sum()
    }
}

/// How much history there was at a revision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// The partition's clock then.
    pub clock_ms: u64,
    /// How much had been written.
    pub bytes: u64,
}

/// What is in memory of it.
#[derive(Debug)]
pub struct History {
    group: PartitionId,
    retention: Option<Retention>,
    last_mark: Mark,
    /// Of the entry that is being applied.
    entry: Vec<(Bucket, StoredChange)>,
    /// Of entries whose state is not shown yet.
    fresh: Vec<Fresh>,
}

/// What those settings keep; none: nothing.
pub fn retention_of(settings: Option<&HistorySettings>) -> Option<Retention> {
    let Some(settings) = settings else { return Some(DEFAULT_RETENTION) };
    match settings.keep() {
        Keep::Default => Some(Retention { before: settings.before, ..DEFAULT_RETENTION }),
        Keep::Off => None,
        Keep::Bounded => Some(Retention {
            time: Duration::from_millis(settings.keep_ms),
            bytes: settings.keep_bytes,
            before: settings.before,
        }),
    }
}

impl History {
    /// As it was written.
    pub fn load(
        group: PartitionId,
        settings: Option<&TableSettings>,
        state: &dyn StateView,
    ) -> StateResult<Self> {
        let walk = state.iterate(&keys::history_marks_of(group), true)?;
        let last_mark = match walk.current() {
            Some((_, value)) => Mark::decode(group, value)?,
            None => Mark::default(),
        };
        let retention = settings.and_then(|settings| retention_of(settings.history.as_ref()));
        Ok(Self { group, retention, last_mark, entry: Vec::new(), fresh: Vec::new() })
    }

    /// Whether changes are kept.
    pub fn is_on(&self) -> bool {
        self.retention.is_some()
    }

    /// Whether they say what was there before.
    pub fn keeps_before(&self) -> bool {
        self.retention.is_some_and(|retention| retention.before)
    }

    /// Goes by other settings from here on.
    pub fn configure(&mut self, settings: &TableSettings) {
        self.retention = retention_of(settings.history.as_ref());
    }

    /// Notes a change of the entry that is being applied.
    pub fn note(&mut self, bucket: Bucket, change: StoredChange) {
        if self.is_on() {
            self.entry.push((bucket, change));
        }
    }

    /// How many changes of the entry are noted.
    pub fn noted(&self) -> usize {
        self.entry.len()
    }

    /// Those after that many never happened.
    pub fn forget_after(&mut self, noted: usize) {
        self.entry.truncate(noted);
    }

    /// Turns what the entry changed into records.
    pub fn end_entry(&mut self, descriptor: &Descriptor, progress: &mut Progress, changes: &mut Changes) {
        if self.entry.is_empty() {
            return;
        }
        let clock_ms = progress.clock_ms;
        let mut sets: BTreeMap<Bucket, Vec<StoredChange>> = BTreeMap::new();
        for (bucket, change) in self.entry.drain(..) {
            sets.entry(bucket).or_default().push(change);
        }
        for (bucket, entry) in sets {
            let last = entry.last().map_or(progress.counter, |change| change.revision);
            let set = ChangeSet { clock_ms, changes: entry };
            let (key, record) = (keys::changes(descriptor.table, bucket, last), set.encode());
            progress.history_bytes += (key.len() + record.len()) as u64;
            changes.put(key, record);
            self.fresh.push(Fresh { bucket, set: Arc::new(set) });
        }
        let mark = Mark { clock_ms, bytes: progress.history_bytes };
        let due = mark.bytes - self.last_mark.bytes >= MARK_BYTES
            || clock_ms.saturating_sub(self.last_mark.clock_ms) >= MARK_MS;
        if due {
            self.last_mark = mark;
            changes.put(keys::history_mark(self.group, progress.counter), mark.encode());
        }
    }

    /// Forgets changes up to a revision, which must be the end of an entry.
    pub fn trim(
        &mut self,
        up_to: u64,
        descriptor: &Descriptor,
        progress: &mut Progress,
        changes: &mut Changes,
    ) {
        let up_to = up_to.min(progress.counter);
        if up_to <= progress.history_from {
            return;
        }
        for bucket in descriptor.buckets.iter() {
            changes.delete_range(keys::changes_up_to(descriptor.table, bucket, up_to));
        }
        let marks = keys::history_marks_of(self.group);
        let after = keys::history_mark(self.group, up_to.saturating_add(1));
        changes.delete_range(keys::KeyRange { start: marks.start, end: after });
        progress.history_from = up_to;
    }

    /// What entries changed since the last call.
    pub fn take_fresh(&mut self) -> Vec<Fresh> {
        std::mem::take(&mut self.fresh)
    }
}

impl Mark {
    fn encode(self) -> Bytes {
        let mut out = BytesMut::with_capacity(16);
        out.put_u64(self.clock_ms);
        out.put_u64(self.bytes);
        out.freeze()
    }

    fn decode(group: PartitionId, mut bytes: &[u8]) -> StateResult<Self> {
        if bytes.len() != 16 {
            return Err(StateError::Damaged {
                what: format!("a mark in the history of partition {group}"),
                why: format!("{} bytes instead of 16", bytes.len()),
            });
        }
        Ok(Self { clock_ms: bytes.get_u64(), bytes: bytes.get_u64() })
    }
}

/// Up to which revision the history is older or more than it should be; none: it is not.
pub fn surplus(
    group: PartitionId,
    retention: Option<Retention>,
    progress: &Progress,
    now_ms: u64,
    state: &dyn StateView,
) -> StateResult<Option<u64>> {
    let Some(retention) = retention else { return Ok(None) };
    let before_ms = now_ms.saturating_sub(u64::try_from(retention.time.as_millis()).unwrap_or(u64::MAX));
    let mut surplus = None;
    let mut walk = state.iterate(&keys::history_marks_of(group), false)?;
    while let Some((key, value)) = walk.current() {
        let mark = Mark::decode(group, value)?;
        let old = mark.clock_ms <= before_ms;
        if !old && progress.history_bytes.saturating_sub(mark.bytes) < retention.bytes {
            break;
        }
        surplus = keys::history_mark_revision(key);
        walk.advance()?;
    }
    Ok(surplus)
}
