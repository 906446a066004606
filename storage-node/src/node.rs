//! A node: what listens, and, once it belongs to a cluster, what it does there.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use placement::{ClusterId, NodeId, PartitionId, ReplicaId, TableId};
use proto::v1::meta_command::Command;
use proto::v1::{
    Addresses, Failure, InitCluster, InitResponse, JoinResponse, MapResponse, MetaCommand, NodeEntry,
};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use uuid::Uuid;

use crate::config::{NodeConfig, Observability};
use crate::control::clocks::Clocks;
use crate::control::identity::{DataFolder, FolderError, Identity, Known};
use crate::control::{SUPPORTED_CLUSTER_VERSION, join};
use crate::disk::DiskWatch;
use crate::doors::http::Health;
use crate::observability::metrics::{Metrics, memory};
use crate::observability::slow::SlowOperations;
use crate::observability::traces::{Traces, TracesError};
use crate::router::failure;
use crate::seams::clock;
use crate::seams::clock::WallClock;

mod indexes;
pub mod member;

pub use member::{Member, MemberError};

/// The replica of the meta group that a new cluster begins with.
const FIRST_META_REPLICA: ReplicaId = ReplicaId(1);
const HAND_OVER: Duration = Duration::from_secs(5);

/// A node of one process.
pub struct Node {
    /// How it was started.
    pub config: Arc<NodeConfig>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Which operations were slow.
    pub slow: Arc<SlowOperations>,
    /// What is told of operations as they go from node to node.
    pub traces: Arc<Traces>,
    /// Its data folder.
    pub folder: DataFolder,
    /// Where others reach it.
    pub addresses: Addresses,
    /// How full its disk is.
    pub disk: Arc<DiskWatch>,
    /// What dates entries.
    pub clocks: Clocks,
    /// When the process began.
    pub began: Instant,
    member: RwLock<Option<Arc<Member>>>,
    /// Held while the node is becoming a member.
    becoming: tokio::sync::Mutex<()>,
    /// The cluster has removed this identity.
    pub removed: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Its folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// What is in it cannot be used.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// The disk cannot be asked.
    #[error("the disk of the data folder cannot be examined: {0}")]
    Disk(#[from] std::io::Error),
    /// Traces cannot be sent.
    #[error("otlp_endpoint: {0}")]
    Traces(#[from] TracesError),
}

impl Node {
    /// Takes the data folder, and goes on as the member that it was.
    pub async fn start(
        config: NodeConfig,
        addresses: Addresses,
        began: Instant,
    ) -> Result<Arc<Self>, NodeError> {
        let folder = DataFolder::take(&config.data)?;
        let disk = Arc::new(DiskWatch::new(&config.data, config.storage.disk_nearly_full_percent)?);
        let metrics = Arc::new(Metrics::new());
        memory::show_bounds(metrics.registry(), &config);
        let Observability { slow_operation, tracing } = &config.observability;
        let slow = SlowOperations::new(*slow_operation, metrics.registry());
        let traces = Traces::start(tracing.as_ref(), &config.name, metrics.registry())?;
        let node = Arc::new(Self {
            config: Arc::new(config),
            metrics,
            slow: Arc::new(slow),
            traces: Arc::new(traces),
            folder,
            addresses,
            disk,
            clocks: Clocks::new(WallClock::default()),
            began,
            member: RwLock::default(),
            becoming: tokio::sync::Mutex::default(),
            removed: CancellationToken::new(),
            tasks: Mutex::default(),
        });
        match node.folder.identity()? {
            Some(identity) if identity.cluster.is_some() => {
                let member = node.become_member(&identity).await?;
                if identity.founding {
                    node.go_on_founding(member);
                }
            }
            _ => node.join_as_configured(),
        }
        Ok(node)
    }

    /// What the node does in its cluster; a refusal while it belongs to none.
    pub fn member(&self) -> Result<Arc<Member>, Failure> {
        let known = || self.member.read().clone();
        if let Some(member) = known() {
            return Ok(member);
        }
        // Others may have it on their maps before it is ready for them.
        let Ok(_idle) = self.becoming.try_lock() else {
            return Err(failure::retry_after("this node is joining its cluster: ask another", 50));
        };
        known().ok_or_else(|| {
            let message = "this node belongs to no cluster yet: `trilith cluster init` creates one with it, \
                           `trilith cluster join ADDRESS` makes it join another";
            Failure::new(Code::FailedPrecondition, message, None)
        })
    }

    async fn become_member(self: &Arc<Self>, identity: &Identity) -> Result<Arc<Member>, MemberError> {
        let member = Member::open(self, identity).await?;
        *self.member.write() = Some(Arc::clone(&member));
        Ok(member)
    }

    /// What the meta group is told of this node.
    pub fn entry(&self, node: NodeId) -> NodeEntry {
        NodeEntry {
            node: proto::convert::node_bytes(node),
            name: self.config.name.clone(),
            state: proto::v1::NodeState::Serving.into(),
            addresses: Some(self.addresses.clone()),
            zone: self.config.zone.clone(),
            host: self.config.host.clone(),
            supports_version: SUPPORTED_CLUSTER_VERSION,
        }
    }

    /// Creates a cluster with this node as its first. Asked again for the same one, it only
    /// says so, or goes on where it was interrupted.
    pub async fn init(self: &Arc<Self>, wanted: Option<ClusterId>) -> Result<InitResponse, Failure> {
        let _becoming = self.becoming.lock().await;
        let founding = self.founding()?;
        if let Ok(member) = self.member() {
            if founding.is_some() && wanted.is_none_or(|wanted| wanted == member.cluster) {
                self.begin_cluster(&member).await?;
                return Ok(init_response(&member, false));
            }
            if wanted.is_some_and(|wanted| wanted == member.cluster) {
                return Ok(init_response(&member, true));
            }
            let message = format!(
                "this node belongs to cluster {} already; a cluster is created once, others join it",
                member.cluster
            );
            let detail = proto::v1::AlreadyExists { what: "cluster".to_owned() };
            let detail = proto::v1::error_detail::Detail::AlreadyExists(detail);
            return Err(Failure::new(Code::AlreadyExists, message, Some(detail)));
        }
        if let Some((begun, wanted)) = founding.zip(wanted).filter(|(begun, wanted)| begun != wanted) {
            let message = format!("this node is creating cluster {begun} already, not {wanted}");
            return Err(Failure::new(Code::FailedPrecondition, message, None));
        }
        let cluster = wanted.or(founding).unwrap_or_else(|| ClusterId(Uuid::new_v4()));
        // A crash before the meta group has its first record leaves an identity that says so,
        // and the next start goes on.
        let identity = self.new_identity(Some(cluster))?;
        let member =
            self.become_member(&identity).await.map_err(|error| failure::internal(error.to_string()))?;
        self.begin_cluster(&member).await?;
        Ok(init_response(&member, false))
    }

    fn new_identity(&self, cluster: Option<ClusterId>) -> Result<Identity, Failure> {
        let folder_failed = |error: FolderError| failure::internal(error.to_string());
        let known = self.folder.identity().map_err(folder_failed)?;
        let node = known.map_or_else(|| NodeId(Uuid::new_v4()), |identity| identity.node);
        let identity = Identity { node, cluster, known: Vec::new(), founding: cluster.is_some() };
        self.folder.write_identity(&identity).map_err(folder_failed)?;
        Ok(identity)
    }

    /// The cluster that this node was told to create and may not have created yet.
    fn founding(&self) -> Result<Option<ClusterId>, Failure> {
        let known = self.folder.identity().map_err(|error| failure::internal(error.to_string()))?;
        Ok(known.filter(|identity| identity.founding).and_then(|identity| identity.cluster))
    }

    /// Creates the cluster in whose creation this node was interrupted.
    fn go_on_founding(self: &Arc<Self>, member: Arc<Member>) {
        let node = Arc::clone(self);
        let task = tokio::spawn(async move {
            loop {
                let begun = {
                    let _becoming = node.becoming.lock().await;
                    node.begin_cluster(&member).await
                };
                match begun {
                    Ok(()) => return,
                    // Others have joined meanwhile, so it was created.
                    Err(_) if matches!(node.founding(), Ok(None)) => return,
                    Err(refused) => tracing::warn!(why = refused.message, "the cluster is not created yet"),
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
        self.tasks.lock().push(task);
    }

    /// Makes the meta group and its first record. Every step may have been done before.
    async fn begin_cluster(&self, member: &Arc<Member>) -> Result<(), Failure> {
        let meta = member
            .groups
            .make_meta(FIRST_META_REPLICA)
            .await
            .map_err(|error| failure::internal(error.to_string()))?;
        let place = crate::raft::type_config::ReplicaPlace { node: member.node };
        meta.initialize([(FIRST_META_REPLICA.0, place)].into())
            .await
            .map_err(|error| failure::internal(error.to_string()))?;
        let command = InitCluster {
            cluster: member.cluster.to_bytes().to_vec().into(),
            first_node: Some(self.entry(member.node)),
            first_meta_replica: FIRST_META_REPLICA.0,
        };
        let deadline = clock::now() + Duration::from_secs(10);
        loop {
            meta.wait_for_leader(Duration::from_secs(1)).await;
            let command = MetaCommand { command: Some(Command::InitCluster(command.clone())) };
            match member.meta.propose(command).await {
                Ok(_) => return self.note_founded(),
                Err(refused) if clock::now() > deadline => return Err(refused),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    fn note_founded(&self) -> Result<(), Failure> {
        let failed = |error: FolderError| failure::internal(error.to_string());
        self.folder.change_identity(|identity| identity.founding = false).map_err(failed)
    }

    /// Joins the cluster that a node belongs to, by that node's gRPC address.
    pub async fn join(self: &Arc<Self>, address: &str, patience: Duration) -> Result<JoinResponse, Failure> {
        if address.is_empty() {
            return Err(failure::invalid("whom to join? give the gRPC address of any node of the cluster"));
        }
        let _becoming = self.becoming.lock().await;
        let deadline = clock::now() + patience;
        let outside = join::look(address).await?;
        if let Ok(member) = self.member() {
            if member.cluster == outside.cluster {
                return Ok(join_response(&member, true));
            }
            return Err(join::wrong_cluster(outside.cluster, member.cluster, Some(member.node)));
        }
        // The identity is written first: a join that is tried again is the same node's.
        let pending = self.new_identity(None)?;
        let registered =
            join::register(&self.entry(pending.node), outside.cluster, &outside.peers, deadline).await?;
        let known = registered
            .nodes
            .iter()
            .filter_map(known_of)
            .filter(|known| known.node != pending.node.0)
            .collect();
        let identity = Identity { cluster: Some(outside.cluster), known, ..pending };
        self.folder.write_identity(&identity).map_err(|error| failure::internal(error.to_string()))?;
        let member =
            self.become_member(&identity).await.map_err(|error| failure::internal(error.to_string()))?;
        Ok(join_response(&member, false))
    }

    /// Joins by the addresses that it was started with, for as long as it takes.
    fn join_as_configured(self: &Arc<Self>) {
        if self.config.join.is_empty() {
            return;
        }
        let node = Arc::clone(self);
        let task = tokio::spawn(async move {
            let mut last = String::new();
            while node.member().is_err() {
                for address in &node.config.join {
                    match node.join(&address.to_string(), Duration::from_secs(10)).await {
                        Ok(_) => return,
                        Err(refused) if refused.message != last => {
                            tracing::warn!(%address, why = refused.message, "cannot join yet");
                            last = refused.message;
                        }
                        Err(_) => {}
                    }
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
        self.tasks.lock().push(task);
    }

    /// Makes itself dispensable while its doors are still open: it is not ready any more, hands
    /// leadership over, then refuses what comes, finishes what is under way and ends streams.
    pub async fn leave(&self) {
        self.tasks.lock().drain(..).for_each(|task| task.abort());
        if let Ok(member) = self.member() {
            member.leave(HAND_OVER).await;
        }
    }

    /// Ends everything in order, once the doors are closed.
    pub async fn stop(&self) {
        if let Ok(member) = self.member() {
            member.stop().await;
        }
        self.traces.stop().await;
    }

    /// Puts the data of a removed identity aside, after [`Node::stop`].
    pub fn retire(&self) -> Result<(), FolderError> {
        if let Some(identity) = self.folder.identity()? {
            let place = self.folder.retire(&identity)?;
            tracing::warn!(place = %place.display(), "this node was removed from its cluster; its data was put aside");
        }
        Ok(())
    }
}

impl Health for Node {
    fn ready(&self) -> Result<(), String> {
        let member = self.member().map_err(|failure| failure.message)?;
        member.ready()
    }
}

fn known_of(entry: &NodeEntry) -> Option<Known> {
    let node = NodeId::from_bytes(&entry.node)?;
    let peer = entry.addresses.as_ref()?.peer.clone();
    Some(Known { node: node.0, peer })
}

fn init_response(member: &Member, already: bool) -> InitResponse {
    InitResponse {
        cluster: member.cluster.to_bytes().to_vec().into(),
        node: proto::convert::node_bytes(member.node),
        already,
    }
}

fn join_response(member: &Member, already: bool) -> JoinResponse {
    JoinResponse {
        cluster: member.cluster.to_bytes().to_vec().into(),
        node: proto::convert::node_bytes(member.node),
        already,
    }
}

impl Member {
    /// The map for clients, with who leads what.
    pub fn map_response(&self) -> MapResponse {
        self.router.map().to_map_response(self.cluster, &self.router.leaders())
    }

    /// Waits a little until this node's map has a table.
    pub async fn wait_for_table(&self, table: TableId) {
        let mut map = self.router.watch_map();
        let known = map.wait_for(|map| map.map().tables.contains_key(&table));
        let _ = tokio::time::timeout(Duration::from_secs(2), known).await;
    }

    /// A node by its UUID or name, with its peer address.
    pub fn find_node(&self, text: &str) -> Option<(NodeId, String)> {
        let map = self.router.map();
        let by_id: Option<NodeId> = text.parse().ok();
        let found = map.map().nodes.values().find(|node| by_id == Some(node.id) || node.name == text)?;
        Some((found.id, map.node_details(found.id)?.addresses.peer.clone()))
    }

    /// Whether this node holds a replica of the meta group.
    pub fn holds_meta(&self) -> bool {
        self.groups.get(PartitionId::META).is_some()
    }
}
