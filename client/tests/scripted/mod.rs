//! A cluster whose nodes say what a test wants them to say: real gRPC servers over one
//! shared store, behind connections that can be cut.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod cut;
pub mod node;
pub mod store;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::{Client, Options};
use proto::v1::{Addresses, MapResponse, NodeEntry, PartitionEntry, TableEntry};

pub use node::{Node, Step};
pub use store::Store;

/// Some nodes over one store.
pub struct Cluster {
    pub store: Arc<Store>,
    pub nodes: Vec<Node>,
}

impl Cluster {
    pub async fn of(count: usize) -> Self {
        let store = Arc::new(Store::default());
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(Node::start(Arc::clone(&store)).await);
        }
        Self { store, nodes }
    }

    pub fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.address()).collect()
    }

    /// A client that knows only the first node and follows no map.
    pub async fn simple_client(&self, deadline: Duration) -> Client {
        let options = Options { deadline, follow_map: false, ..quick() };
        Client::connect(vec![self.nodes[0].address()], options).await.unwrap()
    }

    /// A map in which the table `default` is two partitions, led by these nodes.
    pub fn publish_map(&self, revision: u64, leaders: [usize; 2]) {
        let id = |index: usize| Bytes::from(vec![index as u8 + 1; 16]);
        let partition = |half: u32| PartitionEntry {
            partition: u64::from(half) + 1,
            table: 1,
            first_bucket: half * 32,
            last_bucket: half * 32 + 31,
            epoch: 1,
            replicas: Vec::new(),
            leader: id(leaders[half as usize]),
        };
        let node = |(index, node): (usize, &Node)| NodeEntry {
            node: id(index),
            addresses: Some(Addresses { grpc: node.address(), ..Addresses::default() }),
            ..NodeEntry::default()
        };
        let table = TableEntry { table: 1, name: "default".into(), buckets: 64, ..TableEntry::default() };
        self.store.map.send_replace(MapResponse {
            cluster: Bytes::from_static(&[9; 16]),
            revision,
            tables: vec![table],
            partitions: vec![partition(0), partition(1)],
            nodes: self.nodes.iter().enumerate().map(node).collect(),
        });
    }
}

/// Short patience, so that a test of it is short.
pub fn quick() -> Options {
    Options { attempt_timeout: Duration::from_millis(300), ..Options::default() }
}

/// Waits for a condition, at most ten seconds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let patience = async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), patience).await.unwrap_or_else(|_| panic!("never: {what}"));
}
