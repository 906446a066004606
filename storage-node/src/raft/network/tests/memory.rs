//! A log and a state machine in memory, for replicas that openraft runs.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::io;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{
    EntryResponder, IOFlushed, LogState, RaftLogReader, RaftLogStorage, RaftSnapshotBuilder,
    RaftStateMachine, Snapshot,
};
use openraft::type_config::alias::SnapshotOf;
use openraft::{EntryPayload, OptionalSend};
use parking_lot::Mutex;

use crate::raft::network::snapshot_files::{SnapshotFiles, SnapshotSource};
use crate::raft::type_config::{
    Entry, EntryAnswers, LogId, SnapshotMeta, StoredMembership, TypeConfig, Vote,
};

/// A log. Clones share it, so that a replica can be stopped and started again.
#[derive(Clone, Default)]
pub struct MemoryLog(Arc<Mutex<Log>>);

#[derive(Default)]
struct Log {
    vote: Option<Vote>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, Entry>,
}

impl RaftLogReader<TypeConfig> for MemoryLog {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<Entry>> {
        Ok(self.0.lock().entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.0.lock().vote)
    }
}

impl RaftLogStorage<TypeConfig> for MemoryLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let log = self.0.lock();
        let last = log.entries.last_key_value().map(|(_, entry)| entry.log_id()).or(log.purged);
        Ok(LogState { last_purged_log_id: log.purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.0.lock().vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.0.lock().entries.extend(entries.into_iter().map(|entry| (entry.index(), entry)));
        callback.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let first_gone = last.map_or(0, |last| last.index() + 1);
        self.0.lock().entries.split_off(&first_gone);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let mut log = self.0.lock();
        log.purged = Some(upto);
        log.entries = log.entries.split_off(&(upto.index() + 1));
        Ok(())
    }
}

/// A state machine that keeps the commands it was given, in their order.
#[derive(Clone, Default)]
pub struct MemoryMachine(Arc<Mutex<Machine>>);

#[derive(Clone, Default)]
struct Machine {
    applied: Option<LogId>,
    membership: StoredMembership,
    commands: Vec<Bytes>,
    snapshot: Option<(SnapshotMeta, SnapshotFiles)>,
}

impl MemoryMachine {
    pub fn commands(&self) -> Vec<Bytes> {
        self.0.lock().commands.clone()
    }
}

/// Commands, written as files of a hundred each.
pub struct Commands(pub Vec<Bytes>);

impl SnapshotSource for Commands {
    fn write_files(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let write = |(number, commands): (usize, &[Bytes])| {
            let path = folder.join(format!("{number:06}.commands"));
            fs::write(&path, commands.join(&b'\n'))?;
            Ok(path)
        };
        self.0.chunks(100).enumerate().map(write).collect()
    }
}

impl RaftSnapshotBuilder<TypeConfig> for MemoryMachine {
    type SnapshotData = SnapshotFiles;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, SnapshotFiles>> {
        let mut machine = self.0.lock();
        let meta = SnapshotMeta { last_log_id: machine.applied, last_membership: machine.membership.clone() };
        let snapshot = SnapshotFiles::Lazy(Arc::new(Commands(machine.commands.clone())));
        machine.snapshot = Some((meta.clone(), snapshot.clone()));
        Ok(Snapshot { meta, snapshot })
    }
}

impl RaftStateMachine<TypeConfig> for MemoryMachine {
    type SnapshotData = SnapshotFiles;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let machine = self.0.lock();
        Ok((machine.applied, machine.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some(entry) = entries.next().await {
            let (entry, responder) = entry?;
            {
                let mut machine = self.0.lock();
                machine.applied = Some(entry.log_id());
                match entry.payload {
                    EntryPayload::Blank => {}
                    EntryPayload::Normal(data) => machine.commands.push(data.0),
                    EntryPayload::Membership(membership) => {
                        machine.membership = StoredMembership::new(machine.applied, membership);
                    }
                }
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

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotFiles) -> io::Result<()> {
        let SnapshotFiles::Received(received) = &snapshot else {
            return Err(io::Error::other("only what was received is installed"));
        };
        let mut commands = Vec::new();
        for path in received.files() {
            commands.extend(fs::read(path)?.split(|byte| *byte == b'\n').map(Bytes::copy_from_slice));
        }
        let mut machine = self.0.lock();
        machine.applied = meta.last_log_id;
        machine.membership = meta.last_membership.clone();
        machine.commands = commands;
        machine.snapshot = Some((meta.clone(), snapshot));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<TypeConfig, SnapshotFiles>>> {
        let current = self.0.lock().snapshot.clone();
        Ok(current.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}
