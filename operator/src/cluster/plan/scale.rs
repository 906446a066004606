//! The number of nodes changes. Up: claims first, then pods, which join by themselves. Down: the
//! highest ordinals are drained, all of them at once so that nothing is moved twice; `drain`
//! does the rest.

use crds::conditions::Reason;
use placement::NodeState;

use crate::cluster::intent::Intent;
use crate::cluster::observed::{Observed, Seat};
use crate::dataplane::{ClusterView, NodeView};

use super::create::missing_claims;
use super::{DrainReason, Problem, Step, Turn};

/// Adds nodes, or begins to empty them.
pub(super) fn turn(intent: &Intent, observed: &Observed) -> Turn {
    let Some(view) = observed.data.known() else { return Turn::Nothing };
    let grow = up(intent, observed);
    if !grow.is_empty() {
        return Turn::Act(grow);
    }
    let absent = match still_coming(intent, observed, view) {
        Coming::Soon(why) => return Turn::Wait(why),
        Coming::Late(problem) => Some(problem),
        Coming::Nobody => None,
    };
    match down(intent, observed, view) {
        Turn::Nothing => absent.map_or(Turn::Nothing, Turn::Refuse),
        turn => turn,
    }
}

/// Adds the nodes that are declared and not there.
pub(super) fn up(intent: &Intent, observed: &Observed) -> Vec<Step> {
    let mut steps = missing_claims(intent, observed, intent.seats(), None);
    for pool in &intent.pools {
        let from = observed.sets.get(&pool.name).map(|set| set.replicas);
        if from.is_none_or(|from| from < pool.replicas) {
            steps.push(Step::ScaleSet { pool: pool.name.clone(), from, to: pool.replicas });
        }
    }
    steps
}

/// Nodes that are wanted and not there yet.
enum Coming {
    /// There are none.
    Nobody,
    /// One is awaited.
    Soon(String),
    /// One has had its time. Nothing else waits for it: it holds nothing that could be lost.
    Late(Problem),
}

fn still_coming(intent: &Intent, observed: &Observed, view: &ClusterView) -> Coming {
    let mut late = None;
    for seat in intent.seats() {
        let name = intent.pod_name(&seat);
        if view.named(&name).is_some() {
            continue;
        }
        let Some(pod) = observed.pod(&seat) else { return Coming::Soon(format!("{name} is not there yet")) };
        // One of a wrong template is for `roll` to replace.
        if intent.pool(&seat.pool).is_none_or(|pool| pool.inputs != pod.inputs) {
            continue;
        }
        let (reason, message) = match pod.trouble.as_str() {
            "" => (Reason::NodesNotReady, format!("{name} has not joined yet")),
            trouble => (Reason::PodFailing, format!("{name} does not start: {trouble}")),
        };
        if !pod.is_late(observed.now, intent.update.timeout) {
            return Coming::Soon(message);
        }
        late.get_or_insert(Problem { reason, message });
    }
    late.map_or(Coming::Nobody, Coming::Late)
}

fn down(intent: &Intent, observed: &Observed, view: &ClusterView) -> Turn {
    let surplus: Vec<(&NodeView, Seat)> = view
        .nodes
        .values()
        .filter(|node| node.state == NodeState::Serving)
        .filter_map(|node| Some((node, super::drain::seat_of(intent, observed, &node.name)?)))
        .filter(|(_, seat)| !intent.wants(seat))
        .collect();
    if surplus.is_empty() {
        return Turn::Nothing;
    }
    let stay: Vec<&NodeView> = view
        .nodes
        .values()
        .filter(|node| {
            node.state == NodeState::Serving && !surplus.iter().any(|(other, _)| other.id == node.id)
        })
        .collect();
    let needed = view.most_replicas().max(1);
    if (stay.len() as u32) < needed {
        let table = view.tables.iter().find(|table| table.replicas == needed);
        let table = table.map_or_else(String::new, |table| format!(" (table {})", table.name));
        return Turn::Refuse(Problem {
            reason: Reason::Blocked,
            message: format!(
                "{} nodes would stay and a table has {needed} replicas{table}: nothing is drained; lower the table's \
                 replicas first, or keep more nodes",
                stay.len()
            ),
        });
    }
    if let Some(silent) = stay.iter().find(|node| !node.alive) {
        return Turn::Refuse(Problem {
            reason: Reason::Blocked,
            message: format!(
                "{} is silent and would have to take copies over: nothing is drained",
                silent.name
            ),
        });
    }
    let mut surplus = surplus;
    surplus.sort_by(|(_, left), (_, right)| right.cmp(left));
    let drain = surplus.into_iter().map(|(node, _)| Step::Drain {
        node: node.id,
        name: node.name.clone(),
        why: DrainReason::ScaleDown,
    });
    Turn::Act(drain.collect())
}
