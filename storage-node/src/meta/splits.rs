//! Splitting partitions: what is recorded, and which are cut next.
//!
//! ```text
//!   AlterTable      the table says how many partitions it is to have, or at what load they are split
//!        │ next_splits, splits_by_policy: the driver orders a few at a time, none on a partition that moves
//!        ▼
//!   StartSplit      ids of the new partition and its replicas, beside the partition's birth
//!        │ the partition's leader proposes the split; it is done once that is applied
//!        ▼
//!   RecordSplit     the map: one partition is smaller, and there is one more
//! ```
//!
//! Between the two nothing is undone: whether a leader that does not answer has proposed it cannot
//! be known. Whoever drives next proposes the same split again, which does nothing the second time.

use std::collections::BTreeSet;

use placement::{Bucket, BucketRange, Epoch, Partition, PartitionId, Replica, Revision, TableId, division};
use proto::v1::{RecordSplit, SplitPolicy, StartSplit};

use super::records::RecordKey;
use super::refusal::Refusal;
use super::state::{Answer, Birth, MetaState, MoveRecord, PendingSplit};
use super::tables::MOST_PARTITIONS;

/// The first cluster version in which partitions are split.
pub const SINCE_VERSION: u32 = 2;
/// How many partitions are cut at once.
const AT_ONCE: usize = 4;
/// The least that partitions may be split at.
const SPLIT_BYTES: u64 = 1 << 20;
const SPLIT_WRITES: u64 = 100;

impl MetaState {
    pub(super) fn start_split(&mut self, start: StartSplit) -> Result<Answer, Refusal> {
        let id = PartitionId(start.partition);
        let partition = self.map.partitions.get(&id).ok_or(Refusal::UnknownPartition(id))?;
        let refuse = |why: String| Err(Refusal::SplitRefused(format!("partition {id} {why}")));
        if self.cluster_version < SINCE_VERSION {
            return refuse(format!(
                "cannot be split before cluster version {SINCE_VERSION}: once every node runs a program that \
                 supports it, raise the version"
            ));
        }
        if self.births.get(&id).is_none_or(|birth| birth.split.is_some()) {
            return refuse("is being split already: wait until that is done".to_owned());
        }
        if let Some(under_way) = self.moves_under_way().find(|record| record.partition() == id) {
            return refuse(format!("is moving (move {}): wait for that, or cancel it", under_way.id));
        }
        let BucketRange { first, last } = partition.buckets;
        let at = u16::try_from(start.first_bucket).ok().map(Bucket);
        let Some(at) = at.filter(|at| first < *at && *at <= last) else {
            return refuse(format!(
                "owns buckets {} and cannot be cut at bucket {}",
                partition.buckets, start.first_bucket
            ));
        };
        if self.map.partitions.len() + self.splits_under_way().count() >= MOST_PARTITIONS {
            let (limit, actual) = (MOST_PARTITIONS as u64, MOST_PARTITIONS as u64 + 1);
            return Err(Refusal::OverBound { what: "partitions", limit, actual });
        }
        let voters: Vec<Replica> = partition.voters().copied().collect();
        let replicas = voters.into_iter().map(|voter| Replica { id: self.next_replica(), ..voter }).collect();
        let child = PartitionId(self.counters.partition);
        self.counters.partition += 1;
        // The one that this command leads to.
        let revision = Revision(self.map.revision.0 + 1);
        if let Some(birth) = self.births.get_mut(&id) {
            birth.split = Some(PendingSplit { child, first: at, replicas, revision });
        }
        self.touch(RecordKey::Partition(id));
        Ok(Answer::done())
    }

    pub(super) fn record_split(&mut self, record: RecordSplit) -> Result<Answer, Refusal> {
        let (id, child) = (PartitionId(record.partition), PartitionId(record.child));
        if self.map.partitions.contains_key(&child) {
            return Ok(Answer { already: true, ..Answer::done() });
        }
        let not_so =
            || Refusal::SplitRefused(format!("partition {child} is not about to be cut off partition {id}"));
        let birth = self.births.get_mut(&id).ok_or(Refusal::UnknownPartition(id))?;
        let pending = birth.split.take_if(|pending| pending.child == child).ok_or_else(not_so)?;
        let partition = self.map.partitions.get_mut(&id).ok_or(Refusal::UnknownPartition(id))?;
        let upper = BucketRange { first: pending.first, last: partition.buckets.last };
        partition.buckets.last = Bucket(pending.first.0 - 1);
        partition.epoch.0 += 1;
        birth.buckets = partition.buckets;
        birth.epoch.0 += 1;
        birth.since = record.since;
        let (table, epoch) = (partition.table, partition.epoch);
        let born = Birth {
            table,
            buckets: upper,
            replicas: pending.replicas.clone(),
            epoch: birth.epoch,
            since: 0,
            by_split: true,
            split: None,
        };
        self.births.insert(child, born);
        // Of two that claim a bucket the one with the greater epoch is believed.
        let entry = Partition { id: child, table, buckets: upper, epoch, replicas: pending.replicas };
        self.map.partitions.insert(child, entry);
        self.touch(RecordKey::Partition(id));
        self.touch(RecordKey::Partition(child));
        self.count_partitions(table);
        Ok(Answer::done())
    }

    fn count_partitions(&mut self, table: TableId) {
        let partitions = self.map.partitions_of(table).len() as u32;
        if let Some(details) = self.tables.get_mut(&table) {
            details.partitions = partitions;
            if details.wanted_partitions <= partitions {
                details.wanted_partitions = 0;
            }
        }
        self.touch(RecordKey::Table(table));
    }

    /// How many partitions a table is to have from now on; 0: as many as it has.
    pub(super) fn check_partitions(&self, table: TableId, wanted: u32) -> Result<u32, Refusal> {
        let (Some(known), Some(details)) = (self.map.tables.get(&table), self.tables.get(&table)) else {
            return Ok(0);
        };
        let (buckets, present) = (u32::from(known.buckets.get()), details.partitions);
        // Those that are being cut come to be whatever is said now.
        let coming = self.splits_under_way().filter(|(partition, _)| partition.table == table).count() as u32;
        if wanted == 0 || wanted > buckets {
            return Err(Refusal::Invalid(format!(
                "a table of {buckets} buckets has 1 to {buckets} partitions, not {wanted}: each partition owns \
                 whole buckets, and their number never changes"
            )));
        }
        if wanted < present + coming {
            return Err(Refusal::SplitRefused(format!(
                "table {} has {} partitions and cannot have fewer: partitions are split and not joined",
                known.name,
                present + coming
            )));
        }
        let added = (wanted - present) as usize;
        if self.map.partitions.len() + added > MOST_PARTITIONS {
            let actual = (self.map.partitions.len() + added) as u64;
            return Err(Refusal::OverBound { what: "partitions", limit: MOST_PARTITIONS as u64, actual });
        }
        Ok(if wanted == present { 0 } else { wanted })
    }

    /// What is being split, and how.
    pub fn splits_under_way(&self) -> impl Iterator<Item = (&Partition, &PendingSplit)> {
        self.births.iter().filter_map(|(id, birth)| {
            let pending = birth.split.as_ref()?;
            Some((self.map.partitions.get(id)?, pending))
        })
    }

    /// Whether a partition is being split.
    pub fn is_splitting(&self, partition: PartitionId) -> bool {
        self.births.get(&partition).is_some_and(|birth| birth.split.is_some())
    }

    /// The epoch that a partition's group has once it is split.
    pub fn epoch_after_split(&self, partition: PartitionId) -> Epoch {
        Epoch(self.births.get(&partition).map_or(1, |birth| birth.epoch.0) + 1)
    }
}

/// The splits to order now. A partition that moves is waited for.
pub fn next_splits(state: &MetaState) -> Vec<StartSplit> {
    let under_way = state.splits_under_way().count();
    let moving: BTreeSet<PartitionId> = state.moves_under_way().map(MoveRecord::partition).collect();
    let mut orders = Vec::new();
    for (table, details) in &state.tables {
        let wanted = details.wanted_partitions as usize;
        if wanted == 0 {
            continue;
        }
        // As the table will be once those under way are done.
        let mut runs: Vec<(BucketRange, Option<PartitionId>)> = Vec::new();
        for partition in state.map.partitions_of(*table) {
            match state.births.get(&partition.id).and_then(|birth| birth.split.as_ref()) {
                None => runs.push((partition.buckets, Some(partition.id))),
                Some(pending) => {
                    let BucketRange { first, last } = partition.buckets;
                    runs.push((BucketRange { first, last: Bucket(pending.first.0 - 1) }, None));
                    runs.push((BucketRange { first: pending.first, last }, None));
                }
            }
        }
        let ranges: Vec<BucketRange> = runs.iter().map(|(range, _)| *range).collect();
        for cut in division::cuts(&ranges, wanted) {
            let free = runs.get(cut.run).and_then(|(_, partition)| *partition);
            if let Some(partition) = free.filter(|partition| !moving.contains(partition)) {
                orders.push(StartSplit { partition: partition.0, first_bucket: cut.at.0.into() });
            }
        }
    }
    orders.truncate(AT_ONCE.saturating_sub(under_way));
    orders
}

/// A policy that says something; none: it does not, and so nothing is split.
pub(super) fn named_policy(policy: SplitPolicy) -> Option<SplitPolicy> {
    (policy.bytes > 0 || policy.writes_per_second > 0).then_some(policy)
}

/// What a table of so many buckets may have for a policy.
pub(super) fn check_policy(
    policy: Option<SplitPolicy>,
    buckets: u32,
) -> Result<Option<SplitPolicy>, Refusal> {
    let Some(policy) = policy else { return Ok(None) };
    let invalid = |why: String| Err(Refusal::Invalid(why));
    if policy.bytes > 0 && policy.bytes < SPLIT_BYTES {
        return invalid(format!(
            "partitions are split at {SPLIT_BYTES} bytes or more, not at {}",
            policy.bytes
        ));
    }
    if policy.writes_per_second > 0 && policy.writes_per_second < SPLIT_WRITES {
        let writes = policy.writes_per_second;
        return invalid(format!(
            "partitions are split at {SPLIT_WRITES} writes a second or more, not at {writes}"
        ));
    }
    if policy.most > buckets {
        return invalid(format!(
            "a table of {buckets} buckets is never split into {} partitions",
            policy.most
        ));
    }
    let named = named_policy(policy);
    if named.is_none() && policy.most > 0 {
        return invalid(
            "partitions are split at a size or at a number of writes a second: give one".to_owned(),
        );
    }
    Ok(named)
}

/// What a partition's leader says of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// What it owns; of what it owned before, nothing counts.
    pub buckets: BucketRange,
    /// About how much it takes on disk.
    pub bytes: u64,
    /// Over half a minute; none: it has not been observed for so long.
    pub writes_per_second: Option<f64>,
}

/// The splits that tables' policies want now, the most loaded partitions first, besides those that were
/// asked for. Each is cut in the middle of its buckets.
pub fn splits_by_policy(state: &MetaState, load: impl Fn(PartitionId) -> Option<Load>) -> Vec<StartSplit> {
    let under_way = state.splits_under_way().count();
    let moving: BTreeSet<PartitionId> = state.moves_under_way().map(MoveRecord::partition).collect();
    let mut orders = Vec::new();
    for (table, details) in &state.tables {
        let (Some(policy), Some(known)) = (details.split, state.map.tables.get(table)) else { continue };
        let partitions = state.map.partitions_of(*table);
        let coming = partitions.iter().filter(|partition| state.is_splitting(partition.id)).count();
        let buckets = usize::from(known.buckets.get());
        let most = if policy.most == 0 { buckets } else { policy.most as usize };
        // What somebody asked for is done first.
        let room = match details.wanted_partitions {
            0 => most.saturating_sub(partitions.len() + coming),
            _ => 0,
        };
        let mut due: Vec<(f64, &Partition)> = Vec::new();
        for partition in partitions {
            let free = !moving.contains(&partition.id) && !state.is_splitting(partition.id);
            if !free || partition.buckets.first == partition.buckets.last {
                continue;
            }
            let Some(load) = load(partition.id).filter(|load| load.buckets == partition.buckets) else {
                continue;
            };
            let share = |is: f64, limit: u64| if limit == 0 { 0.0 } else { is / limit as f64 };
            let size = share(load.bytes as f64, policy.bytes);
            let writes = share(load.writes_per_second.unwrap_or(0.0), policy.writes_per_second);
            if size.max(writes) >= 1.0 {
                due.push((size.max(writes), partition));
            }
        }
        due.sort_by(|one, other| other.0.total_cmp(&one.0));
        orders.extend(due.into_iter().take(room));
    }
    orders.sort_by(|one, other| other.0.total_cmp(&one.0));
    let cut = |(_, partition): (f64, &Partition)| {
        let BucketRange { first, last } = partition.buckets;
        let middle = first.0 + (last.0 - first.0).div_ceil(2);
        StartSplit { partition: partition.id.0, first_bucket: middle.into() }
    };
    let room = MOST_PARTITIONS.saturating_sub(state.map.partitions.len() + under_way);
    orders.into_iter().take(room.min(AT_ONCE.saturating_sub(under_way))).map(cut).collect()
}

#[cfg(test)]
mod tests {
    use placement::{Move, ReplicaId};
    use proptest::prelude::*;
    use proto::v1::meta_command::Command;
    use proto::v1::{
        AlterTable, CancelMove, DropTable, MetaCommand, NodeEntry, RefusalKind, RegisterNode,
        SetClusterVersion, StartMoves,
    };

    use super::*;
    use crate::meta::testing::{apply, cluster, entry, must, node, order, refused, table};

    fn cluster_of_version_2(nodes: u8) -> MetaState {
        let mut state = cluster(nodes);
        for number in 1..=nodes {
            let entry = NodeEntry { supports_version: 2, ..entry(number, &format!("zone-{number}")) };
            must(&mut state, Command::RegisterNode(RegisterNode { node: Some(entry) }));
        }
        must(&mut state, Command::SetClusterVersion(SetClusterVersion { version: 2 }));
        state
    }

    fn alter(partitions: u32) -> Command {
        let partitions = Some(partitions);
        Command::AlterTable(AlterTable { name: "orders".to_owned(), partitions, ..AlterTable::default() })
    }

    fn start(partition: u64, first_bucket: u32) -> Command {
        Command::StartSplit(StartSplit { partition, first_bucket })
    }

    /// What the driver would do, each group splitting at once.
    fn split_on(state: &mut MetaState) -> bool {
        for order in next_splits(state) {
            must(state, Command::StartSplit(order));
        }
        let under_way: Vec<_> =
            state.splits_under_way().map(|(partition, pending)| (partition.id.0, pending.child.0)).collect();
        for (partition, child) in &under_way {
            let record = RecordSplit { partition: *partition, child: *child, since: 7 };
            must(state, Command::RecordSplit(record));
        }
        !under_way.is_empty()
    }

    fn runs(state: &MetaState) -> Vec<(u16, u16)> {
        let table = state.map().tables.keys().next().copied().unwrap();
        let partitions = state.map().partitions_of(table);
        partitions.iter().map(|partition| (partition.buckets.first.0, partition.buckets.last.0)).collect()
    }

    fn is_whole(state: &MetaState) {
        let mut next = 0;
        for (first, last) in runs(state) {
            assert_eq!(first, next, "{:?}", runs(state));
            next = last + 1;
        }
        assert_eq!(next, 64);
        let replicas: Vec<ReplicaId> = state
            .map()
            .partitions
            .values()
            .flat_map(|partition| partition.replicas.iter().map(|replica| replica.id))
            .chain(state.splits_under_way().flat_map(|(_, pending)| pending.replicas.iter().map(|r| r.id)))
            .collect();
        assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), replicas.len(), "no name is used twice");
        let records = state.records().into_iter();
        let loaded = MetaState::load(records.filter_map(|change| Some((change.key, change.value?)))).unwrap();
        assert_eq!(&loaded, state, "it is read back as it is");
    }

    #[test]
    fn a_table_comes_to_have_as_many_partitions_as_it_was_told_to() {
        let mut state = cluster_of_version_2(3);
        must(&mut state, table("orders", &[&[1, 2, 3], &[2, 3, 1]]));
        must(&mut state, alter(16));
        let mut rounds = 0;
        while split_on(&mut state) {
            is_whole(&state);
            rounds += 1;
            assert!(rounds < 20);
        }
        assert_eq!(runs(&state), (0..16).map(|at| (at * 4, at * 4 + 3)).collect::<Vec<_>>());
        let entry = state.table_entry(TableId(1)).unwrap();
        assert_eq!((entry.partitions, entry.wanted_partitions), (16, 0));
        for partition in state.map().partitions.values() {
            assert_eq!(partition.voters().count(), 3);
            let birth = state.birth(partition.id).unwrap();
            assert_eq!(birth.buckets, partition.buckets, "a replica that is made later begins with that");
        }
        assert!(next_splits(&state).is_empty());
        assert!(apply(&mut state, alter(16)).already);
    }

    #[test]
    fn a_split_is_known_before_it_is_done_and_recorded_once() {
        let mut state = cluster_of_version_2(3);
        must(&mut state, table("orders", &[&[1, 2, 3]]));
        let before = state.map().revision;
        must(&mut state, start(1, 20));
        let (_, pending) = state.splits_under_way().next().unwrap();
        let (child, revision) = (pending.child, pending.revision);
        assert_eq!((child, revision), (PartitionId(2), Revision(before.0 + 1)));
        assert_eq!(revision, state.map().revision);
        let mut followed = crate::meta::FollowedMap::default();
        crate::meta::follow::follow_apply(&mut followed, &state.changes_since(Revision(0))).unwrap();
        assert_eq!(followed.about_to_be_cut_off(node(2)).count(), 1);
        assert!(followed.partition(child).is_none());

        let record = Command::RecordSplit(RecordSplit { partition: 1, child: child.0, since: 41 });
        must(&mut state, record.clone());
        assert!(apply(&mut state, record).already);
        assert_eq!(runs(&state), [(0, 19), (20, 63)]);
        let (lower, upper) = (state.birth(PartitionId(1)).unwrap(), state.birth(child).unwrap());
        assert_eq!((lower.epoch, lower.since, lower.by_split), (Epoch(2), 41, false));
        assert_eq!((upper.epoch, upper.since, upper.by_split), (Epoch(2), 0, true));
        let map = state.map();
        let epoch = |id| map.partitions.get(&id).unwrap().epoch;
        assert_eq!((epoch(PartitionId(1)), epoch(child)), (Epoch(2), Epoch(2)));
        let news = state.changes_since(followed.revision());
        crate::meta::follow::follow_apply(&mut followed, &news).unwrap();
        assert_eq!(followed.owner_of(TableId(1), Bucket(20)).unwrap().id, child);
        assert_eq!(followed.owner_of(TableId(1), Bucket(19)).unwrap().id, PartitionId(1));
        assert_eq!(followed.about_to_be_cut_off(node(2)).count(), 0);
    }

    #[test]
    fn what_cannot_be_split_is_refused_and_what_is_being_split_does_not_move() {
        let mut old = cluster(3);
        must(&mut old, table("orders", &[&[1, 2, 3]]));
        assert_eq!(refused(&mut old, start(1, 32)), RefusalKind::SplitRefused);

        let mut state = cluster_of_version_2(4);
        must(&mut state, table("orders", &[&[1, 2, 3], &[2, 3, 1]]));
        assert_eq!(refused(&mut state, alter(65)), RefusalKind::Invalid);
        assert_eq!(refused(&mut state, alter(0)), RefusalKind::Invalid);
        assert_eq!(refused(&mut state, alter(1)), RefusalKind::SplitRefused);
        assert_eq!(refused(&mut state, start(9, 3)), RefusalKind::UnknownPartition);
        for first_bucket in [0, 32, 63, 70_000] {
            assert_eq!(refused(&mut state, start(1, first_bucket)), RefusalKind::SplitRefused);
        }
        let add = Move::Add { partition: PartitionId(1), to: node(4) };
        let id = order(&mut state, add);
        assert_eq!(refused(&mut state, start(1, 16)), RefusalKind::SplitRefused);
        must(&mut state, alter(4));
        let orders: Vec<u64> = next_splits(&state).iter().map(|order| order.partition).collect();
        assert_eq!(orders, [2], "what moves is waited for");
        must(&mut state, Command::CancelMove(CancelMove { id: id.0 }));
        must(&mut state, start(1, 16));
        assert_eq!(refused(&mut state, start(1, 8)), RefusalKind::SplitRefused);
        let moves = vec![proto::v1::Move::from(&add)];
        let start_moves = Command::StartMoves(StartMoves { moves, expected_revision: 0 });
        assert_eq!(refused(&mut state, start_moves), RefusalKind::MoveRefused);
        let other = Command::RecordSplit(RecordSplit { partition: 1, child: 77, since: 1 });
        assert_eq!(refused(&mut state, other), RefusalKind::SplitRefused);
        must(&mut state, Command::DropTable(DropTable { name: "orders".to_owned() }));
        assert_eq!(state.splits_under_way().count(), 0);
    }

    proptest! {
        /// Whatever is ordered, moved and recorded in between: each bucket has one owner, and in the
        /// end there are as many partitions as the table was told last.
        #[test]
        fn every_bucket_has_one_owner_throughout(steps in prop::collection::vec((0_u8..5, any::<u8>()), 1..60)) {
            let mut state = cluster_of_version_2(4);
            must(&mut state, table("orders", &[&[1, 2, 3], &[2, 3, 1]]));
            for (kind, argument) in steps {
                let command = match kind {
                    0 => alter(u32::from(argument) % 70),
                    1 => start(u64::from(argument) % 20, u32::from(argument) % 64),
                    2 => {
                        let mut under_way = state.splits_under_way();
                        let Some((partition, pending)) = under_way.next() else { continue };
                        let (partition, child) = (partition.id.0, pending.child.0);
                        drop(under_way);
                        Command::RecordSplit(RecordSplit { partition, child, since: u64::from(argument) })
                    }
                    3 => {
                        let add = Move::Add { partition: PartitionId(u64::from(argument) % 20), to: node(4) };
                        let moves = vec![proto::v1::Move::from(&add)];
                        Command::StartMoves(StartMoves { moves, expected_revision: 0 })
                    }
                    _ => Command::CancelMove(CancelMove { id: u64::from(argument) % 8 }),
                };
                state.apply(MetaCommand { command: Some(command) }).unwrap();
                is_whole(&state);
            }
            let moves: Vec<u64> = state.moves_under_way().map(|record| record.id.0).collect();
            for id in moves {
                must(&mut state, Command::CancelMove(CancelMove { id }));
            }
            let wanted = state.table_entry(TableId(1)).unwrap();
            let wanted = wanted.wanted_partitions.max(wanted.partitions) as usize;
            while split_on(&mut state) {
                is_whole(&state);
            }
            prop_assert!(runs(&state).len() >= wanted);
        }
    }

    #[test]
    fn what_older_programs_wrote_of_a_birth_stays_as_it_is() {
        let mut state = cluster(3);
        must(&mut state, table("orders", &[&[1, 2, 3]]));
        let birth = state.birth(PartitionId(1)).unwrap().to_message(PartitionId(1));
        assert_eq!((birth.epoch, birth.since, birth.by_split, birth.split), (0, 0, false, None));
    }

    #[test]
    fn what_is_too_large_or_too_busy_is_cut_in_the_middle_and_never_too_often() {
        let mut state = cluster_of_version_2(3);
        let policy = SplitPolicy { bytes: 100 << 20, writes_per_second: 1_000, most: 7 };
        must(&mut state, table("orders", &[&[1, 2, 3][..]; 4]));
        let set = |split: SplitPolicy| {
            let split = Some(split);
            Command::AlterTable(AlterTable { name: "orders".to_owned(), split, ..AlterTable::default() })
        };
        must(&mut state, set(policy));
        let ids: Vec<PartitionId> = state.map().partitions.keys().copied().collect();
        let buckets = |state: &MetaState, id: PartitionId| state.map().partitions[&id].buckets;
        let load = |state: &MetaState, id: PartitionId, mebibytes: u64, writes: Option<f64>| Load {
            buckets: buckets(state, id),
            bytes: mebibytes << 20,
            writes_per_second: writes,
        };
        let calm = |state: &MetaState| {
            let state = state.clone();
            move |id: PartitionId| Some(load(&state, id, 99, Some(999.0)))
        };
        assert!(splits_by_policy(&state, calm(&state)).is_empty());
        assert!(splits_by_policy(&state, |_| None).is_empty(), "nobody has said anything");
        let some = |id: PartitionId| {
            let (mebibytes, writes) = if id == ids[1] { (150, None) } else { (10, Some(1_000.0)) };
            Some(load(&state, id, mebibytes, writes)).filter(|_| id == ids[1] || id == ids[3])
        };
        let orders = splits_by_policy(&state, some);
        let first: Vec<_> = orders.iter().map(|order| (order.partition, order.first_bucket)).collect();
        let middle = |id: PartitionId| {
            let BucketRange { first, last } = buckets(&state, id);
            u32::from(first.0) + u32::from(last.0 - first.0).div_ceil(2)
        };
        assert_eq!(first, [(ids[1].0, middle(ids[1])), (ids[3].0, middle(ids[3]))], "the largest first");
        // What it said of buckets that it has not any more is nothing.
        let old = |id: PartitionId| {
            Some(Load { buckets: BucketRange { first: Bucket(0), last: Bucket(63) }, ..some(id)? })
        };
        assert!(splits_by_policy(&state, old).is_empty());

        // At most seven, whatever is under way.
        let all = |state: &MetaState| {
            let state = state.clone();
            move |id: PartitionId| Some(load(&state, id, 500, None))
        };
        let mut rounds = 0;
        loop {
            let orders = splits_by_policy(&state, all(&state));
            if orders.is_empty() && state.splits_under_way().count() == 0 {
                break;
            }
            for order in orders {
                must(&mut state, Command::StartSplit(order));
                assert!(splits_by_policy(&state, all(&state)).len() <= 3, "{rounds}");
            }
            split_on(&mut state);
            rounds += 1;
        }
        assert_eq!(runs(&state).len(), 7);
        is_whole(&state);

        for bad in [
            SplitPolicy { bytes: 1, ..SplitPolicy::default() },
            SplitPolicy { writes_per_second: 1, ..SplitPolicy::default() },
            SplitPolicy { most: 7, ..SplitPolicy::default() },
            SplitPolicy { most: 65, ..policy },
        ] {
            assert_eq!(refused(&mut state, set(bad)), RefusalKind::Invalid);
        }
        must(&mut state, set(SplitPolicy::default()));
        assert!(splits_by_policy(&state, all(&state)).is_empty(), "switched off");
    }
}
