//! A cluster comes into being, once, or comes back from the claims that it left.
//!
//! One claim is marked before anything starts, and only the pod on that claim is ever asked to
//! create the cluster. So there is one answer to "who creates it" for any operator at any time,
//! and a claim that already holds a node is never created over.

use std::collections::BTreeMap;

use crds::conditions::Reason;

use crate::cluster::intent::Intent;
use crate::cluster::observed::{Identity, Observed, Seat};
use crate::dataplane::DataPlane;

use super::{Problem, Step, Turn};

/// Starts what is missing until the data plane answers, and then until the meta group has its
/// voters.
pub(super) fn turn(intent: &Intent, observed: &Observed) -> Turn {
    if let Some(stranger) = stranger(observed) {
        return Turn::Block(stranger);
    }
    match &observed.data {
        DataPlane::Known(_) => settle(intent, observed),
        DataPlane::Uninitialised if !observed.was_created() => begin(intent, observed),
        DataPlane::Unknown | DataPlane::Uninitialised => match observed.was_created() {
            true => revive(intent, observed),
            false => begin(intent, observed),
        },
    }
}

/// Lets pods that belong to no cluster join, where their name is free.
pub(super) fn join(intent: &Intent, observed: &Observed) -> Vec<Step> {
    let Some(view) = observed.data.known() else { return Vec::new() };
    let joining = observed.pods.iter().filter(|pod| {
        pod.identity == Identity::Nobody
            && !pod.deleting
            && intent.wants(&pod.seat)
            // A name whose holder leaves is free: the data plane gives it to the newcomer.
            && view.named(&pod.name).is_none_or(|holder| holder.is_leaving() && !holder.alive)
    });
    joining.map(|pod| Step::Join { pod: pod.name.clone() }).collect()
}

fn stranger(observed: &Observed) -> Option<Problem> {
    observed.pods.iter().find_map(|pod| match pod.identity {
        Identity::Stranger(cluster) => Some(Problem {
            reason: Reason::Blocked,
            message: format!(
                "{} holds data of another cluster, {cluster}: give it an empty claim, or declare that cluster",
                pod.name
            ),
        }),
        _ => None,
    })
}

/// Nothing was ever created: claims, pods, and one `init`. What is declared may still change in
/// any way, because no data can be lost.
fn begin(intent: &Intent, observed: &Observed) -> Turn {
    let Some(lowest) = intent.seats().min() else { return Turn::Nothing };
    let marked = observed.claims.iter().find(|claim| claim.first);
    if let Some(claim) = marked.filter(|claim| !intent.wants(&claim.seat)) {
        return Turn::Block(Problem {
            reason: Reason::Blocked,
            message: format!(
                "the cluster was to be created on claim {}, which the spec no longer asks for: delete the claim \
                 when it holds nothing that you need",
                claim.name
            ),
        });
    }
    let first = marked.map_or(lowest, |claim| claim.seat.clone());
    let mut steps = missing_claims(intent, observed, intent.seats(), Some(&first));
    steps.extend(set_sizes(intent, observed, &declared_sizes(intent, observed)));
    if !steps.is_empty() {
        return Turn::Act(steps);
    }
    let rescued = super::roll::rescue(intent, observed);
    if !matches!(rescued, Turn::Nothing) {
        return rescued;
    }
    if let (None, Some(claim)) = (marked, observed.claim(&first)) {
        // One that was made for this very object and never used may be marked; any other was
        // there before, and is not created over.
        return match claim.cluster == Some(intent.uid) {
            true => Turn::Act(vec![Step::MarkClaim { claim: claim.name.clone() }]),
            false => Turn::Block(Problem {
                reason: Reason::Blocked,
                message: format!(
                    "claim {} was there before the cluster and nobody knows what it holds: delete it, or give it \
                     the labels of a claim that does",
                    claim.name
                ),
            }),
        };
    }
    match observed.pod(&first) {
        Some(pod) if pod.identity == Identity::Nobody => {
            Turn::Act(vec![Step::Init { pod: pod.name.clone() }])
        }
        Some(pod) if pod.trouble.is_empty() => Turn::Wait(format!("{} does not answer yet", pod.name)),
        Some(pod) => Turn::Wait(format!("{} does not start: {}", pod.name, pod.trouble)),
        None => Turn::Wait(format!("{} is not there yet", intent.pod_name(&first))),
    }
}

/// The cluster exists and nobody who knows answers: every claim that holds a node gets its pod,
/// and nothing else happens.
fn revive(intent: &Intent, observed: &Observed) -> Turn {
    let held = held_sizes(observed);
    let stopped = observed.sets.values().all(|set| set.replicas == 0);
    if stopped {
        let expected: u32 = held.values().sum();
        let there = observed.claims.iter().filter(|claim| claim.node.is_some()).count();
        if there * 2 <= expected as usize {
            return Turn::Block(Problem {
                reason: Reason::VolumesMissing,
                message: format!(
                    "{there} of {expected} claims are left, which is no majority: nothing is started, because nothing \
                     could serve and nothing may be created over them"
                ),
            });
        }
    }
    let sizes =
        if stopped { all_sizes(intent, observed, held) } else { unstarted_sizes(intent, observed, held) };
    let seats = sizes.iter().flat_map(|(pool, replicas)| seats(pool, *replicas)).collect::<Vec<_>>();
    let mut steps = missing_claims(intent, observed, seats.into_iter(), None);
    steps.extend(set_sizes(intent, observed, &sizes));
    if !steps.is_empty() {
        return Turn::Act(steps);
    }
    let rescued = super::roll::rescue(intent, observed);
    if !matches!(rescued, Turn::Nothing) {
        return rescued;
    }
    Turn::Wait(format!("no majority of the nodes answers yet{}", undeclared(intent, observed)))
}

/// A hint: claims may hold nodes of a pool that nobody declares and that has no `StatefulSet`, so that
/// nothing says how its pods would be made.
fn undeclared(intent: &Intent, observed: &Observed) -> String {
    let unknown = |pool: &str| intent.pool(pool).is_none() && !observed.sets.contains_key(pool);
    let claim = observed.claims.iter().find(|claim| claim.node.is_some() && unknown(&claim.seat.pool));
    claim.map_or_else(String::new, |claim| {
        format!("; {} may hold one: where it is needed, declare pool {} again", claim.name, claim.seat.pool)
    })
}

/// The meta group answers: it gets the voters that it should have.
fn settle(intent: &Intent, observed: &Observed) -> Turn {
    let Some(view) = observed.data.known() else { return Turn::Nothing };
    // Only while the first nodes come: later, a missing voter is for `heal` to judge.
    let young = view.tables.is_empty() && view.nodes.values().all(|node| !node.is_leaving());
    let came = view.nodes.len() as u32;
    let awaited = intent.nodes().min(observed.sets.values().map(|set| set.replicas).sum());
    let joining = observed.pods.iter().any(|pod| {
        pod.identity == Identity::Nobody && intent.wants(&pod.seat) && view.named(&pod.name).is_none()
    });
    if young && joining && came < awaited {
        return Turn::Wait(format!("{came} of {awaited} nodes have joined"));
    }
    if young && !view.meta_is_whole() && view.nodes.values().all(|node| node.alive) {
        return Turn::Wait("the meta group does not have its voters yet".to_owned());
    }
    Turn::Nothing
}

/// The claims that seats lack.
pub(super) fn missing_claims(
    intent: &Intent,
    observed: &Observed,
    seats: impl Iterator<Item = Seat>,
    first: Option<&Seat>,
) -> Vec<Step> {
    let missing = seats.filter(|seat| observed.claim(seat).is_none());
    missing
        .map(|seat| Step::CreateClaim { claim: intent.claim_name(&seat), first: first == Some(&seat), seat })
        .collect()
}

/// How many pods each pool needs where all were stopped: for every claim that holds a node, and for
/// what is declared.
fn all_sizes(intent: &Intent, observed: &Observed, held: BTreeMap<String, u32>) -> BTreeMap<String, u32> {
    let mut sizes = held;
    for (pool, replicas) in declared_sizes(intent, observed) {
        let size = sizes.entry(pool).or_default();
        *size = replicas.max(*size);
    }
    sizes
}

/// The same for the declared pools that have no pods although others have some: their start was
/// interrupted.
fn unstarted_sizes(
    intent: &Intent,
    observed: &Observed,
    held: BTreeMap<String, u32>,
) -> BTreeMap<String, u32> {
    let mut sizes = all_sizes(intent, observed, held);
    sizes.retain(|pool, _| intent.replicas(pool) > 0 && observed.replicas(pool) == 0);
    sizes
}

fn seats(pool: &str, replicas: u32) -> impl Iterator<Item = Seat> + '_ {
    (0..replicas).map(|ordinal| Seat { pool: pool.to_owned(), ordinal })
}

/// How many pods each pool should have by the spec; a pool that it does not name has none.
fn declared_sizes(intent: &Intent, observed: &Observed) -> BTreeMap<String, u32> {
    let gone = observed.sets.keys().map(|pool| (pool.clone(), 0));
    gone.chain(intent.pools.iter().map(|pool| (pool.name.clone(), pool.replicas))).collect()
}

/// How many pods each pool needs so that every claim that holds a node has one.
fn held_sizes(observed: &Observed) -> BTreeMap<String, u32> {
    let mut sizes = BTreeMap::new();
    for claim in observed.claims.iter().filter(|claim| claim.node.is_some()) {
        let size = sizes.entry(claim.seat.pool.clone()).or_insert(0);
        *size = (*size).max(claim.seat.ordinal + 1);
    }
    sizes
}

/// Pools that are no longer declared come first: when this is interrupted, it is seen of the declared ones
/// that they were not started.
fn set_sizes(intent: &Intent, observed: &Observed, sizes: &BTreeMap<String, u32>) -> Vec<Step> {
    let known =
        sizes.iter().filter(|(pool, _)| observed.sets.contains_key(*pool) || intent.pool(pool).is_some());
    let (declared, undeclared): (Vec<_>, Vec<_>) = known.partition(|(pool, _)| intent.pool(pool).is_some());
    undeclared
        .into_iter()
        .chain(declared)
        .filter_map(|(pool, to)| {
            let from = observed.sets.get(pool).map(|set| set.replicas);
            (from != Some(*to)).then(|| Step::ScaleSet { pool: pool.clone(), from, to: *to })
        })
        .collect()
}
