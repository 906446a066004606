//! What is said of a cluster in its conditions, and in a few words.

use crds::conditions::{ConditionType, Finding, Holds, Reason};

use super::Facts;
use crate::cluster::apply::{HeldBy, Outcome};
use crate::cluster::intent::RebalanceMode;
use crate::cluster::observed::Pod;
use crate::cluster::plan::{DrainReason, Operation, Plan, Step};
use crate::cluster::validate::Invalid;
use crate::dataplane::{ClusterView, DataPlane};

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The conditions.
    pub findings: Vec<Finding>,
    /// The worst of it, in a few words.
    pub summary: String,
}

/// What is said of a cluster.
pub fn findings(facts: Facts<'_>) -> Told {
    let all = vec![available(facts), degraded(facts), progressing(facts), balanced(facts)];
    let ready = ready(facts, &all);
    let summary = summary(facts, &all, &ready);
    let mut findings = all;
    findings.push(ready);
    Told { findings, summary }
}

/// What is said of a cluster that is being deleted and whose data goes first.
pub fn of_deletion(plan: &Plan, outcome: &Outcome, paused: bool) -> Told {
    let (holds, reason, message) = if paused {
        let message = "it is being deleted, and the annotation kv.trilith.dev/paused keeps its data";
        (Holds::False, Reason::Paused, message.to_owned())
    } else {
        let step = plan.steps.first().map(ToString::to_string);
        let waits = || "waits for pods and claims to end".to_owned();
        held(outcome).unwrap_or_else(|| (Holds::True, Reason::Deleting, step.unwrap_or_else(waits)))
    };
    let findings = vec![
        finding(ConditionType::Ready, Holds::False, Reason::Deleting, "the cluster is being deleted"),
        finding(ConditionType::Progressing, holds, reason, message.clone()),
    ];
    Told { findings, summary: format!("{reason}: {}", short(&message)) }
}

/// What is said of a step that could not be taken; none: all could, or were decided on what is old by now.
fn held(outcome: &Outcome) -> Option<(Holds, Reason, String)> {
    let held = outcome.held.as_ref()?;
    let (holds, reason) = match held.by {
        HeldBy::ApiServer => (Holds::False, Reason::ObjectRefused),
        HeldBy::DataPlane => (Holds::False, Reason::Refused),
        HeldBy::Silence => (Holds::False, Reason::Unreachable),
        HeldBy::Caution => (Holds::True, Reason::Blocked),
        HeldBy::News => return None,
    };
    Some((holds, reason, format!("not done yet: {}: {}", held.step, held.why)))
}

/// What is said of a cluster whose spec is wrong. What it was is left as it was: nothing is known to
/// have changed.
pub fn of_invalid(invalid: &Invalid) -> Told {
    let message = invalid.to_string();
    let findings = vec![
        finding(ConditionType::Ready, Holds::False, Reason::Invalid, message.clone()),
        finding(ConditionType::Progressing, Holds::False, Reason::Invalid, message),
    ];
    Told { findings, summary: "the spec is invalid".to_owned() }
}

fn finding(type_: ConditionType, holds: Holds, reason: Reason, message: impl Into<String>) -> Finding {
    Finding { type_, holds, reason, message: message.into() }
}

fn view<'a>(facts: &Facts<'a>) -> Option<&'a ClusterView> {
    facts.found.observed.data.known()
}

fn available(facts: Facts<'_>) -> Finding {
    let say = |holds, reason, message: String| finding(ConditionType::Available, holds, reason, message);
    if facts.intent.hibernate {
        return say(Holds::False, Reason::Hibernated, "spec.hibernate is Enabled: no pod runs".to_owned());
    }
    let Some(view) = view(&facts) else {
        let created = facts.found.observed.was_created();
        return match (&facts.found.observed.data, created) {
            (DataPlane::Uninitialised, _) | (_, false) => {
                say(Holds::False, Reason::Forming, "the cluster is not created yet".to_owned())
            }
            _ => {
                let silence = &facts.found.silence;
                say(
                    Holds::Unknown,
                    Reason::Unreachable,
                    format!("no node answers for the cluster: {silence}"),
                )
            }
        };
    };
    if view.meta_leader.is_none() {
        return say(Holds::False, Reason::WithoutLeader, "the meta group has no leader".to_owned());
    }
    if view.without_leader > 0 {
        let named = named(&view.unhealthy);
        return say(
            Holds::False,
            Reason::WithoutLeader,
            format!(
                "{} of {} partitions have no leader, among {named}",
                view.without_leader, view.partitions
            ),
        );
    }
    if let Some(node) = view.nodes.values().find(|node| node.disk_nearly_full) {
        return say(
            Holds::False,
            Reason::DiskNearlyFull,
            format!("the disk of {} is nearly full, so it refuses writes", node.name),
        );
    }
    say(Holds::True, Reason::AsDeclared, "all partitions have a leader".to_owned())
}

fn degraded(facts: Facts<'_>) -> Finding {
    let say = |holds, reason, message: String| finding(ConditionType::Degraded, holds, reason, message);
    if facts.intent.hibernate {
        return say(Holds::False, Reason::Hibernated, "spec.hibernate is Enabled: no pod runs".to_owned());
    }
    let bad = [Reason::SeveralFailures, Reason::VolumesMissing, Reason::RolledBack, Reason::VolumeCannotGrow];
    if let Some(problem) = facts.plan.problems.iter().find(|problem| bad.contains(&problem.reason)) {
        return say(Holds::True, problem.reason, problem.message.clone());
    }
    if let Some(failing) = failing(facts) {
        return say(Holds::True, Reason::PodFailing, format!("{}: {}", failing.name, failing.trouble));
    }
    let Some(view) = view(&facts) else {
        return match facts.found.observed.was_created() {
            true => say(Holds::Unknown, Reason::Unreachable, facts.found.silence.clone()),
            false => say(Holds::False, Reason::Forming, "the cluster is not created yet".to_owned()),
        };
    };
    let silent: Vec<&str> =
        view.nodes.values().filter(|node| !node.alive).map(|node| node.name.as_str()).take(5).collect();
    if !silent.is_empty() {
        return say(Holds::True, Reason::NodesNotReady, format!("not heard of: {}", silent.join(", ")));
    }
    if view.under_replicated > 0 {
        let message = format!(
            "{} of {} partitions have too few healthy replicas, among {}",
            view.under_replicated,
            view.partitions,
            named(&view.unhealthy)
        );
        return say(Holds::True, Reason::UnderReplicated, message);
    }
    say(Holds::False, Reason::AsDeclared, "nothing is broken or missing".to_owned())
}

fn failing(facts: Facts<'_>) -> Option<&Pod> {
    facts.found.observed.pods.iter().find(|pod| facts.intent.wants(&pod.seat) && !pod.trouble.is_empty())
}

fn progressing(facts: Facts<'_>) -> Finding {
    let say = |holds, reason, message: String| finding(ConditionType::Progressing, holds, reason, message);
    if facts.intent.paused {
        let message = "the annotation kv.trilith.dev/paused keeps the operator's hands off".to_owned();
        return say(Holds::False, Reason::Paused, message);
    }
    if let Some((reason, why)) = facts.refused {
        return say(Holds::False, reason, why.to_owned());
    }
    if let Some((holds, reason, message)) = held(facts.outcome) {
        return say(holds, reason, message);
    }
    if let Some(operation) = facts.plan.operation {
        let step = facts.plan.steps.last().map(ToString::to_string);
        let message = facts.plan.waits.clone().or(step).unwrap_or_else(|| operation.to_string());
        return say(Holds::True, under_way(facts.plan, operation), message);
    }
    if let Some(problem) = facts.plan.problems.first() {
        return say(Holds::False, problem.reason, problem.message.clone());
    }
    if !facts.plan.steps.is_empty() {
        let step = facts.plan.steps.iter().map(ToString::to_string).next().unwrap_or_default();
        let grows = facts.plan.steps.iter().any(|step| matches!(step, Step::GrowClaim { .. }));
        return say(Holds::True, if grows { Reason::GrowingVolumes } else { Reason::Altering }, step);
    }
    if facts.intent.hibernate {
        return say(Holds::False, Reason::Hibernated, "no pod runs, and the claims are kept".to_owned());
    }
    say(Holds::False, Reason::Idle, "nothing is under way".to_owned())
}

fn under_way(plan: &Plan, operation: Operation) -> Reason {
    let shrinks = |step: &Step| matches!(step, Step::Drain { why: DrainReason::ScaleDown, .. });
    match operation {
        Operation::Create => Reason::Forming,
        Operation::Heal => Reason::Repairing,
        Operation::Drain => Reason::ScalingDown,
        Operation::Scale if plan.steps.iter().any(shrinks) => Reason::ScalingDown,
        Operation::Scale => Reason::ScalingUp,
        Operation::Roll => Reason::Rolling,
        Operation::Rebalance => Reason::Rebalancing,
        Operation::Hibernate => Reason::Hibernated,
        Operation::Dismantle => Reason::Deleting,
    }
}

fn balanced(facts: Facts<'_>) -> Finding {
    let say = |holds, reason, message: String| finding(ConditionType::Balanced, holds, reason, message);
    let Some(view) = view(&facts) else {
        return say(Holds::Unknown, Reason::Unknown, "nobody answers for the cluster".to_owned());
    };
    if !view.moves.is_empty() {
        let message = format!("{} moves are under way", view.moves.len());
        return say(Holds::False, Reason::Rebalancing, message);
    }
    if view.balanced {
        return say(Holds::True, Reason::AsDeclared, "no move would spread them better".to_owned());
    }
    let message = format!("{} moves would spread them better", view.proposal.len());
    match facts.intent.rebalance.mode {
        RebalanceMode::Manual => say(Holds::False, Reason::ApprovalNeeded, message),
        RebalanceMode::Auto | RebalanceMode::Off => say(Holds::False, Reason::Idle, message),
    }
}

fn ready(facts: Facts<'_>, others: &[Finding]) -> Finding {
    let say = |holds, reason, message: String| finding(ConditionType::Ready, holds, reason, message);
    let intent = facts.intent;
    let of = |type_| others.iter().find(|finding| finding.type_ == type_);
    if let Some(unavailable) = of(ConditionType::Available).filter(|finding| finding.holds != Holds::True) {
        return say(Holds::False, unavailable.reason, unavailable.message.clone());
    }
    let Some(view) = view(&facts) else {
        return say(Holds::False, Reason::Unreachable, facts.found.silence.clone());
    };
    if !view.meta_is_whole() {
        return say(Holds::False, Reason::Forming, "the meta group does not have its voters yet".to_owned());
    }
    let ready = facts.found.observed.pods.iter().filter(|pod| intent.wants(&pod.seat) && pod.ready).count();
    if (ready as u32) < intent.nodes() {
        let missing =
            intent.seats().find(|seat| !facts.found.observed.pod(seat).is_some_and(|pod| pod.ready));
        let name = missing.map(|seat| intent.pod_name(&seat)).unwrap_or_default();
        let message = format!("{ready} of {} nodes are ready; {name} is not", intent.nodes());
        let failing = failing(facts);
        let reason = if failing.is_some() { Reason::PodFailing } else { Reason::NodesNotReady };
        return say(Holds::False, reason, message);
    }
    if let Some(degraded) = of(ConditionType::Degraded).filter(|finding| finding.holds == Holds::True)
        && degraded.reason != Reason::VolumeCannotGrow
    {
        return say(Holds::False, degraded.reason, degraded.message.clone());
    }
    say(Holds::True, Reason::AsDeclared, format!("all {} nodes are ready", intent.nodes()))
}

fn summary(facts: Facts<'_>, others: &[Finding], ready: &Finding) -> String {
    let of = |type_| others.iter().find(|finding| finding.type_ == type_);
    if facts.intent.paused {
        return "paused".to_owned();
    }
    let progressing = of(ConditionType::Progressing);
    if let Some(doing) = progressing.filter(|finding| finding.holds == Holds::True) {
        return format!("{}: {}", doing.reason, short(&doing.message));
    }
    if facts.intent.hibernate {
        return "hibernated".to_owned();
    }
    if ready.holds != Holds::True {
        return format!("{}: {}", ready.reason, short(&ready.message));
    }
    match progressing.filter(|finding| finding.reason != Reason::Idle) {
        Some(stuck) => format!("{}: {}", stuck.reason, short(&stuck.message)),
        None => "ready".to_owned(),
    }
}

fn short(text: &str) -> String {
    const MOST: usize = 80;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST - 1).chain(['…']).collect()
}

fn named(partitions: &[u64]) -> String {
    let shown: Vec<String> = partitions.iter().take(8).map(ToString::to_string).collect();
    shown.join(", ")
}
