//! How a table is.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a table is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct KVTableStatus {
    /// The generation of the spec that this speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Progressing and Degraded, each with why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
    /// What clients call the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The id of the table in its cluster, which is never used again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table_id: Option<i64>,
    /// How many partitions there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i64>,
    /// How many of them have a leader and all their replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy_partitions: Option<i64>,
    /// The first of those that are not well, at most 32.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"])
    )]
    pub unhealthy_partitions: Vec<UnhealthyPartition>,
    /// How long it keeps its changes, and how much of them in each partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<String>,
    /// How far the table is with each of its indexes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub indexes: Vec<IndexStatus>,
    /// About how many keys it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<i64>,
    /// About how many bytes it holds, counted once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// The same for people, such as 1.2 GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// When the figures that always move (keys and bytes) were read. They are refreshed at most once a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub figures_at: Option<Time>,
}

/// How far a table is with an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IndexStatus {
    /// What queries call it.
    pub name: String,
    /// Building, Ready or Failed.
    pub state: IndexState,
    /// How much of it is built.
    #[schemars(range(min = 0, max = 100))]
    pub percent: i32,
    /// Why it could not be built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Whether an index can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IndexState {
    /// Not yet: what was there before it is still read.
    Building,
    /// It can.
    Ready,
    /// It never will: something that was there before cannot be in it.
    Failed,
}

/// A partition that is not well.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnhealthyPartition {
    /// Its id.
    pub id: i64,
    /// The node that leads it, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// How many of its replicas live.
    pub live_replicas: i32,
    /// What is wrong with it.
    pub trouble: String,
}
