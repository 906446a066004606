//! What makes pods restart: a hash of what was declared, and never of what the operator made of it. A newer
//! operator that builds pods differently restarts none; they take what is new with their next restart.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, EnvVar, ResourceRequirements, Toleration, TopologySpreadConstraint,
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::super::validate::{Setting, ValidCluster, ValidPool};
use super::labels::Labels;
use super::ports;

/// Everything that a running node cannot take. What is empty is left out, so that a field that is added later changes
/// no hash until somebody uses it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Inputs<'a> {
    image: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    config: &'a BTreeMap<String, Setting>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    doors: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<&'a str>,
    resources: &'a ResourceRequirements,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    node_selector: &'a Labels,
    #[serde(skip_serializing_if = "Option::is_none")]
    affinity: Option<&'a Affinity>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tolerations: &'a [Toleration],
    #[serde(skip_serializing_if = "Option::is_none")]
    topology_spread_constraints: Option<&'a [TopologySpreadConstraint]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority_class_name: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pod_labels: &'a Labels,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pod_annotations: &'a Labels,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    env: &'a [EnvVar],
}

/// The hash of what was declared of the nodes of a pool.
pub fn hash(cluster: &ValidCluster, pool: &ValidPool) -> String {
    let spec = &pool.spec;
    hash_of(&Inputs {
        image: &cluster.image,
        config: &cluster.config,
        doors: ports::optional(&cluster.doors).map(|port| port.name).collect(),
        service_account: cluster.service_account.name.as_deref(),
        zone: spec.zone.as_deref(),
        resources: &spec.resources,
        node_selector: &spec.node_selector,
        affinity: spec.affinity.as_ref(),
        tolerations: &spec.tolerations,
        topology_spread_constraints: spec.topology_spread_constraints.as_deref(),
        priority_class_name: spec.priority_class_name.as_deref(),
        pod_labels: &spec.pod_labels,
        pod_annotations: &spec.pod_annotations,
        env: &spec.env,
    })
}

/// A short hash of anything, by its JSON. All maps in it are sorted.
pub fn hash_of(value: &impl Serialize) -> String {
    // These types have no map whose keys are not strings, so all of them can be written as JSON.
    let json = serde_json::to_vec(value).unwrap_or_default();
    // Ten digits: enough that two never meet, few enough for names.
    let digest = Sha256::digest(&json);
    let number = digest.iter().take(5).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    format!("{number:010x}")
}
