//! Nodes: list them, and take them out of service and back.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::request::Parts;
use proto::v1::{
    CanRestartResponse, ListNodesRequest, ListNodesResponse, NodeRequest, NodeResponse, NodeState, NodeStatus,
};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::doors::http::rest::address::{self, Query};
use crate::doors::http::rest::documents::{ChangeProblems, LookProblems};
use crate::doors::http::rest::problem::{Kind, Problem};
use crate::doors::http::rest::values::seconds;
use crate::doors::http::rest::{Answer, Api, json};

/// Where a node is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = NodeState)]
pub enum Life {
    /// It takes what it is given.
    Serving,
    /// What it holds is moved away.
    Draining,
    /// It holds nothing.
    Drained,
    /// It does not come back.
    Removed,
    /// This node's program does not know the word for it.
    Unknown,
}

/// Where a node is reached; null: that door is closed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Addresses)]
#[serde(rename_all = "camelCase")]
pub struct AddressesShown {
    /// For applications.
    pub grpc: Option<String>,
    /// For other nodes.
    pub peer: Option<String>,
    /// For REST.
    pub http: Option<String>,
    /// For Redis clients.
    pub redis: Option<String>,
    /// For Redis clients in cluster mode.
    pub redis_cluster: Option<String>,
    /// For lines of text.
    pub text: Option<String>,
}

/// A node.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Node)]
#[serde(rename_all = "camelCase")]
pub struct NodeShown {
    /// Its UUID.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Where it is in its life.
    pub state: Life,
    /// Whether it was heard of within the last heartbeats.
    pub alive: bool,
    /// Seconds since it was last heard of.
    pub last_heard_seconds_ago: f64,
    /// Whether it is one of those that keep the map.
    pub holds_meta: bool,
    /// The zone that it fails with; empty: not known.
    pub zone: String,
    /// The machine that it fails with; empty: one of its own.
    pub host: String,
    /// Where it is reached.
    pub addresses: AddressesShown,
    /// Copies of partitions that it holds.
    pub replicas: u64,
    /// Partitions that it leads.
    pub leaders: u64,
    /// Bytes that its data takes on disk.
    pub disk_used_bytes: u64,
    /// Bytes that its disk has left.
    pub disk_free_bytes: u64,
    /// Bytes that its disk has in all.
    pub disk_total_bytes: u64,
    /// Writes are refused because its disk is nearly full.
    pub disk_nearly_full: bool,
    /// Bytes of memory that it takes.
    pub memory_bytes: u64,
    /// Seconds since it began.
    pub uptime_seconds: f64,
}

/// All nodes.
#[derive(Debug, Serialize, ToSchema)]
pub struct Nodes {
    /// Those that were removed are not among them.
    pub nodes: Vec<NodeShown>,
}

/// What is left on a node.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeLeft {
    /// Its UUID.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Where it is in its life.
    pub state: Life,
    /// Copies that it still holds.
    pub replicas_left: u64,
    /// Partitions that it still leads.
    pub leaders_left: u64,
}

/// Whether a node may be restarted.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanRestart {
    /// Whether every group keeps a caught-up quorum without it.
    pub can_restart: bool,
    /// Why, for people.
    pub reason: String,
    /// The partitions that would lose their quorum, or are not known; at most 32.
    pub blocking: Vec<u64>,
}

/// The node in the path.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct NodeInPath {
    /// Its UUID or its name.
    #[param(min_length = 1, max_length = 253)]
    pub node: String,
}

impl Life {
    fn of(state: i32) -> Self {
        match NodeState::try_from(state) {
            Ok(NodeState::Serving) => Self::Serving,
            Ok(NodeState::Draining) => Self::Draining,
            Ok(NodeState::Drained) => Self::Drained,
            Ok(NodeState::Removed) => Self::Removed,
            Err(_) => Self::Unknown,
        }
    }
}

impl From<NodeStatus> for NodeShown {
    fn from(status: NodeStatus) -> Self {
        let (entry, load) = (status.entry.unwrap_or_default(), status.load.unwrap_or_default());
        let addresses = entry.addresses.unwrap_or_default();
        let open = |address: String| (!address.is_empty()).then_some(address);
        Self {
            id: id_of(&entry.node),
            name: entry.name,
            state: Life::of(entry.state),
            alive: status.alive,
            last_heard_seconds_ago: seconds(status.last_heard_ms_ago),
            holds_meta: status.holds_meta,
            zone: entry.zone,
            host: entry.host,
            addresses: AddressesShown {
                grpc: open(addresses.grpc),
                peer: open(addresses.peer),
                http: open(addresses.http),
                redis: open(addresses.redis),
                redis_cluster: open(addresses.redis_cluster),
                text: open(addresses.text),
            },
            replicas: load.replicas,
            leaders: load.leaders,
            disk_used_bytes: load.disk_used_bytes,
            disk_free_bytes: load.disk_free_bytes,
            disk_total_bytes: load.disk_total_bytes,
            disk_nearly_full: load.disk_nearly_full,
            memory_bytes: load.memory_bytes,
            uptime_seconds: seconds(load.uptime_ms),
        }
    }
}

fn id_of(node: &[u8]) -> String {
    proto::convert::node_id(node).map(|id| id.to_string()).unwrap_or_default()
}

/// The routes.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(one))
        .routes(routes!(can_restart))
        .routes(routes!(drain))
        .routes(routes!(undrain))
        .routes(routes!(remove))
}

/// List all nodes
#[utoipa::path(
    get, path = "/cluster/nodes", tag = "cluster", operation_id = "listNodes",
    responses((status = 200, body = Nodes, description = "All nodes"), LookProblems)
)]
async fn list(api: Api, request: Request) -> Answer {
    Query::of(&request.into_parts().0, &[])?;
    json(StatusCode::OK, &Nodes { nodes: listed(&api).await? })
}

async fn listed(api: &Api) -> Result<Vec<NodeShown>, Problem> {
    let listed: ListNodesResponse = api.admin("ListNodes", &ListNodesRequest {}).await?;
    Ok(listed.nodes.into_iter().map(NodeShown::from).collect())
}

/// Show a node
#[utoipa::path(
    get, path = "/cluster/nodes/{node}", tag = "cluster", operation_id = "showNode",
    params(NodeInPath),
    responses((status = 200, body = NodeShown, description = "The node"), LookProblems)
)]
async fn one(api: Api, request: Request) -> Answer {
    let wanted = node_in(&request.into_parts().0)?.node;
    let found = listed(&api).await?.into_iter().find(|node| node.id == wanted || node.name == wanted);
    let found = found.ok_or_else(|| {
        Problem::new(Kind::NotFound, format!("there is no node {wanted:?}: /api/v1/cluster/nodes shows all"))
    })?;
    json(StatusCode::OK, &found)
}

/// Ask whether a node may be restarted
#[utoipa::path(
    get, path = "/cluster/nodes/{node}/can-restart", tag = "cluster", operation_id = "canRestart",
    params(NodeInPath),
    responses((status = 200, body = CanRestart, description = "Whether it may, and why"), LookProblems)
)]
async fn can_restart(api: Api, request: Request) -> Answer {
    let asked = node_in(&request.into_parts().0)?;
    let answer: CanRestartResponse = api.admin("CanRestart", &asked).await?;
    let shown = CanRestart { can_restart: answer.yes, reason: answer.reason, blocking: answer.blocking };
    json(StatusCode::OK, &shown)
}

/// Move everything off a node
#[utoipa::path(
    post, path = "/cluster/nodes/{node}/drain", tag = "cluster", operation_id = "drainNode",
    params(NodeInPath),
    responses((status = 200, body = NodeLeft, description = "It is under way"), ChangeProblems)
)]
async fn drain(api: Api, request: Request) -> Answer {
    change(&api, request, "DrainNode").await
}

/// Take a node back into service
#[utoipa::path(
    post, path = "/cluster/nodes/{node}/undrain", tag = "cluster", operation_id = "undrainNode",
    params(NodeInPath),
    responses((status = 200, body = NodeLeft, description = "It serves again"), ChangeProblems)
)]
async fn undrain(api: Api, request: Request) -> Answer {
    change(&api, request, "UndrainNode").await
}

/// Forget a node that holds nothing
///
/// Its identity never comes back.
#[utoipa::path(
    post, path = "/cluster/nodes/{node}/remove", tag = "cluster", operation_id = "removeNode",
    params(NodeInPath),
    responses((status = 200, body = NodeLeft, description = "It is forgotten"), ChangeProblems)
)]
async fn remove(api: Api, request: Request) -> Answer {
    change(&api, request, "RemoveNode").await
}

async fn change(api: &Api, request: Request, method: &'static str) -> Answer {
    let asked = node_in(&request.into_parts().0)?;
    let changed: NodeResponse = api.admin(method, &asked).await?;
    let entry = changed.node.unwrap_or_default();
    let left = NodeLeft {
        id: id_of(&entry.node),
        name: entry.name,
        state: Life::of(entry.state),
        replicas_left: changed.replicas_left,
        leaders_left: changed.leaders_left,
    };
    json(StatusCode::OK, &left)
}

/// The node that a path names.
fn node_in(parts: &Parts) -> Result<NodeRequest, Problem> {
    Query::of(parts, &[])?;
    let rest = address::path_of(parts).strip_prefix("/api/v1/cluster/nodes/").unwrap_or_default();
    let node = address::segment_text(rest.split('/').next().unwrap_or_default(), "node")?;
    Ok(NodeRequest { node })
}
