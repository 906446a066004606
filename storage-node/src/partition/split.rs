//! Cutting a partition in two.
//!
//! ```text
//!   one batch:   the parent's descriptor      smaller, epoch raised
//!                the child's records          descriptor, membership, clock, counter, and copies of
//!                                             sessions, settings, marks and whatever else there is
//!                                             (its items, history and indexes are by bucket: they
//!                                             are where they are)
//! ```
//!
//! The child begins as a group does whose voters have agreed on their membership and no more: that
//! first entry is applied, and never was in its log. Versions and revisions go on from the parent's,
//! so that tokens and conditions that hold for the parent's keys hold for the child's.

use std::collections::BTreeMap;

use bytes::Bytes;
use placement::{Bucket, BucketRange, Epoch, PartitionId, Replica};
use prost::Message;
use proto::v1::{Origin, Split};

use super::descriptor::Descriptor;
use super::progress::Progress;
use super::state::PartitionState;
use crate::raft::network::wire::encode_snapshot_meta;
use crate::raft::type_config::{LogId, Membership, ReplicaPlace, SnapshotMeta, StoredMembership};
use crate::storage::keys::{self, GroupRecord};
use crate::storage::state::{Change, StateError, StateResult, StateView};

/// Records of a group that are its own, and are not copied to what is cut off it.
const OWN_RECORDS: [u8; 4] = [
    GroupRecord::Progress as u8,
    GroupRecord::Membership as u8,
    GroupRecord::Descriptor as u8,
    GroupRecord::Origin as u8,
];

/// A partition that was cut off: it has state here, and no replica yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Seeded {
    /// The new partition.
    pub group: PartitionId,
    /// Where it comes from, and its replicas.
    pub origin: Origin,
    /// What it owns.
    pub descriptor: Descriptor,
}

impl PartitionState {
    /// Does a split, unless it was done before or is none that this partition can do. Says whether
    /// the partition is split so now.
    pub(super) fn split(&mut self, split: &Split, entry: u64, state: &dyn StateView) -> StateResult<bool> {
        let child = PartitionId(split.child);
        if self.descriptor.epoch == Epoch(split.epoch) {
            // Asked twice: done, if it was this one.
            let cut_here = u32::from(self.descriptor.buckets.last.0) + 1 == split.first_bucket;
            return Ok(cut_here && self.descriptor.since > 0);
        }
        let Some(upper) = self.upper_part(split) else { return Ok(false) };
        let Some(replicas) = replicas_of(split) else { return Ok(false) };
        let whole = self.descriptor;
        let buckets = BucketRange { first: whole.buckets.first, last: Bucket(upper.first.0 - 1) };
        let epoch = Epoch(split.epoch);
        self.descriptor = Descriptor { buckets, epoch, since: entry, ..whole };
        let own = keys::group_record(self.group, GroupRecord::Descriptor);
        self.direct.put(own, self.descriptor.encode());
        let origin = Origin {
            parent: self.group.0,
            replicas: split.replicas.clone(),
            map_revision: split.map_revision,
        };
        let descriptor = Descriptor { buckets: upper, epoch, since: 0, ..whole };
        // A replica of the child that came here by itself knows more than this one can tell it.
        if state.get(&keys::group_record(child, GroupRecord::Progress))?.is_none() {
            self.seed(child, &descriptor, &origin, &replicas, state)?;
            self.seeded.push(Seeded { group: child, origin, descriptor });
        }
        Ok(true)
    }

    /// What is cut off; none: it is not the end of what this partition owns, or not now.
    fn upper_part(&self, split: &Split) -> Option<BucketRange> {
        let bucket = |number: u32| u16::try_from(number).ok().map(Bucket);
        let upper = BucketRange { first: bucket(split.first_bucket)?, last: bucket(split.last_bucket)? };
        let owned = self.descriptor.buckets;
        let fits = owned.first < upper.first && upper.first <= upper.last && upper.last == owned.last;
        (fits && split.epoch == self.descriptor.epoch.0 + 1).then_some(upper)
    }

    fn seed(
        &mut self,
        child: PartitionId,
        descriptor: &Descriptor,
        origin: &Origin,
        replicas: &[Replica],
        state: &dyn StateView,
    ) -> StateResult<()> {
        for (key, value) in self.records(state)? {
            let own = keys::record_kind(&key).is_none_or(|kind| OWN_RECORDS.contains(&kind));
            if let Some(copy) = keys::record_of_another(&key, child).filter(|_| !own) {
                self.direct.put(copy, value);
            }
        }
        let first = LogId::new_term_index(0, 0);
        let progress = Progress { applied: Some(first), ..self.progress };
        let places = replicas.iter().map(|replica| (replica.id.0, ReplicaPlace { node: replica.node }));
        let places: BTreeMap<u64, ReplicaPlace> = places.collect();
        let membership = Membership::new(vec![places.keys().copied().collect()], places);
        let membership = membership.map_err(|error| StateError::Damaged {
            what: format!("the membership of partition {child}, which is cut off partition {}", self.group),
            why: error.to_string(),
        })?;
        let last_membership = StoredMembership::new(Some(first), membership);
        let meta = SnapshotMeta { last_log_id: Some(first), last_membership };
        let mut put = |record, value: Bytes| self.direct.put(keys::group_record(child, record), value);
        put(GroupRecord::Progress, progress.encode());
        put(GroupRecord::Membership, encode_snapshot_meta(&meta));
        put(GroupRecord::Descriptor, descriptor.encode());
        put(GroupRecord::Origin, origin.encode_to_vec().into());
        Ok(())
    }

    /// The group's records as they will be once what is pending is written. The entries before this
    /// one are.
    fn records(&mut self, state: &dyn StateView) -> StateResult<BTreeMap<Bytes, Bytes>> {
        self.sessions.drain_into(self.group, &mut self.direct);
        let range = keys::records_of(self.group);
        let mut records = BTreeMap::new();
        let mut walk = state.iterate(&range, false)?;
        while let Some((key, value)) = walk.current() {
            records.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            walk.advance()?;
        }
        for change in &self.direct.changes {
            match change {
                Change::Put(key, value) if range.start <= *key && *key < range.end => {
                    records.insert(key.clone(), value.clone());
                }
                Change::Delete(key) => {
                    records.remove(key);
                }
                Change::DeleteRange(gone) => {
                    records.retain(|key, _| *key < gone.start || *key >= gone.end);
                }
                Change::Put(..) => {}
            }
        }
        // What this entry did to indexes is pending elsewhere.
        records.retain(|key, _| keys::record_kind(key) != Some(GroupRecord::Index as u8));
        records.extend(self.indexes.records());
        Ok(records)
    }
}

/// The child's replicas; none: they are none that can be.
fn replicas_of(split: &Split) -> Option<Vec<Replica>> {
    let replicas: Vec<Replica> =
        split.replicas.iter().map(Replica::try_from).collect::<Result<_, _>>().ok()?;
    (!replicas.is_empty()).then_some(replicas)
}

#[cfg(test)]
#[path = "split_tests.rs"]
mod tests;
