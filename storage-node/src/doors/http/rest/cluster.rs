//! The cluster: how it is, who leads it, and where partitions are.

use axum::extract::Request;
use axum::http::StatusCode;
use proto::v1::{ListPartitionsRequest, ListPartitionsResponse, StatusRequest, StatusResponse};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::address::Query;
use super::documents::LookProblems;
use super::problem::{Kind, Problem};
use super::stats::{Names, NodeName, PartitionShown, show};
use super::{Answer, Api, json};

pub mod moves;
pub mod nodes;

use nodes::NodeShown;

/// How the cluster is.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = Status)]
#[serde(rename_all = "camelCase")]
pub struct StatusShown {
    /// The cluster's UUID; null: this node belongs to none yet.
    pub cluster: Option<String>,
    /// One sentence for people.
    pub summary: String,
    /// The version of the program that answers.
    pub version: String,
    /// The newest commands that may be used.
    pub cluster_version: u32,
    /// Grows when the partition map changes.
    pub map_revision: u64,
    /// The node that answers.
    pub this_node: Option<NodeName>,
    /// Who leads the meta group.
    pub leader: Option<NodeName>,
    /// All nodes.
    pub nodes: Vec<NodeShown>,
    /// How many tables there are.
    pub tables: u64,
    /// How many partitions there are.
    pub partitions: u64,
    /// Those that nobody leads.
    pub partitions_without_leader: u64,
    /// Those with fewer live copies than they should have.
    pub partitions_under_replicated: u64,
    /// At most 32 of either.
    pub unhealthy_partitions: Vec<u64>,
    /// Moves that are under way.
    pub moves_under_way: u64,
    /// Nothing would be gained by moving anything.
    pub balanced: bool,
}

/// All partitions that were asked for.
#[derive(Debug, Serialize, ToSchema)]
pub struct Partitions {
    /// In the order of their numbers.
    pub partitions: Vec<PartitionShown>,
}

/// Which partitions.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PartitionsAsked {
    /// Of this table only.
    #[param(min_length = 1, max_length = 128)]
    pub table: Option<String>,
}

/// The routes.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(status))
        .routes(routes!(leader))
        .routes(routes!(partitions))
        .merge(nodes::routes())
        .merge(moves::routes())
}

async fn ask(api: &Api) -> Result<(StatusResponse, Names), Problem> {
    let names = Names::known(api)?;
    Ok((api.admin("Status", &StatusRequest {}).await?, names))
}

/// Show how the cluster is
#[utoipa::path(
    get, path = "/cluster/status", tag = "cluster", operation_id = "clusterStatus",
    responses((status = 200, body = StatusShown, description = "How the cluster is"), LookProblems)
)]
async fn status(api: Api, request: Request) -> Answer {
    Query::of(&request.into_parts().0, &[])?;
    let Ok(member) = api.member() else {
        let shown = StatusShown {
            summary: "this node belongs to no cluster yet".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..StatusShown::default()
        };
        return json(StatusCode::OK, &shown);
    };
    let (status, names) = ask(&api).await?;
    let shown = StatusShown {
        cluster: Some(member.cluster.to_string()),
        summary: status.summary,
        version: status.version,
        cluster_version: status.cluster_version,
        map_revision: status.map_revision,
        this_node: names.node(&proto::convert::node_bytes(member.node)),
        leader: names.node(&status.meta_leader),
        nodes: status.nodes.into_iter().map(NodeShown::from).collect(),
        tables: status.tables,
        partitions: status.partitions,
        partitions_without_leader: status.partitions_without_leader,
        partitions_under_replicated: status.partitions_under_replicated,
        unhealthy_partitions: status.unhealthy_partitions,
        moves_under_way: status.moves_under_way,
        balanced: status.balanced,
    };
    json(StatusCode::OK, &shown)
}

/// Show the node that leads the meta group
#[utoipa::path(
    get, path = "/cluster/leader", tag = "cluster", operation_id = "clusterLeader",
    responses((status = 200, body = NodeShown, description = "The meta leader"), LookProblems)
)]
async fn leader(api: Api, request: Request) -> Answer {
    Query::of(&request.into_parts().0, &[])?;
    let (status, _) = ask(&api).await?;
    let leads = |node: &proto::v1::NodeStatus| {
        node.entry.as_ref().is_some_and(|entry| entry.node == status.meta_leader)
    };
    match status.nodes.iter().find(|node| leads(node)) {
        Some(node) => json(StatusCode::OK, &NodeShown::from(node.clone())),
        None => Err(Problem::new(Kind::Unavailable, "nobody leads the cluster now").after(500)),
    }
}

/// List partitions and where they are
#[utoipa::path(
    get, path = "/cluster/partitions", tag = "cluster", operation_id = "listPartitions",
    params(PartitionsAsked),
    responses((status = 200, body = Partitions, description = "The partitions"), LookProblems)
)]
async fn partitions(api: Api, request: Request) -> Answer {
    let query = Query::of(&request.into_parts().0, &["table"])?;
    let table = query.text("table")?.unwrap_or_default();
    let listed: ListPartitionsResponse =
        api.admin("ListPartitions", &ListPartitionsRequest { table }).await?;
    let names = Names::known(&api)?;
    let partitions = listed.partitions.iter().map(|status| show(status, &names)).collect();
    json(StatusCode::OK, &Partitions { partitions })
}
