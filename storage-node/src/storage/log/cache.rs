//! Recent entries in memory, because Raft reads back what it has just appended.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use openraft::EntryPayload;

use crate::raft::type_config::Entry;

/// What an entry takes beside its commands: its place in the cache, its key and its head.
const ENTRY_OVERHEAD: usize = 96;
/// About what a membership takes; it is rare and its size hardly matters.
const MEMBERSHIP: usize = 512;

/// About how many bytes an entry takes.
pub fn entry_size(entry: &Entry) -> usize {
    ENTRY_OVERHEAD
        + match &entry.payload {
            EntryPayload::Blank => 0,
            EntryPayload::Normal(data) => data.0.len(),
            EntryPayload::Membership(_) => MEMBERSHIP,
        }
}

/// What the caches of all replicas of a node hold together.
#[derive(Debug)]
pub struct CacheBudget {
    used: AtomicUsize,
    limit: usize,
}

impl CacheBudget {
    /// A budget of that many bytes.
    pub fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit }
    }

    /// Whether caches must give entries up.
    pub fn is_exceeded(&self) -> bool {
        self.used() > self.limit
    }

    /// The bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// The newest entries of one replica, without a hole.
///
/// Entries that are not yet durable are pinned, because nothing else holds them; how many
/// bytes these may take is bounded where writes are admitted. Others go when the cache is
/// over its limit, oldest first.
#[derive(Debug)]
pub struct EntryCache {
    entries: VecDeque<Entry>,
    bytes: usize,
    limit: usize,
    budget: Arc<CacheBudget>,
    /// The appends that are not yet durable, oldest first: number and first index. Neither
    /// of the two ever falls along the queue, so what the front says pins all the rest.
    pending: VecDeque<(u64, u64)>,
    next_append: u64,
}

impl EntryCache {
    /// An empty cache with a limit of its own, under a budget shared by all.
    pub fn new(limit: usize, budget: Arc<CacheBudget>) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, limit, budget, pending: VecDeque::new(), next_append: 0 }
    }

    /// The index of the oldest entry here.
    pub fn first_index(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.log_id.index())
    }

    /// The entries from an index on that the cache holds, oldest first.
    pub fn from(&self, index: u64) -> impl Iterator<Item = &Entry> {
        let skipped = self.first_index().map_or(0, |first| index.saturating_sub(first));
        self.entries.iter().skip(usize::try_from(skipped).unwrap_or(usize::MAX))
    }

    /// Adds entries, which follow those that are there, and pins them until the append with
    /// the returned number is [durable](Self::durable).
    pub fn append(&mut self, entries: &[Entry]) -> u64 {
        let number = self.next_append;
        self.next_append += 1;
        if let Some(first) = entries.first() {
            self.pending.push_back((number, first.log_id.index()));
            self.account(entries.iter().map(entry_size).sum(), 0);
            self.entries.extend(entries.iter().cloned());
            self.shrink();
        }
        number
    }

    /// Unpins the entries of an append and of those before it.
    pub fn durable(&mut self, number: u64) {
        while self.pending.front().is_some_and(|(pending, _)| *pending <= number) {
            self.pending.pop_front();
        }
        self.shrink();
    }

    /// Drops the entries from an index on.
    pub fn truncate(&mut self, from: u64) {
        while self.entries.back().is_some_and(|entry| entry.log_id.index() >= from) {
            let gone = self.entries.pop_back();
            self.account(0, gone.as_ref().map_or(0, entry_size));
        }
        // The same indexes may come again. An append that is still on its way must not
        // unpin those.
        for (_, first) in self.pending.iter_mut().rev().take_while(|(_, first)| *first > from) {
            *first = from;
        }
    }

    /// Drops the entries up to an index, that one included.
    pub fn purge(&mut self, through: u64) {
        while self.first_index().is_some_and(|first| first <= through) {
            self.drop_oldest();
        }
    }

    /// Drops all that is not pinned.
    pub fn give_up(&mut self) {
        while self.can_drop_oldest() {
            self.drop_oldest();
        }
    }

    fn shrink(&mut self) {
        while self.bytes > self.limit && self.can_drop_oldest() {
            self.drop_oldest();
        }
    }

    fn can_drop_oldest(&self) -> bool {
        let pinned_from = self.pending.front().map_or(u64::MAX, |(_, first)| *first);
        self.first_index().is_some_and(|first| first < pinned_from)
    }

    fn drop_oldest(&mut self) {
        let gone = self.entries.pop_front();
        self.account(0, gone.as_ref().map_or(0, entry_size));
    }

    fn account(&mut self, more: usize, less: usize) {
        self.bytes = (self.bytes + more).saturating_sub(less);
        if more > 0 {
            self.budget.used.fetch_add(more, Ordering::Relaxed);
        }
        if less > 0 {
            self.budget.used.fetch_sub(less, Ordering::Relaxed);
        }
    }
}

impl Drop for EntryCache {
    fn drop(&mut self) {
        self.account(0, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use openraft::entry::RaftEntry;

    use super::*;
    use crate::raft::type_config::LogId;

    fn entries(term: u64, indexes: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
        indexes.map(|index| Entry::new_blank(LogId::new_term_index(term, index))).collect()
    }

    fn held(cache: &EntryCache) -> Vec<u64> {
        cache.from(0).map(|entry| entry.log_id.index()).collect()
    }

    fn small() -> (EntryCache, Arc<CacheBudget>) {
        let budget = Arc::new(CacheBudget::new(5 * ENTRY_OVERHEAD));
        (EntryCache::new(2 * ENTRY_OVERHEAD, budget.clone()), budget)
    }

    #[test]
    fn entries_stay_until_they_are_durable_and_then_only_the_newest() {
        let (mut cache, budget) = small();
        let first = cache.append(&entries(1, 1..=3));
        let second = cache.append(&entries(1, 4..=6));
        assert_eq!(held(&cache), [1, 2, 3, 4, 5, 6]);
        assert!(budget.is_exceeded());
        cache.durable(first);
        assert_eq!(held(&cache), [4, 5, 6]);
        cache.durable(second);
        assert_eq!(held(&cache), [5, 6]);
        cache.give_up();
        assert_eq!(held(&cache), [] as [u64; 0]);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn an_old_append_does_not_unpin_what_replaced_it() {
        let (mut cache, _budget) = small();
        let old = cache.append(&entries(1, 1..=10));
        cache.truncate(6);
        let new = cache.append(&entries(2, 6..=8));
        cache.durable(old);
        assert_eq!(held(&cache), [6, 7, 8]);
        cache.durable(new);
        assert_eq!(held(&cache), [7, 8]);
    }

    #[test]
    fn purging_and_dropping_give_their_bytes_back() {
        let (mut cache, budget) = small();
        let number = cache.append(&entries(1, 1..=4));
        cache.purge(3);
        assert_eq!(held(&cache), [4]);
        cache.durable(number);
        assert_eq!(budget.used(), ENTRY_OVERHEAD);
        drop(cache);
        assert_eq!(budget.used(), 0);
    }
}
