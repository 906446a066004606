//! The state in RocksDB: one column family for all tables, no write-ahead log.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{
    DB, DBRawIterator, FlushOptions, IngestExternalFileOptions, Options, ReadOptions, SnapshotWithThreadMode,
    SstFileWriter, WriteBatch, WriteOptions,
};
use self_cell::self_cell;

use super::options::RocksStateOptions;
use super::{Change, Changes, PinnedState, StateEngine, StateError, StateIterator, StateResult, StateView};
use crate::storage::keys::{self, KeyRange};

const FORMAT: u8 = 1;

/// The state database of a node.
pub struct RocksState {
    db: Arc<DB>,
    path: PathBuf,
    no_wal: WriteOptions,
    options: Options,
    export_file_bytes: u64,
}

impl RocksState {
    /// Opens the database, or creates it in an empty folder. Every file is checked to be
    /// there and of the size that it was recorded with.
    pub fn open(path: &Path, chosen: RocksStateOptions) -> StateResult<Arc<Self>> {
        let options = chosen.database();
        let failed = |why: rocksdb::Error| StateError::Database {
            path: path.to_owned(),
            what: "does not open",
            why: format!(
                "{}; if a file is damaged, this copy can no longer be vouched for: remove the node from the \
                 cluster and let it join again with an empty folder",
                why.into_string()
            ),
        };
        let db = Arc::new(DB::open(&options, path).map_err(failed)?);
        let mut no_wal = WriteOptions::default();
        no_wal.disable_wal(true);
        let export_file_bytes = chosen.export_file_bytes;
        let state = Self { db, path: path.to_owned(), no_wal, options, export_file_bytes };
        state.check_format()?;
        Ok(Arc::new(state))
    }

    fn check_format(&self) -> StateResult<()> {
        match self.get(&keys::format())? {
            Some(found) if found[..] == [FORMAT] => Ok(()),
            Some(found) => Err(StateError::Format {
                path: self.path.clone(),
                found: format!("{:?}", &found[..]),
                known: FORMAT,
            }),
            None => {
                let mut changes = Changes::default();
                changes.put(keys::format(), Bytes::from_static(&[FORMAT]));
                self.write(changes)?;
                self.flush()
            }
        }
    }

    /// What the cache of blocks holds; where it lends the memtables' room, they are in it.
    pub fn block_cache_bytes(&self) -> u64 {
        self.property("rocksdb.block-cache-usage")
    }

    /// What the memtables take, those that are being flushed included.
    pub fn memtable_bytes(&self) -> u64 {
        self.property("rocksdb.cur-size-all-mem-tables")
    }

    /// What the files of the state take, those that are no longer needed not included.
    pub fn file_bytes(&self) -> u64 {
        self.property("rocksdb.live-sst-files-size")
    }

    /// Writes all files anew.
    #[cfg(test)]
    pub fn compact(&self) {
        let mut options = rocksdb::CompactOptions::default();
        options.set_bottommost_level_compaction(rocksdb::BottommostLevelCompaction::Force);
        self.db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &options);
    }

    fn property(&self, name: &str) -> u64 {
        self.db.property_int_value(name).ok().flatten().unwrap_or(0)
    }

    fn failed(&self, what: &'static str) -> impl Fn(rocksdb::Error) -> StateError + '_ {
        move |why| failed_at(&self.path, what, why)
    }
}

fn failed_at(path: &Path, what: &'static str, why: rocksdb::Error) -> StateError {
    StateError::Database { path: path.to_owned(), what, why: why.into_string() }
}

impl StateView for RocksState {
    fn get(&self, key: &[u8]) -> StateResult<Option<Bytes>> {
        let found = self.db.get_pinned(key).map_err(self.failed("cannot be read"))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn iterate<'a>(&'a self, range: &KeyRange, reverse: bool) -> StateResult<Box<dyn StateIterator + 'a>> {
        let iterator = self.db.raw_iterator_opt(bounded(range));
        RocksIterator::start(iterator, reverse, &self.path)
    }
}

impl StateEngine for RocksState {
    fn write(&self, changes: Changes) -> StateResult<()> {
        let mut batch = WriteBatch::with_capacity_bytes(changes.bytes() + 16 * changes.changes.len());
        for change in changes.changes {
            match change {
                Change::Put(key, value) => batch.put(key, value),
                Change::Delete(key) => batch.delete(key),
                Change::DeleteRange(range) => batch.delete_range(range.start, range.end),
            }
        }
        self.db.write_opt(batch, &self.no_wal).map_err(self.failed("cannot be written"))
    }

    fn get_flushed(&self, key: &[u8]) -> StateResult<Option<Bytes>> {
        let mut options = ReadOptions::default();
        options.set_read_tier(rocksdb::ReadTier::Persisted);
        self.db
            .get_opt(key, &options)
            .map(|found| found.map(Bytes::from))
            .map_err(self.failed("cannot be read"))
    }

    fn pin(&self) -> Arc<dyn PinnedState> {
        let snapshot = SnapshotOfDatabase::new(Arc::clone(&self.db), |db| db.snapshot());
        Arc::new(RocksPinned {
            snapshot,
            path: self.path.clone(),
            options: self.options.clone(),
            export_file_bytes: self.export_file_bytes,
        })
    }

    fn flush(&self) -> StateResult<()> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_opt(&options).map_err(self.failed("cannot be flushed"))
    }

    fn replace(&self, files: &[PathBuf]) -> StateResult<()> {
        self.flush()?;
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        self.db
            .ingest_external_file_opts(&options, files.to_vec())
            .map_err(self.failed("cannot take a snapshot's files"))
    }

    fn approximate_bytes(&self, ranges: &[KeyRange]) -> u64 {
        let ranges: Vec<_> = ranges.iter().map(|run| rocksdb::Range::new(&run.start, &run.end)).collect();
        self.db.get_approximate_sizes(&ranges).iter().sum()
    }
}

impl fmt::Debug for RocksState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RocksState({})", self.path.display())
    }
}

impl Drop for RocksState {
    fn drop(&mut self) {
        // A flush at the end saves the next start its replay; the log has it all anyway.
        if let Err(error) = self.flush() {
            tracing::warn!(%error, "the state database was not flushed at its end");
        }
    }
}

type Snapshot<'a> = SnapshotWithThreadMode<'a, DB>;

self_cell!(
    /// A snapshot, and the database that it borrows from.
    struct SnapshotOfDatabase {
        owner: Arc<DB>,
        #[not_covariant]
        dependent: Snapshot,
    }
);

struct RocksPinned {
    snapshot: SnapshotOfDatabase,
    path: PathBuf,
    options: Options,
    export_file_bytes: u64,
}

impl fmt::Debug for RocksPinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RocksPinned({})", self.path.display())
    }
}

impl StateView for RocksPinned {
    fn get(&self, key: &[u8]) -> StateResult<Option<Bytes>> {
        let found = self.snapshot.with_dependent(|_, snapshot| {
            snapshot.get_pinned(key).map(|found| found.map(|value| Bytes::copy_from_slice(&value)))
        });
        found.map_err(|why| failed_at(&self.path, "cannot be read", why))
    }

    fn iterate<'a>(&'a self, range: &KeyRange, reverse: bool) -> StateResult<Box<dyn StateIterator + 'a>> {
        self.snapshot.with_dependent(|db, snapshot| {
            let mut options = bounded(range);
            options.set_snapshot(snapshot);
            RocksIterator::start(db.raw_iterator_opt(options), reverse, &self.path)
        })
    }
}

impl PinnedState for RocksPinned {
    fn export(&self, ranges: &[KeyRange], folder: &Path) -> StateResult<Vec<PathBuf>> {
        let mut files = Vec::new();
        for range in ranges {
            self.export_run(range, folder, &mut files)?;
        }
        Ok(files)
    }
}

impl RocksPinned {
    /// Writes one run as files that follow each other without a gap. Each begins with a
    /// range deletion over its own span: a range deletion spares the keys of its own file,
    /// so taking the file in replaces the span in one step.
    fn export_run(&self, range: &KeyRange, folder: &Path, files: &mut Vec<PathBuf>) -> StateResult<()> {
        let failed = |why| failed_at(&self.path, "cannot be exported", why);
        let mut walk = self.iterate(range, false)?;
        let mut start = range.start.clone();
        loop {
            let path = folder.join(format!("{:06}.sst", files.len()));
            let end = self.end_of_file(&start, range)?;
            let mut writer = SstFileWriter::create(&self.options);
            writer.open(&path).map_err(failed)?;
            writer.delete_range(&start, &end).map_err(failed)?;
            while let Some((key, value)) = walk.current() {
                if key >= &end[..] {
                    break;
                }
                writer.put(key, value).map_err(failed)?;
                walk.advance()?;
            }
            writer.finish().map_err(failed)?;
            files.push(path);
            if end == range.end {
                return Ok(());
            }
            start = end;
        }
    }

    /// Where a file that starts at a key ends, so that it is about as large as it may be.
    fn end_of_file(&self, start: &Bytes, range: &KeyRange) -> StateResult<Bytes> {
        let rest = KeyRange { start: start.clone(), end: range.end.clone() };
        let mut walk = self.iterate(&rest, false)?;
        let mut bytes = 0;
        while let Some((key, value)) = walk.current() {
            bytes += (key.len() + value.len()) as u64;
            if bytes > self.export_file_bytes && key != &start[..] {
                return Ok(Bytes::copy_from_slice(key));
            }
            walk.advance()?;
        }
        Ok(range.end.clone())
    }
}

fn bounded(range: &KeyRange) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(range.start.to_vec());
    options.set_iterate_upper_bound(range.end.to_vec());
    options
}

struct RocksIterator<'a> {
    inner: DBRawIterator<'a>,
    reverse: bool,
    path: &'a Path,
}

impl<'a> RocksIterator<'a> {
    fn start(
        mut inner: DBRawIterator<'a>,
        reverse: bool,
        path: &'a Path,
    ) -> StateResult<Box<dyn StateIterator + 'a>> {
        if reverse {
            inner.seek_to_last();
        } else {
            inner.seek_to_first();
        }
        let iterator = Self { inner, reverse, path };
        iterator.check()?;
        Ok(Box::new(iterator))
    }

    /// An iterator that met an error looks like one at its end; it must not be taken for it.
    fn check(&self) -> StateResult<()> {
        self.inner.status().map_err(|why| failed_at(self.path, "cannot be read", why))
    }
}

impl StateIterator for RocksIterator<'_> {
    fn current(&self) -> Option<(&[u8], &[u8])> {
        self.inner.item()
    }

    fn advance(&mut self) -> StateResult<()> {
        if self.reverse {
            self.inner.prev();
        } else {
            self.inner.next();
        }
        if self.inner.valid() { Ok(()) } else { self.check() }
    }
}
