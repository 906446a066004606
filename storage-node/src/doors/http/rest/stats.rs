//! What is known of a table's partitions: where they are, and about how much they hold.

use std::collections::BTreeMap;

use axum::extract::Request;
use axum::http::StatusCode;
use bytes::Bytes;
use proto::v1::{DescribeTableRequest, DescribeTableResponse, PartitionStatus, ReplicaRole};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::address::{self, Query};
use super::documents::LookProblems;
use super::tables::TableShown;
use super::{Answer, Api, json};

/// A node, by its id and its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = NodeName)]
pub struct NodeName {
    /// Its UUID.
    pub id: String,
    /// What people call it; empty where it is not known.
    pub name: String,
}

/// A copy of a partition.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Replica)]
pub struct ReplicaShown {
    /// Its number, which is never used again.
    pub id: u64,
    /// Where it is.
    pub node: NodeName,
    /// Whether it counts for the quorum; one that is being caught up does not.
    pub voter: bool,
}

/// A part of a table, which is a Raft group of its own.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Partition)]
#[serde(rename_all = "camelCase")]
pub struct PartitionShown {
    /// Its number.
    pub id: u64,
    /// Whose it is.
    pub table: String,
    /// The first of its buckets.
    pub first_bucket: u32,
    /// The last of its buckets.
    pub last_bucket: u32,
    /// Grows when its owner or its bounds change.
    pub epoch: u64,
    /// Who led it when last heard; null: nobody.
    pub leader: Option<NodeName>,
    /// Its copies.
    pub replicas: Vec<ReplicaShown>,
    /// About how many bytes one copy takes on disk.
    pub approximate_bytes: u64,
    /// Keys whose time is up and that are not removed yet; nobody is shown them. At most 100,000 are counted.
    pub expired_keys: u64,
    /// How much of its log its leader has applied.
    pub applied_index: u64,
    /// Why it does not serve; null: it does.
    pub trouble: Option<String>,
}

/// What is known of a table.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Stats)]
#[serde(rename_all = "camelCase")]
pub struct StatsShown {
    /// The table.
    pub table: TableShown,
    /// About how many bytes one copy of it takes on disk.
    pub approximate_bytes: u64,
    /// Keys whose time is up and that are not removed yet; nobody is shown them.
    pub expired_keys: u64,
    /// Partitions that nobody leads.
    pub partitions_without_leader: usize,
    /// How many partitions each node leads, by its name or, where that is not known, its id.
    pub leaders: BTreeMap<String, usize>,
    /// Its partitions.
    pub partitions: Vec<PartitionShown>,
}

/// What people call nodes, by their ids as they travel.
pub struct Names(BTreeMap<Bytes, String>);

impl Names {
    /// As this node knows them.
    pub fn known(api: &Api) -> Result<Self, super::problem::Problem> {
        let nodes = api.member()?.map_response().nodes;
        Ok(Self(nodes.into_iter().map(|node| (node.node, node.name)).collect()))
    }

    /// A node by its id; none where the id is empty.
    pub fn node(&self, id: &Bytes) -> Option<NodeName> {
        let name = self.0.get(id).cloned().unwrap_or_default();
        proto::convert::node_id(id).ok().map(|id| NodeName { id: id.to_string(), name })
    }

    /// A node by its id, where there must be one.
    pub fn named(&self, id: &Bytes) -> NodeName {
        self.node(id).unwrap_or_else(|| NodeName { id: String::new(), name: String::new() })
    }
}

/// The routes, for the table that stands before them.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(stats))
}

/// Show what is known of a table
///
/// Sizes are approximate, and as old as the last report of the nodes, about a second. How many
/// keys there are nobody counts.
#[utoipa::path(
    get, path = "/kv/stats", tag = "keys", operation_id = "stats",
    responses((status = 200, body = StatsShown, description = "The table and its partitions"), LookProblems)
)]
async fn stats(api: Api, request: Request) -> Answer {
    let (parts, _) = request.into_parts();
    Query::of(&parts, &[])?;
    let name = address::table_in(address::path_of(&parts))?;
    describe(&api, name).await
}

/// Everything that is known of a table.
pub async fn describe(api: &Api, name: String) -> Answer {
    let described: DescribeTableResponse = api.admin("DescribeTable", &DescribeTableRequest { name }).await?;
    let names = Names::known(api)?;
    let partitions: Vec<_> = described.partitions.iter().map(|status| show(status, &names)).collect();
    let mut leaders = BTreeMap::new();
    for leader in partitions.iter().filter_map(|partition| partition.leader.as_ref()) {
        let called = if leader.name.is_empty() { &leader.id } else { &leader.name };
        *leaders.entry(called.clone()).or_default() += 1;
    }
    let shown = StatsShown {
        table: TableShown::from(described.table.unwrap_or_default()),
        approximate_bytes: partitions.iter().map(|partition| partition.approximate_bytes).sum(),
        expired_keys: partitions.iter().map(|partition| partition.expired_keys).sum(),
        partitions_without_leader: partitions.iter().filter(|partition| partition.leader.is_none()).count(),
        leaders,
        partitions,
    };
    json(StatusCode::OK, &shown)
}

/// A partition as it is shown.
pub fn show(status: &PartitionStatus, names: &Names) -> PartitionShown {
    let entry = status.entry.clone().unwrap_or_default();
    let replica = |replica: &proto::v1::ReplicaEntry| ReplicaShown {
        id: replica.replica,
        node: names.named(&replica.node),
        voter: replica.role() == ReplicaRole::Voter,
    };
    PartitionShown {
        id: entry.partition,
        table: status.table_name.clone(),
        first_bucket: entry.first_bucket,
        last_bucket: entry.last_bucket,
        epoch: entry.epoch,
        leader: names.node(&entry.leader),
        replicas: entry.replicas.iter().map(replica).collect(),
        approximate_bytes: status.approximate_bytes,
        expired_keys: status.expired_keys,
        applied_index: status.applied_index,
        trouble: (!status.trouble.is_empty()).then(|| status.trouble.clone()),
    }
}
