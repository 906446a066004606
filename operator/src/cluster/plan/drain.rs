//! Finishes what leaves: drained nodes are removed, then their pods go one at a time from the
//! highest, then their claims by policy. A node that is wanted again is used again.
//!
//! Each step rests on the data plane's word, never on a label or on silence. A node that the data
//! plane neither lists nor has a tombstone for is unknown, and nothing of it is deleted.

use crds::conditions::Reason;
use placement::NodeState;

use crate::cluster::intent::{Intent, Retention};
use crate::cluster::observed::{Identity, Observed, Seat};
use crate::dataplane::ClusterView;

use super::{Problem, Step, Turn};

/// Takes what leaves one step further.
pub(super) fn turn(intent: &Intent, observed: &Observed) -> Turn {
    let Some(view) = observed.data.known() else { return Turn::Nothing };
    let mut steps = Vec::new();
    let mut left = Vec::new();
    for node in view.nodes.values().filter(|node| node.is_leaving()) {
        // One without a seat gave its name to a newcomer, or its pool is long gone.
        let seat = seat_of(intent, observed, &node.name);
        if seat.is_none() && node.alive {
            continue;
        }
        match (seat.is_some_and(|seat| intent.wants(&seat)), node.state) {
            // One that is silent is being replaced: `heal` goes on with it.
            (true, _) if node.alive => {
                steps.push(Step::Undrain { node: node.id, name: node.name.clone() });
            }
            (false, NodeState::Drained) => {
                steps.push(Step::Remove { node: node.id, name: node.name.clone() });
            }
            (false, _) => left.push(format!("{} copies of {}", node.replicas, node.name)),
            (true, _) => {}
        }
    }
    if !steps.is_empty() {
        return Turn::Act(steps);
    }
    match lower(intent, observed, view) {
        Turn::Nothing => {}
        turn => return turn,
    }
    let claims = surplus_claims(intent, observed, view);
    if !claims.is_empty() {
        return Turn::Act(claims);
    }
    if left.is_empty() { Turn::Nothing } else { Turn::Wait(format!("{} are to be moved", left.join(", "))) }
}

/// The seat that a node's name stands for.
pub(super) fn seat_of(intent: &Intent, observed: &Observed, name: &str) -> Option<Seat> {
    let pods = observed.pods.iter().map(|pod| &pod.seat);
    let claims = observed.claims.iter().map(|claim| &claim.seat);
    let known = pods.chain(claims).find(|seat| intent.pod_name(seat) == name).cloned();
    known.or_else(|| intent.seats().find(|seat| intent.pod_name(seat) == name))
}

/// Takes the highest pod of a pool away, when its node is removed or never was.
fn lower(intent: &Intent, observed: &Observed, view: &ClusterView) -> Turn {
    for (pool, set) in &observed.sets {
        let wanted = intent.replicas(pool);
        let surplus =
            observed.pods.iter().find(|pod| pod.seat.pool == *pool && pod.seat.ordinal >= set.replicas);
        if let Some(pod) = surplus {
            return Turn::Wait(format!("{} is ending", pod.name));
        }
        if set.replicas <= wanted {
            if set.replicas == 0 && intent.pool(pool).is_none() {
                return match needed(intent, observed, view, pool) {
                    None => Turn::Act(vec![Step::DeleteSet { pool: pool.clone() }]),
                    Some(why) => Turn::Refuse(Problem {
                        reason: Reason::Blocked,
                        message: format!("pool {pool} stays: {why}"),
                    }),
                };
            }
            continue;
        }
        let top = Seat { pool: pool.clone(), ordinal: set.replicas - 1 };
        let name = intent.pod_name(&top);
        if view.named(&name).is_some() {
            continue;
        }
        match holds(observed, view, &top) {
            Holds::Nothing => {
                let (from, to) = (Some(set.replicas), top.ordinal);
                return Turn::Act(vec![Step::ScaleSet { pool: pool.clone(), from, to }]);
            }
            Holds::Unknown(why) => {
                return Turn::Refuse(Problem {
                    reason: Reason::Blocked,
                    message: format!("{name} stays: {why}"),
                });
            }
        }
    }
    Turn::Nothing
}

/// Why a pool without pods may still be needed; none: it is not. Its `StatefulSet` is the only place
/// that says how its pods are made.
fn needed(intent: &Intent, observed: &Observed, view: &ClusterView, pool: &str) -> Option<String> {
    let of_pool = |name: &str| seat_of(intent, observed, name).is_some_and(|seat| seat.pool == pool);
    if let Some(node) = view.nodes.values().find(|node| of_pool(&node.name)) {
        return Some(format!("{} belongs to it and is in use", node.name));
    }
    let seats = observed.claims.iter().map(|claim| &claim.seat).filter(|seat| seat.pool == pool);
    seats.map(|seat| holds(observed, view, seat)).find_map(|holds| match holds {
        Holds::Nothing => None,
        Holds::Unknown(why) => Some(why),
    })
}

enum Holds {
    Nothing,
    Unknown(String),
}

/// Whether a seat, whose name no node has, may hold data that somebody needs.
fn holds(observed: &Observed, view: &ClusterView, seat: &Seat) -> Holds {
    let identity = observed.pod(seat).map(|pod| pod.identity);
    let node = match identity {
        Some(Identity::Nobody) => None,
        Some(Identity::Node(node)) => Some(node),
        Some(Identity::Stranger(cluster)) => {
            return Holds::Unknown(format!("it holds data of cluster {cluster}"));
        }
        Some(Identity::Unknown) | None => observed.claim(seat).and_then(|claim| claim.node),
    };
    match node {
        None => Holds::Nothing,
        Some(node) if view.tombstones.contains(&node) => Holds::Nothing,
        Some(node) => Holds::Unknown(format!(
            "it holds node {node}, which the cluster neither lists nor says was removed"
        )),
    }
}

/// The claims of seats that are not wanted and have no pod, under a policy that deletes them.
fn surplus_claims(intent: &Intent, observed: &Observed, view: &ClusterView) -> Vec<Step> {
    if intent.claims_when_scaled == Retention::Retain {
        return Vec::new();
    }
    let gone = observed.claims.iter().filter(|claim| {
        !claim.deleting
            && !intent.wants(&claim.seat)
            && claim.seat.ordinal >= observed.replicas(&claim.seat.pool)
            && observed.pod(&claim.seat).is_none()
            // What was labelled for another cluster was never this one's to delete.
            && claim.cluster == Some(view.cluster)
            && view.named(&intent.pod_name(&claim.seat)).is_none()
            && claim.node.is_none_or(|node| view.tombstones.contains(&node))
    });
    gone.map(|claim| Step::DeleteClaim {
        claim: claim.name.clone(),
        uid: claim.uid.clone(),
        node: claim.node,
        unasked: false,
    })
    .collect()
}
