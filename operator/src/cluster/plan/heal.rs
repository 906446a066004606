//! Nodes that are gone: their copies go to others first, and only then are they removed.
//!
//! A silent node is *explained* when it is known why it is silent: its pod is being replaced,
//! it is on its way out, or another identity lives in its pod because its claim is gone. Only
//! one unexplained failure is repaired; when there are more, the fault is more likely between
//! the nodes than in them, and taking nodes out would make it worse.

use std::collections::BTreeMap;

use crds::conditions::Reason;
use placement::NodeState;

use crate::cluster::intent::Intent;
use crate::cluster::observed::{Identity, Observed, Pod, Seat};
use crate::dataplane::{ClusterView, NodeView};

use super::create::missing_claims;
use super::{DrainReason, Problem, Step, Turn};

/// What is wrong with a silent node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    /// Somebody is at it: the pod is young, is ending, or is one of a change that failed.
    Expected,
    /// Its pod runs with an empty folder: its data is gone for good.
    IdentityLost,
    /// Nobody knows.
    Unexplained,
}

/// A node that joined just now, or that a moment's load kept from being heard, is no failure yet.
const SILENT_AFTER: u64 = 5;

/// Replaces nodes that are gone.
pub(super) fn turn(intent: &Intent, observed: &Observed) -> Turn {
    let Some(view) = observed.data.known() else { return Turn::Nothing };
    let restored = restore(intent, observed, view);
    if !restored.is_empty() {
        return Turn::Act(restored);
    }
    if let Some(step) = forget_pod(observed, view) {
        return Turn::Act(vec![step]);
    }
    let silent: Vec<(&NodeView, Silence)> =
        silent(intent, observed, view).map(|node| (node, judge(intent, observed, node))).collect();
    let unexplained: Vec<&NodeView> =
        silent.iter().filter(|(_, why)| *why == Silence::Unexplained).map(|(node, _)| *node).collect();
    if unexplained.len() > 1 {
        let names: Vec<&str> = unexplained.iter().take(5).map(|node| node.name.as_str()).collect();
        return Turn::Block(Problem {
            reason: Reason::SeveralFailures,
            message: format!(
                "{} nodes are silent and nobody knows why ({}): nothing is repaired until all but one are back",
                unexplained.len(),
                names.join(", ")
            ),
        });
    }
    let lost = silent.iter().find(|(_, why)| *why == Silence::IdentityLost);
    if let Some((node, _)) = lost {
        return replace(intent, observed, view, node, DrainReason::IdentityLost);
    }
    let Some(node) = unexplained.first() else { return Turn::Nothing };
    if node.is_leaving() {
        return replace(intent, observed, view, node, DrainReason::Gone);
    }
    if !intent.repair.on || node.silent_for < intent.repair.delay {
        return Turn::Nothing;
    }
    replace(intent, observed, view, node, DrainReason::Gone)
}

/// Every node that is listed has a pod, or how would it answer? One has none where the start of the pools
/// was interrupted, or somebody else made a `StatefulSet` smaller or deleted it.
fn restore(intent: &Intent, observed: &Observed, view: &ClusterView) -> Vec<Step> {
    let mut sizes: BTreeMap<String, u32> = BTreeMap::new();
    for seat in view.nodes.values().filter_map(|node| super::drain::seat_of(intent, observed, &node.name)) {
        let size = sizes.entry(seat.pool).or_default();
        *size = (*size).max(seat.ordinal + 1);
    }
    let mut steps = Vec::new();
    for (pool, needed) in sizes {
        let from = observed.sets.get(&pool).map(|set| set.replicas);
        // How the pods of a pool that is not declared are made is known by its `StatefulSet` only.
        if from.is_some_and(|from| from >= needed) || (from.is_none() && intent.pool(&pool).is_none()) {
            continue;
        }
        let to = needed.max(intent.replicas(&pool));
        let seats = (0..to).map(|ordinal| Seat { pool: pool.clone(), ordinal });
        steps.extend(missing_claims(intent, observed, seats, None));
        steps.push(Step::ScaleSet { pool, from, to });
    }
    steps
}

/// When the repair of a silent node is due, in seconds from now.
pub(super) fn due(intent: &Intent, observed: &Observed) -> Option<u64> {
    let view = observed.data.known().filter(|_| intent.repair.on)?;
    let waiting = silent(intent, observed, view).filter(|node| node.silent_for < intent.repair.delay);
    waiting.map(|node| (intent.repair.delay - node.silent_for).max(1)).min()
}

/// The silent nodes of seats that should have one. Others are on their way out anyway.
fn silent<'a>(
    intent: &'a Intent,
    observed: &'a Observed,
    view: &'a ClusterView,
) -> impl Iterator<Item = &'a NodeView> {
    let wanted = |node: &&NodeView| {
        super::drain::seat_of(intent, observed, &node.name).is_some_and(|seat| intent.wants(&seat))
    };
    view.nodes.values().filter(|node| !node.alive).filter(wanted)
}

fn judge(intent: &Intent, observed: &Observed, node: &NodeView) -> Silence {
    let Some(pod) = observed.pods.iter().find(|pod| pod.name == node.name) else {
        return Silence::Unexplained;
    };
    match pod.identity {
        Identity::Nobody => return Silence::IdentityLost,
        Identity::Node(other) if other != node.id => return Silence::IdentityLost,
        _ => {}
    }
    let set = observed.sets.get(&pod.seat.pool);
    let failed = set.is_some_and(|set| set.failed_inputs.as_ref() == Some(&pod.inputs));
    let young = observed.now - pod.created < intent.update.timeout;
    let brief = node.silent_for < SILENT_AFTER;
    // A pod that is starting or ending on a machine that is gone will be so for ever.
    let passing = pod.deleting || (young && !pod.ready) || brief;
    if failed || (passing && !on_lost_machine(observed, pod)) {
        Silence::Expected
    } else {
        Silence::Unexplained
    }
}

fn replace(
    intent: &Intent,
    observed: &Observed,
    view: &ClusterView,
    node: &NodeView,
    why: DrainReason,
) -> Turn {
    match node.state {
        NodeState::Serving => {
            let others = view.serving_alive().count() as u32;
            // A newcomer takes the place of a lost identity, so there need be no spare node.
            let newcomer =
                u32::from(why == DrainReason::IdentityLost && has_newcomer(intent, observed, node));
            if others + newcomer < view.most_replicas() {
                return Turn::Refuse(Problem {
                    reason: Reason::Blocked,
                    message: format!(
                        "{} is gone, and its copies have nowhere to go: {others} nodes are left and a table has {} \
                         replicas; add a node, or bring it back",
                        node.name,
                        view.most_replicas()
                    ),
                });
            }
            Turn::Act(vec![Step::Drain { node: node.id, name: node.name.clone(), why }])
        }
        NodeState::Draining => {
            Turn::Wait(format!("{} copies of {} are made elsewhere", node.replicas, node.name))
        }
        NodeState::Drained => Turn::Act(vec![Step::Remove { node: node.id, name: node.name.clone() }]),
        NodeState::Removed => Turn::Nothing,
    }
}

fn has_newcomer(intent: &Intent, observed: &Observed, node: &NodeView) -> bool {
    let pod = observed.pods.iter().find(|pod| pod.name == node.name);
    pod.is_some_and(|pod| intent.wants(&pod.seat) && !pod.deleting)
}

/// A pod that ends for ever because its machine is gone, once its node is removed: only then can
/// it not come back as who it was.
fn forget_pod(observed: &Observed, view: &ClusterView) -> Option<Step> {
    let pod = observed.pods.iter().find(|pod| pod.deleting && on_lost_machine(observed, pod))?;
    let node = match pod.identity {
        Identity::Node(node) => node,
        _ => held_by(observed, &pod.seat)?,
    };
    let removed = view.tombstones.contains(&node) && view.named(&pod.name).is_none();
    let node = Some(node);
    removed.then(|| Step::ForceDeletePod { pod: pod.name.clone(), uid: pod.uid.clone(), node })
}

fn held_by(observed: &Observed, seat: &Seat) -> Option<placement::NodeId> {
    observed.claim(seat).and_then(|claim| claim.node)
}

/// Whether the machine of a pod is not heard of.
pub(super) fn on_lost_machine(observed: &Observed, pod: &Pod) -> bool {
    let machine = pod.machine.as_ref().and_then(|name| observed.machines.get(name));
    machine.is_some_and(|machine| !machine.ready)
}
