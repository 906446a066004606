//! How a cluster is. Nothing here is the only copy of anything: all of it can be found out again.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::engine::Engine;

/// The most partitions that a status names.
pub const MOST_UNHEALTHY: usize = 32;
/// The most moves that a status names.
pub const MOST_MOVES: usize = 20;

/// How a cluster is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct KVClusterStatus {
    /// The generation of the spec that this speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Available, Progressing, Degraded and Balanced, each with why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
    /// What is under way or wrong, in a few words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The id of the cluster, on all its claims.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// The image that nodes are to run. Where the spec leaves it open it was resolved once, so that a newer operator
    /// restarts nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The version that all nodes run, or the oldest of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The version of what nodes write and say to each other; `spec.updates.clusterVersion` decides when it is raised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_version: Option<i64>,
    /// How nodes use memory and disk, once all of them run so. Left out where it is as by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
    /// Nodes that are ready, of those that are declared, such as 3/3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_nodes: Option<String>,
    /// The node that leads the meta group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta_leader: Option<String>,
    /// The pools, also those that are being emptied and no longer declared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub pools: Vec<PoolStatus>,
    /// The nodes, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 200),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub nodes: Vec<NodeStatus>,
    /// The partitions of all tables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<Partitions>,
    /// The one thing that is being done to the cluster as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// The plan that would balance the cluster, where it waits to be approved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proposed_plan: Option<ProposedPlan>,
    /// A change that was taken back, because a node did not become ready with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<RolledBack>,
    /// When the figures that always move (leaders, replicas, bytes) were read. They are refreshed at most once a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub figures_at: Option<Time>,
}

/// How a pool is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolStatus {
    /// Its name.
    pub name: String,
    /// How many nodes are declared; 0 for a pool that was taken out of the spec.
    pub declared: i32,
    /// How many there are.
    pub replicas: i32,
    /// How many are ready.
    pub ready: i32,
    /// How many run with what is declared now.
    pub updated: i32,
}

/// How a node is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// The name of its pod.
    pub name: String,
    /// Its identity, which is never used again once it was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The pool that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Where it stands in its life.
    pub state: NodeState,
    /// The zone of its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The version that it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How many partitions it leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaders: Option<i64>,
    /// How many replicas it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i64>,
    /// How many bytes of its disk it uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_used_bytes: Option<i64>,
    /// How many bytes its disk has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_total_bytes: Option<i64>,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// Where a node stands in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NodeState {
    /// It has not joined yet.
    Joining,
    /// It has joined and is used.
    Serving,
    /// It is being emptied.
    Draining,
    /// It is empty, as the data plane says, and may go.
    Drained,
    /// Its identity was removed.
    Removed,
    /// It was there and does not answer.
    Lost,
    /// It cannot be told. This is never taken for empty.
    #[default]
    Unknown,
}

/// How the partitions are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Partitions {
    /// How many there are.
    pub total: i64,
    /// How many have no leader, and so serve nothing but stale reads.
    pub without_leader: i64,
    /// How many have fewer live replicas than declared.
    pub under_replicated: i64,
    /// The first of those that are not well, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub unhealthy: Vec<i64>,
}

/// What is being done to the cluster as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// What kind of thing.
    pub kind: OperationKind,
    /// The step that is being taken, or what it waits for.
    pub step: String,
    /// The node that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How many moves are done.
    pub moves_done: i64,
    /// How many moves are left.
    pub moves_left: i64,
    /// Moves that are under way or next, at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "atomic"))]
    pub moves: Vec<String>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
}

/// Kinds of operations. One is under way at a time, and those above come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum OperationKind {
    /// The cluster is being made.
    Create,
    /// Replicas of a lost node are being rebuilt.
    Repair,
    /// Nodes are being emptied and taken away.
    ScaleDown,
    /// Nodes are being added.
    ScaleUp,
    /// Nodes restart for a change.
    Roll,
    /// Replicas and leaders are being spread.
    Rebalance,
    /// The pods are being stopped, the claims kept.
    Hibernate,
    /// Everything is going.
    Delete,
}

/// A plan that waits to be approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProposedPlan {
    /// What to write into the annotation kv.trilith.dev/approved-plan. Another plan has another id.
    pub id: String,
    /// How many moves it has.
    pub total_moves: i64,
    /// The first of them, at most 20.
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "atomic"))]
    pub moves: Vec<String>,
}

/// A change that was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolledBack {
    /// The generation of the spec that did not work.
    pub generation: i64,
    /// The hash of its inputs.
    pub inputs_hash: String,
    /// The pod that did not become ready; it is kept to look at.
    pub pod: String,
    /// What was wrong with it.
    pub message: String,
}
