//! What may be done to a cluster, and when.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::byte_quantity::ByteQuantity;
use crate::switch::Switch;
use crate::time_span::TimeSpan;

/// When a machine fetches an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// Each time a pod starts.
    Always,
    /// When it has none of that name.
    #[default]
    IfNotPresent,
    /// Never: it must be there.
    Never,
}

/// How nodes are restarted when something changes that needs it: one after the other, each only once the one before has
/// caught up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdatePolicy {
    /// Auto restarts nodes that need it; Paused leaves them as they are, also half-way.
    #[serde(default)]
    pub rollout: Rollout,
    /// How long a restarted node may take to be ready. After that the change is taken back for all nodes that come up
    /// anew, and the failed pod is kept to look at.
    #[serde(default = "timeout")]
    pub timeout: TimeSpan,
    /// What to do with a node whose leaders did not move away in time: Wait for ever, or Proceed and let its partitions
    /// elect new ones, which costs them about a second.
    #[serde(default)]
    pub when_leaders_stay: WhenLeadersStay,
    /// Whether a restart may make data unavailable for its length: None, or SingleReplica for tables that have
    /// one replica only. With None a node that holds the only copy of something is not restarted.
    #[serde(default)]
    pub allow_unavailable: Unavailability,
    /// Auto raises the cluster version, which is what nodes write and say to each other, once every node runs a program
    /// that supports a newer one. From then on no older program can take part. Keep leaves it as it is, so that the way
    /// back stays open.
    #[serde(default)]
    pub cluster_version: ClusterVersion,
}

impl Default for UpdatePolicy {
    fn default() -> Self {
        Self {
            rollout: Rollout::default(),
            timeout: timeout(),
            when_leaders_stay: WhenLeadersStay::default(),
            allow_unavailable: Unavailability::default(),
            cluster_version: ClusterVersion::default(),
        }
    }
}

/// Whether nodes are restarted for a change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Rollout {
    /// They are.
    #[default]
    Auto,
    /// Not now.
    Paused,
}

/// What to do with leaders that do not move.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WhenLeadersStay {
    /// Wait until they have.
    #[default]
    Wait,
    /// Restart the node all the same, where its partitions keep a quorum.
    Proceed,
}

/// What a restart may make unavailable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Unavailability {
    /// Nothing.
    #[default]
    None,
    /// Partitions with one replica.
    SingleReplica,
}

/// Who raises the cluster version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClusterVersion {
    /// The operator, as soon as it can be.
    #[default]
    Auto,
    /// Nobody but `trilith cluster version --raise`.
    Keep,
}

/// How replicas and leaders are spread when nodes come and go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rebalance {
    /// Auto makes the planned moves; Manual shows the plan in the status and waits for the annotation
    /// kv.trilith.dev/approved-plan with its id; Disabled plans nothing.
    #[serde(default)]
    pub mode: RebalanceMode,
    /// How many moves may be under way at once.
    #[serde(default = "concurrent_moves")]
    #[schemars(range(min = 1, max = 64))]
    pub concurrent_moves: i32,
    /// How fast each node sends copies of partitions to others, in bytes per second. 0: as fast as it can.
    #[serde(default = "bytes_per_second")]
    pub bytes_per_second: ByteQuantity,
}

impl Default for Rebalance {
    fn default() -> Self {
        Self {
            mode: RebalanceMode::default(),
            concurrent_moves: concurrent_moves(),
            bytes_per_second: bytes_per_second(),
        }
    }
}

/// Who decides on moves. There is no `Off`, because YAML takes a bare one for a boolean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RebalanceMode {
    /// The operator.
    #[default]
    Auto,
    /// A person, who approves a plan.
    Manual,
    /// Nobody.
    Disabled,
}

/// How the replicas of a lost node are rebuilt on others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Repair {
    /// Enabled rebuilds them, as long as one failure is unexplained and not several; Disabled leaves it to people.
    #[serde(default = "Switch::on")]
    pub mode: Switch,
    /// How long a node must be gone before that begins.
    #[serde(default = "repair_delay")]
    pub delay: TimeSpan,
}

impl Default for Repair {
    fn default() -> Self {
        Self { mode: Switch::Enabled, delay: repair_delay() }
    }
}

/// What becomes of the claims of nodes that go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimRetention {
    /// Of nodes that were emptied and removed: Retain or Delete.
    #[serde(default)]
    pub when_scaled: Retention,
    /// Of all nodes when the KVCluster is deleted: Retain, so that a KVCluster of the same name finds its data again, or
    /// Delete.
    #[serde(default)]
    pub when_deleted: Retention,
}

/// What becomes of data that nothing refers to any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Retention {
    /// It is kept.
    #[default]
    Retain,
    /// It is deleted.
    Delete,
}

/// How metrics are collected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Monitoring {
    /// Whether there is a ServiceMonitor for the Prometheus operator, once its kind exists.
    #[serde(default)]
    pub service_monitor: Switch,
    /// How often metrics are collected.
    #[serde(default = "scrape_interval")]
    pub interval: TimeSpan,
    /// Labels of the ServiceMonitor, by which a Prometheus chooses it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,
}

impl Default for Monitoring {
    fn default() -> Self {
        Self { service_monitor: Switch::Disabled, interval: scrape_interval(), labels: BTreeMap::new() }
    }
}

/// Who may connect.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkAccess {
    /// Enabled lets only nodes, the operator and those named in clients connect, where the network enforces it.
    #[serde(default)]
    pub mode: Switch,
    /// Who may use the doors. Left out: all pods of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub clients: Option<Vec<NetworkPolicyPeer>>,
}

/// As whom the pods run. They ask nothing of the API server, and get no token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!(has(self.name) && has(self.annotations))",
    "message": "a ServiceAccount that exists keeps its own annotations: give its name, or annotations for one that is made",
}]))]
pub struct ServiceAccount {
    /// A ServiceAccount that exists. Left out, one is made and named as the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
    /// Annotations of the one that is made.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
}

fn timeout() -> TimeSpan {
    TimeSpan::new("10m")
}

fn concurrent_moves() -> i32 {
    2
}

fn bytes_per_second() -> ByteQuantity {
    ByteQuantity::new("100Mi")
}

fn repair_delay() -> TimeSpan {
    TimeSpan::new("10m")
}

fn scrape_interval() -> TimeSpan {
    TimeSpan::new("30s")
}
