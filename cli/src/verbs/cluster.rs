//! `trilith cluster …`

use anyhow::Context as _;
use clap::{Args, Subcommand};
use proto::v1::{InitRequest, JoinRequest, ListNodesRequest, ListPartitionsRequest, StatusRequest};
use serde_json::{Value, json};

use self::nodes::{node_columns, node_json, status_json, status_text};
use self::partitions::{partition_columns, partition_json};
use self::version::Version;
use crate::arguments::Global;
use crate::exit::{Exit, Usage};
use crate::json::id;
use crate::output::{Output, note};

pub mod nodes;
pub mod partitions;
pub mod version;

#[derive(Debug, Subcommand)]
pub enum ClusterVerb {
    /// Create a cluster, once, with the node at the first endpoint.
    #[command(after_help = "Examples:\n  trilith cluster init -e 10.0.0.1:7400")]
    Init,
    /// Make the node at the first endpoint join a cluster.
    Join(Join),
    /// Show how the cluster is.
    #[command(after_help = "Examples:\n  trilith cluster status\n  trilith cluster status -o json")]
    Status,
    /// List the nodes.
    #[command(after_help = "Examples:\n  trilith cluster nodes")]
    Nodes,
    /// Say which node leads the cluster's own records.
    #[command(after_help = "Examples:\n  trilith cluster leader")]
    Leader,
    /// List partitions, of all tables or of one.
    Partitions(Partitions),
    /// Show or raise the version of what nodes write and say to each other.
    Version(Version),
}

/// Which cluster to join.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  trilith cluster join 10.0.0.1:7400 -e 10.0.0.2:7400")]
pub struct Join {
    /// The gRPC address of any node of the cluster.
    #[arg(value_name = "HOST:PORT")]
    address: String,
}

/// Which partitions to list.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trilith cluster partitions
  trilith cluster partitions --of orders")]
pub struct Partitions {
    /// Only those of this table.
    #[arg(long, value_name = "TABLE", default_value = "")]
    of: String,
}

impl ClusterVerb {
    /// Does it.
    pub async fn run(self, global: &Global, out: &mut Output) -> anyhow::Result<Exit> {
        let first = || global.endpoint.first().cloned().ok_or_else(|| Usage("give an --endpoint".into()));
        match self {
            Self::Init => {
                let address = first()?;
                let admin = global.connect_lazy()?.admin_at(&address);
                let answer = admin.init(InitRequest::default()).await;
                let answer = answer.with_context(|| format!("creating a cluster at {address}"))?;
                show_membership(&answer.cluster, &answer.node, answer.already, out)?;
            }
            Self::Join(join) => {
                let address = first()?;
                let admin = global.connect_lazy()?.admin_at(&address);
                let answer = admin.join(JoinRequest { address: join.address.clone() }).await;
                let answer = answer.with_context(|| format!("making {address} join {}", join.address))?;
                show_membership(&answer.cluster, &answer.node, answer.already, out)?;
            }
            Self::Status => {
                let status = global.connect().await?.admin().status(StatusRequest {}).await?;
                out.show(|| status_text(&status), || status_json(&status))?;
            }
            Self::Nodes => {
                let nodes = global.connect().await?.admin().list_nodes(ListNodesRequest {}).await?.nodes;
                out.show(
                    || node_columns(&nodes).to_string(),
                    || Value::Array(nodes.iter().map(node_json).collect()),
                )?;
            }
            Self::Leader => {
                let status = global.connect().await?.admin().status(StatusRequest {}).await?;
                let leads = |node: &&proto::v1::NodeStatus| {
                    node.entry.as_ref().is_some_and(|entry| entry.node == status.meta_leader)
                };
                let Some(entry) = status.nodes.iter().find(leads).and_then(|node| node.entry.as_ref()) else {
                    note("no leader is known");
                    return Ok(Exit::NotMet);
                };
                let address = entry.addresses.as_ref().map_or("", |addresses| addresses.grpc.as_str());
                out.show(
                    || format!("{}  {}  {address}", entry.name, id(&entry.node)),
                    || json!({"name": entry.name, "node": id(&entry.node), "grpc": address}),
                )?;
            }
            Self::Version(version) => return version.run(global, out).await,
            Self::Partitions(partitions) => {
                let admin = global.connect().await?.admin();
                let found = admin.list_partitions(ListPartitionsRequest { table: partitions.of }).await?;
                let nodes = admin.map().await?.nodes;
                out.show(
                    || partition_columns(&found.partitions, &nodes).to_string(),
                    || Value::Array(found.partitions.iter().map(partition_json).collect()),
                )?;
            }
        }
        Ok(Exit::Done)
    }
}

fn show_membership(cluster: &[u8], node: &[u8], already: bool, out: &mut Output) -> std::io::Result<()> {
    let (cluster, node) = (id(cluster), id(node));
    out.show(
        || {
            let how = if already { "was in it already" } else { "is in it now" };
            format!("cluster {cluster}: node {node} {how}")
        },
        || json!({"cluster": cluster, "node": node, "already": already}),
    )
}
