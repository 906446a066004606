//! The Raft log of all groups of a node, in one database, written by one thread.
//!
//! ```text
//! raft::log_store ─▶ replica (positions, cache) ─▶ writer ─▶ engine ─▶ rocks │ memory
//!                          └──────── reads below the cache ─────▲
//! ```
//!
//! Start reading in [`writer`]: what a batch is, and why nothing is ever written without
//! being synced. `keys` has every byte that is stored, `wal` what is checked before opening.
//!
//! A replica exists because of its record. Destroying one: its record is marked and synced
//! ([`Log::begin_destroy`]); the caller deletes its data and flushes; log and record go in one
//! synced batch ([`Log::finish_destroy`]). Start-up goes on with whatever is marked.

pub mod cache;
pub mod engine;
pub mod error;
pub mod keys;
pub mod memory;
pub mod replica;
pub mod rocks;
pub mod wal;
pub mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use placement::{PartitionId, ReplicaId};
use tokio::sync::oneshot;

use cache::CacheBudget;
use engine::{LogEngine, Record, ReplicaRecord, ReplicaState};
use error::LogError;
use memory::MemoryEngine;
use replica::ReplicaLog;
use rocks::RocksEngine;
use writer::{LogMetrics, WriteQueue};

/// How much room the log takes.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// One of four write buffers. Entries that are purged before two are full never reach a
    /// sorted file.
    pub memtable_bytes: usize,
    /// The recent entries of one replica that are kept in memory.
    pub cache_bytes_per_replica: usize,
    /// The same for all replicas together.
    pub cache_bytes: usize,
}

/// Recent entries of one replica are read back by its own Raft group, and by followers that are a
/// little behind; more than this is read by those that are far behind.
const CACHE_BYTES_PER_REPLICA: usize = 4 << 20;
/// A cache that is small in all still serves so many replicas that are busy at once.
const BUSY_REPLICAS: usize = 8;

impl LogOptions {
    /// With buffers of that size, and so much for recent entries of all replicas.
    pub fn of(memtable_bytes: usize, cache_bytes: usize) -> Self {
        let cache_bytes_per_replica = CACHE_BYTES_PER_REPLICA.min(cache_bytes / BUSY_REPLICAS);
        Self { memtable_bytes, cache_bytes_per_replica, cache_bytes }
    }
}

impl Default for LogOptions {
    fn default() -> Self {
        Self::of(64 << 20, 256 << 20)
    }
}

/// The log of all groups of a node.
pub struct Log {
    engine: Arc<dyn LogEngine>,
    queue: Arc<WriteQueue>,
    writer: Mutex<Option<JoinHandle<()>>>,
    metrics: Arc<LogMetrics>,
    records: Mutex<BTreeMap<ReplicaId, ReplicaRecord>>,
    open: Arc<OpenReplicas>,
    cache_bytes_per_replica: usize,
}

impl Log {
    /// Opens the log in a folder of its own, or creates it. It reads and checks what the last
    /// run left, so it takes a while and blocks.
    pub fn open(path: &Path, options: &LogOptions) -> Result<Arc<Self>, LogError> {
        Self::with_engine(Arc::new(RocksEngine::open(path, options.memtable_bytes)?), options)
    }

    /// A log in memory.
    pub fn in_memory() -> Result<Arc<Self>, LogError> {
        Self::with_engine(Arc::new(MemoryEngine::default()), &LogOptions::default())
    }

    /// A log over an engine, which a simulation may keep over a crash.
    pub fn with_engine(engine: Arc<dyn LogEngine>, options: &LogOptions) -> Result<Arc<Self>, LogError> {
        let records = engine.replica_records()?.into_iter().map(|record| (record.replica, record)).collect();
        let budget = Arc::new(CacheBudget::new(options.cache_bytes));
        let open = Arc::new(OpenReplicas { replicas: Mutex::default(), budget });
        let queue = Arc::new(WriteQueue::default());
        let metrics = Arc::new(LogMetrics::default());
        let after_batch = {
            let open = open.clone();
            move || open.keep_within_budget()
        };
        let writer = writer::start(queue.clone(), engine.clone(), metrics.clone(), after_batch)
            .map_err(LogError::Thread)?;
        Ok(Arc::new(Self {
            engine,
            queue,
            writer: Mutex::new(Some(writer)),
            metrics,
            records: Mutex::new(records),
            open,
            cache_bytes_per_replica: options.cache_bytes_per_replica,
        }))
    }

    /// The log of a living replica, which must belong to that group. Whoever asks again gets
    /// the same one. Reads a few records, so it may block for a moment.
    pub fn replica(&self, group: PartitionId, replica: ReplicaId) -> Result<Arc<ReplicaLog>, LogError> {
        // Held to the end, so that the replica is not destroyed in between.
        let records = self.records.lock();
        let record = records.get(&replica).ok_or(LogError::UnknownReplica { replica })?;
        if record.group != group {
            return Err(LogError::WrongGroup { replica, recorded: record.group, asked: group });
        }
        if record.state == ReplicaState::Destroying {
            return Err(LogError::WrongState { replica, state: "being destroyed" });
        }
        let mut open = self.open.replicas.lock();
        if let Some(log) = open.get(&replica).and_then(Weak::upgrade) {
            return Ok(log);
        }
        let (engine, queue) = (self.engine.clone(), self.queue.clone());
        let budget = self.open.budget.clone();
        let log = ReplicaLog::open(replica, engine, queue, self.cache_bytes_per_replica, budget)?;
        let log = Arc::new(log);
        open.insert(replica, Arc::downgrade(&log));
        Ok(log)
    }

    /// The replicas of this node, also those that are being destroyed, in the order of their
    /// ids.
    pub fn replica_records(&self) -> Vec<ReplicaRecord> {
        self.records.lock().values().cloned().collect()
    }

    /// Stores that a replica exists, or that it was born differently; returns when that is
    /// durable. A replica that is being destroyed stays so.
    pub async fn put_replica_record(&self, record: ReplicaRecord) -> Result<(), LogError> {
        self.change_record(record.replica, |old| match old {
            Some(ReplicaRecord { replica, group, .. }) if *group != record.group => {
                Err(LogError::WrongGroup { replica: *replica, recorded: *group, asked: record.group })
            }
            Some(ReplicaRecord { replica, state: ReplicaState::Destroying, .. })
                if record.state == ReplicaState::Alive =>
            {
                Err(LogError::WrongState { replica: *replica, state: "being destroyed" })
            }
            _ => Ok(Some(record)),
        })
        .await
    }

    /// Marks a replica as being destroyed; returns when that is durable. Its group must have
    /// been stopped.
    pub async fn begin_destroy(&self, replica: ReplicaId) -> Result<(), LogError> {
        self.change_record(replica, |old| {
            let record = old.ok_or(LogError::UnknownReplica { replica })?;
            Ok(Some(ReplicaRecord { state: ReplicaState::Destroying, ..record.clone() }))
        })
        .await
    }

    /// Removes all that the log holds of a replica that is marked, after its data was deleted
    /// and that was flushed; returns when it is durable.
    pub async fn finish_destroy(&self, replica: ReplicaId) -> Result<(), LogError> {
        self.change_record(replica, |old| match old {
            None => Err(LogError::UnknownReplica { replica }),
            Some(ReplicaRecord { state: ReplicaState::Alive, .. }) => {
                Err(LogError::WrongState { replica, state: "alive: mark it as being destroyed first" })
            }
            Some(_) => Ok(None),
        })
        .await
    }

    /// What the recent entries of all replicas take.
    pub fn cache_bytes(&self) -> usize {
        self.open.budget.used()
    }

    /// What the writer has done.
    pub fn metrics(&self) -> &LogMetrics {
        &self.metrics
    }

    /// Writes all that waits and stops; later writes are refused. It blocks until then.
    pub fn shutdown(&self) {
        self.queue.close();
        if let Some(writer) = self.writer.lock().take() {
            // A panic there is a bug that has been reported; there is nothing left to do.
            let _ = writer.join();
        }
    }

    /// Replaces (or with `None` removes, together with the log) the record of a replica.
    async fn change_record(
        &self,
        replica: ReplicaId,
        change: impl FnOnce(Option<&ReplicaRecord>) -> Result<Option<ReplicaRecord>, LogError>,
    ) -> Result<(), LogError> {
        let (tell, told) = oneshot::channel();
        let done = Box::new(move || {
            // Whoever asked may have gone away.
            let _ = tell.send(());
        });
        {
            let mut records = self.records.lock();
            match change(records.get(&replica))? {
                Some(record) => {
                    self.queue.push(Record::Replica(record.clone()), Some(done))?;
                    records.insert(replica, record);
                }
                None => {
                    // First, so that nothing of it is queued behind its end.
                    if let Some(log) =
                        self.open.replicas.lock().remove(&replica).and_then(|log| log.upgrade())
                    {
                        log.destroy();
                    }
                    self.queue.push(Record::Destroy { replica }, Some(done))?;
                    records.remove(&replica);
                }
            }
        }
        told.await.map_err(|_| LogError::Closed)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// The replicas whose logs are in use.
struct OpenReplicas {
    replicas: Mutex<BTreeMap<ReplicaId, Weak<ReplicaLog>>>,
    budget: Arc<CacheBudget>,
}

impl OpenReplicas {
    /// When all caches together hold too much, they give up what is also on disk: those that
    /// are in use fill again, and those of idle groups stay empty.
    fn keep_within_budget(&self) {
        if !self.budget.is_exceeded() {
            return;
        }
        let mut open = self.replicas.lock();
        open.retain(|_, log| log.strong_count() > 0);
        let logs: Vec<_> = open.values().filter_map(Weak::upgrade).collect();
        drop(open);
        logs.iter().for_each(|log| log.give_up_cache());
    }
}
