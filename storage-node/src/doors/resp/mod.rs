//! The Redis protocol.
//!
//! ```text
//!   bytes ─▶ parse ─▶ session ─┬─ commands on keys gather in a run ─▶ one batch ─▶ router
//!                              └─ what concerns the connection or a whole table: by itself
//!                                        │
//!                     shape, refusal ◀───┘ results become replies, in the order of the requests
//! ```
//!
//! There are two doors. The one answers for any key, from whatever node has it. The other is for
//! clients that know of Redis Cluster: it sends them to the node that leads a key's partition.
//! Start reading in [`session`]; what commands there are is in [`commands::table`].

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use self::clients::Clients;
use self::cursors::Cursors;
use crate::doors::Operations;
use crate::doors::connections::{Connections, Listener, serve};
use crate::node::Node;
use crate::router::context::Door;

mod about;
mod answers;
mod clients;
mod cluster;
mod commands;
mod connection;
mod cursors;
mod following;
mod outlet;
mod refusal;
mod reply;
mod run;
mod session;
mod shape;
mod subscriptions;
mod transaction;
mod walk;

pub mod parse;

/// The table that is selected at first, and the only one in cluster mode.
const DEFAULT_TABLE: &str = "default";
/// The version of Redis whose commands these are.
const REDIS_VERSION: &str = "7.0.15";
const ONE_TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";

/// What the Redis doors of a node share.
#[derive(Debug, Clone)]
pub struct Shared {
    connections: Arc<Connections>,
    clients: Arc<Clients>,
    cursors: Arc<Cursors>,
}

impl Shared {
    /// With these connections, which other doors may have as well.
    pub fn new(connections: Arc<Connections>) -> Self {
        Self { connections, clients: Arc::default(), cursors: Arc::default() }
    }
}

/// One of the doors.
#[derive(Clone)]
pub struct RespDoor {
    operations: Operations,
    shared: Shared,
    /// Where it listens, for those who ask.
    at: String,
}

impl RespDoor {
    /// The door of a node that answers for any key, or redirects.
    pub fn new(node: Arc<Node>, door: Door, shared: Shared, at: String) -> Self {
        Self { operations: Operations::new(node, door), shared, at }
    }

    /// Whether it sends clients to where their keys are.
    fn redirects(&self) -> bool {
        self.operations.door() == Door::RedisCluster
    }

    /// Serves until it is told to stop.
    pub async fn serve(self, listener: Listener, stop: CancellationToken) {
        let (door, connections) = (self.operations.door(), Arc::clone(&self.shared.connections));
        let ends = stop.clone();
        serve(listener, door, connections, ONE_TOO_MANY, stop, move |stream, slot| {
            connection::converse(self.clone(), stream, slot, ends.clone())
        })
        .await;
    }
}
