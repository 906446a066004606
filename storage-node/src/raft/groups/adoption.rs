//! Replicas of partitions that are cut off others.
//!
//! ```text
//!   the parent applies the split ─▶ the child's state is written ─▶ flush ─▶ record ─▶ start
//! ```
//!
//! The flush comes before the record, and state is flushed in the order in which it was written. So
//! whoever has a record has its beginning on disk, and with it that the parent has applied the
//! split: a replay of the parent's log never makes a child's state again. A node that ends in
//! between finds, at its next start, state without a record, or applies the split again.
//!
//! A replica of the child whose node has no parent that applied the split begins empty, and is sent
//! a snapshot; but not before what will be its is no other replica's on this node: a parent that
//! is behind still writes there, or will.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use placement::{BucketRange, Epoch, PartitionId, ReplicaId, Revision};
use prost::Message;
use proto::convert;
use proto::v1::Origin;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Groups, GroupsError, Made};
use crate::partition::Descriptor;
use crate::partition::split::Seeded;
use crate::raft::group::Group;
use crate::raft::machine::Birth;
use crate::seams::{fatal, threads};
use crate::storage::keys::{self, GroupRecord};
use crate::storage::log::engine::ReplicaRecord;
use crate::storage::state::{Changes, StateError, StateResult, StateView};

/// How a replica that is made begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    /// With nothing.
    Empty,
    /// With what a split left for it here, where one did.
    BySplit,
}

/// Partitions that were cut off and have no replica here yet. They own what they were given from the
/// batch on that made them: a replica of another one that is made meanwhile must wait for them.
#[derive(Debug)]
pub struct Seeds {
    waiting: Mutex<HashMap<PartitionId, Descriptor>>,
    to_adopt: mpsc::UnboundedSender<Seeded>,
}

impl Seeds {
    /// With whoever adopts them.
    pub(super) fn new(to_adopt: mpsc::UnboundedSender<Seeded>) -> Self {
        Self { waiting: Mutex::default(), to_adopt }
    }

    /// It is about to be written.
    pub fn note(&self, seeded: &Seeded) {
        self.waiting.lock().insert(seeded.group, seeded.descriptor);
    }

    /// It is written.
    pub fn adopt(&self, seeded: Seeded) {
        // Whoever is no longer there looks for it at the next start.
        let _ = self.to_adopt.send(seeded);
    }

    /// It has a replica, or is gone.
    pub(super) fn settled(&self, group: PartitionId) {
        self.waiting.lock().remove(&group);
    }
}

/// The right to make the replica of a group.
pub(super) struct Turn<'a> {
    groups: &'a Groups,
    group: PartitionId,
}

impl<'a> Turn<'a> {
    /// None: somebody makes it already.
    pub(super) fn take(groups: &'a Groups, group: PartitionId) -> Option<Self> {
        let free = groups.being_made.lock().insert(group);
        // Made only where it is free: a turn that is dropped gives back what it took.
        free.then(|| Self { groups, group })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.groups.being_made.lock().remove(&self.group);
    }
}

/// Makes replicas of what is cut off, for as long as there are groups.
pub(super) async fn run(groups: Weak<Groups>, mut to_adopt: mpsc::UnboundedReceiver<Seeded>) {
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            seeded = to_adopt.recv() => {
                let (Some(seeded), Some(groups)) = (seeded, groups.upgrade()) else { return };
                under_way.spawn(async move {
                    let group = seeded.group;
                    if let Err(error) = groups.adopt(seeded).await {
                        fatal::stop(
                            "a replica of a partition that was cut off cannot be made",
                            &format!("partition {group}: {error}"),
                        );
                    }
                });
            }
            Some(_) = under_way.join_next() => {}
        }
    }
}

impl Groups {
    /// Makes the replica of a partition that was cut off one of this node's.
    async fn adopt(&self, seeded: Seeded) -> Result<(), GroupsError> {
        let Seeded { group, origin, descriptor } = seeded;
        let revision = Revision(origin.map_revision);
        let parent = self.get(PartitionId(origin.parent));
        let leads = parent.as_ref().is_some_and(|parent| parent.leads());
        match self.own_replica(&origin).filter(|replica| self.may_hold(group, *replica, revision)) {
            Some(replica) => {
                let birth = Birth::Partition(descriptor);
                self.make(group, replica, revision, birth, Beginning::BySplit).await?;
            }
            None => self.erase_what_was_seeded(group, &descriptor).await?,
        }
        if let Some(child) = self.get(group).filter(|_| leads) {
            child.campaign().await;
        }
        if let Some(parent) = parent {
            forget_log(&parent).await;
        }
        Ok(())
    }

    /// State that a split left without a replica: the node ended before it made one.
    pub(super) fn adopt_what_was_left(&self) -> Result<(), GroupsError> {
        for (group, origin, descriptor) in origins_in(&*self.parts.engine)? {
            if self.get(group).is_none() {
                let seeded = Seeded { group, origin, descriptor };
                self.seeds.note(&seeded);
                self.seeds.adopt(seeded);
            }
        }
        Ok(())
    }

    fn own_replica(&self, origin: &Origin) -> Option<ReplicaId> {
        let own = |entry: &&proto::v1::ReplicaEntry| convert::node_id(&entry.node) == Ok(self.parts.node);
        origin.replicas.iter().find(own).map(|entry| ReplicaId(entry.replica))
    }

    /// Whether no map that is newer says that the replica is gone.
    fn may_hold(&self, group: PartitionId, replica: ReplicaId, made_from: Revision) -> bool {
        let followed = self.followed.lock();
        followed.revision <= made_from || followed.replicas.contains(&(group, replica))
    }

    async fn erase_what_was_seeded(
        &self,
        group: PartitionId,
        descriptor: &Descriptor,
    ) -> Result<(), GroupsError> {
        let Some(_turn) = Turn::take(self, group) else { return Ok(()) };
        if self.get(group).is_some() {
            return Ok(());
        }
        tracing::info!(partition = %group, "what was cut off here is erased: the map has it elsewhere");
        let (engine, others) = (Arc::clone(&self.parts.engine), self.owned_by_others(group)?);
        let descriptor = *descriptor;
        threads::blocking(move || -> StateResult<()> {
            let mut changes = Changes::default();
            erase_buckets(&descriptor, &others, &mut changes);
            changes.delete_range(keys::records_of(group));
            engine.write(changes)
        })
        .await?;
        self.seeds.settled(group);
        Ok(())
    }

    /// Whether the state has something of a group.
    pub(super) fn has_state(&self, group: PartitionId) -> StateResult<bool> {
        let progress = keys::group_record(group, GroupRecord::Progress);
        Ok(self.parts.engine.get(&progress)?.is_some())
    }

    /// Whether another replica of this node owns some of what a new one will.
    pub(super) fn is_taken(&self, group: PartitionId, record: &ReplicaRecord) -> Result<bool, GroupsError> {
        let made = Made::decode(group, record.birth.clone()).map_err(|why| GroupsError::Record {
            group,
            replica: record.replica,
            why,
        })?;
        let Birth::Partition(born) = made.birth else { return Ok(false) };
        // What was never split was never anybody else's.
        if born.epoch == Epoch(1) {
            return Ok(false);
        }
        Ok(self.owned_by_others(group)?.iter().any(|owned| owned.overlaps(&born)))
    }

    /// What the other replicas of this node own, running or not.
    pub(super) fn owned_by_others(&self, group: PartitionId) -> Result<Vec<Descriptor>, GroupsError> {
        // First: it leaves these only once there is a record.
        let mut owned = self.seeds.waiting.lock().clone();
        owned.remove(&group);
        for record in self.parts.log.replica_records() {
            if record.group == group || record.group == PartitionId::META {
                continue;
            }
            let made = Made::decode(record.group, record.birth).map_err(|why| GroupsError::Record {
                group: record.group,
                replica: record.replica,
                why,
            })?;
            let Birth::Partition(born) = made.birth else { continue };
            let now = descriptor_in(record.group, &*self.parts.engine)?.unwrap_or(born);
            owned.insert(record.group, now);
        }
        Ok(owned.into_values().collect())
    }
}

/// The log from before the split is of no use to new replicas of the parent; the slower followers of
/// a leader still need it.
async fn forget_log(parent: &Arc<Group>) {
    if parent.leads() && !parent.all_are_past_split() {
        return;
    }
    if let Err(error) = parent.forget_log_before_split().await {
        tracing::debug!(partition = %parent.group, %error, "the log from before the split stays for now");
    }
}

/// What a group owns, by its record; nothing where it was never changed.
pub(super) fn descriptor_in(group: PartitionId, state: &dyn StateView) -> StateResult<Option<Descriptor>> {
    let Some(bytes) = state.get(&keys::group_record(group, GroupRecord::Descriptor))? else {
        return Ok(None);
    };
    let damaged = |why| StateError::Damaged { what: format!("the descriptor of partition {group}"), why };
    Descriptor::decode(&bytes).map(Some).map_err(damaged)
}

/// Erases what a partition owns and no other does.
pub(super) fn erase_buckets(owned: &Descriptor, others: &[Descriptor], changes: &mut Changes) {
    let mut free: Option<BucketRange> = None;
    for bucket in owned.buckets.iter() {
        let taken = others.iter().any(|other| other.table == owned.table && other.buckets.contains(bucket));
        match &mut free {
            _ if taken => changes.delete_ranges_of(owned, free.take()),
            Some(run) => run.last = bucket,
            None => free = Some(BucketRange { first: bucket, last: bucket }),
        }
    }
    changes.delete_ranges_of(owned, free);
}

impl Changes {
    fn delete_ranges_of(&mut self, owned: &Descriptor, run: Option<BucketRange>) {
        if let Some(run) = run {
            self.delete_range(keys::data_of(owned.table, run));
        }
    }
}

/// The groups that began by a split, by their records.
fn origins_in(state: &dyn StateView) -> StateResult<Vec<(PartitionId, Origin, Descriptor)>> {
    let mut found = Vec::new();
    let mut next = PartitionId(1);
    loop {
        // From group to group, not through all that each has.
        let walk = state.iterate(&keys::records_from(next), false)?;
        let Some(group) = walk.current().and_then(|(key, _)| keys::record_group(key)) else {
            return Ok(found);
        };
        if let Some(bytes) = state.get(&keys::group_record(group, GroupRecord::Origin))? {
            let origin = decode_origin(group, bytes)?;
            if let Some(descriptor) = descriptor_in(group, state)? {
                found.push((group, origin, descriptor));
            }
        }
        next = PartitionId(group.0 + 1);
    }
}

fn decode_origin(group: PartitionId, bytes: Bytes) -> StateResult<Origin> {
    Origin::decode(bytes).map_err(|error| StateError::Damaged {
        what: format!("the origin of partition {group}"),
        why: error.to_string(),
    })
}
