//! What both engines do alike, how the writer batches, and what survives a reopening.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, IOFlushed, RaftLogStorage, RaftSnapshotBuilder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use openraft::type_config::alias::{LeaderIdOf, SnapshotOf};
use openraft::{EntryPayload, OptionalSend, RaftLogReader, StorageError};
use parking_lot::Mutex;
use placement::{PartitionId, ReplicaId};
use tempfile::TempDir;

use super::engine::{LogEngine, ReplicaRecord, ReplicaState};
use super::error::LogError;
use super::memory::MemoryEngine;
use super::{Log, LogOptions};
use crate::raft::log_store::LogStore;
use crate::raft::type_config::{
    Entry, EntryAnswers, EntryData, LogId, SnapshotMeta, StoredMembership, TypeConfig, Vote,
};

pub(super) fn record(replica: u64) -> ReplicaRecord {
    ReplicaRecord {
        group: PartitionId(replica * 10),
        replica: ReplicaId(replica),
        birth: Bytes::from_static(b"birth"),
        state: ReplicaState::Alive,
    }
}

async fn store(log: &Log, replica: u64) -> LogStore {
    let record = record(replica);
    if !log.replica_records().iter().any(|known| known.replica == record.replica) {
        log.put_replica_record(record.clone()).await.unwrap();
    }
    log.store(record.group, record.replica).unwrap()
}

fn entry(term: u64, index: u64, size: usize) -> Entry {
    let data = EntryData(Bytes::from(vec![index as u8; size]));
    Entry::new(LogId::new_term_index(term, index), EntryPayload::Normal(data))
}

fn entries(term: u64, indexes: std::ops::Range<u64>, size: usize) -> Vec<Entry> {
    indexes.map(|index| entry(term, index, size)).collect()
}

/// Starts an append and gives what its callback will say.
async fn start_append(store: &mut LogStore, entries: Vec<Entry>) -> impl Future<Output = ()> + use<> {
    let (tell, told) = TypeConfig::oneshot();
    store.append(entries, IOFlushed::signal(tell)).await.unwrap();
    async { told.await.unwrap().unwrap() }
}

async fn append(store: &mut LogStore, entries: Vec<Entry>) {
    start_append(store, entries).await.await;
}

fn vote(term: u64) -> Vote {
    Vote { leader_id: LeaderIdOf::<TypeConfig> { term, voted_for: 2 }, committed: true }
}

fn ids(entries: &[Entry]) -> Vec<(u64, u64)> {
    entries.iter().map(|entry| (**entry.log_id.committed_leader_id(), entry.log_id.index())).collect()
}

async fn all(store: &mut LogStore) -> Vec<(u64, u64)> {
    ids(&store.try_get_log_entries(..).await.unwrap())
}

/// Caches that hold nothing that is durable, so that reads go to the engine.
fn without_cache() -> LogOptions {
    LogOptions { cache_bytes_per_replica: 0, memtable_bytes: 1 << 20, ..LogOptions::default() }
}

/// Keeps no more than the suite asks about.
#[derive(Debug, Clone, Default)]
struct PlainStateMachine {
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshot: Arc<Mutex<Option<SnapshotMeta>>>,
}

type PlainSnapshot = SnapshotOf<TypeConfig, ()>;

impl RaftSnapshotBuilder<TypeConfig> for PlainStateMachine {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> Result<PlainSnapshot, io::Error> {
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        *self.snapshot.lock() = Some(meta.clone());
        Ok(PlainSnapshot { meta, snapshot: () })
    }
}

impl RaftStateMachine<TypeConfig> for PlainStateMachine {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            self.applied = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = entry.payload {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            if let Some(responder) = responder {
                responder.send(EntryAnswers::default());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, _snapshot: ()) -> Result<(), io::Error> {
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        *self.snapshot.lock() = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<PlainSnapshot>, io::Error> {
        let meta = self.snapshot.lock().clone();
        Ok(meta.map(|meta| PlainSnapshot { meta, snapshot: () }))
    }
}

/// Builds a log for each test of the suite.
struct Builder {
    on_disk: bool,
    options: LogOptions,
}

impl StoreBuilder<TypeConfig, LogStore, PlainStateMachine, (Arc<Log>, TempDir)> for Builder {
    async fn build(
        &self,
    ) -> Result<((Arc<Log>, TempDir), LogStore, PlainStateMachine), StorageError<TypeConfig>> {
        let folder = TempDir::new().unwrap();
        let log = if self.on_disk {
            Log::open(folder.path(), &self.options)
        } else {
            Log::with_engine(Arc::new(MemoryEngine::default()), &self.options)
        };
        let log = log.unwrap();
        let store = store(&log, 1).await;
        Ok(((log, folder), store, PlainStateMachine::default()))
    }
}

#[tokio::test]
async fn openrafts_suite_passes_on_disk() {
    Suite::test_all(Builder { on_disk: true, options: LogOptions::default() }).await.unwrap();
}

#[tokio::test]
async fn openrafts_suite_passes_on_disk_without_a_cache() {
    Suite::test_all(Builder { on_disk: true, options: without_cache() }).await.unwrap();
}

#[tokio::test]
async fn openrafts_suite_passes_in_memory() {
    Suite::test_all(Builder { on_disk: false, options: LogOptions::default() }).await.unwrap();
}

#[tokio::test]
async fn openrafts_suite_passes_in_memory_without_a_cache() {
    Suite::test_all(Builder { on_disk: false, options: without_cache() }).await.unwrap();
}

#[tokio::test]
async fn what_gathers_during_a_sync_is_synced_once() {
    let engine = Arc::new(MemoryEngine::default());
    let log = Log::with_engine(engine.clone(), &LogOptions::default()).unwrap();
    let mut stores = Vec::new();
    for replica in 1..=5 {
        stores.push(store(&log, replica).await);
    }
    engine.hold_syncs();
    let first = start_append(&mut stores[0], entries(1, 0..1, 10)).await;
    engine.wait_until_held();
    let (before, synced) = (log.metrics().fsyncs(), engine.syncs());

    let mut waiting = Vec::new();
    for store in &mut stores[1..] {
        waiting.push(start_append(store, entries(1, 0..3, 10)).await);
    }
    waiting.push(start_append(&mut stores[0], entries(1, 1..9, 10)).await);
    // Nobody has been told, yet all of it can be read.
    assert_eq!(all(&mut stores[0]).await.len(), 9);
    assert_eq!(all(&mut stores[1]).await.len(), 3);
    engine.release_syncs();
    first.await;
    futures::future::join_all(waiting).await;
    assert_eq!(engine.syncs() - synced, 2, "the one that was held, and one for all the rest");
    assert_eq!(log.metrics().fsyncs() - before, 2);
}

#[tokio::test]
async fn positions_that_nobody_waits_for_cost_no_sync_and_ride_along() {
    let engine = Arc::new(MemoryEngine::default());
    let log = Log::with_engine(engine.clone(), &LogOptions::default()).unwrap();
    let mut store = store(&log, 1).await;
    append(&mut store, entries(1, 0..10, 10)).await;
    let synced = engine.syncs();
    store.save_committed(Some(LogId::new_term_index(1, 5))).await.unwrap();
    store.purge(LogId::new_term_index(1, 3)).await.unwrap();
    store.save_committed(Some(LogId::new_term_index(1, 7))).await.unwrap();
    // An empty append is told in its turn, so the writer is through with those before it.
    append(&mut store, Vec::new()).await;
    assert_eq!(engine.syncs(), synced);
    assert_eq!(store.read_committed().await.unwrap(), Some(LogId::new_term_index(1, 7)));
    assert_eq!(engine.positions(ReplicaId(1)).unwrap().purged, None);

    store.save_vote(&vote(2)).await.unwrap();
    assert_eq!(engine.syncs(), synced + 1);
    let positions = engine.positions(ReplicaId(1)).unwrap();
    assert_eq!(positions.committed, Some(LogId::new_term_index(1, 7)));
    assert_eq!(positions.purged, Some(LogId::new_term_index(1, 3)));
    assert_eq!(positions.vote, Some(vote(2)));
    assert_eq!(all(&mut store).await.first(), Some(&(1, 4)));
}

#[tokio::test]
async fn truncation_and_what_replaces_it_keep_their_order_in_one_batch() {
    for on_disk in [false, true] {
        let folder = TempDir::new().unwrap();
        let log =
            if on_disk { Log::open(folder.path(), &without_cache()) } else { Log::in_memory() }.unwrap();
        let mut store = store(&log, 1).await;
        for round in 0..50 {
            // Without awaiting durability, so that batches gather several of these.
            let _told = start_append(&mut store, entries(round, round..round + 10, 10)).await;
            store.truncate_after(Some(LogId::new_term_index(round, round))).await.unwrap();
        }
        let mut expected: Vec<_> = (0..50).map(|index| (index, index)).collect();
        assert_eq!(all(&mut store).await, expected);
        append(&mut store, entries(60, 50..52, 10)).await;
        expected.extend([(60, 50), (60, 51)]);
        assert_eq!(all(&mut store).await, expected);
        log.shutdown();
        assert_eq!(ids(&log.engine.read_entries(ReplicaId(1), 0..100, usize::MAX).unwrap()), expected);
    }
}

#[tokio::test]
async fn everything_survives_a_reopening() {
    let folder = TempDir::new().unwrap();
    let open = || Log::open(folder.path(), &LogOptions::default()).unwrap();
    {
        let log = open();
        let mut one = store(&log, 1).await;
        let mut two = store(&log, 2).await;
        append(&mut one, entries(1, 0..20, 100)).await;
        append(&mut two, entries(4, 0..2, 100)).await;
        one.save_vote(&vote(6)).await.unwrap();
        one.purge(LogId::new_term_index(1, 4)).await.unwrap();
        one.truncate_after(Some(LogId::new_term_index(1, 15))).await.unwrap();
        // Written by the shutdown, since nothing came that would take it along.
        one.save_committed(Some(LogId::new_term_index(1, 12))).await.unwrap();
        log.begin_destroy(ReplicaId(2)).await.unwrap();
        log.shutdown();
        assert!(one.save_vote(&vote(7)).await.is_err(), "writes after a shutdown are refused");
    }
    {
        let log = open();
        let states: Vec<_> = log.replica_records().into_iter().map(|r| (r.replica.0, r.state)).collect();
        assert_eq!(
            states,
            [(1, ReplicaState::Alive), (2, ReplicaState::Destroying)],
            "half destroyed is seen"
        );
        assert_eq!(log.replica_records()[0], record(1));
        assert!(matches!(log.store(PartitionId(20), ReplicaId(2)), Err(LogError::WrongState { .. })));
        let mut one = store(&log, 1).await;
        let state = one.get_log_state().await.unwrap();
        assert_eq!(state.last_purged_log_id, Some(LogId::new_term_index(1, 4)));
        assert_eq!(state.last_log_id, Some(LogId::new_term_index(1, 15)));
        assert_eq!(one.read_committed().await.unwrap(), Some(LogId::new_term_index(1, 12)));
        assert_eq!(one.read_vote().await.unwrap(), Some(vote(6)));
        assert_eq!(all(&mut one).await, (5..16).map(|index| (1, index)).collect::<Vec<_>>());
        log.finish_destroy(ReplicaId(2)).await.unwrap();
    }
    let log = open();
    assert_eq!(log.replica_records(), [record(1)]);
    assert_eq!(log.engine.replicas().unwrap(), [ReplicaId(1)], "nothing is left of the other");
}

#[tokio::test]
async fn a_replica_lives_and_dies_by_its_record() {
    let log = Log::in_memory().unwrap();
    let one = ReplicaId(1);
    assert!(matches!(log.store(PartitionId(10), one), Err(LogError::UnknownReplica { .. })));
    let mut store = store(&log, 1).await;
    append(&mut store, entries(1, 0..3, 10)).await;
    assert!(matches!(log.store(PartitionId(11), one), Err(LogError::WrongGroup { .. })));
    assert!(matches!(log.finish_destroy(one).await, Err(LogError::WrongState { .. })));
    log.begin_destroy(one).await.unwrap();
    assert!(matches!(log.put_replica_record(record(1)).await, Err(LogError::WrongState { .. })));
    log.finish_destroy(one).await.unwrap();
    // Whoever still holds it can no longer bring anything of it back.
    assert!(store.save_vote(&vote(1)).await.is_err());
    assert!(all(&mut store).await.is_empty());
    assert!(log.replica_records().is_empty());
    assert!(log.engine.replicas().unwrap().is_empty());
}

#[tokio::test]
async fn a_crash_loses_only_what_nobody_was_told() {
    let engine = Arc::new(MemoryEngine::default());
    let log = Log::with_engine(engine.clone(), &LogOptions::default()).unwrap();
    let mut lost = store(&log, 1).await;
    append(&mut lost, entries(1, 0..5, 10)).await;
    engine.hold_syncs();
    let waiting = start_append(&mut lost, entries(1, 5..9, 10)).await;
    engine.wait_until_held();
    let disk = Arc::new(engine.crash());
    engine.release_syncs();
    waiting.await;

    let log = Log::with_engine(disk, &LogOptions::default()).unwrap();
    let mut found = store(&log, 1).await;
    assert_eq!(all(&mut found).await, (0..5).map(|index| (1, index)).collect::<Vec<_>>());
}

#[tokio::test]
async fn limited_reads_stay_within_a_mebibyte_beyond_their_first_entry() {
    for options in [LogOptions::default(), without_cache()] {
        let log = Log::with_engine(Arc::new(MemoryEngine::default()), &options).unwrap();
        let mut store = store(&log, 1).await;
        let mut written = entries(1, 0..1, 3 << 20);
        written.extend(entries(1, 1..40, 100_000));
        append(&mut store, written).await;
        let read = store.limited_get_log_entries(0, 40).await.unwrap();
        assert_eq!(ids(&read).last(), Some(&(1, 10)), "the large one, and ten of 100 kB");
        assert_eq!(store.limited_get_log_entries(12, 13).await.unwrap().len(), 1);
        assert_eq!(
            store.limited_get_log_entries(0, 1).await.unwrap().len(),
            1,
            "an entry of any size is read"
        );
        let streamed: Vec<_> = store.entries_stream(0..40).await.try_collect().await.unwrap();
        assert_eq!(streamed.len(), 40, "a stream goes on where a step ended");
    }
}

#[tokio::test]
async fn reads_that_are_partly_cached_are_whole() {
    let folder = TempDir::new().unwrap();
    let options = LogOptions { cache_bytes_per_replica: 2000, ..LogOptions::default() };
    let log = Log::open(folder.path(), &options).unwrap();
    let mut store = store(&log, 1).await;
    append(&mut store, entries(1, 0..100, 100)).await;
    let read = store.try_get_log_entries(10..95).await.unwrap();
    assert_eq!(read, entries(1, 10..95, 100));
    store.purge(LogId::new_term_index(1, 49)).await.unwrap();
    assert_eq!(store.try_get_log_entries(10..95).await.unwrap(), entries(1, 50..95, 100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_beside_appends_and_purges_have_no_hole() {
    let folder = TempDir::new().unwrap();
    let options = LogOptions { cache_bytes_per_replica: 3000, ..LogOptions::default() };
    let log = Log::open(folder.path(), &options).unwrap();
    let mut store = store(&log, 1).await;
    let mut reader = store.get_log_reader().await;
    let reads = Arc::new(AtomicUsize::new(0));
    let counted = reads.clone();
    let reading = tokio::spawn(async move {
        loop {
            let read = ids(&reader.try_get_log_entries(..).await.unwrap());
            assert!(read.windows(2).all(|pair| pair[1].1 == pair[0].1 + 1), "a hole in {read:?}");
            counted.fetch_add(1, Ordering::Relaxed);
            if read.last().is_some_and(|last| last.1 == 2999) {
                return;
            }
        }
    });
    for start in (0..3000).step_by(10) {
        append(&mut store, entries(1, start..start + 10, 50)).await;
        if start >= 200 && start % 50 == 0 {
            store.purge(LogId::new_term_index(1, start - 200)).await.unwrap();
        }
    }
    reading.await.unwrap();
    assert!(reads.load(Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn caches_together_stay_within_their_budget() {
    let options = LogOptions { cache_bytes: 100_000, ..LogOptions::default() };
    let log = Log::with_engine(Arc::new(MemoryEngine::default()), &options).unwrap();
    let mut stores = Vec::new();
    for replica in 1..=10 {
        let mut store = store(&log, replica).await;
        append(&mut store, entries(1, 0..20, 1000)).await;
        stores.push(store);
    }
    // The writer tidies up after it has told; a further batch comes after that.
    append(&mut stores[0], Vec::new()).await;
    assert!(log.open.budget.used() <= 100_000, "{} bytes", log.open.budget.used());
    for store in &mut stores {
        assert_eq!(all(store).await.len(), 20, "what was dropped is read from the engine");
    }
}

#[tokio::test]
async fn an_append_that_leaves_a_hole_is_refused() {
    let log = Log::in_memory().unwrap();
    let mut store = store(&log, 1).await;
    append(&mut store, entries(1, 0..3, 10)).await;
    for wrong in [entries(1, 4..5, 10), entries(1, 2..4, 10)] {
        let error = store.append(wrong, IOFlushed::noop()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    }
    let streamed = store.entries_stream(1..).await.map(Result::unwrap).collect::<Vec<_>>().await;
    assert_eq!(ids(&streamed), [(1, 1), (1, 2)]);
}
