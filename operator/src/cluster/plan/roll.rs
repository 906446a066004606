//! Pods are replaced by changed ones, one at a time.
//!
//! Order: those that are not ready, then a zone at a time, within it those with the fewest
//! leaders, and the leader of the meta group last. The `StatefulSets` only change pods that are
//! deleted, and any pod that is deleted for any reason is made of the present template. So a
//! changed template is put in place only when the first pod is about to be replaced by it, and is
//! taken back at once when that pod does not become ready in time.

use crds::conditions::Reason;

use crate::cluster::intent::Intent;
use crate::cluster::observed::{Identity, Observed, Pod};
use crate::dataplane::{ClusterView, NodeView};

use super::{Gate, Problem, Step, Turn};

/// Replaces the next pod.
pub(super) fn turn(intent: &Intent, observed: &Observed) -> Turn {
    let Some(view) = observed.data.known() else { return Turn::Nothing };
    if !give_up(intent, observed).is_empty() {
        return Turn::Act(Vec::new());
    }
    // A pod that cannot end, because its machine is gone, and that no node lives in, is nobody's business.
    let beyond_reach =
        |pod: &&Pod| is_absent(intent, observed, view, pod) && super::heal::on_lost_machine(observed, pod);
    let outdated: Vec<&Pod> = outdated(intent, observed).filter(|pod| !beyond_reach(pod)).collect();
    if outdated.is_empty() {
        return last_is_coming(intent, observed).map_or(Turn::Nothing, Turn::Wait);
    }
    match rescue(intent, observed) {
        Turn::Nothing => {}
        turn => return turn,
    }
    if let Some(problem) = failed(intent, observed) {
        return Turn::Refuse(problem);
    }
    if intent.update.paused {
        return Turn::Nothing;
    }
    if let Some(why) = changed_but_not_ready(intent, observed, view) {
        return Turn::Wait(why);
    }
    if let Some(steps) = bring_leaders_back(intent, observed, view) {
        return Turn::Act(steps);
    }
    if !view.moves.is_empty() {
        return Turn::Wait(format!("{} moves are under way", view.moves.len()));
    }
    let Some(pod) = outdated.into_iter().min_by_key(|pod| rank(intent, observed, view, pod)) else {
        return Turn::Nothing;
    };
    if let Some(why) = others_are_not_well(intent, observed, view, pod) {
        return Turn::Wait(why);
    }
    match replace(intent, observed, view, pod) {
        Some(steps) => Turn::Act(steps),
        None => Turn::Wait(format!("nobody knows who lives in {}", pod.name)),
    }
}

/// Replaces pods of an older template that never ran: it costs nothing, and nothing else would
/// take a mistake back.
pub(super) fn rescue(intent: &Intent, observed: &Observed) -> Turn {
    if intent.update.paused {
        return Turn::Nothing;
    }
    let given_up = |pod: &Pod| {
        let declared = intent.pool(&pod.seat.pool).map(|pool| &pool.inputs);
        observed.sets.get(&pod.seat.pool).is_some_and(|set| set.failed_inputs.as_ref() == declared)
    };
    let stuck: Vec<&Pod> =
        outdated(intent, observed).filter(|pod| pod.never_ran && !pod.deleting && !given_up(pod)).collect();
    let mut steps = Vec::new();
    for pod in stuck {
        let switch = switch(intent, observed, pod);
        steps.extend(switch.into_iter().filter(|step| !steps.contains(step)).collect::<Vec<_>>());
        steps.push(Step::RestartPod { pod: pod.name.clone(), uid: pod.uid.clone(), gate: Gate::NeverRan });
        // Where the cluster exists, one shows whether the correction is one.
        if observed.was_created() {
            break;
        }
    }
    if steps.is_empty() { Turn::Nothing } else { Turn::Act(steps) }
}

/// Remembers a template with which every pod of a pool is ready. A pod that nobody waits for any more does
/// not count.
pub(super) fn remember_good(intent: &Intent, observed: &Observed) -> Vec<Step> {
    let absent = |pod: &Pod| observed.data.known().is_some_and(|view| is_absent(intent, observed, view, pod));
    let proven = observed.sets.iter().filter(|(pool, set)| {
        let pods: Vec<&Pod> = observed.pods.iter().filter(|pod| pod.seat.pool == **pool).collect();
        let good = |pod: &Pod| pod.ready && !pod.deleting && pod.inputs == set.inputs;
        set.good_inputs.as_ref() != Some(&set.inputs)
            && pods.len() == set.replicas as usize
            && pods.iter().any(|pod| good(pod))
            && pods.iter().all(|pod| good(pod) || absent(pod))
    });
    proven
        .map(|(pool, set)| Step::RecordGoodTemplate { pool: pool.clone(), inputs: set.inputs.clone() })
        .collect()
}

fn outdated<'a>(intent: &'a Intent, observed: &'a Observed) -> impl Iterator<Item = &'a Pod> {
    observed.pods.iter().filter(|pod| {
        intent.wants(&pod.seat) && intent.pool(&pod.seat.pool).is_some_and(|pool| pool.inputs != pod.inputs)
    })
}

fn updated<'a>(intent: &'a Intent, observed: &'a Observed) -> impl Iterator<Item = &'a Pod> {
    observed.pods.iter().filter(|pod| {
        intent.wants(&pod.seat) && intent.pool(&pod.seat.pool).is_some_and(|pool| pool.inputs == pod.inputs)
    })
}

/// Puts the last good template back, when a changed pod is not ready in time. It is done whatever else is
/// under way, because any pod that goes meanwhile would come back broken.
pub(super) fn give_up(intent: &Intent, observed: &Observed) -> Vec<Step> {
    // A lost machine is no fault of the change, and a pod that no node lives in yet proves nothing.
    let lived_in = |pod: &Pod| observed.data.known().is_none_or(|view| view.named(&pod.name).is_some());
    let late = |pod: &&Pod| {
        let late = pod.is_late(observed.now, intent.update.timeout);
        late && !pod.deleting && lived_in(pod) && !super::heal::on_lost_machine(observed, pod)
    };
    let pools = observed.sets.iter();
    pools
        .filter_map(|(pool, set)| {
            let pod = updated(intent, observed).filter(|pod| pod.seat.pool == *pool).find(late)?;
            let back_to =
                set.good_inputs.clone().filter(|good| *good != pod.inputs && set.inputs == pod.inputs)?;
            Some(Step::GiveUpTemplate { pool: pool.clone(), failed: pod.inputs.clone(), back_to })
        })
        .collect()
}

/// What is declared was tried and failed. It is not tried again until something else is declared.
fn failed(intent: &Intent, observed: &Observed) -> Option<Problem> {
    intent.pools.iter().find_map(|pool| {
        let set = observed.sets.get(&pool.name)?;
        if set.failed_inputs.as_ref() != Some(&pool.inputs) {
            return None;
        }
        let pod = observed.pods.iter().find(|pod| pod.inputs == pool.inputs && !pod.ready);
        let shown = pod.map_or_else(String::new, |pod| {
            let trouble = if pod.trouble.is_empty() { "it does not become ready" } else { &pod.trouble };
            format!("; {} is left to look at: {trouble}", pod.name)
        });
        Some(Problem {
            reason: Reason::RolledBack,
            message: format!(
                "the change of pool {} was given up after {} s, and what ran before is put back{shown}; correct the \
                 spec to go on",
                pool.name, intent.update.timeout
            ),
        })
    })
}

/// What the last of the replaced pods is waited for, as long as that is no failure.
fn last_is_coming(intent: &Intent, observed: &Observed) -> Option<String> {
    let coming = observed.pods.iter().find(|pod| {
        intent.wants(&pod.seat) && !pod.ready && !pod.is_late(observed.now, intent.update.timeout)
    })?;
    Some(format!("{} is not ready yet", coming.name))
}

/// Whether nobody waits for a pod: no node of the cluster lives in it, and it has had its time.
fn is_absent(intent: &Intent, observed: &Observed, view: &ClusterView, pod: &Pod) -> bool {
    view.named(&pod.name).is_none()
        && !matches!(pod.identity, Identity::Node(_))
        && pod.is_late(observed.now, intent.update.timeout)
}

/// Why the changed pods are not all ready yet; none: they are.
fn changed_but_not_ready(intent: &Intent, observed: &Observed, view: &ClusterView) -> Option<String> {
    let awaited = |pod: &&Pod| intent.wants(&pod.seat) && !is_absent(intent, observed, view, pod);
    let ending = observed.pods.iter().filter(awaited).find(|pod| pod.deleting);
    if let Some(pod) = ending {
        return Some(format!("{} is ending", pod.name));
    }
    let missing = observed.sets.iter().find_map(|(pool, set)| {
        let there = observed.pods.iter().filter(|pod| pod.seat.pool == *pool).count();
        (there < set.replicas as usize).then(|| format!("a pod of pool {pool} is not there yet"))
    });
    if missing.is_some() {
        return missing;
    }
    let pod = updated(intent, observed).filter(awaited).find(|pod| !pod.ready)?;
    let trouble = if pod.trouble.is_empty() { String::new() } else { format!(" ({})", pod.trouble) };
    Some(format!("{} is not ready yet{trouble}", pod.name))
}

/// After a pod was replaced its node leads nothing; it gets leaders again before the next one
/// goes, or the last nodes would end up leading everything.
fn bring_leaders_back(intent: &Intent, observed: &Observed, view: &ClusterView) -> Option<Vec<Step>> {
    if intent.rebalance.mode == super::rebalance::OFF || !view.moves.is_empty() {
        return None;
    }
    // Leaders that do not come back do not hold the others up for ever.
    let newest = updated(intent, observed)
        .max_by_key(|pod| pod.created)
        .filter(|pod| observed.now - pod.created < intent.update.timeout)?;
    let node = node_in(view, newest).filter(|node| node.leaders == 0)?;
    let moves: Vec<_> = view
        .proposal
        .iter()
        .filter(|proposed| !proposed.order.moves_replica() && proposed.order.to() == Some(node.id))
        .collect();
    (!moves.is_empty()).then(|| vec![super::rebalance::start(view, moves.into_iter())])
}

/// The lower, the earlier.
fn rank<'a>(
    intent: &Intent,
    observed: &'a Observed,
    view: &ClusterView,
    pod: &'a Pod,
) -> (bool, bool, bool, &'a str, u64, &'a crate::cluster::observed::Seat) {
    let node = node_in(view, pod);
    let zone = observed.zone(pod);
    let begun = updated(intent, observed).any(|other| observed.zone(other) == zone);
    let leads_meta = node.is_some_and(|node| view.meta_leader == Some(node.id));
    (pod.ready, leads_meta, !begun, zone, node.map_or(0, |node| node.leaders), &pod.seat)
}

/// Why no pod may go now, besides the one that is about to.
fn others_are_not_well(
    intent: &Intent,
    observed: &Observed,
    view: &ClusterView,
    pod: &Pod,
) -> Option<String> {
    let silent = view.nodes.values().find(|node| !node.alive && node.name != pod.name);
    if let Some(node) = silent {
        return Some(format!("{} is silent", node.name));
    }
    let unready = observed.pods.iter().find(|other| {
        !other.ready && other.name != pod.name && pod.ready && !is_absent(intent, observed, view, other)
    })?;
    Some(format!("{} is not ready", unready.name))
}

/// None: it cannot be told whether the pod may go.
fn replace(intent: &Intent, observed: &Observed, view: &ClusterView, pod: &Pod) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    steps.extend(switch(intent, observed, pod));
    let gate = match node_in(view, pod) {
        _ if pod.never_ran => Gate::NeverRan,
        Some(node) => Gate::CanRestart {
            node: node.id,
            with_leaders: intent.update.proceed_with_leaders,
            single_replica: intent.update.allow_single_replica,
        },
        // It is no node of the cluster, so it holds nothing that the cluster needs.
        None if pod.identity == Identity::Nobody => Gate::BelongsToNobody,
        None => return None,
    };
    if let Some(node) = node_in(view, pod).filter(|node| node.leaders > 0 && node.alive) {
        steps.push(Step::TransferLeaders { node: node.id, name: node.name.clone() });
    }
    steps.push(Step::RestartPod { pod: pod.name.clone(), uid: pod.uid.clone(), gate });
    Some(steps)
}

/// Puts the declared template in place, where it is not.
fn switch(intent: &Intent, observed: &Observed, pod: &Pod) -> Option<Step> {
    let pool = intent.pool(&pod.seat.pool)?;
    let set = observed.sets.get(&pool.name)?;
    (set.inputs != pool.inputs)
        .then(|| Step::SwitchTemplate { pool: pool.name.clone(), to: pool.inputs.clone() })
}

fn node_in<'a>(view: &'a ClusterView, pod: &Pod) -> Option<&'a NodeView> {
    match pod.identity {
        Identity::Node(node) => view.nodes.get(&node),
        Identity::Unknown => view.named(&pod.name),
        Identity::Nobody | Identity::Stranger(_) => None,
    }
}
