//! What of a file is certainly in the table. Chunks are acknowledged in any order; the file may
//! be gone on with at the first item of which that is not so.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use client::Error;

use crate::item_file::{Fault, FileFormat, Place, Spot};

/// What came of the items so far. Shared by those that read and those that write.
#[derive(Debug)]
pub struct Ledger {
    format: FileFormat,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    counts: Counts,
    /// The first item of each chunk that is not acknowledged, by the chunk's number.
    open: BTreeMap<u64, Place>,
    next_chunk: u64,
    /// All items before it are acknowledged, or in a chunk that is open.
    read_to: Place,
    /// Why it did not go on: the first trouble in the file.
    trouble: Option<(Place, Trouble)>,
    whole: bool,
}

/// How many items there were of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Acknowledged.
    pub imported: u64,
    /// Left as they were, because they were there already.
    pub present: u64,
    /// Wrong, and left out as was asked for.
    pub skipped: u64,
    /// Sent, and may be in the table or not.
    pub unknown: u64,
    /// Bytes of the keys and values that were acknowledged.
    pub bytes: u64,
}

/// Why an import does not go on.
#[derive(Debug)]
pub enum Trouble {
    /// The file is wrong, or cannot be read.
    File(Fault),
    /// The table cannot hold the item.
    Item(Spot, Error),
    /// The cluster did not do it.
    Cluster(Error),
}

impl Ledger {
    /// Of a file that is read from this place on.
    pub fn new(format: FileFormat, from: Place) -> Self {
        let state = State {
            counts: Counts::default(),
            open: BTreeMap::new(),
            next_chunk: 0,
            read_to: from,
            trouble: None,
            whole: false,
        };
        Self { format, state: Mutex::new(state) }
    }

    /// What a place in the file is called.
    pub fn spot(&self, place: Place) -> Spot {
        self.format.spot(place)
    }

    /// A chunk begins with the item at this place, before which every item is in a chunk.
    pub fn open_chunk(&self, place: Place) -> u64 {
        let mut state = self.state();
        let chunk = state.next_chunk;
        state.next_chunk += 1;
        state.read_to = state.read_to.max(place);
        state.open.insert(chunk, place);
        chunk
    }

    /// What came of a chunk. The first item that is not acknowledged keeps it open.
    pub fn close_chunk(&self, chunk: u64, counts: Counts, left: Option<Place>) {
        let mut state = self.state();
        state.counts.add(counts);
        match left {
            Some(place) => state.open.insert(chunk, place),
            None => state.open.remove(&chunk),
        };
    }

    /// An item was left out.
    pub fn skip(&self) {
        self.state().counts.skipped += 1;
    }

    /// The reader has come to this place, and every item before is in a chunk.
    pub fn read_to(&self, place: Place) {
        self.state().read_to = place;
    }

    /// The reader has come to the end.
    pub fn read_whole(&self) {
        self.state().whole = true;
    }

    /// It does not go on. Of several reasons the first in the file counts, but what is unknown
    /// counts before all.
    pub fn fail(&self, place: Place, trouble: Trouble) {
        let mut state = self.state();
        let rank = |place: Place, trouble: &Trouble| (!trouble.is_unknown(), place);
        let graver = match &state.trouble {
            Some((known, before)) => rank(place, &trouble) < rank(*known, before),
            None => true,
        };
        if graver {
            state.trouble = Some((place, trouble));
        }
    }

    /// Where the file may be gone on with.
    pub fn done_to(&self) -> Place {
        let state = self.state();
        // Chunks are numbered in the order of the file, and one is narrowed only to later items.
        state.open.values().min().copied().unwrap_or(state.read_to)
    }

    /// How many items there were of each kind.
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Whether all of the file is in the table.
    pub fn is_whole(&self) -> bool {
        let state = self.state();
        state.whole && state.open.is_empty() && state.trouble.is_none()
    }

    /// Why it did not go on.
    pub fn take_trouble(&self) -> Option<Trouble> {
        self.state().trouble.take().map(|(_, trouble)| trouble)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds it can panic, and counts that are a little old do no harm.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.imported += other.imported;
        self.present += other.present;
        self.skipped += other.skipped;
        self.unknown += other.unknown;
        self.bytes += other.bytes;
    }
}

impl Trouble {
    /// Whether something may have been written that is not counted.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Cluster(Error::OutcomeUnknown(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u64) -> Place {
        Place { offset: 10 * line, number: line }
    }

    #[test]
    fn only_what_is_acknowledged_from_the_beginning_counts() {
        let ledger = Ledger::new(FileFormat::Jsonl, Place::FIRST);
        let first = ledger.open_chunk(at(1));
        let second = ledger.open_chunk(at(5));
        ledger.read_to(at(9));
        let some = Counts { imported: 4, bytes: 40, ..Counts::default() };
        ledger.close_chunk(second, some, None);
        assert_eq!(ledger.done_to(), at(1));
        ledger.close_chunk(first, some, None);
        assert_eq!(ledger.done_to(), at(9));
        assert_eq!(ledger.counts(), Counts { imported: 8, bytes: 80, ..Counts::default() });
        assert!(!ledger.is_whole());
        ledger.read_whole();
        assert!(ledger.is_whole());
    }

    #[test]
    fn an_item_that_was_not_done_is_where_it_goes_on() {
        let ledger = Ledger::new(FileFormat::Jsonl, Place::FIRST);
        let first = ledger.open_chunk(at(1));
        let second = ledger.open_chunk(at(2));
        ledger.close_chunk(first, Counts::default(), Some(at(7)));
        assert_eq!(ledger.done_to(), at(2));
        ledger.close_chunk(second, Counts::default(), None);
        assert_eq!(ledger.done_to(), at(7));
    }

    #[test]
    fn what_is_unknown_is_told_before_what_failed() {
        let ledger = Ledger::new(FileFormat::Jsonl, Place::FIRST);
        ledger.fail(at(5), Trouble::Cluster(Error::Unavailable("x".into())));
        ledger.fail(at(9), Trouble::Cluster(Error::OutcomeUnknown("y".into())));
        ledger.fail(at(2), Trouble::Cluster(Error::Unavailable("z".into())));
        assert!(ledger.take_trouble().is_some_and(|trouble| trouble.is_unknown()));
    }
}
