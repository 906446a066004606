//! openraft's own conformance tests, on the real log and the real state machine.
//!
//! They know no commands, so entries that carry some are tested in `partition`. They also
//! expect a snapshot to be installed just as it was built, where this one travels as files in
//! between, and to cover everything at once, where this one covers what is flushed: that is
//! all that [`Travelling`] adds.

use std::io;
use std::sync::Arc;

use futures::Stream;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::alias::SnapshotOf;
use openraft::{OptionalSend, StorageError};
use placement::ReplicaId;
use tempfile::TempDir;

use super::site::{GROUP, descriptor, record};
use crate::raft::log_store::LogStore;
use crate::raft::machine::Birth;
use crate::raft::network::scratch::Scratch;
use crate::raft::network::snapshot_files::{ReceivedFiles, SnapshotFiles};
use crate::raft::state_machine::{self, StateMachine};
use crate::raft::type_config::{LogId, SnapshotMeta, StoredMembership, TypeConfig};
use crate::storage::log::{Log, LogOptions};
use crate::storage::state::{MemoryState, RocksState, RocksStateOptions, StateEngine};

struct Travelling {
    machine: StateMachine,
    engine: Arc<dyn StateEngine>,
    scratch: Scratch,
}

impl RaftStateMachine<TypeConfig> for Travelling {
    type SnapshotData = SnapshotFiles;
    type SnapshotBuilder = state_machine::Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        self.machine.applied_state().await
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        self.machine.apply(entries).await?;
        Ok(self.engine.flush()?)
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Self::SnapshotBuilder> {
        self.machine.try_create_snapshot_builder(force).await
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.machine.get_snapshot_builder().await
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotFiles,
    ) -> Result<(), io::Error> {
        let SnapshotFiles::Lazy(source) = snapshot else { return Err(io::Error::other("not built here")) };
        let folder = self.scratch.folder("suite")?;
        let files = source.write_files(folder.path())?;
        let received = SnapshotFiles::Received(Arc::new(ReceivedFiles::new(files, folder)));
        self.machine.install_snapshot(meta, received).await
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<TypeConfig, SnapshotFiles>>, io::Error> {
        self.machine.get_current_snapshot().await
    }
}

/// Builds a log and a state machine for each test of the suite.
struct Builder {
    on_disk: bool,
}

impl StoreBuilder<TypeConfig, LogStore, Travelling, (Arc<Log>, TempDir)> for Builder {
    async fn build(&self) -> Result<((Arc<Log>, TempDir), LogStore, Travelling), StorageError<TypeConfig>> {
        let folder = TempDir::new().unwrap();
        let engine: Arc<dyn StateEngine> = if self.on_disk {
            RocksState::open(&folder.path().join("state"), RocksStateOptions::default()).unwrap()
        } else {
            MemoryState::new()
        };
        let log = match self.on_disk {
            true => Log::open(&folder.path().join("raft"), &LogOptions::default()),
            false => Log::in_memory(),
        };
        let log = log.unwrap();
        log.put_replica_record(record(1)).await.unwrap();
        let store = log.store(GROUP, ReplicaId(1)).unwrap();
        let machine = StateMachine::load(GROUP, Birth::Partition(descriptor()), Arc::clone(&engine)).unwrap();
        let scratch = Scratch::open(folder.path().join("scratch")).unwrap();
        Ok(((log, folder), store, Travelling { machine, engine, scratch }))
    }
}

#[tokio::test]
async fn openrafts_suite_passes_on_disk() {
    Suite::test_all(Builder { on_disk: true }).await.unwrap();
}

#[tokio::test]
async fn openrafts_suite_passes_in_memory() {
    Suite::test_all(Builder { on_disk: false }).await.unwrap();
}
