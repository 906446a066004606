//! One thread writes the log of all groups, so that one sync serves all who wait.
//!
//! ```text
//! group ─┐
//! group ─┼─▶ queue ─▶ drain all that waits ─▶ one batch ─▶ one sync ─▶ tell everyone
//! group ─┘                    ▲                                              │
//!                             └──────────────────────────────────────────────┘
//! ```
//!
//! Nothing waits on a timer: while one batch is synced the next one gathers.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use placement::ReplicaId;

use super::engine::{LogEngine, Record};
use super::error::LogError;
use crate::observability::metrics::Histogram;
use crate::raft::type_config::LogId;
use crate::seams::{clock, fatal, threads};

/// A batch takes no further record once it holds this much, so that one sync never keeps
/// everyone waiting for too long.
const BATCH_BYTES: usize = 8 << 20;

/// Called once a record is durable.
pub type Done = Box<dyn FnOnce() + Send>;

/// The records that wait for the writer.
///
/// Its bytes are bounded where client writes are admitted, not here: a record of Raft that
/// was refused for lack of room would stop its group.
#[derive(Default)]
pub struct WriteQueue {
    state: Mutex<QueueState>,
    filled: Condvar,
}

#[derive(Default)]
struct QueueState {
    waiting: Vec<(Record, Option<Done>)>,
    closed: bool,
}

impl WriteQueue {
    /// Adds a record behind those that wait. `done` is called on the writer's thread and must
    /// not block.
    pub fn push(&self, record: Record, done: Option<Done>) -> Result<(), LogError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(LogError::Closed);
        }
        state.waiting.push((record, done));
        let was_empty = state.waiting.len() == 1;
        drop(state);
        if was_empty {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Takes no more records; those that wait are still written.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_one();
    }

    /// All that waits, as soon as anything does; nothing once the queue is closed and empty.
    fn take(&self, empty: Vec<(Record, Option<Done>)>) -> Option<Vec<(Record, Option<Done>)>> {
        let mut state = self.state.lock();
        while state.waiting.is_empty() && !state.closed {
            self.filled.wait(&mut state);
        }
        let taken = mem::replace(&mut state.waiting, empty);
        (!taken.is_empty()).then_some(taken)
    }
}

/// What the writer has done since it started.
#[derive(Debug, Default)]
pub struct LogMetrics {
    fsync_seconds: Histogram,
    batches: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
}

impl LogMetrics {
    /// Syncs to disk.
    pub fn fsyncs(&self) -> u64 {
        self.fsync_seconds.count()
    }

    /// How long writing and syncing a batch took: what everybody who writes waits for at least.
    pub fn fsync_seconds(&self) -> &Histogram {
        &self.fsync_seconds
    }

    /// Batches taken from the queue; those that nobody had to wait for are written with a
    /// later one, so there are at least as many batches as syncs.
    pub fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// Records taken from the queue.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// About how many bytes these held.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Starts the writer. It ends once the queue is closed and all of it is written. `after_batch`
/// runs on its thread after each batch.
pub fn start(
    queue: Arc<WriteQueue>,
    engine: Arc<dyn LogEngine>,
    metrics: Arc<LogMetrics>,
    after_batch: impl Fn() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    threads::spawn("log-writer", move || {
        let mut writer = Writer { engine, metrics, carried: Carried::default() };
        let mut spare = Vec::new();
        while let Some(mut taken) = queue.take(mem::take(&mut spare)) {
            let mut operations = taken.drain(..);
            while writer.write_some(&mut operations) {
                after_batch();
            }
            drop(operations);
            spare = taken;
        }
        writer.finish();
    })
}

struct Writer {
    engine: Arc<dyn LogEngine>,
    metrics: Arc<LogMetrics>,
    carried: Carried,
}

impl Writer {
    /// Writes one batch from the front of the operations; false once there are none.
    fn write_some(&mut self, operations: &mut impl Iterator<Item = (Record, Option<Done>)>) -> bool {
        let mut records = Vec::new();
        let mut waiters = Vec::new();
        let (mut bytes, mut taken, mut needs_sync) = (0, 0, false);
        for (record, done) in operations {
            bytes += record.size();
            taken += 1;
            needs_sync |= record.needs_sync();
            waiters.extend(done);
            match record {
                // Only the last position counts, and its place among the rest does not.
                Record::Committed { replica, log_id } => {
                    self.carried.committed.insert(replica, log_id);
                }
                record => records.push(record),
            }
            if bytes >= BATCH_BYTES {
                break;
            }
        }
        if taken == 0 {
            return false;
        }
        self.metrics.batches.fetch_add(1, Ordering::Relaxed);
        self.metrics.records.fetch_add(taken, Ordering::Relaxed);
        self.metrics.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if needs_sync {
            let mut batch = self.carried.take();
            batch.append(&mut records);
            self.write(&batch);
        } else {
            self.carried.keep_purges(records);
        }
        waiters.into_iter().for_each(|done| done());
        true
    }

    /// Writes what was still waiting for company.
    fn finish(&mut self) {
        let batch = self.carried.take();
        if !batch.is_empty() {
            self.write(&batch);
        }
    }

    fn write(&self, batch: &[Record]) {
        // After a failed sync the system may have dropped the very pages that it could not
        // write, and a second sync would succeed without them. So nothing is tried again:
        // the next start reads what is really there.
        let began = clock::now();
        if let Err(error) = self.engine.write(batch) {
            fatal::stop("the log could not be written", &error);
        }
        self.metrics.fsync_seconds.record(began.elapsed());
    }
}

/// Records that nobody waits for, until a batch that is synced takes them along.
///
/// They are not written on their own, because opening relies on each batch being synced
/// before the next one begins (see `wal`). Bounded by the number of replicas.
#[derive(Default)]
struct Carried {
    committed: BTreeMap<ReplicaId, Option<LogId>>,
    purged: BTreeMap<ReplicaId, LogId>,
}

impl Carried {
    /// Keeps the purges of a batch; such a batch holds nothing else that counts.
    fn keep_purges(&mut self, records: Vec<Record>) {
        for record in records {
            if let Record::Purge { replica, log_id } = record {
                self.purged.insert(replica, log_id);
            }
        }
    }

    /// What was kept, for the head of a batch: it is older than all that is in it.
    fn take(&mut self) -> Vec<Record> {
        let purged = mem::take(&mut self.purged).into_iter();
        let committed = mem::take(&mut self.committed).into_iter();
        purged
            .map(|(replica, log_id)| Record::Purge { replica, log_id })
            .chain(committed.map(|(replica, log_id)| Record::Committed { replica, log_id }))
            .collect()
    }
}
