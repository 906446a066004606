//! A small key-value server over real connections: `KV.Get`, `KV.Put` and `KV.Stream` on a map
//! in memory, and `Admin.Map`, so that clients can route. It can be told to misbehave.

mod admin;
mod kv;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use proto::v1::{
    MapResponse, NodeEntry, PartitionEntry, TableEntry, admin_server::AdminServer, kv_server::KvServer,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;

/// What the server does besides serving.
#[derive(Debug, Clone, Default)]
pub struct Behaviour {
    /// Every so many-th operation is refused.
    pub refuse_every: Option<u64>,
    /// Each stream breaks after so many operations.
    pub break_after: Option<u64>,
    /// The operation of that number waits so long.
    pub stall_at: Option<(u64, Duration)>,
}

/// What a server holds, shared by its services.
#[derive(Debug, Default)]
pub struct State {
    behaviour: Behaviour,
    /// Which of the leaders in the map this server is.
    number: usize,
    map: MapResponse,
    items: Mutex<HashMap<Bytes, Bytes>>,
    served: AtomicU64,
    misrouted: AtomicU64,
    largest_frame: AtomicUsize,
}

/// A server that runs until its runtime ends.
#[derive(Debug)]
pub struct Server {
    state: Arc<State>,
    endpoints: Vec<String>,
}

impl Server {
    /// Starts one that leads everything.
    pub async fn start(behaviour: Behaviour) -> Self {
        let (listener, address) = listen().await;
        let map = map(&[address]);
        Self::serve(listener, State { behaviour, map, ..State::default() })
    }

    /// Starts two that lead half of the buckets each.
    pub async fn start_two(behaviour: Behaviour) -> [Self; 2] {
        let (first, first_address) = listen().await;
        let (second, second_address) = listen().await;
        let map = map(&[first_address, second_address]);
        [(0, first), (1, second)].map(|(number, listener)| {
            let state = State { behaviour: behaviour.clone(), number, map: map.clone(), ..State::default() };
            Self::serve(listener, state)
        })
    }

    /// Where it serves.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// How many keys it holds.
    pub fn keys(&self) -> usize {
        self.state.items.lock().unwrap().len()
    }

    /// How many operations it has seen.
    pub fn served(&self) -> u64 {
        self.state.served.load(Ordering::Relaxed)
    }

    /// How many of them another server leads.
    pub fn misrouted(&self) -> u64 {
        self.state.misrouted.load(Ordering::Relaxed)
    }

    /// The most operations that came in one frame.
    pub fn largest_frame(&self) -> usize {
        self.state.largest_frame.load(Ordering::Relaxed)
    }

    fn serve(listener: TcpListener, state: State) -> Self {
        let state = Arc::new(state);
        let endpoints = vec![listener.local_addr().unwrap().to_string()];
        let router = tonic::transport::Server::builder()
            .add_service(KvServer::new(kv::Kv(Arc::clone(&state))))
            .add_service(AdminServer::new(admin::Admin(Arc::clone(&state))));
        tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { state, endpoints }
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A map with a table `default` of 64 buckets, split evenly over the servers.
fn map(servers: &[SocketAddr]) -> MapResponse {
    let share = 64 / servers.len() as u32;
    let name = |number: usize| Bytes::from(vec![number as u8 + 1; 16]);
    let table = TableEntry { table: 1, name: "default".to_owned(), buckets: 64, ..TableEntry::default() };
    let nodes = servers.iter().enumerate().map(|(number, address)| NodeEntry {
        node: name(number),
        addresses: Some(proto::v1::Addresses { grpc: address.to_string(), ..Default::default() }),
        ..NodeEntry::default()
    });
    let partitions = (0..servers.len()).map(|number| PartitionEntry {
        partition: number as u64 + 1,
        table: 1,
        first_bucket: number as u32 * share,
        last_bucket: (number as u32 + 1) * share - 1,
        leader: name(number),
        ..PartitionEntry::default()
    });
    MapResponse {
        tables: vec![table],
        nodes: nodes.collect(),
        partitions: partitions.collect(),
        ..MapResponse::default()
    }
}
