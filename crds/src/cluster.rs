//! `KVCluster`: a cluster of storage nodes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::LocalObjectReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::switch::Switch;

pub mod doors;
pub mod engine;
pub mod policies;
pub mod pool;
pub mod status;

pub use doors::{Doors, ExternalTrafficPolicy, Service, ServiceType};
pub use engine::{Compression, Engine};
pub use policies::{
    ClaimRetention, ClusterVersion, ImagePullPolicy, Monitoring, NetworkAccess, Rebalance, RebalanceMode,
    Repair, Retention, Rollout, ServiceAccount, Unavailability, UpdatePolicy, WhenLeadersStay,
};
pub use pool::{Pool, Storage};
pub use status::KVClusterStatus;

/// The longest name of a cluster. Names of everything it owns begin with it.
pub const LONGEST_CLUSTER_NAME: usize = 43;
/// The longest name of a cluster and of one of its pools together. Pods are named for both and
/// their ordinal, and labels that Kubernetes derives from that end at 63 characters.
pub const LONGEST_NAMES: usize = 45;
/// The most nodes of one cluster.
pub const MOST_NODES: i32 = 100;
/// What the name of the Service that gives each node its DNS name ends with. No cluster may be
/// called so, because it would be the Service of another's clients.
pub const NODES_SUFFIX: &str = "-nodes";

/// What a cluster should be.
#[derive(Debug, Clone, PartialEq, CustomResource, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kv.trilith.dev",
    version = "v1alpha1",
    kind = "KVCluster",
    namespaced,
    status = "KVClusterStatus",
    derive = "PartialEq",
    shortname = "kvc",
    category = "all",
    category = "trilith",
    doc = "A cluster of storage nodes that keep tables of keys and values, each partition of a table on several of them.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.readyNodes",
        description = "Nodes that are ready, of those that are declared."
    ),
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".status.version",
        description = "The version that all nodes run, or the oldest of several."
    ),
    printcolumn(
        name = "Balanced",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Balanced")].status"#,
        description = "Whether replicas and leaders are spread evenly."
    ),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.summary",
        description = "What is under way or wrong."
    ),
    printcolumn(
        name = "Image",
        type_ = "string",
        json_path = ".status.image",
        description = "The image of the nodes.",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!(has(self.image) && has(self.version))",
        "message": "give image or version, not both: version picks a tag of the operator's own image, image replaces all of it",
    },
    {
        "rule": "!has(self.config) || !(has(self.engine.memory) && 'memory' in self.config) && !(has(self.engine.blockCache) && 'block_cache_bytes' in self.config) && !(self.engine.compression != 'Lz4' && 'compression' in self.config) && !(self.engine.bloomBits != 10 && 'bloom_bits' in self.config) && !(self.engine.memoryMappedReads != 'Disabled' && 'memory_mapped_reads' in self.config) && !(self.engine.backgroundBytesPerSecond != '0' && 'background_bytes_per_second' in self.config)",
        "message": "a setting is in engine or in config, not in both: take it out of config",
    },
]))]
pub struct KVClusterSpec {
    /// The version to run: a tag of the image that the operator was installed with. With neither
    /// version nor image, the operator's default when the cluster was created stays in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"), length(max = 128))]
    pub version: Option<String>,
    /// The image to run, in place of a version: registry, repository and tag or digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[^\s]+$"), length(min = 1, max = 512))]
    pub image: Option<String>,
    /// When a machine fetches the image: Always, IfNotPresent or Never.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,
    /// Secrets of this namespace with which images are fetched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub image_pull_secrets: Vec<LocalObjectReference>,

    /// The storage nodes, by pools of nodes that are alike. A pool that is taken out of this list is
    /// emptied first, then its pods go.
    #[schemars(
        length(min = 1, max = 16),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["name"],
            "x-kubernetes-validations" = [
                {
                    "rule": "self.exists(p, p.replicas > 0)",
                    "message": "at least one pool needs a replica, or there is no quorum; to stop all pods and keep the data, set hibernate: Enabled",
                },
                {
                    "rule": "self.map(p, p.replicas).sum() <= 100",
                    "message": "all pools together have at most 100 replicas",
                },
            ],
        )
    )]
    pub pools: Vec<Pool>,

    /// How applications come in.
    #[serde(default)]
    pub doors: Doors,
    /// How nodes use memory and disk.
    #[serde(default)]
    pub engine: Engine,
    /// Further settings of the storage nodes by their names, such as max_value_bytes: 1MiB. A change of one
    /// that a node cannot take while it runs restarts the nodes one after the other.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 64,
        "x-kubernetes-validations" = [{
            "rule": "self.all(k, !(k in ['data', 'name', 'zone', 'host', 'join', 'port_offset', 'exit_with_parent', 'snapshot_bytes_per_second']) && !k.startsWith('listen_') && !k.startsWith('advertise_'))",
            "message": "data, name, zone, host, join, port_offset, exit_with_parent, listen_* and advertise_* follow from the cluster, snapshot_bytes_per_second from rebalance.bytesPerSecond",
        }],
    ))]
    pub config: BTreeMap<String, IntOrString>,

    /// Whether Kubernetes is kept from evicting more than one node at a time. A cluster of one node never
    /// has a PodDisruptionBudget, because it could not be evicted at all.
    #[serde(default = "Switch::on")]
    pub pod_disruption_budget: Switch,
    /// How nodes are restarted when something changes that needs it.
    #[serde(default)]
    pub updates: UpdatePolicy,
    /// Enabled stops all pods and keeps all claims; Disabled brings everything back. The pools stay as they
    /// are declared.
    #[serde(default)]
    pub hibernate: Switch,
    /// How replicas and leaders are spread when nodes come and go.
    #[serde(default)]
    pub rebalance: Rebalance,
    /// How the replicas of a lost node are rebuilt on others.
    #[serde(default)]
    pub repair: Repair,
    /// What becomes of the claims of nodes that go.
    #[serde(default)]
    pub claim_retention: ClaimRetention,
    /// How metrics are collected.
    #[serde(default)]
    pub monitoring: Monitoring,
    /// Who may connect.
    #[serde(default)]
    pub network_policy: NetworkAccess,
    /// As whom the pods run.
    #[serde(default)]
    pub service_account: ServiceAccount,
}

impl KVClusterSpec {
    /// A cluster of these pools, with all else as the schema's defaults have it.
    pub fn of_pools(pools: Vec<Pool>) -> Self {
        Self {
            version: None,
            image: None,
            image_pull_policy: ImagePullPolicy::default(),
            image_pull_secrets: Vec::new(),
            pools,
            doors: Doors::default(),
            engine: Engine::default(),
            config: BTreeMap::new(),
            pod_disruption_budget: Switch::Enabled,
            updates: UpdatePolicy::default(),
            hibernate: Switch::Disabled,
            rebalance: Rebalance::default(),
            repair: Repair::default(),
            claim_retention: ClaimRetention::default(),
            monitoring: Monitoring::default(),
            network_policy: NetworkAccess::default(),
            service_account: ServiceAccount::default(),
        }
    }
}
