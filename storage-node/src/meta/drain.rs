//! What remains on a node, and whether it may restart or go.
//!
//! What is not known is never taken for good: a group without a leader that reports, or
//! one whose configuration is changing, stands in the way.

use std::collections::BTreeSet;

use placement::{NodeId, Partition, PartitionId, ReplicaId};

use super::reports::Groups;
use super::state::MetaState;
use super::switch::GroupView;

/// How many partitions an answer names.
const NAMED: usize = 32;

/// What a node still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Remaining {
    /// Replicas of partitions, those being caught up included.
    pub replicas: usize,
    /// Partitions that it leads.
    pub leaders: usize,
    /// A replica of the meta group.
    pub meta: bool,
}

/// Whether a node can restart without any group losing its quorum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanRestart {
    /// It can.
    pub yes: bool,
    /// The groups in the way, at most 32; 0 is the meta group.
    pub blocking: Vec<PartitionId>,
    /// Why not, in one sentence; empty when it can.
    pub reason: String,
}

/// What a node still holds.
pub fn remaining(state: &MetaState, groups: &Groups<'_>, node: NodeId) -> Remaining {
    let held = state.map().partitions.values().filter(|partition| partition.replica_on(node).is_some());
    Remaining {
        replicas: held.count(),
        leaders: groups.led_by(node),
        meta: state.meta().replica_on(node).is_some(),
    }
}

/// Whether a node holds nothing, is about to be given nothing, and may go.
pub fn is_empty(state: &MetaState, node: NodeId) -> bool {
    state.holds(node).is_none()
}

/// Whether every group keeps a caught-up quorum while the node is away.
pub fn can_restart(
    state: &MetaState,
    groups: &Groups<'_>,
    alive: &BTreeSet<NodeId>,
    node: NodeId,
    max_lag: u64,
) -> CanRestart {
    let every = std::iter::once(state.meta()).chain(state.map().partitions.values());
    let concerned = every.filter(|partition| partition.replica_on(node).is_some());
    let mut blocking = concerned.filter_map(|partition| {
        let why = in_the_way(partition, groups, alive, node, max_lag)?;
        Some((partition.id, why))
    });
    let Some((first, why)) = blocking.next() else {
        return CanRestart { yes: true, blocking: Vec::new(), reason: String::new() };
    };
    let named = std::iter::once(first).chain(blocking.map(|(partition, _)| partition)).take(NAMED).collect();
    let group =
        if first == PartitionId::META { "the meta group".to_owned() } else { format!("partition {first}") };
    CanRestart { yes: false, blocking: named, reason: format!("{group} {why}") }
}

/// Why a group would not keep a quorum without the node; none: it would.
fn in_the_way(
    partition: &Partition,
    groups: &Groups<'_>,
    alive: &BTreeSet<NodeId>,
    node: NodeId,
    max_lag: u64,
) -> Option<&'static str> {
    let Some(report) = groups.group(partition.id) else {
        return Some("has no leader that reports");
    };
    let view = GroupView::new(partition, report, alive, max_lag);
    if view.joint() {
        return Some("is changing its voters");
    }
    let voters = view.voters();
    let here: BTreeSet<ReplicaId> =
        partition.replicas.iter().filter(|replica| replica.node == node).map(|replica| replica.id).collect();
    if voters.is_disjoint(&here) {
        return None;
    }
    let healthy = voters.difference(&here).filter(|voter| view.healthy(**voter)).count();
    (healthy <= voters.len() / 2).then_some("would be without a caught-up quorum")
}

#[cfg(test)]
mod tests {
    use proto::v1::{GroupReport, ReportRequest};

    use super::*;
    use crate::meta::reports::Reports;
    use crate::meta::testing::{cluster, group, must, node, table};

    /// Three nodes, one partition (replicas 2, 3 and 4), and the meta group on node 1.
    fn case(change: impl FnOnce(&mut GroupReport)) -> (MetaState, Reports) {
        let mut state = cluster(3);
        must(&mut state, table("t", &[&[2, 3, 1]]));
        let mut reports = Reports::since(0);
        let mut led = group(1, 2, &[2, 3, 4], &[]);
        change(&mut led);
        reports.hear(node(2), ReportRequest { groups: vec![led], ..ReportRequest::default() }, 0);
        let meta = ReportRequest { groups: vec![group(0, 1, &[1], &[])], ..ReportRequest::default() };
        reports.hear(node(1), meta, 0);
        reports.hear(node(3), ReportRequest::default(), 0);
        (state, reports)
    }

    fn ask(alive: &[u8], number: u8, change: impl FnOnce(&mut GroupReport)) -> CanRestart {
        let (state, reports) = case(change);
        let alive = alive.iter().map(|number| node(*number)).collect();
        can_restart(&state, &reports.groups(&alive), &alive, node(number), 10)
    }

    #[test]
    fn a_node_restarts_only_when_every_group_keeps_a_caught_up_quorum() {
        let blocked =
            |answer: CanRestart| (answer.blocking.iter().map(|id| id.0).collect::<Vec<_>>(), answer.reason);
        assert!(ask(&[1, 2, 3], 3, |_| {}).yes);
        assert!(ask(&[1, 2, 3], 2, |_| {}).yes, "the leader too: the others elect another");
        // The meta group has one voter.
        let alone = ask(&[1, 2, 3], 1, |_| {});
        assert_eq!(
            blocked(alone),
            (vec![0], "the meta group would be without a caught-up quorum".to_owned())
        );
        // Another node is away, behind, or nobody knows.
        let away = ask(&[1, 2], 1, |_| {});
        assert_eq!(away.blocking, [PartitionId(0), PartitionId(1)]);
        let behind = ask(&[1, 2, 3], 2, |group| group.followers[0].matched_index = 50);
        assert_eq!(blocked(behind), (vec![1], "partition 1 would be without a caught-up quorum".to_owned()));
        let joint = ask(&[1, 2, 3], 3, |group| group.joint = true);
        assert_eq!(blocked(joint), (vec![1], "partition 1 is changing its voters".to_owned()));
        let unknown = ask(&[1, 2, 3], 3, |group| group.leads = false);
        assert_eq!(blocked(unknown), (vec![1], "partition 1 has no leader that reports".to_owned()));
    }

    #[test]
    fn what_remains_is_counted() {
        let (state, reports) = case(|_| {});
        let alive = (1..=3).map(node).collect();
        let groups = reports.groups(&alive);
        assert_eq!(remaining(&state, &groups, node(1)), Remaining { replicas: 1, leaders: 0, meta: true });
        assert_eq!(remaining(&state, &groups, node(2)), Remaining { replicas: 1, leaders: 1, meta: false });
        assert!(!is_empty(&state, node(2)));
        assert!(is_empty(&cluster(2), node(2)));
    }
}
