//! The administration service of the small server: only the map is there.

use std::sync::Arc;

use futures::{StreamExt as _, stream::BoxStream};
use proto::v1::{
    AlterTableRequest, AlterTableResponse, CanRestartResponse, CancelMoveRequest, CancelMoveResponse,
    CreateTableRequest, CreateTableResponse, DescribeTableRequest, DescribeTableResponse, DropTableRequest,
    DropTableResponse, InitRequest, InitResponse, JoinRequest, JoinResponse, ListMovesRequest,
    ListMovesResponse, ListNodesRequest, ListNodesResponse, ListPartitionsRequest, ListPartitionsResponse,
    ListTablesRequest, ListTablesResponse, MapRequest, MapResponse, NodeRequest, NodeResponse,
    PlanRebalanceRequest, PlanRebalanceResponse, SetClusterVersionRequest, SetClusterVersionResponse,
    StartMovesRequest, StartMovesResponse, StatusRequest, StatusResponse, TransferLeadersResponse,
    admin_server,
};
use tonic::{Request, Response, Status};

use super::State;

/// The service.
pub struct Admin(pub Arc<State>);

macro_rules! not_here {
    ($($method:ident: $request:ty => $response:ty,)*) => {
        #[tonic::async_trait]
        impl admin_server::Admin for Admin {
            type MapStream = BoxStream<'static, Result<MapResponse, Status>>;

            async fn map(&self, _: Request<MapRequest>) -> Result<Response<Self::MapStream>, Status> {
                let map = self.0.map.clone();
                Ok(Response::new(futures::stream::once(async { Ok(map) }).boxed()))
            }

            $(async fn $method(&self, _: Request<$request>) -> Result<Response<$response>, Status> {
                Err(Status::unimplemented(stringify!($method)))
            })*
        }
    };
}

not_here! {
    init: InitRequest => InitResponse,
    join: JoinRequest => JoinResponse,
    status: StatusRequest => StatusResponse,
    list_nodes: ListNodesRequest => ListNodesResponse,
    create_table: CreateTableRequest => CreateTableResponse,
    alter_table: AlterTableRequest => AlterTableResponse,
    drop_table: DropTableRequest => DropTableResponse,
    list_tables: ListTablesRequest => ListTablesResponse,
    describe_table: DescribeTableRequest => DescribeTableResponse,
    list_partitions: ListPartitionsRequest => ListPartitionsResponse,
    plan_rebalance: PlanRebalanceRequest => PlanRebalanceResponse,
    start_moves: StartMovesRequest => StartMovesResponse,
    list_moves: ListMovesRequest => ListMovesResponse,
    cancel_move: CancelMoveRequest => CancelMoveResponse,
    drain_node: NodeRequest => NodeResponse,
    undrain_node: NodeRequest => NodeResponse,
    remove_node: NodeRequest => NodeResponse,
    can_restart: NodeRequest => CanRestartResponse,
    transfer_leaders: NodeRequest => TransferLeadersResponse,
    set_cluster_version: SetClusterVersionRequest => SetClusterVersionResponse,
}
