//! How many nodes may be evicted at once: one, of all pools together.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::validate::ValidCluster;
use super::{labels, owned};

/// The budget of a cluster. There is none for one node, which could never be evicted, and none while there are no pods.
pub fn disruption_budget(cluster: &ValidCluster) -> Option<PodDisruptionBudget> {
    let wanted = cluster.disruption_budget && !cluster.hibernate && cluster.nodes() > 1;
    wanted.then(|| PodDisruptionBudget {
        metadata: owned(cluster, cluster.name.clone()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(labels::matching(labels::pods(&cluster.name))),
            // A pod that is not ready serves nobody, and may be what keeps a machine from being emptied.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    })
}
