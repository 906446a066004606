//! Asks a Trilith cluster how it is, and tells it what to do. Every answer that planning rests
//! on comes from the leader of the meta group.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use client::{Admin, Client, Error, Options};
use placement::{ClusterId, Move, NodeId, NodeState};
use proto::convert;
use proto::v1;

use super::view::{ClusterView, MoveView, NodeView, ProposedMove, TableView};

/// How long one call may take, all attempts together.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a pod may take to say who lives in it.
const BRIEF: Duration = Duration::from_secs(2);
/// How long one attempt may take before another node is asked.
const ATTEMPT: Duration = Duration::from_secs(2);

/// How long a node may take to hand its leaders over; it takes 5 s at most.
const HANDING_OVER: Duration = Duration::from_secs(15);

/// How many groups an answer names at most.
const MOST_NAMED: usize = 32;

/// Who answered from a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// A node of a cluster.
    Node(NodeId, ClusterId),
    /// A node that belongs to no cluster.
    Nobody,
}

/// Why something was not done, in words that stay the same while the reason does: which node was asked last and
/// how many milliseconds it had change all the time, and are for logs.
pub fn told(error: &Error) -> String {
    match error {
        Error::Unreachable { .. } | Error::Unavailable(_) | Error::DeadlineExceeded(_) => {
            "no node that could answer did so in time".to_owned()
        }
        Error::OutcomeUnknown(_) => "no answer came, so it is not known whether it was done".to_owned(),
        other => other.to_string(),
    }
}

/// Whether nobody answered, in contrast to an answer that says no.
pub fn is_silence(error: &Error) -> bool {
    matches!(
        error,
        Error::Unreachable { .. }
            | Error::Unavailable(_)
            | Error::DeadlineExceeded(_)
            | Error::OutcomeUnknown(_)
    )
}

/// What a check just before a deletion says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may be done.
    Yes,
    /// It may not, and why.
    No(String),
}

/// A way to one Trilith cluster, by the gRPC addresses of its pods. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Link {
    client: Client,
}

impl Link {
    /// A way to the cluster of these pods. Nothing is opened before it is used.
    pub fn new(endpoints: Vec<String>) -> Result<Self, Error> {
        // Any node forwards to the meta leader, so the map need not be followed for that.
        let options =
            Options { deadline: PATIENCE, attempt_timeout: ATTEMPT, follow_map: false, ..Options::default() };
        Ok(Self { client: Client::connect_lazy(endpoints, options)? })
    }

    /// Who lives at an address.
    pub async fn who(&self, address: &str) -> Result<Answered, Error> {
        let admin = self.client.admin_at(address).with_deadline(BRIEF);
        let status = admin.status(v1::StatusRequest {}).await?;
        if status.cluster.is_empty() {
            return Ok(Answered::Nobody);
        }
        Ok(Answered::Node(node_id(&status.this_node)?, cluster_id(&status.cluster)?))
    }

    /// The meta group's own view; none where whoever answered belongs to no cluster.
    pub async fn observe(&self) -> Result<Option<ClusterView>, Error> {
        Self::look(&self.admin()).await
    }

    /// The same through the node at one address.
    pub async fn observe_at(&self, address: &str) -> Result<Option<ClusterView>, Error> {
        Self::look(&self.client.admin_at(address)).await
    }

    async fn look(admin: &Admin) -> Result<Option<ClusterView>, Error> {
        let status = admin.status(v1::StatusRequest {}).await?;
        if status.cluster.is_empty() {
            return Ok(None);
        }
        let tables = admin.list_tables(v1::ListTablesRequest {}).await?.tables;
        let moves = match status.moves_under_way {
            0 => Vec::new(),
            _ => admin.list_moves(v1::ListMovesRequest {}).await?.moves,
        };
        let proposal = match status.balanced {
            true => v1::PlanRebalanceResponse::default(),
            false => admin.plan_rebalance(v1::PlanRebalanceRequest {}).await?,
        };
        view(status, tables, moves, proposal).map(Some)
    }

    /// Whether a node was removed. The order to remove it is given again, which does nothing
    /// to a node that was removed and is refused for any other that is in use.
    pub async fn was_removed(&self, node: NodeId) -> Result<bool, Error> {
        let request = v1::NodeRequest { node: node.to_string() };
        match self.admin().remove_node(request).await {
            Ok(answer) => Ok(answer.node.is_some_and(|node| node.state() == v1::NodeState::Removed)),
            Err(Error::NotFound(_) | Error::FailedPrecondition(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Creates the cluster on the node at an address. Asked again it does nothing.
    pub async fn init(&self, address: &str, cluster: ClusterId) -> Result<(), Error> {
        let request = v1::InitRequest { cluster: cluster.to_bytes().to_vec().into() };
        self.client.admin_at(address).init(request).await.map(drop)
    }

    /// Lets the node at an address join the cluster of another one.
    pub async fn join(&self, address: &str, of: &str) -> Result<(), Error> {
        self.client.admin_at(address).join(v1::JoinRequest { address: of.to_owned() }).await.map(drop)
    }

    /// Begins to empty a node.
    pub async fn drain(&self, node: NodeId) -> Result<(), Error> {
        self.admin().drain_node(v1::NodeRequest { node: node.to_string() }).await.map(drop)
    }

    /// Lets a node be used again.
    pub async fn undrain(&self, node: NodeId) -> Result<(), Error> {
        self.admin().undrain_node(v1::NodeRequest { node: node.to_string() }).await.map(drop)
    }

    /// Forgets a node that holds nothing.
    pub async fn remove(&self, node: NodeId) -> Result<(), Error> {
        self.admin().remove_node(v1::NodeRequest { node: node.to_string() }).await.map(drop)
    }

    /// Whether a node may restart now. With `single_replica` it may although groups of one copy
    /// are away meanwhile.
    pub async fn can_restart(&self, node: NodeId, single_replica: bool) -> Result<Verdict, Error> {
        let answer = self.admin().can_restart(v1::NodeRequest { node: node.to_string() }).await?;
        if answer.yes {
            return Ok(Verdict::Yes);
        }
        // An answer that names as many groups as it can may stand for more.
        let excused = single_replica
            && answer.blocking.len() < MOST_NAMED
            && self.are_single(&answer.blocking, node).await?;
        Ok(if excused { Verdict::Yes } else { Verdict::No(answer.reason) })
    }

    /// Whether all of these groups have one copy, on this node. Group 0 is the meta group.
    async fn are_single(&self, groups: &[u64], node: NodeId) -> Result<bool, Error> {
        let single = self.single_groups(node).await?;
        Ok(groups.iter().all(|group| single.contains(group)))
    }

    /// The groups that have one copy, on this node.
    async fn single_groups(&self, node: NodeId) -> Result<BTreeSet<u64>, Error> {
        let partitions = self.admin().list_partitions(v1::ListPartitionsRequest::default()).await?.partitions;
        let nodes = self.admin().list_nodes(v1::ListNodesRequest {}).await?.nodes;
        let bytes = convert::node_bytes(node);
        let entries = partitions.iter().filter_map(|partition| partition.entry.as_ref());
        let alone = entries.filter(|entry| matches!(entry.replicas.as_slice(), [only] if only.node == bytes));
        let mut single: BTreeSet<u64> = alone.map(|entry| entry.partition).collect();
        let mut meta = nodes.iter().filter(|node| node.holds_meta).filter_map(|node| node.entry.as_ref());
        if meta.next().is_some_and(|entry| entry.node == bytes) && meta.next().is_none() {
            single.insert(0);
        }
        Ok(single)
    }

    /// Moves the leaders of a node elsewhere; how many are left, by its own count.
    pub async fn transfer_leaders(&self, node: NodeId) -> Result<u64, Error> {
        let request = v1::NodeRequest { node: node.to_string() };
        let admin = self.admin().with_deadline(HANDING_OVER);
        Ok(admin.transfer_leaders(request).await?.left)
    }

    /// How many leaders a node keeps although it was asked just now to hand all over. A node that the meta
    /// leader does not hear keeps none. With `single_replica` those do not count that have nowhere to go.
    pub async fn leaders_kept(&self, node: NodeId, single_replica: bool) -> Result<u64, Error> {
        let kept = match self.transfer_leaders(node).await {
            Ok(left) => left,
            Err(_) if !self.is_alive(node).await? => 0,
            Err(error) => return Err(error),
        };
        if kept == 0 || !single_replica {
            return Ok(kept);
        }
        let single = self.single_groups(node).await?.len();
        Ok(kept.saturating_sub(single as u64))
    }

    async fn is_alive(&self, node: NodeId) -> Result<bool, Error> {
        let nodes = self.admin().list_nodes(v1::ListNodesRequest {}).await?.nodes;
        let bytes = convert::node_bytes(node);
        let this = |status: &v1::NodeStatus| status.entry.as_ref().is_some_and(|entry| entry.node == bytes);
        Ok(nodes.iter().find(|status| this(status)).is_some_and(|status| status.alive))
    }

    /// The nodes that the meta leader hears of.
    pub async fn alive(&self) -> Result<BTreeSet<NodeId>, Error> {
        let nodes = self.admin().list_nodes(v1::ListNodesRequest {}).await?.nodes;
        let alive = nodes.iter().filter(|status| status.alive).filter_map(|status| status.entry.as_ref());
        alive.map(|entry| node_id(&entry.node)).collect()
    }

    /// Orders moves that were planned on a revision of the map.
    pub async fn start_moves(&self, orders: &[Move], revision: u64) -> Result<(), Error> {
        let request =
            v1::StartMovesRequest { moves: orders.iter().map(Into::into).collect(), map_revision: revision };
        self.admin().start_moves(request).await.map(drop)
    }

    /// Cancels a move.
    pub async fn cancel_move(&self, id: u64) -> Result<(), Error> {
        self.admin().cancel_move(v1::CancelMoveRequest { id }).await.map(drop)
    }

    /// Raises the cluster version. It never goes down again.
    pub async fn raise_version(&self, version: u32) -> Result<(), Error> {
        self.admin().set_cluster_version(v1::SetClusterVersionRequest { version }).await.map(drop)
    }

    /// The tables.
    pub async fn tables(&self) -> Result<Vec<TableView>, Error> {
        let tables = self.admin().list_tables(v1::ListTablesRequest {}).await?.tables;
        Ok(tables.into_iter().map(table_view).collect())
    }

    /// A table's partitions; none: there is no such table.
    pub async fn describe_table(&self, name: &str) -> Result<Option<v1::DescribeTableResponse>, Error> {
        let request = v1::DescribeTableRequest { name: name.to_owned() };
        match self.admin().describe_table(request).await {
            Ok(answer) => Ok(Some(answer)),
            Err(Error::UnknownTable(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates a table. It is not waited for its leaders.
    pub async fn create_table(&self, request: v1::CreateTableRequest) -> Result<(), Error> {
        self.admin().create_table(request).await.map(drop)
    }

    /// Changes a table.
    pub async fn alter_table(&self, request: v1::AlterTableRequest) -> Result<(), Error> {
        self.admin().alter_table(request).await.map(drop)
    }

    /// Drops a table and all that is in it. One that is not there is dropped already.
    pub async fn drop_table(&self, name: &str) -> Result<(), Error> {
        match self.admin().drop_table(v1::DropTableRequest { name: name.to_owned() }).await {
            Err(Error::UnknownTable(_)) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn admin(&self) -> Admin {
        self.client.admin()
    }
}

fn view(
    status: v1::StatusResponse,
    tables: Vec<v1::TableEntry>,
    moves: Vec<v1::MoveStatus>,
    proposal: v1::PlanRebalanceResponse,
) -> Result<ClusterView, Error> {
    let nodes = status.nodes.iter().map(node_view).collect::<Result<Vec<_>, _>>()?;
    let ended = [v1::MoveStage::Done, v1::MoveStage::Failed, v1::MoveStage::Cancelled];
    let under_way = moves.into_iter().filter(|moving| !ended.contains(&moving.stage()));
    let meta_leader = match status.meta_leader.is_empty() {
        true => None,
        false => Some(node_id(&status.meta_leader)?),
    };
    Ok(ClusterView {
        cluster: cluster_id(&status.cluster)?,
        cluster_version: status.cluster_version,
        meta_leader,
        nodes: nodes.into_iter().map(|node| (node.id, node)).collect::<BTreeMap<_, _>>(),
        tombstones: BTreeSet::new(),
        tables: tables.into_iter().map(table_view).collect(),
        partitions: status.partitions,
        without_leader: status.partitions_without_leader,
        under_replicated: status.partitions_under_replicated,
        unhealthy: status.unhealthy_partitions,
        moves: under_way
            .map(|moving| {
                Ok(MoveView { id: moving.id, order: order(moving.r#move.as_ref())?, line: moving.line })
            })
            .collect::<Result<_, Error>>()?,
        proposal: proposal
            .moves
            .iter()
            .zip(proposal.lines)
            .map(|(moving, line)| Ok(ProposedMove { order: order(Some(moving))?, line }))
            .collect::<Result<_, Error>>()?,
        revision: proposal.map_revision,
        balanced: status.balanced,
        summary: status.summary,
    })
}

fn node_view(status: &v1::NodeStatus) -> Result<NodeView, Error> {
    let entry = status.entry.as_ref().ok_or_else(|| unreadable("a node without an entry"))?;
    let load = status.load.unwrap_or_default();
    Ok(NodeView {
        id: node_id(&entry.node)?,
        name: entry.name.clone(),
        supports_version: entry.supports_version,
        state: NodeState::from(entry.state()),
        alive: status.alive,
        silent_for: status.last_heard_ms_ago / 1000,
        zone: entry.zone.clone(),
        host: entry.host.clone(),
        leaders: load.leaders,
        replicas: load.replicas,
        holds_meta: status.holds_meta,
        disk_used: load.disk_used_bytes,
        disk_total: load.disk_total_bytes,
        disk_nearly_full: load.disk_nearly_full,
    })
}

fn table_view(entry: v1::TableEntry) -> TableView {
    let settings = entry.settings.unwrap_or_default();
    TableView {
        id: entry.table,
        name: entry.name,
        replicas: entry.replicas,
        partitions: entry.partitions,
        wanted_partitions: entry.wanted_partitions,
        buckets: entry.buckets,
        default_ttl_ms: entry.default_ttl_ms,
        history: settings.history.unwrap_or_default(),
        values: settings.values.unwrap_or_default(),
        touch_on_read_ms: settings.touch_on_read_ms,
        indexes: settings.indexes.into_iter().map(Into::into).collect(),
        split: entry.split.unwrap_or_default(),
        owner: entry.owner,
    }
}

fn order(order: Option<&v1::Move>) -> Result<Move, Error> {
    let order = order.ok_or_else(|| unreadable("a move without an order"))?;
    Move::try_from(order).map_err(|error| unreadable(&error.to_string()))
}

fn node_id(bytes: &[u8]) -> Result<NodeId, Error> {
    NodeId::from_bytes(bytes).ok_or_else(|| unreadable("a node's id that is no UUID"))
}

fn cluster_id(bytes: &[u8]) -> Result<ClusterId, Error> {
    ClusterId::from_bytes(bytes).ok_or_else(|| unreadable("a cluster's id that is no UUID"))
}

/// A node that speaks a newer language than this operator.
fn unreadable(what: &str) -> Error {
    Error::Internal(format!("it answered {what}: its version and the operator's do not fit together"))
}
