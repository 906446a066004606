//! The other nodes, as this one reaches them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use placement::{ClusterId, NodeId, PartitionId, ReplicaId};
use proto::v1::peer_client::PeerClient;
use tokio::sync::Semaphore;
use tonic::transport::Channel;

use super::connect;
use super::counters::Counters;
use super::lane::{Dialer, Lane, LaneKind, Route};
use super::liveness::Liveness;
use super::raft_network::NetworkFactory;
use super::scratch::Scratch;
use super::throttle::SnapshotThrottle;

/// Where nodes are. Asked each time a connection is made, because addresses change.
pub trait AddressBook: Send + Sync + 'static {
    /// The `host:port` of a node's peer listener, where it is known.
    fn peer_address(&self, node: NodeId) -> Option<String>;
}

/// Who this node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
}

/// How patient a node is with its peers.
#[derive(Debug, Clone, Copy)]
pub struct PeerSettings {
    /// For a connection to come up.
    pub connect_timeout: Duration,
    /// For the next answer of a pipeline that has appends without one. Longer than a slow
    /// fsync, or a slow disk would be sent the same entries again and again.
    pub append_patience: Duration,
    /// For a snapshot's receiver to take another piece.
    pub snapshot_stall: Duration,
    /// For a snapshot's receiver to install it, once it has all of it.
    pub install_patience: Duration,
    /// Snapshots on their way out at once, and as many on their way in.
    pub snapshots_at_once: usize,
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            append_patience: Duration::from_secs(2),
            snapshot_stall: Duration::from_secs(10),
            install_patience: Duration::from_secs(120),
            snapshots_at_once: 2,
        }
    }
}

/// The other nodes, each connected to when there is something to say.
pub struct Peers {
    shared: Arc<Shared>,
    peers: Mutex<HashMap<NodeId, Arc<Peer>>>,
}

/// What all peers of a node have in common.
pub(super) struct Shared {
    pub identity: Identity,
    pub addresses: Arc<dyn AddressBook>,
    pub settings: PeerSettings,
    pub scratch: Arc<Scratch>,
    pub throttle: Arc<SnapshotThrottle>,
    pub counters: Arc<Counters>,
    pub liveness: Arc<Liveness>,
    pub outgoing_snapshots: Semaphore,
}

impl Shared {
    pub fn dialer(&self, to: NodeId) -> Dialer {
        Dialer {
            identity: self.identity,
            to,
            addresses: Arc::clone(&self.addresses),
            timeout: self.settings.connect_timeout,
            counters: Arc::clone(&self.counters),
        }
    }
}

impl Peers {
    /// Nothing is connected yet. Snapshots are written under `scratch` before they are sent.
    pub fn new(
        identity: Identity,
        addresses: Arc<dyn AddressBook>,
        settings: PeerSettings,
        scratch: Arc<Scratch>,
        throttle: Arc<SnapshotThrottle>,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        let outgoing_snapshots = Semaphore::new(settings.snapshots_at_once);
        let liveness = Arc::default();
        let shared = Shared {
            identity,
            addresses,
            settings,
            scratch,
            throttle,
            counters,
            liveness,
            outgoing_snapshots,
        };
        Arc::new(Self { shared: Arc::new(shared), peers: Mutex::default() })
    }

    /// What a local replica reaches the others of its group by.
    pub fn factory(self: &Arc<Self>, group: PartitionId, replica: ReplicaId) -> NetworkFactory {
        NetworkFactory::new(Arc::clone(self), group.0, replica.0)
    }

    /// A peer; the same one for the same node, until it is forgotten.
    pub fn peer(&self, node: NodeId) -> Arc<Peer> {
        let mut peers = self.peers.lock();
        let peer = peers.entry(node).or_insert_with(|| Arc::new(Peer::new(node, &self.shared)));
        Arc::clone(peer)
    }

    /// Those that this node has had something to say to.
    pub fn known(&self) -> Vec<Arc<Peer>> {
        self.peers.lock().values().cloned().collect()
    }

    /// A connection to a node for calls of their own, beside its lanes; none: it is not there.
    pub async fn dial(&self, node: NodeId) -> Option<PeerClient<Channel>> {
        let address = self.shared.addresses.peer_address(node)?;
        let channel = connect::connect(&address, self.shared.settings.connect_timeout).await.ok()?;
        Some(connect::client(channel))
    }

    /// Which of them are there.
    pub fn liveness(&self) -> &Arc<Liveness> {
        &self.shared.liveness
    }

    /// What went over the wires.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.shared.counters
    }

    /// Ends the connections to a node that left the cluster.
    pub fn forget(&self, node: NodeId) {
        let peer = self.peers.lock().remove(&node);
        if let Some(peer) = peer {
            peer.close();
        }
    }

    /// Ends all connections: everyone who waits for an answer is told, and nothing more is
    /// sent to the peers there were.
    pub fn close(&self) {
        let peers: Vec<_> = self.peers.lock().values().cloned().collect();
        peers.iter().for_each(|peer| peer.close());
    }
}

/// Another node: a lane for each kind of message.
pub struct Peer {
    node: NodeId,
    log: Arc<Lane>,
    control: Arc<Lane>,
    operations: Arc<Lane>,
    pub(super) shared: Arc<Shared>,
}

impl Peer {
    fn new(node: NodeId, shared: &Arc<Shared>) -> Self {
        let lane = |kind| Lane::new(kind, shared.dialer(node));
        Self {
            node,
            log: lane(LaneKind::Log),
            control: lane(LaneKind::Control),
            operations: lane(LaneKind::Operations),
            shared: Arc::clone(shared),
        }
    }

    /// The node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// One of its lanes.
    pub fn lane(&self, kind: LaneKind) -> &Arc<Lane> {
        match kind {
            LaneKind::Log => &self.log,
            LaneKind::Control => &self.control,
            LaneKind::Operations => &self.operations,
        }
    }

    fn close(&self) {
        [&self.log, &self.control, &self.operations].iter().for_each(|lane| lane.close());
    }
}

/// The route of what belongs to no replica, such as forwarded operations.
pub(super) const NO_ROUTE: Route = Route { group: 0, from: 0, to: 0 };
