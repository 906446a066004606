//! What the state machine leaves on disk, whenever a crash comes.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::storage::RaftStateMachine;
use parking_lot::Mutex;
use prost::Message;
use proto::v1::{Command, CommandBatch, Expire, command};

use super::site::{GROUP, descriptor, places, put};
use crate::raft::machine::Birth;
use crate::raft::state_machine::{StateMachine, meta_of};
use crate::raft::type_config::{Entry, EntryData, LogId, Membership, SnapshotMeta};
use crate::storage::keys::KeyRange;
use crate::storage::state::{
    Changes, MemoryState, PinnedState, StateEngine, StateIterator, StateResult, StateView,
};

/// Looks at the state after every write: a crash, or a pin, may come there.
#[derive(Debug)]
struct Watched {
    state: Arc<MemoryState>,
    seen: Mutex<Vec<SnapshotMeta>>,
}

impl StateView for Watched {
    fn get(&self, key: &[u8]) -> StateResult<Option<Bytes>> {
        self.state.get(key)
    }

    fn iterate<'a>(&'a self, range: &KeyRange, reverse: bool) -> StateResult<Box<dyn StateIterator + 'a>> {
        self.state.iterate(range, reverse)
    }
}

impl StateEngine for Watched {
    fn write(&self, changes: Changes) -> StateResult<()> {
        self.state.write(changes)?;
        self.seen.lock().push(meta_of(GROUP, |key| self.state.get(key)).unwrap());
        Ok(())
    }

    fn get_flushed(&self, key: &[u8]) -> StateResult<Option<Bytes>> {
        self.state.get_flushed(key)
    }

    fn pin(&self) -> Arc<dyn PinnedState> {
        self.state.pin()
    }

    fn flush(&self) -> StateResult<()> {
        self.state.flush()
    }

    fn replace(&self, files: &[PathBuf]) -> StateResult<()> {
        self.state.replace(files)
    }

    fn approximate_bytes(&self, ranges: &[KeyRange]) -> u64 {
        self.state.approximate_bytes(ranges)
    }
}

fn commands(index: u64, commands: Vec<command::Command>) -> Entry {
    let commands = commands.into_iter().map(|command| Command { command: Some(command) }).collect();
    let data = CommandBatch { clock_ms: 1, commands }.encode_to_vec();
    Entry::new(LogId::new_term_index(1, index), EntryPayload::Normal(EntryData(data.into())))
}

fn membership(index: u64, voters: u64) -> Entry {
    let config = vec![(1..=voters).collect()];
    let membership = Membership::new(config, places(1..=voters)).unwrap();
    Entry::new(LogId::new_term_index(1, index), EntryPayload::Membership(membership))
}

#[tokio::test]
async fn what_is_written_never_comes_past_a_membership_that_is_not() {
    let engine = Arc::new(Watched { state: MemoryState::new(), seen: Mutex::default() });
    let birth = Birth::Partition(descriptor());
    let mut machine = StateMachine::load(GROUP, birth, Arc::clone(&engine) as _).unwrap();
    let entries = [
        membership(0, 1),
        commands(1, vec![put("a", "1")]),
        membership(2, 3),
        // Expiry writes what is pending before it walks the index.
        commands(3, vec![command::Command::Expire(Expire { limit: 10, extent: None })]),
        commands(4, vec![put("b", "1")]),
    ];
    machine.apply(stream::iter(entries.map(|entry| Ok((entry, None))))).await.unwrap();
    let seen = engine.seen.lock();
    assert_eq!(seen.last().unwrap().last_log_id, Some(LogId::new_term_index(1, 4)));
    for meta in seen.iter() {
        let applied = meta.last_log_id.unwrap().index();
        let expected = if applied >= 2 { 2 } else { 0 };
        assert_eq!(meta.last_membership.log_id().map(|id| id.index()), Some(expected), "at {applied}");
    }
}
