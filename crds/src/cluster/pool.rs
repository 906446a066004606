//! Storage nodes that are alike.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, EnvVar, ResourceRequirements, Toleration, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::byte_quantity::ByteQuantity;

/// Storage nodes that are alike. A cluster has one pool, or one for each zone or kind of machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.zone) == has(oldSelf.zone) && (!has(self.zone) || self.zone == oldSelf.zone)",
        "message": "the zone of a pool never changes, because its volumes cannot move: add a pool for the new zone, and take this one out once that is ready",
    },
]))]
pub struct Pool {
    /// The name of the pool. Pods are named for the cluster, the pool and a number; cluster and pool together
    /// have at most 45 characters.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"), length(min = 1, max = 20))]
    pub name: String,
    /// How many nodes. Lowering it empties the nodes with the highest numbers before they go; raising it again
    /// meanwhile cancels that.
    #[serde(default = "replicas")]
    #[schemars(range(min = 0, max = 100))]
    pub replicas: i32,
    /// The zone that all nodes of the pool are in, by the label topology.kubernetes.io/zone of machines. Never
    /// changes. Without it the nodes are spread over all zones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"), length(min = 1, max = 63))]
    pub zone: Option<String>,
    /// What a node asks of its machine, and may use at most.
    #[serde(default = "resources")]
    pub resources: ResourceRequirements,
    /// Where a node keeps its data.
    #[serde(default)]
    pub storage: Storage,

    /// Labels that a machine must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Further wishes for where pods run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Taints of machines that do not keep the pods away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub tolerations: Vec<Toleration>,
    /// How pods are spread. Left out, all nodes of the cluster are spread over zones and machines, as evenly as the
    /// scheduler can without leaving a pod unscheduled. Given, it takes the place of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
    /// The PriorityClass of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// Further labels of the pods. Those of app.kubernetes.io and kv.trilith.dev are the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 32,
        "x-kubernetes-validations" = [{
            "rule": "self.all(k, !k.startsWith('app.kubernetes.io/') && !k.startsWith('kv.trilith.dev/'))",
            "message": "labels of app.kubernetes.io/ and kv.trilith.dev/ are set by the operator",
        }],
    ))]
    pub pod_labels: BTreeMap<String, String>,
    /// Further annotations of the pods. Those of kv.trilith.dev are the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 32,
        "x-kubernetes-validations" = [{
            "rule": "self.all(k, !k.startsWith('kv.trilith.dev/'))",
            "message": "annotations of kv.trilith.dev/ are set by the operator",
        }],
    ))]
    pub pod_annotations: BTreeMap<String, String>,
    /// Further environment variables. Settings of the node belong into the cluster's config.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["name"],
            "x-kubernetes-validations" = [{
                "rule": "self.all(e, !e.name.startsWith('TRILITH_') && e.name != 'POD_NAME')",
                "message": "POD_NAME and TRILITH_* are set by the operator: settings of the node belong into config",
            }],
        )
    )]
    pub env: Vec<EnvVar>,
}

impl Pool {
    /// A pool of so many nodes, with all else as the schema's defaults have it.
    pub fn new(name: &str, replicas: i32) -> Self {
        Self {
            name: name.to_owned(),
            replicas,
            zone: None,
            resources: resources(),
            storage: Storage::default(),
            node_selector: BTreeMap::new(),
            affinity: None,
            tolerations: Vec::new(),
            topology_spread_constraints: None,
            priority_class_name: None,
            pod_labels: BTreeMap::new(),
            pod_annotations: BTreeMap::new(),
            env: Vec::new(),
        }
    }
}

/// Where a node keeps its data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",
        "message": "the storage class of a pool never changes: add a pool with the new class, and take this one out once that is ready",
    },
    {
        "rule": "quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0",
        "message": "volumes grow but do not shrink: add a pool with smaller volumes, and take this one out once that is ready",
    },
]))]
pub struct Storage {
    /// How large the volume of each node is. It may grow where the storage class allows, and does not shrink.
    #[serde(default = "size")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "quantity(self).isGreaterThan(quantity('0'))",
        "message": "a node needs some storage",
    }]))]
    pub size: ByteQuantity,
    /// The StorageClass of the volumes. Never changes. Left out: the default class of the Kubernetes cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

impl Default for Storage {
    fn default() -> Self {
        Self { size: size(), storage_class_name: None }
    }
}

fn replicas() -> i32 {
    3
}

fn size() -> ByteQuantity {
    ByteQuantity::new("10Gi")
}

fn resources() -> ResourceRequirements {
    let asked = [("cpu", "100m"), ("memory", "512Mi")];
    ResourceRequirements {
        requests: Some(asked.map(|(what, much)| (what.to_owned(), Quantity(much.to_owned()))).into()),
        ..ResourceRequirements::default()
    }
}
