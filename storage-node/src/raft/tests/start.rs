//! Starting from what a crash left.

use std::sync::Arc;

use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use placement::ReplicaId;

use super::lifecycle::open_groups;
use super::site::{GROUP, record};
use crate::partition::Progress;
use crate::raft::log_store::LogStore;
use crate::raft::network::tests::node::{Book, Node};
use crate::raft::type_config::{Entry, LogId, TypeConfig};
use crate::storage::keys::{self, GroupRecord};
use crate::storage::log::Log;
use crate::storage::state::{Changes, MemoryState, StateEngine};

async fn append(store: &mut LogStore, term: u64, indexes: std::ops::Range<u64>) {
    let entries = indexes.map(|index| Entry::new(LogId::new_term_index(term, index), EntryPayload::Blank));
    let (tell, told) = TypeConfig::oneshot();
    store.append(entries.collect::<Vec<_>>(), IOFlushed::signal(tell)).await.unwrap();
    told.await.unwrap().unwrap();
}

/// A replica accepted entries of a leader that was deposed, then those of its successor, which
/// were committed and applied; the state reached the disk, and the log's last writes did not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_the_state_has_overruled_is_cut() {
    for last in [8, 10] {
        let log = Log::in_memory().unwrap();
        log.put_replica_record(record(1)).await.unwrap();
        let mut store = log.store(GROUP, ReplicaId(1)).unwrap();
        append(&mut store, 1, 0..last + 1).await;
        let engine = MemoryState::new();
        let applied = Some(LogId::new_term_index(2, 8));
        let progress = Progress { applied, ..Progress::default() };
        let mut changes = Changes::default();
        changes.put(keys::group_record(GROUP, GroupRecord::Progress), progress.encode());
        engine.write(changes).unwrap();

        let node = Node::start(1, &Arc::new(Book::default())).await;
        let groups = open_groups(&node, &log, &(engine as _)).await;
        let state = store.get_log_state().await.unwrap();
        assert_eq!((state.last_purged_log_id, state.last_log_id), (applied, applied));
        // The successor goes on from there.
        append(&mut store, 2, 9..12).await;
        groups.stop().await;
    }
}

#[tokio::test]
async fn a_log_that_agrees_with_the_state_stays() {
    let log = Log::in_memory().unwrap();
    log.put_replica_record(record(1)).await.unwrap();
    let mut store = log.store(GROUP, ReplicaId(1)).unwrap();
    append(&mut store, 1, 0..11).await;
    for applied in [None, Some(LogId::new_term_index(1, 3)), Some(LogId::new_term_index(1, 10))] {
        store.drop_overruled(applied).unwrap();
        assert_eq!(store.get_log_state().await.unwrap().last_log_id, Some(LogId::new_term_index(1, 10)));
    }
    // A hole that Raft bridges by itself.
    store.drop_overruled(Some(LogId::new_term_index(2, 20))).unwrap();
    assert_eq!(store.get_log_state().await.unwrap().last_log_id, Some(LogId::new_term_index(1, 10)));
}
