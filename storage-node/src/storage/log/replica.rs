//! The log of one replica: its positions and recent entries in memory, in front of the rest.

use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use placement::ReplicaId;

use super::cache::{CacheBudget, EntryCache, entry_size};
use super::engine::{LogEngine, Positions, Record};
use super::error::LogError;
use super::writer::{Done, WriteQueue};
use crate::raft::type_config::{Entry, LogId, Vote};
use crate::seams::threads;

/// The log of one replica.
///
/// What is in memory is always ahead of the disk. A change is made in memory and queued under
/// one lock, so both happen in the same order, and reads see it at once.
pub struct ReplicaLog {
    replica: ReplicaId,
    engine: Arc<dyn LogEngine>,
    queue: Arc<WriteQueue>,
    state: Mutex<State>,
}

struct State {
    positions: Positions,
    /// The index of the first entry; nothing where there is no entry.
    first: Option<u64>,
    cache: EntryCache,
    /// Grows with each truncation, so that a read that went to disk notices one.
    truncations: u64,
    destroyed: bool,
}

/// What a read takes from where.
struct ReadPlan {
    /// These come from the engine …
    cold: Range<u64>,
    /// … and these follow.
    warm: Vec<Entry>,
    truncations: u64,
}

impl ReplicaLog {
    /// Reads where the log of a replica stands.
    pub fn open(
        replica: ReplicaId,
        engine: Arc<dyn LogEngine>,
        queue: Arc<WriteQueue>,
        cache_bytes: usize,
        budget: Arc<CacheBudget>,
    ) -> Result<Self, LogError> {
        let positions = engine.positions(replica)?;
        let first = match positions.last.filter(|_| positions.last > positions.purged) {
            Some(last) => engine.read_entries(replica, 0..last.index() + 1, 0)?,
            None => Vec::new(),
        };
        let first = first.first().map(|entry| entry.log_id.index());
        let cache = EntryCache::new(cache_bytes, budget);
        let state = State { positions, first, cache, truncations: 0, destroyed: false };
        Ok(Self { replica, engine, queue, state: Mutex::new(state) })
    }

    /// Where the log stands.
    pub fn positions(&self) -> Positions {
        self.state.lock().positions
    }

    /// Stores a vote; `done` is called once it is durable.
    pub fn save_vote(&self, vote: Vote, done: Done) -> Result<(), LogError> {
        self.change(|state| {
            state.positions.vote = Some(vote);
            Ok(Some((Record::Vote { replica: self.replica, vote }, Some(done))))
        })
    }

    /// Notes how far the log is committed. It is stored with whatever is stored next.
    pub fn save_committed(&self, log_id: Option<LogId>) -> Result<(), LogError> {
        self.change(|state| {
            state.positions.committed = log_id;
            Ok(Some((Record::Committed { replica: self.replica, log_id }, None)))
        })
    }

    /// Appends entries, which are readable at once; `done` is called when they are durable.
    pub fn append(self: &Arc<Self>, entries: Vec<Entry>, done: Done) -> Result<(), LogError> {
        let replica = self.replica;
        self.change(|state| {
            let mut next = state.positions.last.map(|last| last.index() + 1);
            for entry in &entries {
                let found = entry.log_id.index();
                if let Some(expected) = next.filter(|next| *next != found) {
                    return Err(LogError::Gap { replica, expected, found });
                }
                next = Some(found + 1);
            }
            state.first = state.first.or(entries.first().map(|entry| entry.log_id.index()));
            state.positions.last = entries.last().map(|entry| entry.log_id).or(state.positions.last);
            let number = state.cache.append(&entries);
            let log = self.clone();
            let done: Done = Box::new(move || {
                log.state.lock().cache.durable(number);
                done();
            });
            Ok(Some((Record::Append { replica, entries }, Some(done))))
        })
    }

    /// Removes the entries after a position.
    pub fn truncate_after(&self, keep: Option<LogId>) -> Result<(), LogError> {
        self.change(|state| {
            let from = keep.map_or(0, |keep| keep.index() + 1);
            if state.positions.last.is_none_or(|last| last.index() < from) {
                return Ok(None);
            }
            state.truncations += 1;
            state.cache.truncate(from);
            state.positions.last = keep.max(state.positions.purged);
            state.first = state.first.filter(|first| *first < from);
            Ok(Some((Record::Truncate { replica: self.replica, from }, None)))
        })
    }

    /// Removes the entries up to a position, that one included, which may lie beyond the last.
    pub fn purge(&self, log_id: LogId) -> Result<(), LogError> {
        self.change(|state| {
            let through = log_id.index();
            if state.positions.purged.is_some_and(|purged| purged.index() >= through) {
                return Ok(None);
            }
            state.cache.purge(through);
            state.positions.purged = Some(log_id);
            if state.positions.last.is_none_or(|last| last.index() <= through) {
                state.positions.last = Some(log_id);
                state.first = None;
            }
            state.first = state.first.map(|first| first.max(through + 1));
            Ok(Some((Record::Purge { replica: self.replica, log_id }, None)))
        })
    }

    /// The entries in a range that the log holds. It ends early once the entries after the
    /// first hold more than `max_bytes`; with `usize::MAX` it never does.
    pub async fn read(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<Entry>, LogError> {
        // Each turn but the last saw a truncation, and Raft truncates rarely.
        loop {
            let plan = self.plan(&range, max_bytes);
            if plan.cold.is_empty() {
                return Ok(plan.warm);
            }
            let cold = self.read_engine(plan.cold.clone(), max_bytes).await?;
            if let Some(entries) = self.join(plan, cold, max_bytes)? {
                return Ok(entries);
            }
        }
    }

    /// Drops from memory all that is also on disk.
    pub fn give_up_cache(&self) {
        self.state.lock().cache.give_up();
    }

    /// From now on every change is refused, and there is nothing to read.
    pub fn destroy(&self) {
        let mut state = self.state.lock();
        state.destroyed = true;
        state.truncations += 1;
        state.cache.truncate(0);
        state.first = None;
        state.positions = Positions::default();
    }

    /// Changes memory and queue as one step.
    fn change(
        &self,
        change: impl FnOnce(&mut State) -> Result<Option<(Record, Option<Done>)>, LogError>,
    ) -> Result<(), LogError> {
        let mut state = self.state.lock();
        if state.destroyed {
            return Err(LogError::UnknownReplica { replica: self.replica });
        }
        match change(&mut state)? {
            Some((record, done)) => self.queue.push(record, done),
            None => Ok(()),
        }
    }

    fn plan(&self, range: &Range<u64>, max_bytes: usize) -> ReadPlan {
        let state = self.state.lock();
        let held = match (state.first, state.positions.last) {
            (Some(first), Some(last)) => first..last.index() + 1,
            _ => 0..0,
        };
        let (start, end) = (range.start.max(held.start), range.end.min(held.end));
        let warm_from = state.cache.first_index().unwrap_or(held.end).clamp(start, end.max(start));
        let mut warm = Vec::new();
        if warm_from < end {
            extend_within(
                &mut warm,
                state.cache.from(warm_from).take((end - warm_from) as usize).cloned(),
                max_bytes,
            );
        }
        ReadPlan { cold: start..warm_from, warm, truncations: state.truncations }
    }

    async fn read_engine(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<Entry>, LogError> {
        let (engine, replica) = (self.engine.clone(), self.replica);
        if engine.reads_block() {
            threads::blocking(move || engine.read_entries(replica, range, max_bytes)).await
        } else {
            engine.read_entries(replica, range, max_bytes)
        }
    }

    /// Puts both parts of a read together, or nothing if the log was truncated meanwhile:
    /// the parts may then be of different histories.
    fn join(
        &self,
        plan: ReadPlan,
        cold: Vec<Entry>,
        max_bytes: usize,
    ) -> Result<Option<Vec<Entry>>, LogError> {
        let (truncations, purged) = {
            let state = self.state.lock();
            (state.truncations, state.positions.purged)
        };
        if truncations != plan.truncations {
            return Ok(None);
        }
        let missing = |index| Err(LogError::Missing { replica: self.replica, index });
        // Only a purge may have taken entries away, and only at the beginning.
        let kept_from = purged.map_or(0, |purged| purged.index() + 1).clamp(plan.cold.start, plan.cold.end);
        let mut next = cold.first().map_or(plan.cold.end, |entry| entry.log_id.index());
        if next > kept_from {
            return missing(kept_from);
        }
        for entry in &cold {
            if entry.log_id.index() != next {
                return missing(next);
            }
            next += 1;
        }
        if next < plan.cold.end {
            // The engine stopped at the limit; a hole would be met by the next read.
            return if max_bytes == usize::MAX { missing(next) } else { Ok(Some(cold)) };
        }
        let mut entries = cold;
        extend_within(&mut entries, plan.warm.into_iter(), max_bytes);
        Ok(Some(entries))
    }
}

/// Adds entries until those after the first hold more than `max_bytes`.
fn extend_within(entries: &mut Vec<Entry>, more: impl Iterator<Item = Entry>, max_bytes: usize) {
    let mut bytes: usize = entries.iter().skip(1).map(entry_size).sum();
    for entry in more {
        if !entries.is_empty() {
            bytes += entry_size(&entry);
            if bytes > max_bytes {
                break;
            }
        }
        entries.push(entry);
    }
}
