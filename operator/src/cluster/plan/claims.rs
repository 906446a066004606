//! Claims are kept as they should be at all times: none of this changes who holds what.

use crds::conditions::Reason;

use crate::cluster::intent::Intent;
use crate::cluster::observed::{Identity, Observed};

use super::{Problem, Step};

/// Labels the claims with the nodes that live on them, and lets them grow. A claim never
/// shrinks.
pub(super) fn keep(intent: &Intent, observed: &Observed, problems: &mut Vec<Problem>) -> Vec<Step> {
    let mut steps = Vec::new();
    for claim in observed.claims.iter().filter(|claim| !claim.deleting) {
        let pod = observed.pod(&claim.seat).filter(|pod| !pod.deleting);
        if let Some(Identity::Node(node)) = pod.map(|pod| pod.identity) {
            let removed = observed.data.known().is_some_and(|view| view.tombstones.contains(&node));
            if claim.node != Some(node) && !removed {
                steps.push(Step::LabelClaim { claim: claim.name.clone(), node });
            }
        }
        let Some(pool) = intent.pool(&claim.seat.pool) else { continue };
        if !intent.wants(&claim.seat) {
            continue;
        }
        if pool.storage > claim.requested {
            if claim.growable == Some(false) {
                problems.push(Problem {
                    reason: Reason::VolumeCannotGrow,
                    message: format!(
                        "claim {} stays at {} bytes: its storage class does not let volumes grow",
                        claim.name, claim.requested
                    ),
                });
            } else {
                let (from, to) = (claim.requested, pool.storage);
                steps.push(Step::GrowClaim { claim: claim.name.clone(), from, to });
            }
        }
        if !claim.resize_trouble.is_empty() {
            problems.push(Problem {
                reason: Reason::VolumeCannotGrow,
                message: format!("claim {}: {}", claim.name, claim.resize_trouble),
            });
        }
    }
    steps
}
