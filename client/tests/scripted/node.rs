//! A node that follows a script: for each request the next step, and once the script is
//! over it does what it is asked.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use parking_lot::Mutex;
use proto::v1::admin_server::{Admin, AdminServer};
use proto::v1::kv_server::{Kv, KvServer};
use proto::v1::operation::Operation as Op;
use proto::v1::result::Result as Found;
use proto::v1::{self, Failure, MapResponse, ScanResponse, StreamResponse};
use tokio::net::TcpListener;
use tokio_stream::wrappers::{TcpListenerStream, WatchStream};
use tonic::{Request, Response, Status, Streaming};

use super::cut::{Scissors, relay};
use super::store::Store;

/// What a node does with a request.
#[derive(Debug, Clone)]
pub enum Step {
    /// What it is asked.
    Do,
    /// Nothing, and says so.
    Refuse(Failure),
    /// Nothing, and its connections break.
    CutBefore,
    /// What it is asked; then its connections break before it can answer.
    CutAfter,
    /// Nothing, and it never answers.
    Hang,
}

/// A running node.
pub struct Node {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    store: Arc<Store>,
    script: Mutex<VecDeque<Step>>,
    forever: Mutex<Option<Step>>,
    seen: Mutex<Vec<Op>>,
    frames: Mutex<Vec<usize>>,
    timeouts: Mutex<Vec<bool>>,
    scissors: Scissors,
}

impl Node {
    pub async fn start(store: Arc<Store>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, scissors) = relay(listener.local_addr().unwrap()).await;
        let state = Arc::new(State {
            store,
            script: Mutex::default(),
            forever: Mutex::default(),
            seen: Mutex::default(),
            frames: Mutex::default(),
            timeouts: Mutex::default(),
            scissors,
        });
        let served = tonic::transport::Server::builder()
            .add_service(KvServer::new(Service(Arc::clone(&state))))
            .add_service(AdminServer::new(Service(Arc::clone(&state))))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(served);
        Self { address, state }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// What to do with the next requests.
    pub fn script(&self, steps: impl IntoIterator<Item = Step>) {
        self.state.script.lock().extend(steps);
    }

    /// What to do with every request after the script.
    pub fn always(&self, step: Step) {
        *self.state.forever.lock() = Some(step);
    }

    /// The operations that arrived, in order.
    pub fn seen(&self) -> Vec<Op> {
        self.state.seen.lock().clone()
    }

    /// How many operations each frame of a stream held.
    pub fn frames(&self) -> Vec<usize> {
        self.state.frames.lock().clone()
    }

    /// Whether each unary call said how long somebody waits for it.
    pub fn timeouts(&self) -> Vec<bool> {
        self.state.timeouts.lock().clone()
    }

    pub fn cut(&self) {
        self.state.scissors.cut();
    }
}

impl State {
    async fn act(&self, operation: Op) -> Result<Found, Failure> {
        self.seen.lock().push(operation.clone());
        let scripted = self.script.lock().pop_front();
        let step = scripted.or_else(|| self.forever.lock().clone()).unwrap_or(Step::Do);
        match step {
            Step::Do => Ok(self.store.apply(operation).result.unwrap()),
            Step::Refuse(failure) => Err(failure),
            Step::CutBefore => {
                self.scissors.cut();
                std::future::pending().await
            }
            Step::CutAfter => {
                self.store.apply(operation);
                self.scissors.cut();
                std::future::pending().await
            }
            Step::Hang => std::future::pending().await,
        }
    }
}

struct Service(Arc<State>);

impl Service {
    async fn unary(&self, timed: bool, operation: Op) -> Result<Found, Status> {
        self.0.timeouts.lock().push(timed);
        self.0.act(operation).await.map_err(Failure::into_status)
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Service {
    /// Pages of two keys; the cursor is the last key. A page takes a step of the script.
    fn pages(&self, request: v1::ScanRequest) -> Answers<ScanResponse> {
        let after = |key: &bytes::Bytes| request.cursor.is_empty() || *key > request.cursor;
        let keys: Vec<_> = self.0.store.keys().into_iter().filter(after).collect();
        let limit = if request.limit == 0 { usize::MAX } else { request.limit as usize };
        let more = keys.len() > limit;
        let keys: Vec<_> = keys.into_iter().take(limit).collect();
        let pages: Vec<Vec<_>> = keys.chunks(2).map(<[_]>::to_vec).collect();
        let last = pages.len().saturating_sub(1);
        let state = Arc::clone(&self.0);
        let answers = futures::stream::iter(pages.into_iter().enumerate()).then(move |(index, page)| {
            let state = Arc::clone(&state);
            async move {
                let get = v1::GetRequest { key: page[0].clone(), ..v1::GetRequest::default() };
                state.act(Op::Get(get)).await.map_err(Failure::into_status)?;
                let ended = index == last && !more;
                let cursor = if ended { bytes::Bytes::new() } else { page.last().unwrap().clone() };
                let items = page.into_iter().map(|key| v1::Item { key, ..v1::Item::default() }).collect();
                Ok(ScanResponse { items, cursor })
            }
        });
        Box::pin(answers)
    }

    fn frames(&self, frames: Streaming<v1::StreamRequest>) -> Answers<StreamResponse> {
        let state = Arc::clone(&self.0);
        let answers = frames.then(move |frame| {
            let state = Arc::clone(&state);
            async move {
                let frame = frame?;
                state.frames.lock().push(frame.operations.len());
                let mut results = Vec::new();
                for operation in frame.operations {
                    let found = state.act(operation.operation.unwrap()).await.unwrap_or_else(Found::Failure);
                    results.push(v1::Result { result: Some(found) });
                }
                Ok(StreamResponse { results })
            }
        });
        Box::pin(answers)
    }
}

macro_rules! kv {
    ($($name:ident, $request:ident, $response:ident, $variant:ident;)*) => {
        #[tonic::async_trait]
        impl Kv for Service {
            type ScanStream = Answers<ScanResponse>;
            type StreamStream = Answers<StreamResponse>;
            type WatchStream = Answers<v1::WatchResponse>;
            type QueryStream = Answers<v1::QueryResponse>;

            async fn query(
                &self,
                _: Request<v1::QueryRequest>,
            ) -> Result<Response<Self::QueryStream>, Status> {
                Err(Status::unimplemented("there are no indexes here"))
            }

            async fn watch(
                &self,
                _: Request<Streaming<v1::WatchRequest>>,
            ) -> Result<Response<Self::WatchStream>, Status> {
                Err(Status::unimplemented("nothing here is watched"))
            }

            $(async fn $name(&self, request: Request<v1::$request>) -> Result<Response<v1::$response>, Status> {
                let timed = request.metadata().contains_key("grpc-timeout");
                match self.unary(timed, Op::$variant(request.into_inner())).await? {
                    Found::$variant(answer) => Ok(Response::new(answer)),
                    other => panic!("the store answered {other:?}"),
                }
            })*

            async fn scan(
                &self,
                request: Request<v1::ScanRequest>,
            ) -> Result<Response<Self::ScanStream>, Status> {
                Ok(Response::new(self.pages(request.into_inner())))
            }

            async fn stream(
                &self,
                request: Request<Streaming<v1::StreamRequest>>,
            ) -> Result<Response<Self::StreamStream>, Status> {
                Ok(Response::new(self.frames(request.into_inner())))
            }
        }
    };
}

kv! {
    get, GetRequest, GetResponse, Get;
    put, PutRequest, PutResponse, Put;
    delete, DeleteRequest, DeleteResponse, Delete;
    exists, ExistsRequest, ExistsResponse, Exists;
    batch, BatchRequest, BatchResponse, Batch;
    txn, TxnRequest, TxnResponse, Txn;
    modify, ModifyRequest, ModifyResponse, Modify;
    copy, CopyRequest, CopyResponse, Copy;
}

macro_rules! not_scripted {
    ($($name:ident, $request:ident, $response:ident;)*) => {
        #[tonic::async_trait]
        impl Admin for Service {
            type MapStream = Answers<MapResponse>;

            async fn map(&self, request: Request<v1::MapRequest>) -> Result<Response<Self::MapStream>, Status> {
                let maps = WatchStream::new(self.0.store.map.subscribe()).map(Ok);
                let answers: Answers<_> =
                    if request.into_inner().follow { Box::pin(maps) } else { Box::pin(maps.take(1)) };
                Ok(Response::new(answers))
            }

            async fn create_table(
                &self,
                request: Request<v1::CreateTableRequest>,
            ) -> Result<Response<v1::CreateTableResponse>, Status> {
                let table = v1::TableEntry { name: request.into_inner().name, ..v1::TableEntry::default() };
                self.unary(true, Op::Get(v1::GetRequest::default())).await?;
                Ok(Response::new(v1::CreateTableResponse { table: Some(table) }))
            }

            $(async fn $name(&self, _: Request<v1::$request>) -> Result<Response<v1::$response>, Status> {
                Err(Status::unimplemented("not scripted"))
            })*
        }
    };
}

not_scripted! {
    init, InitRequest, InitResponse;
    join, JoinRequest, JoinResponse;
    status, StatusRequest, StatusResponse;
    list_nodes, ListNodesRequest, ListNodesResponse;
    alter_table, AlterTableRequest, AlterTableResponse;
    drop_table, DropTableRequest, DropTableResponse;
    list_tables, ListTablesRequest, ListTablesResponse;
    describe_table, DescribeTableRequest, DescribeTableResponse;
    list_partitions, ListPartitionsRequest, ListPartitionsResponse;
    plan_rebalance, PlanRebalanceRequest, PlanRebalanceResponse;
    start_moves, StartMovesRequest, StartMovesResponse;
    list_moves, ListMovesRequest, ListMovesResponse;
    cancel_move, CancelMoveRequest, CancelMoveResponse;
    drain_node, NodeRequest, NodeResponse;
    undrain_node, NodeRequest, NodeResponse;
    remove_node, NodeRequest, NodeResponse;
    can_restart, NodeRequest, CanRestartResponse;
    transfer_leaders, NodeRequest, TransferLeadersResponse;
    set_cluster_version, SetClusterVersionRequest, SetClusterVersionResponse;
}
