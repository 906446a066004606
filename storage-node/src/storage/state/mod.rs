//! The state that the log leads to: everything a group has applied.
//!
//! Writes are not synced. A group's own records are written in the same batch as the data
//! they belong to and memtables are flushed in order, so what survives a crash is always a
//! prefix of what was applied; the log replays the rest, and is purged only up to what was
//! flushed.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::keys::KeyRange;

pub mod memory;
mod options;
pub mod rocks;

#[cfg(test)]
mod figures;
#[cfg(test)]
mod tests;

pub use memory::MemoryState;
pub use options::RocksStateOptions;
pub use rocks::RocksState;

/// Puts and deletes that are done together.
#[derive(Debug, Default)]
pub struct Changes {
    /// In order: a later one of the same key counts.
    pub changes: Vec<Change>,
    bytes: usize,
}

/// One of them.
#[derive(Debug)]
pub enum Change {
    /// The key has this value from now on.
    Put(Bytes, Bytes),
    /// The key is gone.
    Delete(Bytes),
    /// All keys of the run are gone.
    DeleteRange(KeyRange),
}

impl Changes {
    /// The key has this value from now on.
    pub fn put(&mut self, key: Bytes, value: Bytes) {
        self.bytes += key.len() + value.len();
        self.changes.push(Change::Put(key, value));
    }

    /// The key is gone.
    pub fn delete(&mut self, key: Bytes) {
        self.bytes += key.len();
        self.changes.push(Change::Delete(key));
    }

    /// All keys of the run are gone.
    pub fn delete_range(&mut self, range: KeyRange) {
        self.changes.push(Change::DeleteRange(range));
    }

    /// How much there is to write.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.changes.len()
    }

    /// Forgets those after the first so many; the bytes still count.
    pub fn truncate(&mut self, count: usize) {
        self.changes.truncate(count);
    }

    /// Puts others behind them.
    pub fn append(&mut self, mut others: Self) {
        self.bytes += others.bytes;
        self.changes.append(&mut others.changes);
    }
}

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The database refused.
    #[error("the state database in {path} {what}: {why}")]
    Database {
        /// Where it is.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What it said; corruption names the file.
        why: String,
    },
    /// Written by a newer program.
    #[error(
        "the state database in {path} has format {found}; this program knows format {known}: run a newer one"
    )]
    Format {
        /// Where it is.
        path: PathBuf,
        /// What it has.
        found: String,
        /// What is known here.
        known: u8,
    },
    /// A record is not what it should be.
    #[error(
        "{what} in the state database is damaged: {why}; restore this node from its peers: drain and remove it, then join with an empty folder"
    )]
    Damaged {
        /// Which record.
        what: String,
        /// In what way.
        why: String,
    },
}

impl From<StateError> for io::Error {
    fn from(error: StateError) -> Self {
        io::Error::other(error)
    }
}

/// A result of the state database.
pub type StateResult<T> = Result<T, StateError>;

/// Reading, from the newest state or from a pinned one.
pub trait StateView: Send + Sync {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> StateResult<Option<Bytes>>;

    /// A walk over a run of keys, from its start or, in reverse, from its end.
    fn iterate<'a>(&'a self, range: &KeyRange, reverse: bool) -> StateResult<Box<dyn StateIterator + 'a>>;
}

/// A walk over keys, at one of them or past the last.
pub trait StateIterator {
    /// Where it is; none past the end.
    fn current(&self) -> Option<(&[u8], &[u8])>;

    /// Goes to the next in its direction.
    fn advance(&mut self) -> StateResult<()>;
}

/// A state that stays as it was when it was pinned.
pub trait PinnedState: StateView + fmt::Debug {
    /// Writes runs of keys as files that [`StateEngine::replace`] takes, none much larger
    /// than 64 MiB. Together they cover the whole runs, also where there are no keys.
    fn export(&self, ranges: &[KeyRange], folder: &Path) -> StateResult<Vec<PathBuf>>;
}

/// What the node needs of a database for its state.
pub trait StateEngine: StateView + fmt::Debug + 'static {
    /// Does all changes or none. Not synced.
    fn write(&self, changes: Changes) -> StateResult<()>;

    /// The value of a key as a crash at this moment would leave it.
    fn get_flushed(&self, key: &[u8]) -> StateResult<Option<Bytes>>;

    /// Pins the newest state.
    fn pin(&self) -> Arc<dyn PinnedState>;

    /// Returns when everything written before the call is on disk.
    fn flush(&self) -> StateResult<()>;

    /// Replaces all keys of the runs that the files cover by what the files hold, in one
    /// step and on disk at once. The files are consumed.
    fn replace(&self, files: &[PathBuf]) -> StateResult<()>;

    /// About how many bytes runs of keys take.
    fn approximate_bytes(&self, ranges: &[KeyRange]) -> u64;
}
