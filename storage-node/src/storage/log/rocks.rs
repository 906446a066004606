//! The log in RocksDB, in an instance of its own.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use placement::ReplicaId;
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DBRecoveryMode, Direction, IteratorMode, LogLevel,
    Options, ReadOptions, WriteBatch, WriteOptions,
};

use super::engine::{LogEngine, Positions, Record, ReplicaRecord};
use super::error::LogError;
use super::keys::{self, FORMAT, FORMAT_KEY, KeySink, Kind};
use super::memory::last_of;
use super::wal;
use crate::raft::entry::decode_entry;
use crate::raft::type_config::{Entry, LogId};

/// The file whose lock says that a process owns the folder. RocksDB has one of its own, but
/// takes it too late: the write-ahead files are judged before it is started.
const OWNER_FILE: &str = "OWNER";
/// Hot entries come from our own cache; this one is for what a lagging follower reads.
const BLOCK_CACHE: usize = 4 << 20;

/// Keeps the logs of all replicas in RocksDB.
pub struct RocksEngine {
    db: DB,
    synced: WriteOptions,
    /// Held until the database is closed, so it comes after it.
    _owner: File,
}

impl RocksEngine {
    /// Opens the log in a folder, or creates it. `memtable_bytes` is the size of one of four
    /// write buffers: entries that are purged before two of them are full never reach a
    /// sorted file. It also bounds the write-ahead files, to about four times as much.
    pub fn open(path: &Path, memtable_bytes: usize) -> Result<Self, LogError> {
        let owner = own(path)?;
        wal::check_and_cut(path)?;
        let failed = |source| LogError::Open { path: path.to_owned(), source };
        let db = DB::open(&options(memtable_bytes), path).map_err(failed)?;
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        check_format(&db, path, &synced)?;
        Ok(Self { db, synced, _owner: owner })
    }

    fn value<T>(
        &self,
        kind: Kind,
        replica: ReplicaId,
        what: &'static str,
        decode: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, LogError> {
        let value = self.db.get_pinned(keys::replica_key(kind, replica)).map_err(LogError::Read)?;
        value.map(|value| decode(&value).ok_or(LogError::Record { replica, what })).transpose()
    }

    fn last_entry(&self, replica: ReplicaId) -> Result<Option<LogId>, LogError> {
        let mut within = ReadOptions::default();
        within.set_iterate_lower_bound(keys::entry_key(replica, 0));
        let end = keys::entries_end(replica);
        let mut backwards = self.db.iterator_opt(IteratorMode::From(&end, Direction::Reverse), within);
        let last = backwards.next().transpose().map_err(LogError::Read)?;
        last.map(|(key, value)| last_of(replica, &key, value.into())).transpose()
    }
}

impl LogEngine for RocksEngine {
    fn write(&self, records: &[Record]) -> Result<(), LogError> {
        let size = records.iter().map(Record::size).sum();
        let mut batch = WriteBatch::with_capacity_bytes(size);
        for record in records {
            keys::lower(record, &mut batch);
        }
        self.db.write_opt(batch, &self.synced).map_err(LogError::Write)
    }

    fn read_entries(
        &self,
        replica: ReplicaId,
        range: Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, LogError> {
        let mut within = ReadOptions::default();
        within.set_iterate_upper_bound(keys::entry_key(replica, range.end));
        let from = keys::entry_key(replica, range.start);
        let mut entries = Vec::new();
        let mut bytes = 0;
        for item in self.db.iterator_opt(IteratorMode::From(&from, Direction::Forward), within) {
            let (key, value) = item.map_err(LogError::Read)?;
            if !entries.is_empty() {
                bytes += value.len();
                if bytes > max_bytes {
                    break;
                }
            }
            let index = keys::index_of(replica, &key).unwrap_or_default();
            let entry = decode_entry(Bytes::from(value));
            entries.push(entry.map_err(|source| LogError::Entry { replica, index, source })?);
        }
        Ok(entries)
    }

    fn positions(&self, replica: ReplicaId) -> Result<Positions, LogError> {
        let purged = self.value(Kind::Purged, replica, "the purged position", keys::decode_log_id)?;
        Ok(Positions {
            vote: self.value(Kind::Vote, replica, "the vote", keys::decode_vote)?,
            committed: self.value(Kind::Committed, replica, "the commit position", keys::decode_log_id)?,
            purged,
            last: self.last_entry(replica)?.max(purged),
        })
    }

    fn replica_records(&self) -> Result<Vec<ReplicaRecord>, LogError> {
        let from = keys::replica_key(Kind::Replica, ReplicaId(0));
        let mut records = Vec::new();
        for item in self.db.iterator(IteratorMode::From(&from, Direction::Forward)) {
            let (key, value) = item.map_err(LogError::Read)?;
            let Some(replica) = keys::replica_of(Kind::Replica, &key) else { break };
            let record = keys::decode_replica_record(replica, &value);
            records.push(record.ok_or(LogError::Record { replica, what: "the replica's own record" })?);
        }
        Ok(records)
    }

    fn replicas(&self) -> Result<Vec<ReplicaId>, LogError> {
        let mut replicas = Vec::new();
        let mut iterator = self.db.raw_iterator();
        for kind in Kind::ALL {
            iterator.seek(keys::replica_key(kind, ReplicaId(0)));
            // From one replica to the next, over all that lies between.
            while let Some(replica) = iterator.key().and_then(|key| keys::replica_of(kind, key)) {
                replicas.push(replica);
                let Some(next) = replica.0.checked_add(1) else { break };
                iterator.seek(keys::replica_key(kind, ReplicaId(next)));
            }
            iterator.status().map_err(LogError::Read)?;
        }
        replicas.sort_unstable();
        replicas.dedup();
        Ok(replicas)
    }

    fn reads_block(&self) -> bool {
        true
    }
}

impl KeySink for WriteBatch {
    fn put(&mut self, key: &[u8], value: Bytes) {
        Self::put(self, key, value);
    }

    fn delete(&mut self, key: &[u8]) {
        Self::delete(self, key);
    }

    fn delete_range(&mut self, from: &[u8], to: &[u8]) {
        Self::delete_range(self, from, to);
    }
}

/// Creates the folder and takes its lock.
fn own(path: &Path) -> Result<File, LogError> {
    fs::create_dir_all(path).map_err(|source| LogError::File { path: path.to_owned(), source })?;
    let file = path.join(OWNER_FILE);
    let failed = |source| LogError::File { path: file.clone(), source };
    let owner = OpenOptions::new().create(true).truncate(false).write(true).open(&file).map_err(failed)?;
    match owner.try_lock() {
        Ok(()) => Ok(owner),
        Err(TryLockError::WouldBlock) => Err(LogError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn options(memtable_bytes: usize) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    // What a crash may leave is cut before (see `wal`), so anything odd is damage.
    options.set_wal_recovery_mode(DBRecoveryMode::AbsoluteConsistency);
    // A write-ahead file that is missing or shorter than it was when it was closed refuses.
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_paranoid_checks(true);
    // Each write is synced by itself, with fdatasync.
    options.set_use_fsync(false);
    options.set_wal_bytes_per_sync(0);
    // One thread writes.
    options.set_allow_concurrent_memtable_write(false);
    // Two buffers are merged as they are flushed, and what one appends and the other purges
    // is dropped on the way. There is one column family, so the write-ahead files live
    // exactly as long as the buffers: these bound them.
    options.set_write_buffer_size(memtable_bytes);
    options.set_max_write_buffer_number(4);
    options.set_min_write_buffer_number_to_merge(2);
    options.set_compression_type(DBCompressionType::None);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(BLOCK_CACHE));
    options.set_block_based_table_factory(&table);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(1 << 20);
    options
}

/// Refuses a log of a newer format, and marks a new one.
fn check_format(db: &DB, path: &Path, synced: &WriteOptions) -> Result<(), LogError> {
    let stored = db.get(FORMAT_KEY).map_err(LogError::Read)?;
    if let Some(stored) = stored {
        let not_a_log = || LogError::NotALog { path: path.to_owned() };
        let found = u32::from_be_bytes(stored.try_into().map_err(|_| not_a_log())?);
        return match found {
            FORMAT => Ok(()),
            found => Err(LogError::Format { path: path.to_owned(), found, known: FORMAT }),
        };
    }
    if let Some(any) = db.iterator(IteratorMode::Start).next() {
        any.map_err(LogError::Read)?;
        return Err(LogError::NotALog { path: path.to_owned() });
    }
    db.put_opt(FORMAT_KEY, FORMAT.to_be_bytes(), synced).map_err(LogError::Write)
}
