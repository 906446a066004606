//! How a table is. Pure.

use std::collections::BTreeSet;

use crds::KVTableStatus;
use crds::cluster::status::MOST_UNHEALTHY;
use crds::conditions::{ConditionType, Finding, Holds, Reason, merged};
use crds::table::status::{IndexState, IndexStatus as ShownIndex, UnhealthyPartition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use placement::NodeId;
use proto::v1::history_settings::Keep;
use proto::v1::{HistorySettings, IndexStatus, PartitionStatus, index_status::State};

use super::apply::Outcome;
use super::observe::{Cluster, Observed};
use super::plan::{Plan, Step};
use super::validate::ValidTable;
use crate::runtime::figures;

/// The status, from the one before.
pub fn status(
    before: &KVTableStatus,
    table: &ValidTable,
    generation: i64,
    (observed, plan, outcome): (&Observed, &Plan, &Outcome),
    now: Timestamp,
) -> KVTableStatus {
    let present = observed.table.as_ref();
    let known = observed.cluster == Cluster::Answers;
    let unhealthy: Vec<&PartitionStatus> =
        observed.partitions.iter().filter(|partition| !partition.trouble.is_empty()).collect();
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let old = figures::due_in(before.figures_at.as_ref(), now) == 0;
    let bytes: u64 = observed.partitions.iter().map(|partition| partition.approximate_bytes).sum();
    let bytes_shown = i64::try_from(bytes).unwrap_or(i64::MAX);
    // Figures that were read again and are the same are no news.
    let fresh = old && present.is_some() && before.bytes != Some(bytes_shown);
    let findings = findings(observed, plan, outcome, &unhealthy);
    KVTableStatus {
        observed_generation: Some(generation),
        conditions: merged(&before.conditions, &findings, generation, now),
        name: Some(table.name.to_string()),
        table_id: if known { present.map(|table| i64::from(table.id)) } else { before.table_id },
        partitions: if known { present.map(|table| i64::from(table.partitions)) } else { before.partitions },
        healthy_partitions: known
            .then(|| count(observed.partitions.len() - unhealthy.len()))
            .filter(|_| present.is_some()),
        unhealthy_partitions: unhealthy
            .iter()
            .take(MOST_UNHEALTHY)
            .filter_map(|one| shown(one, &observed.alive))
            .collect(),
        history: if known { present.map(|table| history(&table.history)) } else { before.history.clone() },
        indexes: if known {
            observed.indexes.iter().map(shown_index).collect()
        } else {
            before.indexes.clone()
        },
        keys: None,
        bytes: if fresh { Some(bytes_shown) } else { before.bytes },
        size: if fresh { Some(size(bytes)) } else { before.size.clone() },
        figures_at: if fresh { Some(Time(now)) } else { before.figures_at.clone() },
    }
}

/// The status of a resource whose spec is wrong.
pub fn of_invalid(before: &KVTableStatus, why: &str, generation: i64, now: Timestamp) -> KVTableStatus {
    let invalid = |type_| finding(type_, Holds::False, Reason::Invalid, why);
    let findings = [invalid(ConditionType::Ready), invalid(ConditionType::Progressing)];
    KVTableStatus {
        observed_generation: Some(generation),
        conditions: merged(&before.conditions, &findings, generation, now),
        ..before.clone()
    }
}

/// How long changes are kept, for people.
fn history(kept: &HistorySettings) -> String {
    let kept_for = match kept.keep() {
        Keep::Off => return "none".to_owned(),
        Keep::Default => "10 min, 64.0 MiB".to_owned(),
        Keep::Bounded if kept.keep_ms.is_multiple_of(60_000) => {
            format!("{} min, {}", kept.keep_ms / 60_000, size(kept.keep_bytes))
        }
        Keep::Bounded => format!("{} s, {}", kept.keep_ms / 1_000, size(kept.keep_bytes)),
    };
    let before = if kept.before { ", with what was before" } else { "" };
    format!("{kept_for}{before}")
}

fn finding(type_: ConditionType, holds: Holds, reason: Reason, message: &str) -> Finding {
    Finding { type_, holds, reason, message: message.to_owned() }
}

fn findings(
    observed: &Observed,
    plan: &Plan,
    outcome: &Outcome,
    unhealthy: &[&PartitionStatus],
) -> Vec<Finding> {
    use ConditionType::{Degraded, Progressing, Ready};
    let held = outcome.held.as_ref().map(|(step, why)| (Reason::Refused, format!("not done: {step}: {why}")));
    let broken = unhealthy.first().map(|first| {
        let id = first.entry.as_ref().map_or(0, |entry| entry.partition);
        let message = format!(
            "{} of {} partitions are not well; partition {id}: {}",
            unhealthy.len(),
            observed.partitions.len(),
            first.trouble
        );
        (Reason::UnderReplicated, message)
    });
    let doing = plan.steps.iter().find_map(|step| match step {
        Step::Create(_) => Some((Reason::Creating, step.to_string())),
        Step::Alter { .. } => Some((Reason::Altering, step.to_string())),
        Step::Drop { .. } => Some((Reason::Deleting, step.to_string())),
        Step::Hold | Step::Release => None,
    });
    let doing = doing.or_else(|| splitting(observed));
    let stuck = held.clone().or_else(|| plan.problem.clone());
    let usable = observed.table.is_some();
    // A table that serves is ready although a change of it was refused: Progressing tells of that.
    let in_the_way = if usable && held.is_none() {
        plan.problem.clone().filter(|(reason, _)| !matches!(reason, Reason::Refused | Reason::Paused))
    } else {
        stuck.clone().filter(|_| !usable)
    };
    let ready = match (&in_the_way, &broken, usable) {
        (Some((reason, message)), ..) | (None, Some((reason, message)), _) => {
            finding(Ready, Holds::False, *reason, message)
        }
        (None, None, false) => finding(Ready, Holds::False, Reason::Creating, "the table is being created"),
        (None, None, true) => finding(Ready, Holds::True, Reason::AsDeclared, "all partitions are whole"),
    };
    let building = observed.indexes.iter().find(|status| is_building(status)).map(|status| {
        let name = status.index.as_ref().map(|index| index.name.as_str()).unwrap_or_default();
        (Reason::Altering, format!("index {name} is being built"))
    });
    let progressing = match (&stuck, doing.or(building)) {
        (Some((reason, message)), _) => finding(Progressing, Holds::False, *reason, message),
        (None, Some((reason, message))) => finding(Progressing, Holds::True, reason, &message),
        (None, None) => finding(Progressing, Holds::False, Reason::Idle, "nothing is under way"),
    };
    let degraded = match (&observed.cluster, &broken) {
        (Cluster::Answers, Some((reason, message))) => finding(Degraded, Holds::True, *reason, message),
        (Cluster::Answers, None) => {
            finding(Degraded, Holds::False, Reason::AsDeclared, "nothing is broken or missing")
        }
        (Cluster::Silent(why), _) => finding(Degraded, Holds::Unknown, Reason::ClusterNotReady, why),
        (Cluster::Missing | Cluster::Going, _) => {
            finding(Degraded, Holds::Unknown, Reason::ClusterNotFound, "there is no cluster to ask")
        }
    };
    vec![ready, progressing, degraded]
}

/// Whether a table is not yet at the end with an index.
pub fn is_building(status: &IndexStatus) -> bool {
    status.state() == State::Building
}

fn shown_index(status: &IndexStatus) -> ShownIndex {
    ShownIndex {
        name: status.index.as_ref().map(|index| index.name.clone()).unwrap_or_default(),
        state: match status.state() {
            State::Building => IndexState::Building,
            State::Ready => IndexState::Ready,
            State::Failed => IndexState::Failed,
        },
        percent: i32::try_from(status.percent).unwrap_or(100),
        failure: (!status.failure.is_empty()).then(|| status.failure.clone()),
    }
}

/// A table that is getting more partitions, and how far that is.
pub fn splitting(observed: &Observed) -> Option<(Reason, String)> {
    let table = observed.table.as_ref().filter(|table| table.wanted_partitions > table.partitions)?;
    let message =
        format!("partitions are being split: there are {} of {}", table.partitions, table.wanted_partitions);
    Some((Reason::Altering, message))
}

fn shown(partition: &PartitionStatus, alive: &BTreeSet<NodeId>) -> Option<UnhealthyPartition> {
    let entry = partition.entry.as_ref()?;
    let nodes = entry.replicas.iter().filter_map(|replica| NodeId::from_bytes(&replica.node));
    let live = nodes.filter(|node| alive.contains(node)).count();
    Some(UnhealthyPartition {
        id: i64::try_from(entry.partition).unwrap_or(i64::MAX),
        leader: NodeId::from_bytes(&entry.leader).map(|node| node.to_string()),
        live_replicas: i32::try_from(live).unwrap_or(i32::MAX),
        trouble: partition.trouble.clone(),
    })
}

/// Bytes as people say them.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = UNITS[0];
    for next in UNITS.iter().skip(1) {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_said_as_people_do() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(5 << 30), "5.0 GiB");
    }
}
