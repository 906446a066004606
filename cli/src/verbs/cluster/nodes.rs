//! How nodes, and the cluster as a whole, are shown.

use proto::v1::{NodeEntry, NodeState, NodeStatus, StatusResponse};
use serde_json::{Value, json};

use crate::columns::{Columns, bad, good};
use crate::duration::show_ms;
use crate::json::id;
use crate::quantity::show_bytes;

/// The nodes for people.
pub fn node_columns(nodes: &[NodeStatus]) -> Columns {
    let mut columns = Columns::new([
        "NAME",
        "STATE",
        "HEARD",
        "META",
        "REPLICAS",
        "LEADERS",
        "DISK USED",
        "DISK FREE",
        "MEMORY",
        "UPTIME",
        "ADDRESS",
        "ZONE",
        "ID",
    ]);
    for node in nodes {
        let (entry, load) = (node.entry.clone().unwrap_or_default(), node.load.unwrap_or_default());
        let heard =
            if node.alive { good("alive") } else { bad(&format!("{} ago", show_ms(node.last_heard_ms_ago))) };
        let full = if load.disk_nearly_full { bad(" (nearly full)") } else { String::new() };
        columns.row([
            entry.name.clone(),
            state(&entry).to_owned(),
            heard,
            if node.holds_meta { "yes" } else { "" }.to_owned(),
            load.replicas.to_string(),
            load.leaders.to_string(),
            show_bytes(load.disk_used_bytes),
            format!("{}{full}", show_bytes(load.disk_free_bytes)),
            show_bytes(load.memory_bytes),
            show_ms(load.uptime_ms),
            entry.addresses.clone().unwrap_or_default().grpc,
            entry.zone.clone(),
            id(&entry.node),
        ]);
    }
    columns
}

/// A node for programs.
pub fn node_json(node: &NodeStatus) -> Value {
    let (entry, load) = (node.entry.clone().unwrap_or_default(), node.load.unwrap_or_default());
    let addresses = entry.addresses.clone().unwrap_or_default();
    json!({
        "node": id(&entry.node),
        "name": entry.name,
        "state": state(&entry),
        "alive": node.alive,
        "last_heard_ms_ago": node.last_heard_ms_ago,
        "holds_meta": node.holds_meta,
        "addresses": {"grpc": addresses.grpc, "peer": addresses.peer, "http": addresses.http},
        "zone": entry.zone,
        "host": entry.host,
        "supports_version": entry.supports_version,
        "replicas": load.replicas,
        "leaders": load.leaders,
        "disk_used_bytes": load.disk_used_bytes,
        "disk_free_bytes": load.disk_free_bytes,
        "disk_total_bytes": load.disk_total_bytes,
        "disk_nearly_full": load.disk_nearly_full,
        "memory_bytes": load.memory_bytes,
        "uptime_ms": load.uptime_ms,
    })
}

/// The cluster for people.
pub fn status_text(status: &StatusResponse) -> String {
    if status.cluster.is_empty() {
        return "this node belongs to no cluster yet: `trilith cluster init` creates one, \
                `trilith cluster join HOST:PORT` joins one"
            .to_owned();
    }
    let leader = name_of(&status.meta_leader, &status.nodes).unwrap_or_else(|| "none".to_owned());
    let trouble = match (status.partitions_without_leader, status.partitions_under_replicated) {
        (0, 0) => good("all healthy"),
        (headless, thin) => bad(&format!("{headless} without leader, {thin} with too few live replicas")),
    };
    let mut lines = vec![
        format!("cluster     {}", id(&status.cluster)),
        format!("version     {} (active cluster version {})", status.version, status.cluster_version),
        format!("leader      {leader}"),
        format!("tables      {}", status.tables),
        format!("partitions  {}: {trouble}", status.partitions),
        format!(
            "moves       {} under way{}",
            status.moves_under_way,
            if status.balanced { ", balanced" } else { "" }
        ),
    ];
    if !status.unhealthy_partitions.is_empty() {
        let list: Vec<_> = status.unhealthy_partitions.iter().map(ToString::to_string).collect();
        lines.push(format!("unhealthy   {}", list.join(", ")));
    }
    if !status.summary.is_empty() {
        lines.push(format!("summary     {}", status.summary));
    }
    format!("{}\n\n{}", lines.join("\n"), node_columns(&status.nodes))
}

/// The cluster for programs.
pub fn status_json(status: &StatusResponse) -> Value {
    json!({
        "cluster": id(&status.cluster),
        "this_node": id(&status.this_node),
        "version": status.version,
        "cluster_version": status.cluster_version,
        "map_revision": status.map_revision,
        "meta_leader": id(&status.meta_leader),
        "tables": status.tables,
        "partitions": status.partitions,
        "partitions_without_leader": status.partitions_without_leader,
        "partitions_under_replicated": status.partitions_under_replicated,
        "unhealthy_partitions": status.unhealthy_partitions,
        "moves_under_way": status.moves_under_way,
        "balanced": status.balanced,
        "summary": status.summary,
        "nodes": status.nodes.iter().map(node_json).collect::<Vec<_>>(),
    })
}

/// What a node's state is called.
pub fn state(entry: &NodeEntry) -> &'static str {
    match entry.state() {
        NodeState::Serving => "serving",
        NodeState::Draining => "draining",
        NodeState::Drained => "drained",
        NodeState::Removed => "removed",
    }
}

fn name_of(node: &[u8], nodes: &[NodeStatus]) -> Option<String> {
    let entries = nodes.iter().filter_map(|status| status.entry.as_ref());
    entries.into_iter().find(|entry| entry.node == node).map(|entry| entry.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_a_cluster_says_what_to_do() {
        assert!(status_text(&StatusResponse::default()).contains("trilith cluster init"));
    }

    #[test]
    fn trouble_is_named() {
        let node = NodeEntry { node: vec![1; 16].into(), name: "node-1".into(), ..NodeEntry::default() };
        let status = StatusResponse {
            cluster: vec![2; 16].into(),
            meta_leader: vec![1; 16].into(),
            nodes: vec![NodeStatus { entry: Some(node), last_heard_ms_ago: 61_000, ..NodeStatus::default() }],
            partitions: 8,
            partitions_without_leader: 2,
            unhealthy_partitions: vec![3, 5],
            ..StatusResponse::default()
        };
        let text = status_text(&status);
        for part in ["leader      node-1", "2 without leader", "unhealthy   3, 5", "1m1s ago"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }
}
