//! How partitions are shown.

use proto::v1::{NodeEntry, PartitionStatus, ReplicaRole};
use serde_json::{Value, json};

use crate::columns::Columns;
use crate::json::id;
use crate::quantity::show_bytes;

/// Partitions for people, with the names of the nodes that hold them.
pub fn partition_columns(partitions: &[PartitionStatus], nodes: &[NodeEntry]) -> Columns {
    let name = |node: &[u8]| {
        let entry = nodes.iter().find(|entry| entry.node == node);
        entry.map_or_else(|| id(node), |entry| entry.name.clone())
    };
    let mut columns =
        Columns::new(["PARTITION", "TABLE", "BUCKETS", "LEADER", "REPLICAS", "SIZE", "APPLIED", "TROUBLE"]);
    for partition in partitions {
        let entry = partition.entry.clone().unwrap_or_default();
        let replica = |replica: &proto::v1::ReplicaEntry| match replica.role() {
            ReplicaRole::Voter => name(&replica.node),
            ReplicaRole::Learner => format!("{}(learner)", name(&replica.node)),
        };
        let replicas: Vec<_> = entry.replicas.iter().map(replica).collect();
        columns.row([
            entry.partition.to_string(),
            partition.table_name.clone(),
            format!("{}-{}", entry.first_bucket, entry.last_bucket),
            if entry.leader.is_empty() { "none".to_owned() } else { name(&entry.leader) },
            replicas.join(","),
            show_bytes(partition.approximate_bytes),
            partition.applied_index.to_string(),
            partition.trouble.clone(),
        ]);
    }
    columns
}

/// A partition for programs.
pub fn partition_json(partition: &PartitionStatus) -> Value {
    let entry = partition.entry.clone().unwrap_or_default();
    let replica = |replica: &proto::v1::ReplicaEntry| {
        let role = match replica.role() {
            ReplicaRole::Voter => "voter",
            ReplicaRole::Learner => "learner",
        };
        json!({"replica": replica.replica, "node": id(&replica.node), "role": role})
    };
    json!({
        "partition": entry.partition,
        "table": partition.table_name,
        "first_bucket": entry.first_bucket,
        "last_bucket": entry.last_bucket,
        "epoch": entry.epoch,
        "leader": id(&entry.leader),
        "replicas": entry.replicas.iter().map(replica).collect::<Vec<_>>(),
        "approximate_bytes": partition.approximate_bytes,
        "applied_index": partition.applied_index,
        "expired_keys": partition.expired_keys,
        "trouble": partition.trouble,
    })
}
