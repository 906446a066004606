//! How applications come in.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::switch::Switch;

/// The doors that nodes open beside gRPC (7400) and HTTP (7402), which are always open, and the Service that leads to
/// all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Doors {
    /// Whether Redis clients may come in, at port 6379. Any node answers for any key.
    #[serde(default)]
    pub redis: Switch,
    /// Whether Redis clients in cluster mode may come in, at port 6380. They are sent to the node that leads a key's
    /// partition, and see the table default only.
    #[serde(default)]
    pub redis_cluster: Switch,
    /// Whether lines of text are understood, at port 7403.
    #[serde(default)]
    pub text: Switch,
    /// The Service that applications connect to. It is named as the cluster.
    #[serde(default)]
    pub service: Service,
}

/// The Service that applications connect to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Who reaches it: ClusterIP, NodePort or LoadBalancer.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,
    /// Annotations, such as those that tell a cloud what kind of load balancer is wanted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
    /// Which load balancer implementation serves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub load_balancer_class: Option<String>,
    /// The networks from which a load balancer lets clients in, such as 10.0.0.0/8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub load_balancer_source_ranges: Vec<String>,
    /// Cluster spreads what comes from outside over all nodes, Local keeps it on the machine it came to and shows
    /// the client's address. Only for NodePort and LoadBalancer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
}

/// Who reaches a Service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Whoever is in the Kubernetes cluster.
    #[default]
    ClusterIP,
    /// Also whoever reaches a machine of it.
    NodePort,
    /// Also whoever reaches the load balancer made for it.
    LoadBalancer,
}

/// What becomes of traffic from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExternalTrafficPolicy {
    /// It goes to any node.
    Cluster,
    /// It stays on the machine that it came to.
    Local,
}
