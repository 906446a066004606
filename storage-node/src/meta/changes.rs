//! At which revision each record that others follow last changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use placement::Revision;

use super::records::RecordKey;

/// How many dropped tables and partitions are remembered. Whoever follows from before the
/// oldest of them is given everything.
pub const KEPT_DROPS: usize = 10_000;

/// Which records changed when, by record and by revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeIndex {
    at: BTreeMap<RecordKey, Revision>,
    order: BTreeSet<(Revision, RecordKey)>,
    drops: BTreeSet<(Revision, RecordKey)>,
    /// Drops up to this revision are no longer listed.
    forgotten: Revision,
}

impl ChangeIndex {
    /// An index that has forgotten the drops up to a revision.
    pub fn forgetting(forgotten: Revision) -> Self {
        Self { forgotten, ..Self::default() }
    }

    /// The newest revision whose drops are no longer listed.
    pub fn forgotten(&self) -> Revision {
        self.forgotten
    }

    /// When a record last changed.
    pub fn changed_at(&self, key: RecordKey) -> Option<Revision> {
        self.at.get(&key).copied()
    }

    /// Notes that a record changed (for a drop: that it was dropped).
    pub fn note(&mut self, key: RecordKey, revision: Revision) {
        self.remove(key);
        self.at.insert(key, revision);
        self.order.insert((revision, key));
        if key.is_drop() {
            self.drops.insert((revision, key));
        }
    }

    /// Forgets a record.
    pub fn remove(&mut self, key: RecordKey) {
        if let Some(before) = self.at.remove(&key) {
            self.order.remove(&(before, key));
            self.drops.remove(&(before, key));
        }
    }

    /// Forgets the oldest drops beyond what is kept and says which they were.
    pub fn forget_old_drops(&mut self, kept: usize) -> Vec<RecordKey> {
        let mut forgotten = Vec::new();
        while self.drops.len() > kept {
            let Some((revision, key)) = self.drops.first().copied() else { break };
            self.remove(key);
            self.forgotten = self.forgotten.max(revision);
            forgotten.push(key);
        }
        forgotten
    }

    /// The records that changed after a revision, in the order of their changes.
    pub fn since(&self, revision: Revision) -> impl Iterator<Item = RecordKey> {
        let from = (Revision(revision.0.saturating_add(1)), RecordKey::Head);
        self.order.range((Bound::Included(from), Bound::Unbounded)).map(|(_, key)| *key)
    }
}

#[cfg(test)]
mod tests {
    use placement::TableId;

    use super::*;

    #[test]
    fn a_record_is_listed_once_at_its_last_change() {
        let mut index = ChangeIndex::default();
        let table = RecordKey::Table(TableId(1));
        index.note(table, Revision(1));
        index.note(RecordKey::Table(TableId(2)), Revision(2));
        index.note(table, Revision(3));
        assert_eq!(index.since(Revision(0)).collect::<Vec<_>>(), [RecordKey::Table(TableId(2)), table]);
        assert_eq!(index.since(Revision(2)).collect::<Vec<_>>(), [table]);
        assert_eq!(index.since(Revision(3)).count(), 0);
    }

    #[test]
    fn the_oldest_drops_are_forgotten_first_and_remembered_as_forgotten() {
        let mut index = ChangeIndex::default();
        for number in 1..=5 {
            index.note(RecordKey::DroppedTable(TableId(number)), Revision(u64::from(number) * 10));
        }
        let gone = index.forget_old_drops(3);
        assert_eq!(gone, [RecordKey::DroppedTable(TableId(1)), RecordKey::DroppedTable(TableId(2))]);
        assert_eq!(index.forgotten(), Revision(20));
        assert_eq!(index.since(Revision(0)).count(), 3);
    }
}
