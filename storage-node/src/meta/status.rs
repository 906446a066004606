//! What a person or an operator is told: nodes, partitions, and the whole in one sentence.

use std::collections::BTreeSet;

use placement::{NodeId, NodeState, Partition, PartitionId, Policy, TableName, describe, plan};
use proto::convert;
use proto::v1::{
    IndexReport, IndexSettings, IndexStatus, MoveStatus, NodeStatus, PartitionStatus, StatusResponse,
    index_status::State,
};

use super::reports::{Groups, Reports};
use super::state::{MetaState, MoveRecord};
use super::switch::GroupView;

/// How many unhealthy partitions a status names.
const NAMED: usize = 32;

/// What a status is built from besides the state. Times are milliseconds of the caller's
/// monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The nodes' reports.
    pub reports: &'a Reports,
    /// The time now.
    pub now_ms: u64,
    /// A node that was heard of within this time is alive.
    pub alive_within_ms: u64,
    /// A replica that is further behind than this has not caught up.
    pub max_lag: u64,
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answering {
    /// The node that is asked.
    pub node: NodeId,
    /// The version of its program.
    pub version: String,
}

/// How the partitions are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartitionCounts {
    /// Without a leader that reports.
    pub without_leader: u64,
    /// With fewer healthy voters than their table asks for.
    pub under_replicated: u64,
    /// Either of the two; at most 32.
    pub unhealthy: Vec<PartitionId>,
}

impl Seen<'_> {
    /// The nodes that are alive.
    pub fn alive(&self) -> BTreeSet<NodeId> {
        self.reports.alive(self.now_ms, self.alive_within_ms)
    }
}

/// The whole cluster.
pub fn status(state: &MetaState, seen: &Seen<'_>, answering: &Answering) -> StatusResponse {
    let alive = seen.alive();
    let groups = seen.reports.groups(&alive);
    let counts = count_partitions(state, &groups, &alive, seen.max_lag);
    let moves = state.moves_under_way().count() as u64;
    let unreachable =
        state.map().nodes.keys().filter(|node| !alive.contains(node)).copied().collect::<BTreeSet<_>>();
    let policy = Policy { unreachable, ..Policy::default() };
    let balanced = moves == 0 && plan(state.map(), &groups.leaders(), &policy).is_empty();
    let bytes = |id: [u8; 16]| bytes::Bytes::copy_from_slice(&id);
    let mut response = StatusResponse {
        cluster: state.cluster().map(|id| bytes(id.to_bytes())).unwrap_or_default(),
        this_node: bytes(answering.node.to_bytes()),
        version: answering.version.clone(),
        cluster_version: state.cluster_version(),
        map_revision: state.map().revision.0,
        meta_leader: groups.leader(PartitionId::META).map(convert::node_bytes).unwrap_or_default(),
        nodes: nodes(state, seen),
        tables: state.map().tables.len() as u64,
        partitions: state.map().partitions.len() as u64,
        partitions_without_leader: counts.without_leader,
        partitions_under_replicated: counts.under_replicated,
        unhealthy_partitions: counts.unhealthy.iter().map(|partition| partition.0).collect(),
        moves_under_way: moves,
        balanced,
        summary: String::new(),
    };
    response.summary = summary(state, &response);
    response
}

/// Every node that was not removed.
pub fn nodes(state: &MetaState, seen: &Seen<'_>) -> Vec<NodeStatus> {
    let alive = seen.alive();
    let nodes = state.map().nodes.values().filter(|node| node.state != NodeState::Removed);
    nodes
        .map(|node| NodeStatus {
            entry: state.node_entry(node.id),
            load: seen.reports.of(node.id).and_then(|heard| heard.report.load),
            alive: alive.contains(&node.id),
            last_heard_ms_ago: seen.reports.silence_ms(node.id, seen.now_ms),
            holds_meta: state.meta().replica_on(node.id).is_some(),
        })
        .collect()
}

/// Every partition, or those of one table, in the order of table and buckets.
pub fn partitions(state: &MetaState, seen: &Seen<'_>, table: Option<&TableName>) -> Vec<PartitionStatus> {
    let alive = seen.alive();
    let groups = seen.reports.groups(&alive);
    let mut wanted: Vec<&Partition> = match table {
        None => state.map().partitions.values().collect(),
        Some(name) => {
            let known = state.map().table_named(name);
            known.map(|table| state.map().partitions_of(table.id)).unwrap_or_default()
        }
    };
    wanted.sort_by_key(|partition| (partition.table, partition.buckets.first));
    wanted
        .into_iter()
        .map(|partition| {
            let group = groups.group(partition.id);
            let named = state.map().tables.get(&partition.table);
            PartitionStatus {
                entry: Some(convert::partition_entry(partition, groups.leader(partition.id))),
                table_name: named.map(|table| table.name.to_string()).unwrap_or_default(),
                approximate_bytes: group.map_or(0, |group| group.approximate_bytes),
                applied_index: group.map_or(0, |group| group.applied_index),
                expired_keys: group.map_or(0, |group| group.expired_keys),
                trouble: trouble(state, partition, &groups, &alive, seen.max_lag).unwrap_or_default(),
            }
        })
        .collect()
}

/// How far a table is with its indexes. A partition that does not say is at the beginning.
pub fn indexes(state: &MetaState, seen: &Seen<'_>, table: &TableName) -> Vec<IndexStatus> {
    let alive = seen.alive();
    let groups = seen.reports.groups(&alive);
    let Some(table) = state.map().table_named(table) else { return Vec::new() };
    let declared = state.table_entry(table.id).and_then(|entry| entry.settings).unwrap_or_default().indexes;
    let partitions = state.map().partitions_of(table.id);
    let all = partitions.len().max(1) as u32;
    let of_one = |index: IndexSettings| {
        let mut status = IndexStatus { state: State::Ready.into(), ..IndexStatus::default() };
        for partition in &partitions {
            let reports =
                groups.group(partition.id).map(|group| group.indexes.as_slice()).unwrap_or_default();
            let report = reports.iter().find(|report| report.index == index.id);
            status.percent += report.map_or(0, |report| report.percent);
            match report.map_or(State::Building, IndexReport::state) {
                State::Failed if status.state() != State::Failed => {
                    status.state = State::Failed.into();
                    status.failure = report.map(|report| report.failure.clone()).unwrap_or_default();
                }
                State::Building if status.state() == State::Ready => status.state = State::Building.into(),
                _ => {}
            }
        }
        IndexStatus { percent: status.percent / all, index: Some(index), ..status }
    };
    declared.into_iter().map(of_one).collect()
}

/// The moves under way, then the last that ended.
pub fn moves(state: &MetaState) -> Vec<MoveStatus> {
    state.moves_under_way().chain(state.moves_ended()).map(|record| move_status(state, record)).collect()
}

/// One move.
pub fn move_status(state: &MetaState, record: &MoveRecord) -> MoveStatus {
    MoveStatus {
        id: record.id.0,
        r#move: Some((&record.order).into()),
        stage: record.stage.into(),
        detail: record.detail.clone(),
        line: describe(state.map(), &record.order),
    }
}

/// How the partitions are.
pub fn count_partitions(
    state: &MetaState,
    groups: &Groups<'_>,
    alive: &BTreeSet<NodeId>,
    max_lag: u64,
) -> PartitionCounts {
    let mut counts = PartitionCounts::default();
    for partition in state.map().partitions.values() {
        let leader = groups.group(partition.id).is_some();
        let whole = healthy_voters(partition, groups, alive, max_lag) >= wanted_replicas(state, partition);
        counts.without_leader += u64::from(!leader);
        counts.under_replicated += u64::from(!whole);
        if !(leader && whole) && counts.unhealthy.len() < NAMED {
            counts.unhealthy.push(partition.id);
        }
    }
    counts
}

fn wanted_replicas(state: &MetaState, partition: &Partition) -> usize {
    state.map().tables.get(&partition.table).map_or(0, |table| usize::from(table.replicas))
}

/// The voters that are known to be alive and caught up; without a leader, those whose
/// nodes are alive, because nobody knows more.
fn healthy_voters(
    partition: &Partition,
    groups: &Groups<'_>,
    alive: &BTreeSet<NodeId>,
    max_lag: u64,
) -> usize {
    match groups.group(partition.id) {
        Some(report) => {
            let view = GroupView::new(partition, report, alive, max_lag);
            partition.voters().filter(|voter| view.healthy(voter.id)).count()
        }
        None => partition.voters().filter(|voter| alive.contains(&voter.node)).count(),
    }
}

/// What is wrong with a partition, for a person; none: nothing.
fn trouble(
    state: &MetaState,
    partition: &Partition,
    groups: &Groups<'_>,
    alive: &BTreeSet<NodeId>,
    max_lag: u64,
) -> Option<String> {
    let silent: Vec<String> = partition
        .voters()
        .filter(|voter| !alive.contains(&voter.node))
        .map(|voter| state.name_of(voter.node))
        .collect();
    let silent =
        if silent.is_empty() { String::new() } else { format!("; not heard of: {}", silent.join(", ")) };
    if groups.group(partition.id).is_none() {
        return Some(format!("no leader is known{silent}"));
    }
    let healthy = healthy_voters(partition, groups, alive, max_lag);
    let wanted = wanted_replicas(state, partition);
    (healthy < wanted).then(|| format!("{healthy} of {wanted} replicas are alive and caught up{silent}"))
}

/// The whole in one sentence, the worst first.
fn summary(state: &MetaState, status: &StatusResponse) -> String {
    if state.cluster().is_none() {
        return "No cluster here yet: create one with `trilith cluster init`.".to_owned();
    }
    let silent: Vec<&str> = status
        .nodes
        .iter()
        .filter(|node| !node.alive)
        .filter_map(|node| node.entry.as_ref())
        .map(|entry| entry.name.as_str())
        .collect();
    let mut parts = Vec::new();
    if status.meta_leader.is_empty() {
        parts.push("the meta group has no leader".to_owned());
    }
    if status.partitions_without_leader > 0 {
        parts.push(format!("{} without a leader", count(status.partitions_without_leader, "partition")));
    }
    if status.partitions_under_replicated > 0 {
        parts.push(format!(
            "{} with too few healthy replicas",
            count(status.partitions_under_replicated, "partition")
        ));
    }
    match silent.as_slice() {
        [] => {}
        [one] => parts.push(format!("{one} is not heard of")),
        more => parts.push(format!("{} nodes are not heard of ({})", more.len(), shorten(more))),
    }
    if status.moves_under_way > 0 {
        parts.push(format!("{} under way", count(status.moves_under_way, "move")));
    } else if !status.balanced {
        parts.push("not balanced".to_owned());
    }
    let holds = format!(
        "{}, {}, {}",
        count(status.nodes.len() as u64, "node"),
        count(status.tables, "table"),
        count(status.partitions, "partition")
    );
    if parts.is_empty() {
        format!("All is well: {holds}.")
    } else {
        let text = parts.join(", ");
        let mut letters = text.chars();
        let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
        format!("{first}{}; {holds}.", letters.as_str())
    }
}

fn shorten(names: &[&str]) -> String {
    let mut shown: Vec<&str> = names.iter().take(3).copied().collect();
    if names.len() > shown.len() {
        shown.push("…");
    }
    shown.join(", ")
}

fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

#[cfg(test)]
mod tests {
    use proto::v1::{GroupReport, ReportRequest};

    use super::*;
    use crate::meta::testing::{cluster, group, must, node, order, table};

    /// Three nodes, three partitions of three replicas; node n leads partition n.
    fn state() -> MetaState {
        let mut state = cluster(3);
        must(&mut state, table("orders", &[&[1, 2, 3], &[2, 3, 1], &[3, 1, 2]]));
        state
    }

    fn led(state: &MetaState, partition: u64) -> GroupReport {
        let replicas: Vec<u64> = state.map().partitions[&PartitionId(partition)]
            .replicas
            .iter()
            .map(|replica| replica.id.0)
            .collect();
        group(partition, replicas[0], &replicas, &[])
    }

    fn reports(state: &MetaState, alive: &[u8]) -> Reports {
        let mut reports = Reports::since(0);
        for number in alive {
            let mut groups = vec![led(state, u64::from(*number))];
            if *number == 1 {
                groups.push(group(0, 1, &[1], &[]));
            }
            reports.hear(node(*number), ReportRequest { groups, ..ReportRequest::default() }, 10_000);
        }
        reports
    }

    fn ask(state: &MetaState, reports: &Reports) -> StatusResponse {
        let seen = Seen { reports, now_ms: 10_500, alive_within_ms: 3_000, max_lag: 10 };
        status(state, &seen, &Answering { node: node(1), version: "0.1.0".to_owned() })
    }

    #[test]
    fn a_cluster_in_which_all_is_well_says_so() {
        let state = state();
        let status = ask(&state, &reports(&state, &[1, 2, 3]));
        assert_eq!(status.summary, "All is well: 3 nodes, 1 table, 3 partitions.");
        assert!(status.balanced && status.unhealthy_partitions.is_empty());
        assert_eq!(status.meta_leader, convert::node_bytes(node(1)));
    }

    #[test]
    fn what_is_wrong_is_counted_named_and_said() {
        let mut state = state();
        let status = ask(&state, &reports(&state, &[1, 2]));
        assert_eq!(status.partitions_without_leader, 1);
        assert_eq!(status.partitions_under_replicated, 3);
        assert_eq!(status.unhealthy_partitions, [1, 2, 3]);
        assert!(
            status.summary.starts_with(
                "1 partition without a leader, 3 partitions with too few healthy replicas, node-3 is not heard of"
            ),
            "{}",
            status.summary
        );

        let mv = placement::Move::TransferLeader { partition: PartitionId(1), from: node(1), to: node(2) };
        order(&mut state, mv);
        let status = ask(&state, &reports(&state, &[1, 2, 3]));
        assert_eq!(status.summary, "1 move under way; 3 nodes, 1 table, 3 partitions.");
        assert_eq!(moves(&state)[0].line, "partition 1 of orders: leader from node-1 to node-2");
    }

    #[test]
    fn partitions_say_what_troubles_them() {
        let state = state();
        let reports = reports(&state, &[1, 2]);
        let seen = Seen { reports: &reports, now_ms: 10_000, alive_within_ms: 3_000, max_lag: 10 };
        let told: Vec<String> =
            partitions(&state, &seen, None).into_iter().map(|status| status.trouble).collect();
        let few = "2 of 3 replicas are alive and caught up; not heard of: node-3";
        assert_eq!(told, [few, few, "no leader is known; not heard of: node-3"]);
        let unknown = TableName::parse("unknown").unwrap();
        assert!(partitions(&state, &seen, Some(&unknown)).is_empty());
    }
}
