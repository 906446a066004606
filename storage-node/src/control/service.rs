//! What Admin asks of the meta leader. A node that does not lead passes the call on, as
//! bytes with the method's name; so each is answered in one place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use placement::{
    BucketCount, Leaders, NodeId, NodeState, PartitionMap, Policy, TableName, describe, place_table, plan,
};
use prost::Message;
use proto::convert;
use proto::v1::meta_answer::Outcome;
use proto::v1::meta_command::Command;
use proto::v1::{
    AlterTable, AlterTableRequest, AlterTableResponse, CanRestartResponse, CancelMove, CancelMoveRequest,
    CancelMoveResponse, CreateTable, CreateTableRequest, CreateTableResponse, DescribeTableRequest,
    DescribeTableResponse, DropTable, DropTableRequest, DropTableResponse, Failure, IndexStatus,
    ListMovesRequest, ListMovesResponse, ListNodesRequest, ListNodesResponse, ListPartitionsRequest,
    ListPartitionsResponse, ListTablesRequest, ListTablesResponse, MetaAnswer, MetaCommand, NodeList,
    NodeRequest, NodeResponse, PlanRebalanceRequest, PlanRebalanceResponse, RegisterNode, RegisterRequest,
    RegisterResponse, SetClusterVersion, SetClusterVersionRequest, SetClusterVersionResponse, SetNodeState,
    StartMoves, StartMovesRequest, StartMovesResponse, StatusRequest, StatusResponse, TableEntry,
    ValueSettings, index_status,
};
use tokio::time::Instant;
use tonic::Code;

use super::join::wrong_cluster;
use super::meta_leader::{ALIVE_WITHIN, MAX_LAG, MetaLeader, not_leader};
use super::meta_link::MetaLink;
use crate::json::schema::Schema;
use crate::meta::status::{self, Answering};
use crate::meta::{MetaState, drain, splits};
use crate::router::failure;
use crate::seams::clock;
use crate::watch;

const DEFAULT_PARTITIONS: u32 = 8;
const DEFAULT_REPLICAS: u32 = 3;
/// Without a deadline of the caller's.
const PATIENCE: Duration = Duration::from_secs(10);
/// A node that was silent for this long is presumed dead, when its removal is asked for.
const PRESUMED_DEAD: Duration = Duration::from_secs(10);

/// Answers Admin calls, here or on the meta leader's node.
pub struct Service {
    /// This node.
    pub node: NodeId,
    /// The way to the meta leader.
    pub link: Arc<MetaLink>,
    /// What this node is as meta leader.
    pub meta: Arc<MetaLeader>,
}

impl Service {
    /// Has the meta leader answer a call, wherever it is.
    pub async fn call<Q: Message, A: Message + Default>(
        &self,
        method: &'static str,
        request: &Q,
        patience: Option<Duration>,
    ) -> Result<A, Failure> {
        let deadline = clock::now() + patience.unwrap_or(PATIENCE);
        let bytes: Bytes = request.encode_to_vec().into();
        loop {
            let answered = if self.link.leads() {
                self.answer(method, bytes.clone(), deadline).await
            } else {
                return self.link.call_typed(method, request, is_repeatable(method), deadline).await;
            };
            match answered {
                // Leadership went away in the middle, before anything was done.
                Err(failure) if is_not_leader(&failure) && clock::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(failure) => return Err(failure),
                Ok(bytes) => return A::decode(bytes).map_err(|error| failure::internal(error.to_string())),
            }
        }
    }

    /// Answers a call as the meta leader.
    pub async fn answer(&self, method: &str, request: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        match method {
            "Status" => reply(request, |asked: StatusRequest| self.status(asked)).await,
            "ListNodes" => reply(request, |asked: ListNodesRequest| self.list_nodes(asked)).await,
            "ListTables" => reply(request, |asked: ListTablesRequest| self.list_tables(asked)).await,
            "DescribeTable" => reply(request, |asked: DescribeTableRequest| self.describe_table(asked)).await,
            "ListPartitions" => {
                reply(request, |asked: ListPartitionsRequest| self.list_partitions(asked)).await
            }
            "CreateTable" => {
                reply(request, |asked: CreateTableRequest| self.create_table(asked, deadline)).await
            }
            "AlterTable" => reply(request, |asked: AlterTableRequest| self.alter_table(asked)).await,
            "DropTable" => reply(request, |asked: DropTableRequest| self.drop_table(asked)).await,
            "PlanRebalance" => {
                reply(request, |asked: PlanRebalanceRequest| self.plan_rebalance(asked, deadline)).await
            }
            "StartMoves" => reply(request, |asked: StartMovesRequest| self.start_moves(asked)).await,
            "ListMoves" => reply(request, |asked: ListMovesRequest| self.list_moves(asked)).await,
            "CancelMove" => reply(request, |asked: CancelMoveRequest| self.cancel_move(asked)).await,
            "DrainNode" => {
                reply(request, |asked: NodeRequest| self.set_node_state(asked, NodeState::Draining)).await
            }
            "UndrainNode" => {
                reply(request, |asked: NodeRequest| self.set_node_state(asked, NodeState::Serving)).await
            }
            "RemoveNode" => {
                reply(request, |asked: NodeRequest| self.set_node_state(asked, NodeState::Removed)).await
            }
            "CanRestart" => reply(request, |asked: NodeRequest| self.can_restart(asked)).await,
            "SetClusterVersion" => {
                reply(request, |asked: SetClusterVersionRequest| self.set_cluster_version(asked)).await
            }
            other => {
                let message = format!("this node does not know the call {other}: it runs an older program");
                Err(Failure::new(Code::Unimplemented, message, None))
            }
        }
    }

    /// Registers a node that joins, or says anew where it is.
    pub async fn register(&self, request: RegisterRequest) -> Result<RegisterResponse, Failure> {
        let state = match self.meta.state().await {
            Ok(state) => state,
            Err(failure) if is_not_leader(&failure) => {
                let meta_leader_address = self.link.leader_address();
                return Ok(RegisterResponse {
                    not_leader: true,
                    meta_leader_address,
                    ..RegisterResponse::default()
                });
            }
            Err(failure) => return Err(failure),
        };
        let cluster = state.cluster().ok_or_else(not_leader)?;
        let entry = request.node.ok_or_else(|| failure::invalid("there is no node in it"))?;
        let node = convert::node_id(&entry.node).map_err(|error| failure::invalid(error.to_string()))?;
        if let Some(other) =
            placement::ClusterId::from_bytes(&request.cluster).filter(|other| *other != cluster)
        {
            return Err(wrong_cluster(cluster, other, Some(node)));
        }
        let own = cluster.to_bytes().to_vec().into();
        let known = state.map().nodes.get(&node);
        if known.is_some_and(|known| known.state == NodeState::Removed) {
            return Ok(RegisterResponse { cluster: own, removed: true, ..RegisterResponse::default() });
        }
        self.propose(Command::RegisterNode(RegisterNode { node: Some(entry) })).await?;
        let nodes = state.map().nodes.keys().filter_map(|node| state.node_entry(*node));
        Ok(RegisterResponse { cluster: own, nodes: nodes.collect(), ..RegisterResponse::default() })
    }

    async fn status(&self, _: StatusRequest) -> Result<StatusResponse, Failure> {
        let state = self.meta.state().await?;
        let answering = Answering { node: self.node, version: env!("CARGO_PKG_VERSION").to_owned() };
        let mut status = status::status(&state, &self.meta.sight().seen(), &answering);
        status.meta_leader = convert::node_bytes(self.node);
        Ok(status)
    }

    async fn list_nodes(&self, _: ListNodesRequest) -> Result<ListNodesResponse, Failure> {
        let state = self.meta.state().await?;
        Ok(ListNodesResponse { nodes: status::nodes(&state, &self.meta.sight().seen()) })
    }

    async fn list_tables(&self, _: ListTablesRequest) -> Result<ListTablesResponse, Failure> {
        let state = self.meta.state().await?;
        let tables = state.map().tables.keys().filter_map(|table| state.table_entry(*table));
        Ok(ListTablesResponse { tables: tables.collect() })
    }

    async fn describe_table(&self, asked: DescribeTableRequest) -> Result<DescribeTableResponse, Failure> {
        let state = self.meta.state().await?;
        let (name, table) = find_table(&state, &asked.name)?;
        let partitions = status::partitions(&state, &self.meta.sight().seen(), Some(&name));
        let indexes = status::indexes(&state, &self.meta.sight().seen(), &name);
        Ok(DescribeTableResponse { table: Some(table), partitions, indexes })
    }

    async fn list_partitions(&self, asked: ListPartitionsRequest) -> Result<ListPartitionsResponse, Failure> {
        let state = self.meta.state().await?;
        let name = match asked.table.as_str() {
            "" => None,
            table => Some(find_table(&state, table)?.0),
        };
        Ok(ListPartitionsResponse {
            partitions: status::partitions(&state, &self.meta.sight().seen(), name.as_ref()),
        })
    }

    async fn create_table(
        &self,
        asked: CreateTableRequest,
        deadline: Instant,
    ) -> Result<CreateTableResponse, Failure> {
        let state = self.meta.state().await?;
        let told = asked.history.is_some()
            || asked.values.is_some()
            || asked.touch_on_read_ms > 0
            || asked.split.is_some()
            || !asked.indexes.is_empty();
        needs_version_2(&state, told)?;
        check_values(asked.values.as_ref())?;
        let name = TableName::parse(&asked.name).map_err(|error| failure::invalid(error.to_string()))?;
        let table = match state.map().table_named(&name) {
            Some(table) => {
                // What was left open is as it is.
                let known = state.table_entry(table.id).ok_or_else(not_leader)?;
                let same = CreateTable {
                    name: name.to_string(),
                    buckets: if asked.buckets == 0 { known.buckets } else { asked.buckets },
                    replicas: if asked.replicas == 0 { known.replicas } else { asked.replicas },
                    default_ttl_ms: asked.default_ttl_ms,
                    owner: asked.owner.clone(),
                    history: asked.history.or_else(|| known.settings.clone()?.history),
                    values: asked.values.clone().or_else(|| known.settings.clone()?.values),
                    touch_on_read_ms: match asked.touch_on_read_ms {
                        0 => known.settings.as_ref().map_or(0, |settings| settings.touch_on_read_ms),
                        touch_ms => touch_ms,
                    },
                    indexes: match asked.indexes.is_empty() {
                        true => known.settings.clone().unwrap_or_default().indexes,
                        false => asked.indexes.clone(),
                    },
                    split: asked.split.or(known.split),
                    partitions: empty_lists(if asked.partitions == 0 {
                        known.partitions
                    } else {
                        asked.partitions
                    }),
                };
                self.propose(Command::CreateTable(same)).await?
            }
            None => {
                self.until_heard(&state, deadline).await;
                self.propose(Command::CreateTable(self.new_table(&state, &name, &asked)?)).await?
            }
        };
        let Some(Outcome::Table(table)) = table.outcome else {
            return Err(failure::internal("a table was created and not described"));
        };
        if asked.wait {
            self.wait_for_leaders(&table, deadline).await?;
        }
        Ok(CreateTableResponse { table: Some(table) })
    }

    fn new_table(
        &self,
        state: &MetaState,
        name: &TableName,
        asked: &CreateTableRequest,
    ) -> Result<CreateTable, Failure> {
        let partitions = if asked.partitions == 0 { DEFAULT_PARTITIONS } else { asked.partitions };
        let buckets = match asked.buckets {
            0 => partitions.next_power_of_two().max(BucketCount::DEFAULT.get().into()),
            buckets => buckets,
        };
        let count = BucketCount::new(buckets).map_err(|error| failure::invalid(error.to_string()))?;
        if partitions > u32::from(count.get()) {
            return Err(failure::invalid(format!(
                "a table of {buckets} buckets has at most {buckets} partitions, not {partitions}"
            )));
        }
        let alive = self.meta.sight().alive();
        let map = without_unreachable(state.map(), &alive);
        let serving = map.nodes.values().filter(|node| node.state == NodeState::Serving).count() as u32;
        let replicas = match asked.replicas {
            0 => DEFAULT_REPLICAS
                .min(if serving.is_multiple_of(2) { serving.saturating_sub(1) } else { serving })
                .max(1),
            replicas => replicas,
        };
        let places = u8::try_from(replicas)
            .map_err(|_| {
                failure::invalid(format!("a table cannot have {replicas} replicas: use 1, 3, 5 or 7"))
            })
            .and_then(|replicas| {
                place_table(&map, partitions as u16, replicas)
                    .map_err(|error| Failure::new(Code::FailedPrecondition, error.to_string(), None))
            })?;
        let places = with_even_leaders(places, &self.meta.leaders());
        let list =
            |nodes: Vec<NodeId>| NodeList { nodes: nodes.into_iter().map(convert::node_bytes).collect() };
        Ok(CreateTable {
            name: name.to_string(),
            buckets,
            replicas,
            default_ttl_ms: asked.default_ttl_ms,
            owner: asked.owner.clone(),
            history: asked.history,
            values: asked.values.clone(),
            touch_on_read_ms: asked.touch_on_read_ms,
            indexes: asked.indexes.clone(),
            split: asked.split,
            partitions: places.into_iter().map(list).collect(),
        })
    }

    /// Returns when every node was heard of, or was silent for long enough to be taken for
    /// dead. A new meta leader has heard nobody yet, and would else place tables as if it were
    /// alone.
    async fn until_heard(&self, state: &MetaState, deadline: Instant) {
        loop {
            let heard = self.meta.heard.notified();
            let sight = self.meta.sight();
            let (alive, gone) = (sight.alive(), sight.gone(state, ALIVE_WITHIN));
            let mut nodes = state.map().nodes.values().filter(|node| node.state != NodeState::Removed);
            if nodes.all(|node| alive.contains(&node.id) || gone.contains(&node.id))
                || clock::now() >= deadline
            {
                return;
            }
            // Without a word in between it is looked again all the same: silence grows.
            let look = deadline.min(clock::now() + Duration::from_millis(100));
            let _ = tokio::time::timeout_at(look, heard).await;
        }
    }

    /// Returns when every partition of a table has reported a leader, and its indexes.
    async fn wait_for_leaders(&self, table: &TableEntry, deadline: Instant) -> Result<(), Failure> {
        loop {
            let heard = self.meta.heard.notified();
            let state = self.meta.applied_state().ok_or_else(not_leader)?;
            let leaders = self.meta.leaders();
            let parts = state.map().partitions_of(placement::TableId(table.table));
            let without = parts.iter().filter(|partition| !leaders.contains_key(&partition.id)).count();
            // A table that is empty has its indexes as soon as its partitions have heard of them.
            let waits = without == 0 && self.builds(&state, table);
            if without == 0 && !waits {
                return Ok(());
            }
            if tokio::time::timeout_at(deadline, heard).await.is_err() {
                let message = match waits {
                    true => format!("table {} is created; its indexes are not ready yet", table.name),
                    false => format!(
                        "table {} is created; {without} of its {} partitions have no leader yet",
                        table.name, table.partitions
                    ),
                };
                return Err(Failure::new(Code::DeadlineExceeded, message, None));
            }
        }
    }

    fn builds(&self, state: &MetaState, table: &TableEntry) -> bool {
        let Ok(name) = TableName::parse(&table.name) else { return false };
        let known = status::indexes(state, &self.meta.sight().seen(), &name);
        known.iter().any(|status| status.state() == index_status::State::Building)
    }

    /// One after the other: each build reads the whole table, and who adds an index waits for it.
    fn refuse_while_building(&self, state: &MetaState, asked: &AlterTableRequest) -> Result<(), Failure> {
        let (name, _) = find_table(state, &asked.name)?;
        let known = status::indexes(state, &self.meta.sight().seen(), &name);
        let stays = |status: &&IndexStatus| {
            let index = status.index.as_ref();
            index.is_some_and(|index| !asked.drop_indexes.contains(&index.name))
        };
        let asked_again = |status: &IndexStatus| {
            let index = status.index.as_ref();
            asked.add_indexes.iter().all(|wanted| index.is_some_and(|index| index.name == wanted.name))
        };
        let building = known
            .iter()
            .filter(stays)
            .find(|status| status.state() == index_status::State::Building && !asked_again(status));
        let Some(status) = building else { return Ok(()) };
        let index = status.index.as_ref().map(|index| index.name.as_str()).unwrap_or_default();
        let message = format!(
            "index {index} of table {name} is being built ({} %): add the next when it is ready, or drop that one",
            status.percent
        );
        Err(Failure::new(Code::FailedPrecondition, message, None))
    }

    async fn alter_table(&self, asked: AlterTableRequest) -> Result<AlterTableResponse, Failure> {
        let state = self.meta.state().await?;
        let indexes = !asked.drop_indexes.is_empty() || !asked.add_indexes.is_empty();
        let told = asked.history.is_some() || asked.values.is_some() || asked.touch_on_read_ms.is_some();
        needs_version_2(&state, told || indexes)?;
        check_values(asked.values.as_ref())?;
        if !asked.add_indexes.is_empty() {
            self.refuse_while_building(&state, &asked)?;
        }
        let splits = asked.partitions.is_some() || asked.split.is_some();
        if splits && state.cluster_version() < splits::SINCE_VERSION {
            return Err(failure::needs_version("a table can be split", splits::SINCE_VERSION));
        }
        let AlterTableRequest {
            name,
            default_ttl_ms,
            replicas,
            history,
            values,
            touch_on_read_ms,
            drop_indexes,
            add_indexes,
            partitions,
            split,
        } = asked;
        let alter = AlterTable {
            name,
            default_ttl_ms,
            replicas,
            history,
            values,
            touch_on_read_ms,
            drop_indexes,
            add_indexes,
            partitions,
            split,
        };
        match self.propose(Command::AlterTable(alter)).await?.outcome {
            Some(Outcome::Table(table)) => Ok(AlterTableResponse { table: Some(table) }),
            _ => Err(failure::internal("a table was altered and not described")),
        }
    }

    async fn drop_table(&self, asked: DropTableRequest) -> Result<DropTableResponse, Failure> {
        self.propose(Command::DropTable(DropTable { name: asked.name })).await?;
        Ok(DropTableResponse {})
    }

    async fn plan_rebalance(
        &self,
        _: PlanRebalanceRequest,
        deadline: Instant,
    ) -> Result<PlanRebalanceResponse, Failure> {
        let state = self.meta.state().await?;
        self.until_heard(&state, deadline).await;
        let sight = self.meta.sight();
        let alive = sight.alive();
        let unreachable = state.map().nodes.keys().filter(|node| !alive.contains(node)).copied().collect();
        let policy = Policy { unreachable, ..Policy::default() };
        let under_way: BTreeSet<_> = state.moves_under_way().map(|record| record.partition()).collect();
        let mut moves = plan(state.map(), &sight.reports().groups(&alive).leaders(), &policy);
        moves.retain(|order| {
            !under_way.contains(&order.partition()) && !state.is_splitting(order.partition())
        });
        Ok(PlanRebalanceResponse {
            map_revision: state.map().revision.0,
            lines: moves.iter().map(|order| describe(state.map(), order)).collect(),
            moves: moves.iter().map(Into::into).collect(),
        })
    }

    async fn start_moves(&self, asked: StartMovesRequest) -> Result<StartMovesResponse, Failure> {
        let start = StartMoves { moves: asked.moves, expected_revision: asked.map_revision };
        match self.propose(Command::StartMoves(start)).await?.outcome {
            Some(Outcome::Started(started)) => Ok(StartMovesResponse { moves: started.moves }),
            _ => Err(failure::internal("moves were started and not named")),
        }
    }

    async fn list_moves(&self, _: ListMovesRequest) -> Result<ListMovesResponse, Failure> {
        let state = self.meta.state().await?;
        Ok(ListMovesResponse { moves: status::moves(&state) })
    }

    async fn cancel_move(&self, asked: CancelMoveRequest) -> Result<CancelMoveResponse, Failure> {
        self.propose(Command::CancelMove(CancelMove { id: asked.id })).await?;
        Ok(CancelMoveResponse {})
    }

    async fn set_node_state(&self, asked: NodeRequest, to: NodeState) -> Result<NodeResponse, Failure> {
        let state = self.meta.state().await?;
        let node = find_node(&state, &asked.node)?;
        let gone = self.meta.sight().gone(&state, PRESUMED_DEAD);
        let command = SetNodeState {
            node: convert::node_bytes(node),
            state: proto::v1::NodeState::from(to).into(),
            presumed_dead: gone.contains(&node),
        };
        self.propose(Command::SetNodeState(command)).await?;
        let state = self.meta.state().await?;
        let sight = self.meta.sight();
        let remaining = drain::remaining(&state, &sight.reports().groups(&sight.alive()), node);
        Ok(NodeResponse {
            node: state.node_entry(node),
            replicas_left: remaining.replicas as u64 + u64::from(remaining.meta),
            leaders_left: remaining.leaders as u64,
        })
    }

    async fn can_restart(&self, asked: NodeRequest) -> Result<CanRestartResponse, Failure> {
        let state = self.meta.state().await?;
        let node = find_node(&state, &asked.node)?;
        let sight = self.meta.sight();
        let alive = sight.alive();
        let answer = drain::can_restart(&state, &sight.reports().groups(&alive), &alive, node, MAX_LAG);
        Ok(CanRestartResponse {
            yes: answer.yes,
            blocking: answer.blocking.iter().map(|partition| partition.0).collect(),
            reason: answer.reason,
        })
    }

    async fn set_cluster_version(
        &self,
        asked: SetClusterVersionRequest,
    ) -> Result<SetClusterVersionResponse, Failure> {
        self.propose(Command::SetClusterVersion(SetClusterVersion { version: asked.version })).await?;
        Ok(SetClusterVersionResponse { version: asked.version })
    }

    async fn propose(&self, command: Command) -> Result<MetaAnswer, Failure> {
        self.meta.propose(MetaCommand { command: Some(command) }).await
    }
}

async fn reply<Q, A, F>(request: Bytes, answer: impl FnOnce(Q) -> F) -> Result<Bytes, Failure>
where
    Q: Message + Default,
    A: Message,
    F: Future<Output = Result<A, Failure>>,
{
    let request = Q::decode(request).map_err(|error| failure::invalid(error.to_string()))?;
    answer(request).await.map(|answer| answer.encode_to_vec().into())
}

/// Calls that only read, or that do nothing the second time.
fn is_repeatable(method: &str) -> bool {
    !matches!(method, "StartMoves" | "CreateTable" | "DropTable")
}

/// Whether a failure says only that another node leads the meta group.
pub fn is_not_leader(failure: &Failure) -> bool {
    matches!(failure.reason(), Some(proto::v1::error_detail::Detail::NotLeader(_)))
}

fn find_table(state: &MetaState, name: &str) -> Result<(TableName, TableEntry), Failure> {
    let name = TableName::parse(name).map_err(|error| failure::invalid(error.to_string()))?;
    let table = state.map().table_named(&name).and_then(|table| state.table_entry(table.id));
    let table = table.ok_or_else(|| failure::unknown_table(name.as_str()))?;
    Ok((name, table))
}

/// The node of that UUID or name.
fn find_node(state: &MetaState, text: &str) -> Result<NodeId, Failure> {
    state.find_node(text).ok_or_else(|| {
        let message = format!("there is no node {text:?}: `trilith cluster nodes` shows all");
        Failure::new(Code::NotFound, message, None)
    })
}

/// Refuses what nodes of cluster version 1 would not understand.
fn needs_version_2(state: &MetaState, asked: bool) -> Result<(), Failure> {
    if asked && state.cluster_version() < watch::SINCE_VERSION {
        let what = "a table's history, indexes, demand on values and touch on read can be set";
        return Err(failure::needs_version(what, watch::SINCE_VERSION));
    }
    Ok(())
}

/// Refuses a schema that is none, before anybody has to go by it.
fn check_values(values: Option<&ValueSettings>) -> Result<(), Failure> {
    match values.filter(|values| !values.schema.is_empty()) {
        Some(values) => Schema::parse(&values.schema).map(drop).map_err(failure::invalid),
        None => Ok(()),
    }
}

/// As many lists as there are partitions, to be compared with a table that exists.
fn empty_lists(partitions: u32) -> Vec<NodeList> {
    vec![NodeList::default(); partitions.min(BucketCount::MAX + 1) as usize]
}

/// The first node of each list leads first: of its nodes, the one that leads least.
fn with_even_leaders(mut places: Vec<Vec<NodeId>>, leaders: &Leaders) -> Vec<Vec<NodeId>> {
    let mut leads: BTreeMap<NodeId, usize> = BTreeMap::new();
    leaders.values().for_each(|node| *leads.entry(*node).or_default() += 1);
    for nodes in &mut places {
        let least =
            nodes.iter().enumerate().min_by_key(|(at, node)| (leads.get(node).copied().unwrap_or(0), *at));
        if let Some((at, first)) = least.map(|(at, node)| (at, *node)) {
            nodes.swap(0, at);
            *leads.entry(first).or_default() += 1;
        }
    }
    places
}

/// The map in which nodes that cannot be reached are given nothing, as far as that leaves any.
fn without_unreachable(map: &PartitionMap, alive: &BTreeSet<NodeId>) -> PartitionMap {
    let mut map = map.clone();
    for node in map.nodes.values_mut().filter(|node| !alive.contains(&node.id)) {
        if node.state == NodeState::Serving {
            node.state = NodeState::Draining;
        }
    }
    map
}
