//! `trilith cluster version`: what nodes may write and say to each other.

use clap::Args;
use proto::v1::{NodeState, NodeStatus, SetClusterVersionRequest, StatusRequest, StatusResponse};
use serde_json::{Value, json};

use crate::arguments::Global;
use crate::columns::Columns;
use crate::exit::Exit;
use crate::output::Output;

/// The cluster version, or to raise it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trilith cluster version
  trilith cluster version --raise      once every node runs the new program; there is no way back")]
pub struct Version {
    /// Raise it to the newest that every node supports. Older programs cannot take part from then on.
    #[arg(long)]
    raise: bool,
}

impl Version {
    /// Does it.
    pub async fn run(self, global: &Global, out: &mut Output) -> anyhow::Result<Exit> {
        let admin = global.connect().await?.admin();
        let mut status = admin.status(StatusRequest {}).await?;
        let supported = supported_by_all(&status.nodes);
        if self.raise && supported > status.cluster_version {
            admin.set_cluster_version(SetClusterVersionRequest { version: supported }).await?;
            status.cluster_version = supported;
        }
        out.show(|| text(&status, supported), || object(&status, supported))?;
        Ok(Exit::Done)
    }
}

/// The newest cluster version that every node supports.
pub fn supported_by_all(nodes: &[NodeStatus]) -> u32 {
    members(nodes).map(|(_, version)| version).min().unwrap_or(0)
}

fn members(nodes: &[NodeStatus]) -> impl Iterator<Item = (&str, u32)> {
    let entries = nodes.iter().filter_map(|node| node.entry.as_ref());
    let members = entries.filter(|entry| entry.state() != NodeState::Removed);
    members.map(|entry| (entry.name.as_str(), entry.supports_version))
}

fn text(status: &StatusResponse, supported: u32) -> String {
    let mut columns = Columns::new(["NODE", "SUPPORTS"]);
    for (name, version) in members(&status.nodes) {
        columns.row([name.to_owned(), version.to_string()]);
    }
    let active = status.cluster_version;
    let next = match supported > active {
        true => format!("every node supports {supported}: `trilith cluster version --raise`"),
        false => "no newer one is supported by every node".to_owned(),
    };
    format!("cluster version {active}; {next}\n\n{columns}")
}

fn object(status: &StatusResponse, supported: u32) -> Value {
    let nodes = members(&status.nodes).map(|(name, version)| json!({"name": name, "supports": version}));
    json!({
        "cluster_version": status.cluster_version,
        "supported_by_all": supported,
        "nodes": nodes.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use proto::v1::NodeEntry;

    use super::*;

    fn node(name: &str, supports_version: u32, state: NodeState) -> NodeStatus {
        let entry =
            NodeEntry { name: name.into(), supports_version, state: state.into(), ..Default::default() };
        NodeStatus { entry: Some(entry), ..NodeStatus::default() }
    }

    #[test]
    fn the_oldest_program_among_those_that_take_part_decides() {
        let nodes = [
            node("a", 3, NodeState::Serving),
            node("b", 2, NodeState::Draining),
            node("gone", 1, NodeState::Removed),
        ];
        assert_eq!(supported_by_all(&nodes), 2);
        let status = StatusResponse { cluster_version: 1, nodes: nodes.to_vec(), ..Default::default() };
        assert!(text(&status, 2).starts_with("cluster version 1; every node supports 2: "));
        assert!(!text(&status, 2).contains("gone"));
        assert!(text(&status, 1).contains("no newer one"));
    }
}
