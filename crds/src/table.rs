//! `KVTable`: a table of a cluster.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cluster::policies::Retention;
use crate::time_span::TimeSpan;

pub mod history;
pub mod index;
pub mod splitting;
pub mod status;
pub mod values;

pub use history::{History, Keep};
pub use index::{Index, IndexType};
pub use splitting::Splitting;
pub use status::KVTableStatus;
pub use values::{Demand, Values};

/// What a table should be.
#[derive(Debug, Clone, PartialEq, Eq, CustomResource, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kv.trilith.dev",
    version = "v1alpha1",
    kind = "KVTable",
    namespaced,
    status = "KVTableStatus",
    derive = "PartialEq",
    shortname = "kvt",
    category = "all",
    category = "trilith",
    doc = "A table of keys and values in a KVCluster of the same namespace, split into partitions that are each kept on several nodes.",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.cluster"),
    printcolumn(name = "Partitions", type_ = "integer", json_path = ".spec.partitions"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(
        name = "Keys",
        type_ = "integer",
        json_path = ".status.keys",
        description = "About how many keys it has."
    ),
    printcolumn(
        name = "Size",
        type_ = "string",
        json_path = ".status.size",
        description = "About how much it holds, counted once."
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "self.partitions <= self.buckets",
        "message": "a table has at most as many partitions as buckets: each partition owns whole buckets",
    },
    {
        "rule": "has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)",
        "message": "the name of a table never changes: make another KVTable",
    },
]))]
pub struct KVTableSpec {
    /// The KVCluster that keeps the table, in the same namespace. Never changes.
    #[schemars(
        regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"),
        length(min = 1, max = 43),
        extend("x-kubernetes-validations" = [{
            "rule": "self == oldSelf",
            "message": "a table never moves to another cluster: make another KVTable there",
        }])
    )]
    pub cluster: String,
    /// What clients call the table. Left out: as this resource. Never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"), length(min = 1, max = 128))]
    pub name: Option<String>,
    /// Into how many partitions the table is split, each with a leader of its own.
    #[serde(default = "partitions")]
    #[schemars(range(min = 1, max = 1024))]
    pub partitions: i32,
    /// Into how many buckets the keys fall: a power of two. It bounds how far the table can ever be split. Never changes.
    #[serde(default = "buckets")]
    #[schemars(extend(
        "enum" = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024],
        "x-kubernetes-validations" = [{
            "rule": "self == oldSelf",
            "message": "the buckets of a table never change, because its keys are stored by them: make another table and copy",
        }],
    ))]
    pub buckets: i32,
    /// On how many nodes each partition is kept: 1, 3, 5 or 7. With 3, one of them can fail; with 5, two can.
    #[serde(default = "replicas")]
    #[schemars(extend("enum" = [1, 3, 5, 7]))]
    pub replicas: i32,
    /// How long items live that say nothing else, such as 24h. Left out: until they are deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_ttl: Option<TimeSpan>,
    /// How long the table keeps its changes for those who watch it.
    #[serde(default)]
    pub history: History,
    /// What the table demands of values.
    #[serde(default)]
    pub values: Values,
    /// A read gives an item that has an end at least this long, such as 30m. Left out: it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub touch_on_read: Option<TimeSpan>,
    /// What items can be found by besides their key, where they are JSON. One that is added is built while the table is
    /// in use; status says how far it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub indexes: Vec<Index>,
    /// When partitions are split by themselves. There may then be more of them than `partitions` says.
    #[serde(default)]
    pub split: Splitting,
    /// What becomes of the table when this resource is deleted: Retain or Delete.
    #[serde(default)]
    pub deletion_policy: Retention,
}

impl KVTableSpec {
    /// A table of a cluster, with all else as the schema's defaults have it.
    pub fn of_cluster(cluster: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            name: None,
            partitions: partitions(),
            buckets: buckets(),
            replicas: replicas(),
            default_ttl: None,
            history: History::default(),
            values: Values::default(),
            touch_on_read: None,
            indexes: Vec::new(),
            split: Splitting::default(),
            deletion_policy: Retention::Retain,
        }
    }
}

impl KVTable {
    /// What clients call the table.
    pub fn table_name(&self) -> &str {
        let own = self.metadata.name.as_deref().unwrap_or_default();
        self.spec.name.as_deref().unwrap_or(own)
    }
}

fn partitions() -> i32 {
    8
}

fn buckets() -> i32 {
    64
}

fn replicas() -> i32 {
    3
}
