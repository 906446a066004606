//! Splits that were ordered: the partition's leader is asked, and what it did is recorded.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use placement::{Bucket, BucketRange, NodeId, Partition};
use proto::v1::change_replicas_request::Step as Asked;
use proto::v1::meta_command::Command;
use proto::v1::{ChangeReplicasRequest, GroupReport, RecordSplit, Split};

use super::{AT_ONCE, Driver};
use crate::control::meta_leader::Sight;
use crate::meta::splits::{Load, next_splits, splits_by_policy};
use crate::meta::{MetaState, PendingSplit};

impl Driver {
    /// Goes on with the splits under way, and orders the next; returns whether there are any.
    pub(super) async fn split(&self, state: &Arc<MetaState>, sight: &Sight) -> bool {
        let alive = sight.alive();
        let known = sight.reports().groups(&alive);
        let mut steps = Vec::new();
        for (partition, pending) in state.splits_under_way() {
            steps.push(self.drive_split(state, partition, pending, known.leader(partition.id), &alive));
        }
        let some = !steps.is_empty();
        let _: Vec<()> = stream::iter(steps).buffer_unordered(AT_ONCE).collect().await;
        let mut orders = next_splits(state);
        orders.extend(splits_by_policy(state, |partition| {
            let (leader, group) = (known.leader(partition)?, known.group(partition)?);
            let bucket = |number: u32| u16::try_from(number).ok().map(Bucket);
            let owned = group.descriptor?;
            Some(Load {
                buckets: BucketRange { first: bucket(owned.first_bucket)?, last: bucket(owned.last_bucket)? },
                bytes: group.approximate_bytes,
                writes_per_second: sight.reports().writes_per_second(leader, partition),
            })
        }));
        orders.truncate(AT_ONCE);
        let more = !orders.is_empty();
        for order in orders {
            self.record(Command::StartSplit(order)).await;
        }
        some || more
    }

    async fn drive_split(
        &self,
        state: &MetaState,
        partition: &Partition,
        pending: &PendingSplit,
        leader: Option<NodeId>,
        alive: &BTreeSet<NodeId>,
    ) {
        let Some(leader) = leader else {
            tracing::debug!(partition = %partition.id, "a split waits: the partition has no leader that answers");
            return;
        };
        let epoch = state.epoch_after_split(partition.id);
        let split_at = |report: &GroupReport| {
            let owned = report.descriptor.filter(|owned| owned.epoch >= epoch.0)?;
            Some(owned.since)
        };
        let Some(mut report) = self.observe(leader, partition.id).await else { return };
        if split_at(&report).is_none() {
            self.flush_everywhere(partition, alive).await;
            let BucketRange { last, .. } = partition.buckets;
            let split = Split {
                child: pending.child.0,
                first_bucket: pending.first.0.into(),
                last_bucket: last.0.into(),
                replicas: pending.replicas.iter().map(Into::into).collect(),
                epoch: epoch.0,
                map_revision: pending.revision.0,
            };
            let step = Some(Asked::Split(split));
            tracing::info!(partition = %partition.id, child = %pending.child, "a partition is split");
            let request = ChangeReplicasRequest { group: partition.id.0, step };
            let Some(answer) = self.ask(leader, request).await else { return };
            if !answer.refused.is_empty() {
                tracing::info!(partition = %partition.id, why = answer.refused, "its leader did not split it");
            }
            let Some(after) = answer.group else { return };
            report = after;
        }
        // What a replica has applied is committed, whoever leads.
        if let Some(since) = split_at(&report) {
            let record = RecordSplit { partition: partition.id.0, child: pending.child.0, since };
            self.record(Command::RecordSplit(record)).await;
        }
    }

    /// What is on disk before need not be written while the keys of the new partition wait. It is
    /// only for speed: whoever does not answer is not waited for again.
    async fn flush_everywhere(&self, partition: &Partition, alive: &BTreeSet<NodeId>) {
        let nodes = partition.voters().map(|voter| voter.node).filter(|node| alive.contains(node));
        let nodes: Vec<NodeId> = nodes.collect();
        let flushes = nodes.into_iter().map(|node| {
            let request = ChangeReplicasRequest { group: partition.id.0, step: Some(Asked::Flush(true)) };
            async move { drop(self.ask(node, request).await) }
        });
        let _: Vec<()> = stream::iter(flushes).buffer_unordered(AT_ONCE).collect().await;
    }
}
