//! What the `CLUSTER_…` commands answer.

use proto::v1::{NodeEntry, NodeState, NodeStatus, StatusResponse};
use uuid::Uuid;

use super::answer::{NOT_FOUND, count, found, put_line};

/// `CLUSTER_STATUS`: `OK|n`, then n lines `name|value`.
pub fn status(status: &StatusResponse) -> Vec<u8> {
    let alive = status.nodes.iter().filter(|node| node.alive).count();
    let leader = leader_of(status).map(|entry| entry.name.clone()).unwrap_or_default();
    let lines = [
        ("cluster", id(&status.cluster)),
        ("leader", leader),
        ("nodes", status.nodes.len().to_string()),
        ("nodes_alive", alive.to_string()),
        ("tables", status.tables.to_string()),
        ("partitions", status.partitions.to_string()),
        ("partitions_without_leader", status.partitions_without_leader.to_string()),
        ("partitions_under_replicated", status.partitions_under_replicated.to_string()),
        ("moves_under_way", status.moves_under_way.to_string()),
        ("summary", status.summary.clone()),
    ];
    let mut out = count(lines.len());
    for (name, value) in lines {
        put_line(&mut out, [name.as_bytes(), value.as_bytes()]);
    }
    out
}

/// `CLUSTER_NODES`: `OK|n`, then n lines `name|alive or silent|state|gRPC address|text address|id`.
pub fn nodes(status: &StatusResponse) -> Vec<u8> {
    let mut out = count(status.nodes.len());
    for NodeStatus { entry, alive, .. } in &status.nodes {
        let entry = entry.clone().unwrap_or_default();
        let addresses = entry.addresses.clone().unwrap_or_default();
        let alive: &[u8] = if *alive { b"alive" } else { b"silent" };
        let node = id(&entry.node);
        put_line(
            &mut out,
            [
                entry.name.as_bytes(),
                alive,
                state(&entry).as_bytes(),
                addresses.grpc.as_bytes(),
                addresses.text.as_bytes(),
                node.as_bytes(),
            ],
        );
    }
    out
}

/// `CLUSTER_LEADER`: `OK|name|gRPC address` of the node that leads the cluster's own records.
pub fn leader(status: &StatusResponse) -> Vec<u8> {
    match leader_of(status) {
        Some(entry) => {
            let grpc = entry.addresses.as_ref().map_or("", |addresses| addresses.grpc.as_str());
            found([entry.name.as_bytes(), grpc.as_bytes()])
        }
        None => NOT_FOUND.to_vec(),
    }
}

fn leader_of(status: &StatusResponse) -> Option<&NodeEntry> {
    let mut entries = status.nodes.iter().filter_map(|node| node.entry.as_ref());
    entries.find(|entry| !entry.node.is_empty() && entry.node == status.meta_leader)
}

fn state(entry: &NodeEntry) -> &'static str {
    match entry.state() {
        NodeState::Serving => "serving",
        NodeState::Draining => "draining",
        NodeState::Drained => "drained",
        NodeState::Removed => "removed",
    }
}

fn id(bytes: &[u8]) -> String {
    Uuid::from_slice(bytes).map(|id| id.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proto::v1::Addresses;

    use super::*;

    #[test]
    fn the_cluster_is_told_in_lines() {
        let addresses = Addresses { grpc: "h:7400".into(), text: "h:7403".into(), ..Addresses::default() };
        let entry = NodeEntry {
            node: vec![1; 16].into(),
            name: "node-1".into(),
            addresses: Some(addresses),
            ..NodeEntry::default()
        };
        let node = NodeStatus { entry: Some(entry), alive: true, ..NodeStatus::default() };
        let of = StatusResponse {
            meta_leader: vec![1; 16].into(),
            nodes: vec![node, NodeStatus::default()],
            partitions: 8,
            ..StatusResponse::default()
        };
        let text = |bytes| String::from_utf8(bytes).unwrap();
        assert_eq!(text(leader(&of)), "OK|node-1|h:7400\n");
        assert_eq!(leader(&StatusResponse::default()), NOT_FOUND);
        let uuid = "01010101-0101-0101-0101-010101010101";
        let serving = format!("OK|2\nnode-1|alive|serving|h:7400|h:7403|{uuid}\n|silent|serving|||\n");
        assert_eq!(text(nodes(&of)), serving);
        let status = text(status(&of));
        assert!(status.starts_with("OK|10\n") && status.contains("\nleader|node-1\n"), "{status}");
        assert_eq!(status.lines().count(), 11);
    }
}
