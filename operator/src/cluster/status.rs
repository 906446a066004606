//! How a cluster is, for people and programs. Pure: from what was declared, found, planned and
//! done.

use crds::KVClusterStatus;
use crds::cluster::Engine;
use crds::cluster::status::{
    MOST_MOVES, MOST_UNHEALTHY, NodeState, NodeStatus, Operation as Shown, OperationKind, Partitions,
    PoolStatus, ProposedPlan, RolledBack,
};
use crds::conditions::{Reason, merged};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::apply::Outcome;
use super::intent::{Intent, RebalanceMode};
use super::observe::Found;
use super::observed::{Identity, Pod};
use super::plan::{DrainReason, Operation, Plan, Step, token};
use super::validate::ValidCluster;
use crate::runtime::figures;

mod findings;

pub use findings::{Told, findings, of_deletion, of_invalid};

/// Everything that a status is made from.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// What is declared.
    pub cluster: &'a ValidCluster,
    /// The same for planning.
    pub intent: &'a Intent,
    /// What was found.
    pub found: &'a Found,
    /// What is to be done.
    pub plan: &'a Plan,
    /// What was done of it.
    pub outcome: &'a Outcome,
    /// What the API server refused besides.
    pub refused: Option<(Reason, &'a str)>,
}

/// The status, from the one before.
pub fn status(before: &KVClusterStatus, facts: Facts<'_>, now: Timestamp) -> KVClusterStatus {
    let Facts { cluster, intent, found, plan, .. } = facts;
    let observed = &found.observed;
    let view = observed.data.known();
    let fresh = figures::due_in(before.figures_at.as_ref(), now) == 0 && view.is_some();
    let wanted: Vec<&Pod> = observed.pods.iter().filter(|pod| intent.wants(&pod.seat)).collect();
    let ready = wanted.iter().filter(|pod| pod.ready).count();
    let told = findings(facts);
    let current = wanted.len() as u32 == intent.nodes()
        && wanted.iter().all(|pod| intent.pool(&pod.seat.pool).is_some_and(|pool| pool.inputs == pod.inputs));
    let nodes = nodes(before, found, fresh);
    // Figures that were read again and are the same are no news.
    let figures_at = if fresh && (nodes != before.nodes || before.figures_at.is_none()) {
        Some(Time(now))
    } else {
        before.figures_at.clone()
    };
    KVClusterStatus {
        observed_generation: Some(cluster.generation),
        conditions: merged(&before.conditions, &told.findings, cluster.generation, now),
        summary: Some(told.summary),
        cluster_id: Some(found.cluster_id.to_string()),
        image: Some(cluster.image.clone()),
        engine: if current {
            Some(cluster.engine.clone()).filter(|engine| *engine != Engine::default())
        } else {
            before.engine.clone()
        },
        version: if current { Some(tag(&cluster.image)) } else { before.version.clone() },
        cluster_version: view.map(|view| view.cluster_version.into()).or(before.cluster_version),
        ready_nodes: Some(format!("{ready}/{}", intent.nodes())),
        meta_leader: view
            .and_then(|view| view.nodes.get(view.meta_leader.as_ref()?))
            .map(|node| node.name.clone())
            .or_else(|| before.meta_leader.clone().filter(|_| view.is_none())),
        pools: pools(intent, found),
        nodes,
        partitions: partitions(found).or_else(|| before.partitions.clone()),
        operation: operation(before, plan, found, now),
        proposed_plan: proposed(intent, found),
        rolled_back: rolled_back(before, facts),
        figures_at,
    }
}

/// In how many seconds figures may be told that this status still shows as they were; none: it shows how many
/// leaders and copies each node has. Bytes are told with them, and bring no look of their own.
pub fn stale_for(after: &KVClusterStatus, found: &Found, now: Timestamp) -> Option<u64> {
    let view = found.observed.data.known()?;
    let differs = |node: &NodeStatus| {
        let known = view.named(&node.name);
        let number = |number: u64| i64::try_from(number).ok();
        known.is_some_and(|known| {
            node.leaders != number(known.leaders) || node.replicas != number(known.replicas)
        })
    };
    let left = figures::due_in(after.figures_at.as_ref(), now);
    after.nodes.iter().any(differs).then_some(left.max(1))
}

fn tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    let named = last.split_once('@').map_or(last, |(named, _)| named);
    named.split_once(':').map_or_else(|| last.to_owned(), |(_, tag)| tag.to_owned())
}

fn pools(intent: &Intent, found: &Found) -> Vec<PoolStatus> {
    let declared = intent.pools.iter().map(|pool| pool.name.clone());
    let leaving = found.sets.keys().filter(|name| intent.pool(name).is_none()).cloned();
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    declared
        .chain(leaving)
        .map(|name| {
            let pods: Vec<&Pod> = found.observed.pods.iter().filter(|pod| pod.seat.pool == name).collect();
            let inputs = intent.pool(&name).map(|pool| &pool.inputs);
            PoolStatus {
                declared: count(intent.replicas(&name) as usize),
                replicas: count(pods.len()),
                ready: count(pods.iter().filter(|pod| pod.ready).count()),
                updated: count(pods.iter().filter(|pod| Some(&pod.inputs) == inputs).count()),
                name,
            }
        })
        .collect()
}

fn nodes(before: &KVClusterStatus, found: &Found, fresh: bool) -> Vec<NodeStatus> {
    let observed = &found.observed;
    let view = observed.data.known();
    let mut all: Vec<NodeStatus> = Vec::new();
    for pod in &observed.pods {
        let old = before.nodes.iter().find(|node| node.name == pod.name);
        let id = match pod.identity {
            Identity::Node(node) => Some(node),
            _ => view.and_then(|view| view.named(&pod.name)).map(|node| node.id),
        };
        let node = view.and_then(|view| view.nodes.get(&id?));
        let state = match (node, pod.identity, view) {
            (Some(node), ..) if !node.alive => NodeState::Lost,
            (Some(node), ..) => state(node.state),
            (None, Identity::Node(id), Some(view)) if view.tombstones.contains(&id) => NodeState::Removed,
            (None, _, None) | (None, Identity::Node(_) | Identity::Stranger(_), _) => NodeState::Unknown,
            (None, Identity::Nobody | Identity::Unknown, Some(_)) => NodeState::Joining,
        };
        let figure = |now: Option<u64>, old: Option<i64>| match (fresh || old.is_none(), now) {
            (true, Some(now)) => Some(i64::try_from(now).unwrap_or(i64::MAX)),
            _ => old,
        };
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        all.push(NodeStatus {
            name: pod.name.clone(),
            id: id
                .map(|id| id.to_string())
                .or_else(|| old.filter(|_| view.is_none()).and_then(|old| old.id.clone())),
            pool: Some(pod.seat.pool.clone()),
            state,
            zone: some(observed.zone(pod)),
            host: pod.machine.clone(),
            version: None,
            leaders: figure(node.map(|node| node.leaders), old.and_then(|old| old.leaders)),
            replicas: figure(node.map(|node| node.replicas), old.and_then(|old| old.replicas)),
            disk_used_bytes: used(
                figure(node.map(|node| node.disk_used), old.and_then(|old| old.disk_used_bytes)),
                old.and_then(|old| old.disk_used_bytes),
                node.map(|node| node.disk_total),
            ),
            disk_total_bytes: figure(
                node.map(|node| node.disk_total),
                old.and_then(|old| old.disk_total_bytes),
            ),
            trouble: some(&pod.trouble),
        });
    }
    // Nodes without a pod: their pods are gone, or they wait for their tombstone.
    for node in view.into_iter().flat_map(|view| view.nodes.values()) {
        if all.iter().all(|shown| shown.name != node.name) {
            all.push(NodeStatus {
                name: node.name.clone(),
                id: Some(node.id.to_string()),
                state: if node.alive { state(node.state) } else { NodeState::Lost },
                ..NodeStatus::default()
            });
        }
    }
    all.truncate(200);
    all
}

/// How much of a disk is used. It moves a little all the time, and less than a hundredth of the disk is no news.
fn used(now: Option<i64>, old: Option<i64>, total: Option<u64>) -> Option<i64> {
    let (Some(new), Some(known), Some(total)) = (now, old, total) else { return now };
    if new.abs_diff(known) < total / 100 { old } else { now }
}

fn state(state: placement::NodeState) -> NodeState {
    match state {
        placement::NodeState::Serving => NodeState::Serving,
        placement::NodeState::Draining => NodeState::Draining,
        placement::NodeState::Drained => NodeState::Drained,
        placement::NodeState::Removed => NodeState::Removed,
    }
}

fn partitions(found: &Found) -> Option<Partitions> {
    let view = found.observed.data.known()?;
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    Some(Partitions {
        total: number(view.partitions),
        without_leader: number(view.without_leader),
        under_replicated: number(view.under_replicated),
        unhealthy: view.unhealthy.iter().take(MOST_UNHEALTHY).map(|partition| number(*partition)).collect(),
    })
}

fn operation(before: &KVClusterStatus, plan: &Plan, found: &Found, now: Timestamp) -> Option<Shown> {
    let kind = kind(plan)?;
    let old = before.operation.as_ref().filter(|old| old.kind == kind);
    let moves = found.observed.data.known().map(|view| view.moves.as_slice()).unwrap_or_default();
    let left = i64::try_from(moves.len()).unwrap_or(i64::MAX);
    // What was left before and is not left now is done.
    let done = old.map_or(0, |old| old.moves_done + (old.moves_left - left).max(0));
    let step = plan.steps.last().map(ToString::to_string);
    let waits = plan.waits.as_ref().map(|why| format!("waits: {why}"));
    Some(Shown {
        kind,
        step: waits.or(step).unwrap_or_default(),
        node: plan.steps.iter().rev().find_map(node_of),
        moves_done: done,
        moves_left: left,
        moves: moves.iter().take(MOST_MOVES).map(|moving| moving.line.clone()).collect(),
        started_at: old.and_then(|old| old.started_at.clone()).or(Some(Time(now))),
    })
}

/// What kind of thing is under way, in the words of the status.
pub(super) fn kind(plan: &Plan) -> Option<OperationKind> {
    Some(match plan.operation? {
        Operation::Create => OperationKind::Create,
        Operation::Heal => OperationKind::Repair,
        Operation::Drain => OperationKind::ScaleDown,
        Operation::Scale if plan.steps.iter().any(is_scale_down) => OperationKind::ScaleDown,
        Operation::Scale => OperationKind::ScaleUp,
        Operation::Roll => OperationKind::Roll,
        Operation::Rebalance => OperationKind::Rebalance,
        Operation::Hibernate => OperationKind::Hibernate,
        Operation::Dismantle => OperationKind::Delete,
    })
}

fn is_scale_down(step: &Step) -> bool {
    matches!(step, Step::Drain { why: DrainReason::ScaleDown, .. })
}

fn node_of(step: &Step) -> Option<String> {
    match step {
        Step::Drain { name, .. }
        | Step::Undrain { name, .. }
        | Step::Remove { name, .. }
        | Step::TransferLeaders { name, .. } => Some(name.clone()),
        Step::RestartPod { pod, .. } | Step::Init { pod } | Step::Join { pod } => Some(pod.clone()),
        _ => None,
    }
}

fn proposed(intent: &Intent, found: &Found) -> Option<ProposedPlan> {
    let view = found.observed.data.known().filter(|view| view.moves.is_empty())?;
    if intent.rebalance.mode != RebalanceMode::Manual {
        return None;
    }
    Some(ProposedPlan {
        id: token(view)?,
        total_moves: i64::try_from(view.proposal.len()).unwrap_or(i64::MAX),
        moves: view.proposal.iter().take(MOST_MOVES).map(|proposed| proposed.line.clone()).collect(),
    })
}

fn rolled_back(before: &KVClusterStatus, facts: Facts<'_>) -> Option<RolledBack> {
    let observed = &facts.found.observed;
    let given_up = facts.plan.steps.iter().find_map(|step| match step {
        Step::GiveUpTemplate { pool, failed, .. } => Some((pool, failed)),
        _ => None,
    });
    let noted = facts.intent.pools.iter().find_map(|pool| {
        let failed = observed.sets.get(&pool.name)?.failed_inputs.as_ref()?;
        (*failed == pool.inputs).then_some((&pool.name, failed))
    });
    let (pool, failed) = given_up.or(noted)?;
    let pod = observed.pods.iter().find(|pod| pod.seat.pool == *pool && pod.inputs == *failed && !pod.ready);
    let old = before.rolled_back.as_ref().filter(|old| old.inputs_hash == *failed);
    Some(RolledBack {
        generation: old.map_or(facts.cluster.generation, |old| old.generation),
        inputs_hash: failed.clone(),
        pod: pod.map(|pod| pod.name.clone()).or_else(|| old.map(|old| old.pod.clone())).unwrap_or_default(),
        message: pod
            .map(|pod| pod.trouble.clone())
            .filter(|trouble| !trouble.is_empty())
            .or_else(|| old.map(|old| old.message.clone()))
            .unwrap_or_else(|| "it did not become ready in time".to_owned()),
    })
}
