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
