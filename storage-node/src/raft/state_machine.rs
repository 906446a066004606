//! A group's state machine, as openraft wants it.
//!
//! Entries are applied together, written together and only then answered. A snapshot copies
//! nothing: it records how far the state is flushed, or pins it, and files are made only
//! when one is sent.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use parking_lot::{Mutex, RwLock};
use placement::{BucketRange, PartitionId};
use proto::v1::{IndexReport, TableSettings, index_status};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::groups::Seeds;
use super::machine::{Birth, Machine};
use super::network::snapshot_files::{SnapshotFiles, SnapshotSource};
use super::network::wire::{decode_snapshot_meta, encode_snapshot_meta};
use super::type_config::{EntryAnswers, LogId, SnapshotMeta, StoredMembership, TypeConfig};
use crate::meta::MetaState;
use crate::observability::metrics::Counter;
use crate::partition::{Answer, Descriptor, Progress};
use crate::seams::{fatal, threads};
use crate::storage::keys::{self, GroupRecord, KeyRange};
use crate::storage::state::{Changes, PinnedState, StateEngine, StateResult, StateView};
use crate::watch::Feed;

/// So much is gathered before it is written, when many entries are applied at once.
const WRITE_BYTES: usize = 4 << 20;

type Snapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotFiles>;

/// What the rest of the node sees of a group's applied state.
#[derive(Debug)]
pub struct Applied {
    progress: RwLock<Progress>,
    descriptor: RwLock<Option<Descriptor>>,
    settings: RwLock<Option<TableSettings>>,
    /// How far it is with its indexes.
    indexes: RwLock<Vec<IndexReport>>,
    /// What was changed lately, for those who follow.
    feed: Arc<Feed>,
    next_due_ms: AtomicU64,
    /// The meta group's state, in group 0.
    meta: watch::Sender<Option<Arc<MetaState>>>,
    ranges: RwLock<Vec<KeyRange>>,
    /// Cancelled when the state machine is gone.
    ended: CancellationToken,
}

impl Applied {
    /// Returns once nothing of the group is applied any more. Raft does not wait for that when
    /// it is shut down: what was queued is still applied, and must not be written over what is
    /// deleted meanwhile.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// How far the group has come; what is written is never behind it.
    pub fn progress(&self) -> Progress {
        *self.progress.read()
    }

    /// What the partition owns; none in the meta group.
    pub fn descriptor(&self) -> Option<Descriptor> {
        *self.descriptor.read()
    }

    /// What its table is like, as the group was told; none: it was not told yet.
    pub fn settings(&self) -> Option<TableSettings> {
        self.settings.read().clone()
    }

    /// The version of those settings; 0: none.
    pub fn settings_version(&self) -> u64 {
        self.settings.read().as_ref().map_or(0, |settings| settings.version)
    }

    /// How far it is with each of its indexes.
    pub fn indexes(&self) -> Vec<IndexReport> {
        self.indexes.read().clone()
    }

    /// An index that is being built.
    pub fn building(&self) -> Option<u32> {
        let building = |report: &&IndexReport| report.state() == index_status::State::Building;
        self.indexes.read().iter().find(building).map(|report| report.index)
    }

    /// What was changed lately.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// The earliest deadline that may be due next.
    pub fn next_due_ms(&self) -> u64 {
        self.next_due_ms.load(Ordering::Acquire)
    }

    /// Forgets the earliest deadline, before the expiry index is walked for it again: what is
    /// applied during the walk notes its own.
    pub fn forget_next_due(&self) {
        self.next_due_ms.store(u64::MAX, Ordering::Release);
    }

    /// Notes what a walk over the expiry index found.
    pub fn note_due(&self, deadline_ms: u64) {
        self.next_due_ms.fetch_min(deadline_ms, Ordering::AcqRel);
    }

    /// The meta group's state as it changes.
    pub fn meta(&self) -> watch::Receiver<Option<Arc<MetaState>>> {
        self.meta.subscribe()
    }

    /// Where the group's state is.
    pub fn ranges(&self) -> Vec<KeyRange> {
        self.ranges.read().clone()
    }

    /// Shows what was just written.
    fn publish(&self, group: PartitionId, machine: &mut Machine) {
        let ranges = machine.ranges(group);
        if *self.ranges.read() != ranges {
            *self.ranges.write() = ranges;
        }
        match machine {
            Machine::Partition(partition) => {
                *self.descriptor.write() = Some(partition.descriptor);
                if *self.settings.read() != partition.settings {
                    self.settings.write().clone_from(&partition.settings);
                }
                if let Some(indexes) = partition.take_indexes() {
                    *self.indexes.write() = indexes;
                }
                let earliest = std::mem::replace(&mut partition.next_due_ms, u64::MAX);
                self.next_due_ms.fetch_min(earliest, Ordering::AcqRel);
            }
            Machine::Meta(meta) => {
                if meta.take_changed() {
                    self.meta.send_replace(Some(Arc::new(meta.state.clone())));
                }
            }
        }
        *self.progress.write() = *machine.progress();
        let counter = machine.progress().counter;
        self.feed.offer(machine.take_fresh(), counter);
    }
}

/// How far a group's state was when everything up to there was flushed.
#[derive(Debug, Clone)]
pub struct Flushed {
    /// The applied entry and membership of that moment.
    pub meta: SnapshotMeta,
    /// The state of that moment.
    pub pinned: Arc<dyn PinnedState>,
}

/// A group's state machine.
pub struct StateMachine {
    group: PartitionId,
    birth: Birth,
    engine: Arc<dyn StateEngine>,
    machine: Machine,
    membership: StoredMembership,
    membership_changed: bool,
    applied: Arc<Applied>,
    flushed: Arc<Mutex<Option<Flushed>>>,
    /// False while the replica's start replays the log.
    started: Arc<AtomicBool>,
    entries_applied: Counter,
    /// Who makes replicas of what is cut off.
    seeds: Option<Arc<Seeds>>,
}

type Waiting = (ApplyResponder<TypeConfig>, Vec<Answer>);

impl StateMachine {
    /// Loads what was written of a group.
    pub fn load(group: PartitionId, birth: Birth, engine: Arc<dyn StateEngine>) -> StateResult<Self> {
        let mut machine = Machine::load(group, &birth, &*engine)?;
        let membership = read_membership(group, &*engine)?;
        let applied = Arc::new(Applied {
            progress: RwLock::default(),
            descriptor: RwLock::default(),
            settings: RwLock::default(),
            indexes: RwLock::default(),
            feed: Arc::new(Feed::default()),
            next_due_ms: AtomicU64::new(u64::MAX),
            meta: watch::Sender::new(None),
            ranges: RwLock::default(),
            ended: CancellationToken::new(),
        });
        applied.publish(group, &mut machine);
        Ok(Self {
            group,
            birth,
            engine,
            machine,
            membership,
            membership_changed: false,
            applied,
            flushed: Arc::default(),
            started: Arc::default(),
            entries_applied: Counter::default(),
            seeds: None,
        })
    }

    /// Where it is told which partitions were cut off, once they are written.
    pub fn tell_of_seeds(&mut self, seeds: Arc<Seeds>) {
        self.seeds = Some(seeds);
    }

    /// Where applied entries are counted from here on.
    pub fn count_in(&mut self, entries_applied: Counter) {
        self.entries_applied = entries_applied;
    }

    /// What the rest of the node sees of it.
    pub fn applied(&self) -> Arc<Applied> {
        Arc::clone(&self.applied)
    }

    /// Where the node's log collector leaves how far the state is flushed, before it asks
    /// for a snapshot.
    pub fn flushed(&self) -> Arc<Mutex<Option<Flushed>>> {
        Arc::clone(&self.flushed)
    }

    /// To be set when the replica has started.
    pub fn started(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.started)
    }

    fn write(&mut self, waiting: &mut Vec<Waiting>) -> io::Result<()> {
        let mut changes = self.machine.take_changes();
        if std::mem::take(&mut self.membership_changed) {
            let last_log_id = self.machine.progress().applied;
            let meta = SnapshotMeta { last_log_id, last_membership: self.membership.clone() };
            let key = keys::group_record(self.group, GroupRecord::Membership);
            changes.put(key, encode_snapshot_meta(&meta));
        }
        let seeded = self.machine.take_seeded();
        if let Some(seeds) = &self.seeds {
            seeded.iter().for_each(|seeded| seeds.note(seeded));
        }
        self.engine.write(changes)?;
        self.applied.publish(self.group, &mut self.machine);
        if let Some(seeds) = &self.seeds {
            seeded.into_iter().for_each(|seeded| seeds.adopt(seeded));
        }
        for (responder, answers) in waiting.drain(..) {
            responder.send(EntryAnswers(answers));
        }
        Ok(())
    }

    async fn apply_all<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = Result<openraft::storage::EntryResponder<TypeConfig>, io::Error>>
            + Unpin
            + OptionalSend,
    {
        let (mut waiting, mut applied) = (Vec::new(), 0);
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            self.check_follows(entry.log_id)?;
            let answers =
                self.machine.apply(entry.log_id, &entry.payload, &*self.engine).map_err(io::Error::other)?;
            if let EntryPayload::Membership(membership) = entry.payload {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                self.membership_changed = true;
            }
            waiting.extend(responder.map(|responder| (responder, answers)));
            applied += 1;
            // With its own entry: an expiry in a later one is written by itself, and what a
            // crash leaves, or a snapshot pins, must never have come past its membership.
            // So must what was cut off: its keys wait for it.
            if self.membership_changed
                || self.machine.has_seeded()
                || self.machine.pending_bytes() > WRITE_BYTES
            {
                self.write(&mut waiting)?;
            }
        }
        self.entries_applied.add(applied);
        self.write(&mut waiting)
    }

    /// A log that ends early gives fewer entries, and no error: what is missing must not be
    /// passed over.
    fn check_follows(&self, id: LogId) -> io::Result<()> {
        let applied = self.machine.progress().applied;
        let next = applied.map_or(0, |applied| applied.index() + 1);
        if self.started.load(Ordering::Acquire) && id.index() != next {
            return Err(io::Error::other(format!(
                "entry {} of partition {} came where {next} was due",
                id.index(),
                self.group
            )));
        }
        Ok(())
    }

    async fn install(&mut self, meta: &SnapshotMeta, files: SnapshotFiles) -> io::Result<()> {
        let SnapshotFiles::Received(received) = files else {
            return Err(io::Error::other("a snapshot of this node's own state was given back to it"));
        };
        let (engine, group, birth) = (Arc::clone(&self.engine), self.group, self.birth.clone());
        let (machine, membership) = threads::blocking(move || -> StateResult<_> {
            engine.replace(received.files())?;
            Ok((Machine::load(group, &birth, &*engine)?, read_membership(group, &*engine)?))
        })
        .await?;
        if machine.progress().applied != meta.last_log_id {
            let found = machine.progress().applied;
            return Err(io::Error::other(format!(
                "the snapshot of partition {group} leads to {found:?} instead of {:?}",
                meta.last_log_id
            )));
        }
        self.forget_lost(machine.descriptor())?;
        self.machine = machine;
        self.membership = membership;
        self.applied.feed.skip();
        self.applied.publish(self.group, &mut self.machine);
        self.applied.note_due(0);
        Ok(())
    }
}

impl StateMachine {
    /// A snapshot may be of a time after the partition was split. What this replica had of the part
    /// that was cut off is of no use to anybody: whoever gets a replica of that here begins by a
    /// snapshot as well, and not before this one is seen to be smaller.
    fn forget_lost(&self, now: Option<Descriptor>) -> StateResult<()> {
        let (Some(had), Some(now)) = (self.machine.descriptor(), now) else { return Ok(()) };
        let mut changes = Changes::default();
        for bucket in had.buckets.iter().filter(|bucket| !now.buckets.contains(*bucket)) {
            changes.delete_range(keys::data_of(had.table, BucketRange { first: bucket, last: bucket }));
        }
        if changes.changes.is_empty() { Ok(()) } else { self.engine.write(changes) }
    }
}

impl Drop for StateMachine {
    fn drop(&mut self) {
        self.applied.feed.end();
        self.applied.ended.cancel();
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotFiles;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.machine.progress().applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<openraft::storage::EntryResponder<TypeConfig>, io::Error>>
            + Unpin
            + OptionalSend,
    {
        if let Err(error) = self.apply_all(entries).await {
            fatal::stop("committed entries cannot be applied", &error);
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder> {
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            group: self.group,
            engine: Arc::clone(&self.engine),
            flushed: Arc::clone(&self.flushed),
            ranges: self.applied.ranges(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotFiles,
    ) -> Result<(), io::Error> {
        if let Err(error) = self.install(meta, snapshot).await {
            fatal::stop("a snapshot cannot be installed", &error);
        }
        Ok(())
    }

    /// While the node starts, openraft only wants to know how far the log may be purged:
    /// that is how far the state would survive a crash. Later it wants something to send.
    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let pinned = self.engine.pin();
        let view: &dyn StateView = &*pinned;
        let meta = if self.started.load(Ordering::Acquire) {
            meta_of(self.group, |key| view.get(key))?
        } else {
            meta_of(self.group, |key| self.engine.get_flushed(key))?
        };
        let data = lazy(pinned, self.applied.ranges());
        Ok(meta.last_log_id.is_some().then_some(Snapshot { meta, snapshot: data }))
    }
}

/// Records how far the state is flushed.
pub struct Builder {
    group: PartitionId,
    engine: Arc<dyn StateEngine>,
    flushed: Arc<Mutex<Option<Flushed>>>,
    ranges: Vec<KeyRange>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotFiles;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let left = self.flushed.lock().take();
        let flushed = match left {
            Some(flushed) => flushed,
            None => {
                let meta = meta_of(self.group, |key| self.engine.get_flushed(key))?;
                Flushed { meta, pinned: self.engine.pin() }
            }
        };
        let ranges = std::mem::take(&mut self.ranges);
        Ok(Snapshot { meta: flushed.meta, snapshot: lazy(flushed.pinned, ranges) })
    }
}

/// What a snapshot of a group covers, by the records of some state.
pub fn meta_of(
    group: PartitionId,
    get: impl Fn(&[u8]) -> StateResult<Option<Bytes>>,
) -> Result<SnapshotMeta, io::Error> {
    let progress = match get(&keys::group_record(group, GroupRecord::Progress))? {
        Some(bytes) => Progress::decode(&bytes).map_err(io::Error::other)?,
        None => Progress::default(),
    };
    let membership = match get(&keys::group_record(group, GroupRecord::Membership))? {
        Some(bytes) => decode_snapshot_meta(bytes).map_err(io::Error::other)?.last_membership,
        None => StoredMembership::default(),
    };
    Ok(SnapshotMeta { last_log_id: progress.applied, last_membership: membership })
}

/// How far a group is applied, by its record; nothing where there is none.
pub fn applied_in(group: PartitionId, state: &dyn StateView) -> StateResult<Option<LogId>> {
    Ok(Progress::read(state, group)?.applied)
}

fn read_membership(group: PartitionId, state: &dyn StateView) -> StateResult<StoredMembership> {
    let Some(bytes) = state.get(&keys::group_record(group, GroupRecord::Membership))? else {
        return Ok(StoredMembership::default());
    };
    let meta = decode_snapshot_meta(bytes).map_err(|why| crate::storage::state::StateError::Damaged {
        what: format!("the membership of partition {group}"),
        why: why.to_string(),
    })?;
    Ok(meta.last_membership)
}

fn lazy(pinned: Arc<dyn PinnedState>, ranges: Vec<KeyRange>) -> SnapshotFiles {
    SnapshotFiles::Lazy(Arc::new(PinnedGroup { pinned, ranges }))
}

/// A group's part of a pinned state.
struct PinnedGroup {
    pinned: Arc<dyn PinnedState>,
    ranges: Vec<KeyRange>,
}

impl SnapshotSource for PinnedGroup {
    fn write_files(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.pinned.export(&self.ranges, folder)?)
    }
}
