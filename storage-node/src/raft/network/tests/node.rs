//! A node: its peers, its listener and what it holds.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::stream::BoxStream;
use parking_lot::Mutex;
use placement::{ClusterId, NodeId};
use prost::Message as _;
use proto::v1::peer_server::Peer as PeerContract;
use proto::v1::*;
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use crate::raft::network::connect;
use crate::raft::network::counters::Counters;
use crate::raft::network::endpoint::{Endpoint, Replicas};
use crate::raft::network::forward::Forwarded;
use crate::raft::network::inbound::{AnswerStream, Inbound};
use crate::raft::network::peers::{AddressBook, Identity, PeerSettings, Peers};
use crate::raft::network::scratch::Scratch;
use crate::raft::network::throttle::SnapshotThrottle;

pub fn cluster() -> ClusterId {
    ClusterId(Uuid::from_u128(42))
}

pub fn node_id(number: u64) -> NodeId {
    NodeId(Uuid::from_u128(u128::from(number)))
}

/// The addresses of all nodes of a test.
#[derive(Default)]
pub struct Book(pub Mutex<HashMap<NodeId, String>>);

impl AddressBook for Book {
    fn peer_address(&self, node: NodeId) -> Option<String> {
        self.0.lock().get(&node).cloned()
    }
}

/// The replicas of a node, and how it answers forwarded operations.
#[derive(Default)]
pub struct Holds {
    pub endpoints: Mutex<HashMap<(u64, u64), Arc<dyn Endpoint>>>,
    /// Whoever has replicas besides.
    pub more: Mutex<Option<Arc<dyn Replicas>>>,
    /// Forwarded operations wait for it while it is locked.
    pub gate: tokio::sync::Mutex<()>,
}

impl Replicas for Holds {
    fn endpoint(&self, group: u64, replica: u64) -> Option<Arc<dyn Endpoint>> {
        let own = self.endpoints.lock().get(&(group, replica)).cloned();
        own.or_else(|| self.more.lock().as_ref()?.endpoint(group, replica))
    }
}

#[tonic::async_trait]
impl Forwarded for Holds {
    async fn operate(&self, request: ForwardRequest) -> ForwardAnswer {
        drop(self.gate.lock().await);
        let operation = Operation::decode(request.operation).unwrap().operation;
        let Some(operation::Operation::Get(get)) = operation else { return ForwardAnswer::default() };
        let item = Item { key: get.key, ..Default::default() };
        let result = result::Result::Get(GetResponse { item: Some(item) });
        let result = Result { result: Some(result) }.encode_to_vec().into();
        ForwardAnswer { result, ..ForwardAnswer::default() }
    }
}

/// A node that listens.
pub struct Node {
    pub id: NodeId,
    pub peers: Arc<Peers>,
    pub inbound: Arc<Inbound>,
    pub holds: Arc<Holds>,
    pub throttle: Arc<SnapshotThrottle>,
    pub received: Arc<Counters>,
    server: tokio::task::JoinHandle<()>,
    folder: tempfile::TempDir,
}

impl Node {
    /// A node of the usual cluster; its address goes into the book.
    pub async fn start(number: u64, book: &Arc<Book>) -> Self {
        Self::start_in(cluster(), number, book).await
    }

    pub async fn start_in(cluster: ClusterId, number: u64, book: &Arc<Book>) -> Self {
        let identity = Identity { cluster, node: node_id(number) };
        let folder = tempfile::tempdir().unwrap();
        let scratch = Arc::new(Scratch::open(folder.path().join("scratch")).unwrap());
        let throttle = Arc::new(SnapshotThrottle::new(0));
        let (sent, received) = (Arc::new(Counters::default()), Arc::new(Counters::default()));
        let settings = PeerSettings::default();
        let addresses = Arc::clone(book) as Arc<dyn AddressBook>;
        let peers =
            Peers::new(identity, addresses, settings, Arc::clone(&scratch), Arc::clone(&throttle), sent);
        let holds = Arc::new(Holds::default());
        let inbound = Arc::new(Inbound::new(
            identity,
            Arc::clone(&holds) as Arc<dyn Replicas>,
            Arc::clone(&holds) as Arc<dyn Forwarded>,
            settings,
            scratch,
            Arc::clone(peers.liveness()),
            Arc::clone(&received),
        ));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        book.0.lock().insert(identity.node, address.to_string());
        let service = connect::service(Service(Arc::clone(&inbound)));
        let serve = connect::server()
            .add_service(service)
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
        let server = tokio::spawn(async move { serve.await.unwrap() });
        Self { id: identity.node, peers, inbound, holds, throttle, received, server, folder }
    }

    pub fn hold(&self, group: u64, replica: u64, endpoint: Arc<dyn Endpoint>) {
        self.holds.endpoints.lock().insert((group, replica), endpoint);
    }

    pub fn scratch_is_empty(&self) -> bool {
        std::fs::read_dir(self.folder.path().join("scratch")).unwrap().next().is_none()
    }

    /// Breaks all connections to a peer.
    pub fn cut(&self, node: NodeId) {
        use crate::raft::network::lane::LaneKind::{Control, Log, Operations};
        let peer = self.peers.peer(node);
        [Log, Control, Operations].into_iter().for_each(|kind| peer.lane(kind).cut());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.peers.close();
        self.inbound.close();
        self.server.abort();
    }
}

/// The part of the contract that this module answers.
struct Service(Arc<Inbound>);

fn elsewhere<T>() -> std::result::Result<Response<T>, Status> {
    Err(Status::unimplemented("not in this test"))
}

#[tonic::async_trait]
impl PeerContract for Service {
    type ExchangeStream = AnswerStream;
    type FollowStream = BoxStream<'static, std::result::Result<FollowResponse, Status>>;

    async fn exchange(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> std::result::Result<Response<AnswerStream>, Status> {
        self.0.exchange(request).await
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<SnapshotPiece>>,
    ) -> std::result::Result<Response<SnapshotAnswer>, Status> {
        self.0.snapshot(request).await
    }

    async fn register(
        &self,
        _: Request<RegisterRequest>,
    ) -> std::result::Result<Response<RegisterResponse>, Status> {
        elsewhere()
    }

    async fn follow(
        &self,
        _: Request<FollowRequest>,
    ) -> std::result::Result<Response<Self::FollowStream>, Status> {
        elsewhere()
    }

    async fn report(
        &self,
        _: Request<ReportRequest>,
    ) -> std::result::Result<Response<ReportResponse>, Status> {
        elsewhere()
    }

    async fn change_replicas(
        &self,
        _: Request<ChangeReplicasRequest>,
    ) -> std::result::Result<Response<ChangeReplicasResponse>, Status> {
        elsewhere()
    }

    async fn group_status(
        &self,
        _: Request<GroupStatusRequest>,
    ) -> std::result::Result<Response<GroupStatusResponse>, Status> {
        elsewhere()
    }

    type WatchPartitionStream = futures::stream::Empty<std::result::Result<WatchPartitionResponse, Status>>;

    async fn watch_partition(
        &self,
        _: Request<WatchPartitionRequest>,
    ) -> std::result::Result<Response<Self::WatchPartitionStream>, Status> {
        elsewhere()
    }

    async fn meta_call(
        &self,
        _: Request<MetaCallRequest>,
    ) -> std::result::Result<Response<MetaCallResponse>, Status> {
        elsewhere()
    }
}
