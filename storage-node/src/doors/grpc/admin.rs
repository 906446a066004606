//! `trilith.v1.Admin`. What only the meta leader knows is asked there.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};
use placement::ClusterId;
use prost::Message;
use proto::v1::admin_server::Admin;
use proto::v1::{
    AlterTableRequest, AlterTableResponse, CanRestartResponse, CancelMoveRequest, CancelMoveResponse,
    CreateTableRequest, CreateTableResponse, DescribeTableRequest, DescribeTableResponse, DropTableRequest,
    DropTableResponse, InitRequest, InitResponse, JoinRequest, JoinResponse, ListMovesRequest,
    ListMovesResponse, ListNodesRequest, ListNodesResponse, ListPartitionsRequest, ListPartitionsResponse,
    ListTablesRequest, ListTablesResponse, MapRequest, MapResponse, NodeRequest, NodeResponse,
    PlanRebalanceRequest, PlanRebalanceResponse, SetClusterVersionRequest, SetClusterVersionResponse,
    StartMovesRequest, StartMovesResponse, StatusRequest, StatusResponse, TransferLeadersResponse,
};
use tonic::{Code, Request, Response, Status};

use super::{context_of, status};
use crate::node::Node;
use crate::router::failure;

/// A client that follows the map hears at least this often, so that it notices a dead node.
const MAP_AT_LEAST: Duration = Duration::from_secs(5);
/// Who leads what may change without the map; it is looked at this often.
const LEADERS_LOOK: Duration = Duration::from_millis(250);
const HAND_OVER: Duration = Duration::from_secs(5);

/// Running a cluster.
#[derive(Clone)]
pub struct AdminDoor {
    node: Arc<Node>,
}

impl AdminDoor {
    /// The door of a node.
    pub fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    async fn ask<Q: Message, A: Message + Default>(
        &self,
        method: &'static str,
        request: Request<Q>,
    ) -> Result<Response<A>, Status> {
        let patience = context_of(request.metadata()).left();
        let member = self.node.member().map_err(status)?;
        let answer = member.service.call(method, request.get_ref(), Some(patience)).await.map_err(status)?;
        Ok(Response::new(answer))
    }
}

#[tonic::async_trait]
impl Admin for AdminDoor {
    async fn init(&self, request: Request<InitRequest>) -> Result<Response<InitResponse>, Status> {
        let asked = &request.get_ref().cluster;
        let cluster = match asked.is_empty() {
            true => None,
            false => Some(
                ClusterId::from_bytes(asked)
                    .ok_or_else(|| status(failure::invalid("a cluster id is a UUID: 16 bytes")))?,
            ),
        };
        self.node.init(cluster).await.map(Response::new).map_err(status)
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let patience = context_of(request.metadata()).left();
        self.node.join(&request.get_ref().address, patience).await.map(Response::new).map_err(status)
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        // A node that belongs to no cluster has a status too: that.
        let Ok(member) = self.node.member() else {
            return Ok(Response::new(StatusResponse {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                summary: "this node belongs to no cluster yet".to_owned(),
                ..StatusResponse::default()
            }));
        };
        let mut answer: Response<StatusResponse> = self.ask("Status", request).await?;
        answer.get_mut().this_node = proto::convert::node_bytes(member.node);
        Ok(answer)
    }

    type MapStream = Pin<Box<dyn Stream<Item = Result<MapResponse, Status>> + Send>>;

    async fn map(&self, request: Request<MapRequest>) -> Result<Response<Self::MapStream>, Status> {
        let follow = request.get_ref().follow;
        let Ok(member) = self.node.member() else {
            let none = stream::once(std::future::ready(Ok(MapResponse::default())));
            return Ok(Response::new(none.boxed()));
        };
        let now = member.map_response();
        let first = stream::once(std::future::ready(Ok(now.clone())));
        if !follow {
            return Ok(Response::new(first.boxed()));
        }
        let stop = member.closing();
        let changes = stream::unfold(now, move |before| {
            let member = Arc::clone(&member);
            async move {
                let began = crate::seams::clock::now();
                loop {
                    tokio::time::sleep(LEADERS_LOOK).await;
                    let now = member.map_response();
                    if now != before || began.elapsed() > MAP_AT_LEAST {
                        return Some((Ok(now.clone()), now));
                    }
                }
            }
        });
        Ok(Response::new(first.chain(changes).take_until(stop.cancelled_owned()).boxed()))
    }

    async fn list_nodes(
        &self,
        request: Request<ListNodesRequest>,
    ) -> Result<Response<ListNodesResponse>, Status> {
        self.ask("ListNodes", request).await
    }

    async fn create_table(
        &self,
        request: Request<CreateTableRequest>,
    ) -> Result<Response<CreateTableResponse>, Status> {
        let answer: Response<CreateTableResponse> = self.ask("CreateTable", request).await?;
        if let (Ok(member), Some(table)) = (self.node.member(), &answer.get_ref().table) {
            // So that whoever made it can use it at once, by this node.
            member.wait_for_table(placement::TableId(table.table)).await;
        }
        Ok(answer)
    }

    async fn alter_table(
        &self,
        request: Request<AlterTableRequest>,
    ) -> Result<Response<AlterTableResponse>, Status> {
        self.ask("AlterTable", request).await
    }

    async fn drop_table(
        &self,
        request: Request<DropTableRequest>,
    ) -> Result<Response<DropTableResponse>, Status> {
        self.ask("DropTable", request).await
    }

    async fn list_tables(
        &self,
        request: Request<ListTablesRequest>,
    ) -> Result<Response<ListTablesResponse>, Status> {
        self.ask("ListTables", request).await
    }

    async fn describe_table(
        &self,
        request: Request<DescribeTableRequest>,
    ) -> Result<Response<DescribeTableResponse>, Status> {
        self.ask("DescribeTable", request).await
    }

    async fn list_partitions(
        &self,
        request: Request<ListPartitionsRequest>,
    ) -> Result<Response<ListPartitionsResponse>, Status> {
        self.ask("ListPartitions", request).await
    }

    async fn plan_rebalance(
        &self,
        request: Request<PlanRebalanceRequest>,
    ) -> Result<Response<PlanRebalanceResponse>, Status> {
        self.ask("PlanRebalance", request).await
    }

    async fn start_moves(
        &self,
        request: Request<StartMovesRequest>,
    ) -> Result<Response<StartMovesResponse>, Status> {
        self.ask("StartMoves", request).await
    }

    async fn list_moves(
        &self,
        request: Request<ListMovesRequest>,
    ) -> Result<Response<ListMovesResponse>, Status> {
        self.ask("ListMoves", request).await
    }

    async fn cancel_move(
        &self,
        request: Request<CancelMoveRequest>,
    ) -> Result<Response<CancelMoveResponse>, Status> {
        self.ask("CancelMove", request).await
    }

    async fn drain_node(&self, request: Request<NodeRequest>) -> Result<Response<NodeResponse>, Status> {
        self.ask("DrainNode", request).await
    }

    async fn undrain_node(&self, request: Request<NodeRequest>) -> Result<Response<NodeResponse>, Status> {
        self.ask("UndrainNode", request).await
    }

    async fn remove_node(&self, request: Request<NodeRequest>) -> Result<Response<NodeResponse>, Status> {
        self.ask("RemoveNode", request).await
    }

    async fn can_restart(
        &self,
        request: Request<NodeRequest>,
    ) -> Result<Response<CanRestartResponse>, Status> {
        self.ask("CanRestart", request).await
    }

    async fn transfer_leaders(
        &self,
        request: Request<NodeRequest>,
    ) -> Result<Response<TransferLeadersResponse>, Status> {
        let member = self.node.member().map_err(status)?;
        let asked = request.into_inner().node;
        let (node, address) = member.find_node(&asked).ok_or_else(|| {
            Status::new(
                Code::NotFound,
                format!("there is no node {asked:?}: `trilith cluster nodes` shows all"),
            )
        })?;
        if node == member.node {
            let (transferred, left) = member.groups.hand_over_all(&HashSet::new(), HAND_OVER).await;
            let answer = TransferLeadersResponse { transferred: transferred as u64, left: left as u64 };
            return Ok(Response::new(answer));
        }
        let request = NodeRequest { node: asked.clone() }.encode_to_vec().into();
        match member.link.call_at(&address, "TransferLeaders", request, HAND_OVER * 2).await {
            Ok(answer) => match answer.failure {
                Some(failure) => Err(status(failure)),
                None => TransferLeadersResponse::decode(answer.response)
                    .map(Response::new)
                    .map_err(|error| Status::internal(error.to_string())),
            },
            Err(error) => Err(Status::unavailable(format!("node {asked} does not answer: {error:?}"))),
        }
    }

    async fn set_cluster_version(
        &self,
        request: Request<SetClusterVersionRequest>,
    ) -> Result<Response<SetClusterVersionResponse>, Status> {
        self.ask("SetClusterVersion", request).await
    }
}
