//! A cluster goes. Under the policy that deletes data its object is held until the data is gone;
//! under the other one its object was never held, and Kubernetes collects what it owns.

use crate::cluster::observed::Observed;

use super::Step;

/// The next steps towards nothing. Nobody is asked: the whole cluster is being deleted, and a
/// cluster that does not answer must be deletable too.
pub(super) fn steps(observed: &Observed, delete_claims: bool) -> Vec<Step> {
    if !delete_claims {
        return vec![Step::ReleaseFinalizer];
    }
    let sets: Vec<Step> = observed.sets.keys().map(|pool| Step::DeleteSet { pool: pool.clone() }).collect();
    if !sets.is_empty() {
        return sets;
    }
    let claims: Vec<Step> = observed
        .claims
        .iter()
        .filter(|claim| !claim.deleting)
        .map(|claim| Step::DeleteClaim {
            claim: claim.name.clone(),
            uid: claim.uid.clone(),
            node: claim.node,
            unasked: true,
        })
        .collect();
    // The claims go when their pods do; Kubernetes holds each until then. A pod on a machine that is
    // gone would be ending for ever.
    let stuck =
        observed.pods.iter().filter(|pod| pod.deleting && super::heal::on_lost_machine(observed, pod));
    let forgotten =
        stuck.map(|pod| Step::ForceDeletePod { pod: pod.name.clone(), uid: pod.uid.clone(), node: None });
    let steps: Vec<Step> = claims.into_iter().chain(forgotten).collect();
    if !steps.is_empty() {
        return steps;
    }
    if observed.claims.is_empty() && observed.pods.is_empty() {
        return vec![Step::ReleaseFinalizer];
    }
    Vec::new()
}
