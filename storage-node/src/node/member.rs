//! A node that belongs to a cluster: its databases, its replicas, and the tasks that keep
//! them as the cluster wants them.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use placement::{ClusterId, NodeId, PartitionId};
use prost::Message;
use proto::v1::{ForwardAnswer, ForwardRequest, Result as OperationResult, result::Result as Outcome};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Node;
use crate::control::driver::Driver;
use crate::control::follower::Follower;
use crate::control::identity::{Identity, Known};
use crate::control::join;
use crate::control::meta_leader::MetaLeader;
use crate::control::meta_link::MetaLink;
use crate::control::reporter::Reporter;
use crate::control::service::Service;
use crate::meta::FollowedMap;
use crate::node::indexes;
use crate::observability::metrics::{Lag, Metrics, memory};
use crate::raft::groups::{self, Groups, GroupsError};
use crate::raft::network::counters::Counters;
use crate::raft::network::forward::Forwarded;
use crate::raft::network::inbound::Inbound;
use crate::raft::network::liveness;
use crate::raft::network::peers::{self, AddressBook, PeerSettings, Peers};
use crate::raft::network::scratch::Scratch;
use crate::raft::network::throttle::SnapshotThrottle;
use crate::raft::sleep::keeper;
use crate::raft::{Group, Timing};
use crate::router::operations::Parts;
use crate::router::{Limits, NewestMap, Router};
use crate::seams::{clock, fatal, threads};
use crate::storage::log::error::LogError;
use crate::storage::log::{Log, LogOptions};
use crate::storage::state::{RocksState, RocksStateOptions, StateEngine, StateError};
use crate::watch::SINCE_VERSION;

/// The log is shortened after so much was written to it …
const PURGE_AFTER_BYTES: u64 = 64 << 20;
/// … or so long after the last time, if anything was.
const PURGE_AFTER: Duration = Duration::from_secs(300);
const EXPIRY_LOOK: Duration = Duration::from_millis(50);
/// How often it is looked whether tables have changed and history is too old.
const SETTLE_LOOK: Duration = Duration::from_secs(1);
const DISK_LOOK: Duration = Duration::from_secs(1);
/// What is under way when the node ends has so long to be answered.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Why a member cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A replica cannot go on.
    #[error(transparent)]
    Groups(#[from] GroupsError),
    /// The folder of snapshots cannot be used.
    #[error("the folder for snapshots on their way: {0}")]
    Scratch(#[from] std::io::Error),
    /// The identity is of no cluster.
    #[error("this node belongs to no cluster yet")]
    NoCluster,
}

/// What a node does in its cluster.
pub struct Member {
    /// The cluster.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// Its replicas.
    pub groups: Arc<Groups>,
    /// Takes operations to where they are done.
    pub router: Arc<Router>,
    /// The way to the meta leader.
    pub link: Arc<MetaLink>,
    /// What it is as meta leader.
    pub meta: Arc<MetaLeader>,
    /// Answers Admin calls.
    pub service: Arc<Service>,
    /// Takes what peers send.
    pub inbound: Arc<Inbound>,
    log: Arc<Log>,
    peers: Arc<Peers>,
    caught_up: AtomicBool,
    leaving: AtomicBool,
    /// Its streams end.
    closing: CancellationToken,
    stop: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// Where the others are: as the map says, else as it was last known.
struct Addresses {
    map: watch::Receiver<Arc<FollowedMap>>,
    known: HashMap<NodeId, String>,
}

impl AddressBook for Addresses {
    fn peer_address(&self, node: NodeId) -> Option<String> {
        let by_map = self.map.borrow().node_details(node).map(|details| details.addresses.peer.clone());
        by_map.or_else(|| self.known.get(&node).cloned())
    }
}

/// Does what other nodes pass on, once there is a router.
struct Forwarding {
    router: Arc<Router>,
}

#[tonic::async_trait]
impl Forwarded for Forwarding {
    async fn operate(&self, request: ForwardRequest) -> ForwardAnswer {
        if request.scan.is_some() {
            let scan = Some(self.router.scan_here(request).await);
            return ForwardAnswer { scan, ..ForwardAnswer::default() };
        }
        if request.index.is_some() {
            let index = Some(self.router.query_here(request).await);
            return ForwardAnswer { index, ..ForwardAnswer::default() };
        }
        let outcome = self.router.operate_here(request).await.unwrap_or_else(Outcome::Failure);
        let result = OperationResult { result: Some(outcome) }.encode_to_vec().into();
        ForwardAnswer { result, ..ForwardAnswer::default() }
    }
}

impl Member {
    /// Opens what is on disk, starts the replicas that were there, and begins to follow.
    pub async fn open(node: &Arc<Node>, identity: &Identity) -> Result<Arc<Self>, MemberError> {
        let cluster = identity.cluster.ok_or(MemberError::NoCluster)?;
        let id = identity.node;
        let (log, engine) = open_databases(node).await?;
        let (map_sender, map) = watch::channel(Arc::new(FollowedMap::default()));
        let known = identity.known.iter().map(|known| (NodeId(known.node), known.peer.clone())).collect();
        let addresses = Arc::new(Addresses { map: map.clone(), known });
        let scratch = Arc::new(Scratch::open(node.folder.scratch())?);
        let counters = Arc::new(Counters::default());
        let throttle = Arc::new(SnapshotThrottle::new(node.config.storage.snapshot_bytes_per_second));
        let who = peers::Identity { cluster, node: id };
        let settings = PeerSettings::default();
        let peers =
            Peers::new(who, addresses, settings, Arc::clone(&scratch), throttle, Arc::clone(&counters));
        let clocks = node.clocks.clone();
        let timing = node.config.timing;
        let groups = Groups::open(groups::Parts {
            node: id,
            log: Arc::clone(&log),
            engine: Arc::clone(&engine),
            peers: Arc::clone(&peers),
            timing: Timing {
                heartbeat_interval: timing.heartbeat_interval,
                election_timeout_min: timing.election_timeout_min,
                election_timeout_max: timing.election_timeout_max,
                sleep_after: timing.sleep_after,
            },
            stamp: Arc::new(move || clocks.stamp()),
            process_began: node.began,
            metrics: Arc::clone(&node.metrics),
        })
        .await?;
        let limits = node.config.limits;
        let newest = Arc::new(NewestMap::default());
        let router = Router::new(Parts {
            cluster,
            node: id,
            groups: Arc::clone(&groups),
            map: map.clone(),
            peers: Arc::clone(&peers),
            limits: Limits {
                key_bytes: limits.max_key_bytes,
                value_bytes: limits.max_value_bytes,
                batch_operations: limits.max_batch_operations,
                batch_bytes: limits.max_batch_bytes,
                page_items: limits.scan_page_items as u64,
                page_bytes: limits.scan_page_bytes as u64,
            },
            newest: Arc::clone(&newest),
            waiting_write_bytes: limits.max_waiting_write_bytes,
            disk: Arc::clone(&node.disk),
            metrics: Arc::clone(&node.metrics),
            slow: Arc::clone(&node.slow),
            traces: Arc::clone(&node.traces),
        });
        let forwarding = Arc::new(Forwarding { router: Arc::clone(&router) });
        let replicas = Arc::clone(&groups);
        let inbound = Arc::new(Inbound::new(
            who,
            replicas,
            forwarding,
            settings,
            scratch,
            Arc::clone(peers.liveness()),
            counters,
        ));
        let addresses = identity.known.iter().map(|known| known.peer.clone()).collect();
        let link = MetaLink::new(cluster, id, Arc::clone(&groups), map, addresses);
        let meta = MetaLeader::new(Arc::clone(&groups));
        let service = Arc::new(Service { node: id, link: Arc::clone(&link), meta: Arc::clone(&meta) });
        let member = Arc::new(Self {
            cluster,
            node: id,
            groups,
            router,
            link,
            meta,
            service,
            inbound,
            log,
            peers,
            caught_up: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            closing: CancellationToken::new(),
            stop: CancellationToken::new(),
            tasks: Mutex::default(),
        });
        member.show_figures(node);
        member.begin(node, map_sender, newest);
        Ok(member)
    }

    /// Whether it has caught up once since its start; if not, what is missing.
    pub fn ready(&self) -> Result<(), String> {
        if self.leaving.load(Ordering::Acquire) {
            return Err("this node is shutting down".to_owned());
        }
        if self.caught_up.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err("this node's replicas are catching up".to_owned())
        }
    }

    /// Cancelled when streams are to end, so that the doors can close.
    pub fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Runs for as long as the node does; without any of its tasks it is not what it seems.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let watched = async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                fatal::stop("a task of this node has panicked", &"see the message before");
            }
        };
        self.tasks.lock().push(tokio::spawn(watched));
    }

    fn begin(
        self: &Arc<Self>,
        node: &Arc<Node>,
        map: watch::Sender<Arc<FollowedMap>>,
        newest: Arc<NewestMap>,
    ) {
        let stop = || self.stop.clone();
        let follower = Arc::new(Follower {
            cluster: self.cluster,
            node: self.node,
            link: Arc::clone(&self.link),
            groups: Arc::clone(&self.groups),
            map,
            newest,
        });
        self.spawn(follower.run(stop()));
        let reporter = Reporter {
            cluster: self.cluster,
            node: self.node,
            link: Arc::clone(&self.link),
            meta: Arc::clone(&self.meta),
            groups: Arc::clone(&self.groups),
            router: Arc::clone(&self.router),
            disk: Arc::clone(&node.disk),
            clocks: node.clocks.clone(),
            metrics: Arc::clone(&node.metrics),
            removed: node.removed.clone(),
        };
        self.spawn(reporter.run(stop()));
        let driver = Driver::new(Arc::clone(&self.meta), Arc::clone(&self.link), Arc::clone(&self.groups));
        self.spawn(driver.run(stop()));
        self.spawn(until(stop(), Arc::clone(self).announce(Arc::clone(node))));
        self.spawn(until(stop(), Arc::clone(self).expire()));
        self.spawn(until(stop(), Arc::clone(self).settle_tables()));
        self.spawn(until(stop(), indexes::build(Arc::clone(&self.router), Arc::clone(&self.groups))));
        self.spawn(until(stop(), Arc::clone(self).sweep_moments()));
        self.spawn(until(stop(), Arc::clone(self).purge_logs()));
        self.spawn(until(stop(), Arc::clone(self).catch_up()));
        self.spawn(until(stop(), watch_disk(Arc::clone(node))));
        let timing = node.config.timing;
        let (peers, every, patience) =
            (Arc::clone(&self.peers), timing.heartbeat_interval, timing.election_timeout_max);
        self.spawn(until(stop(), liveness::watch(peers, every, patience)));
        self.spawn(until(stop(), keeper::keep(Arc::clone(&self.groups))));
    }

    /// Says where this node is until the meta leader has heard it, and remembers on disk
    /// where the others are.
    async fn announce(self: Arc<Self>, node: Arc<Node>) {
        let mut map = self.router.watch_map();
        let mut written = Vec::new();
        let mut announced = false;
        loop {
            if !announced {
                announced = self.announce_once(&node).await;
            }
            let known = {
                let map = map.borrow_and_update();
                let others = map.map().nodes.values().filter(|other| other.id != self.node);
                let others = others.filter(|other| other.state != placement::NodeState::Removed);
                let known = others.filter_map(|other| {
                    let peer = map.node_details(other.id)?.addresses.peer.clone();
                    Some(Known { node: other.id.0, peer })
                });
                known.collect::<Vec<_>>()
            };
            if !known.is_empty() && known != written {
                let changed = node.folder.change_identity(|identity| {
                    identity.known.clone_from(&known);
                    // Others have joined, so the cluster exists.
                    identity.founding = false;
                });
                match changed {
                    Ok(()) => written = known,
                    Err(error) => tracing::warn!(%error, "the addresses of the other nodes were not written"),
                }
            }
            if announced {
                if map.changed().await.is_err() {
                    return;
                }
            } else {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }

    async fn announce_once(&self, node: &Node) -> bool {
        let entry = node.entry(self.node);
        let answer = if self.link.leads() {
            let request = proto::v1::RegisterRequest {
                node: Some(entry),
                cluster: self.cluster.to_bytes().to_vec().into(),
            };
            self.service.register(request).await
        } else {
            let deadline = clock::now() + Duration::from_secs(2);
            join::register(&entry, self.cluster, &self.link.candidates(), deadline).await
        };
        match answer {
            Ok(answer) if answer.removed => {
                node.removed.cancel();
                true
            }
            Ok(answer) => !answer.not_leader,
            Err(refused) => {
                tracing::debug!(
                    why = refused.message,
                    "the meta leader does not know yet where this node is"
                );
                false
            }
        }
    }

    /// Removes what is due, wherever this node leads. A group that has lost its quorum holds
    /// up no other.
    async fn expire(self: Arc<Self>) {
        let under_way = Arc::new(Mutex::new(HashSet::new()));
        loop {
            for group in self.groups.all() {
                if group.has_due() && under_way.lock().insert(group.group) {
                    let under_way = Arc::clone(&under_way);
                    tokio::spawn(async move {
                        let mut more = true;
                        while more {
                            more = group.expire().await.unwrap_or_else(|error| {
                                tracing::debug!(partition = %group.group, %error, "nothing was expired");
                                false
                            });
                        }
                        under_way.lock().remove(&group.group);
                    });
                }
            }
            tokio::time::sleep(EXPIRY_LOOK).await;
        }
    }

    /// Tells the groups that this node leads what their tables are like, and has them forget
    /// history that is too old. A group that has lost its quorum holds up no other.
    async fn settle_tables(self: Arc<Self>) {
        let under_way = Arc::new(Mutex::new(HashSet::new()));
        loop {
            tokio::time::sleep(SETTLE_LOOK).await;
            let map = self.router.map();
            if map.cluster_version() < SINCE_VERSION {
                continue;
            }
            for group in self.groups.all().into_iter().filter(|group| group.leads()) {
                let Some(table) = map.partition(group.group).map(|partition| partition.table) else {
                    continue;
                };
                if group.group == PartitionId::META || !under_way.lock().insert(group.group) {
                    continue;
                }
                let (settings, under_way) = (map.settings(table), Arc::clone(&under_way));
                tokio::spawn(async move {
                    if let Err(error) = group.settle(settings).await {
                        tracing::debug!(partition = %group.group, %error, "a partition was not settled");
                    }
                    under_way.lock().remove(&group.group);
                });
            }
        }
    }

    async fn sweep_moments(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.router.moments().sweep(clock::now());
        }
    }

    async fn purge_logs(self: Arc<Self>) {
        let (mut bytes, mut last) = (self.log.metrics().bytes(), clock::now());
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let written = self.log.metrics().bytes();
            let much = written - bytes >= PURGE_AFTER_BYTES;
            let long_ago = written > bytes && last.elapsed() >= PURGE_AFTER;
            if !much && !long_ago {
                continue;
            }
            match self.groups.purge_logs().await {
                Ok(groups) => tracing::debug!(groups, "the state is flushed and the logs may go up to there"),
                Err(error) => fatal::stop("the state cannot be flushed", &error),
            }
            (bytes, last) = (written, clock::now());
        }
    }

    async fn catch_up(self: Arc<Self>) {
        let mut done: HashSet<PartitionId> = HashSet::new();
        loop {
            let left: Vec<_> =
                self.groups.all().into_iter().filter(|group| !done.contains(&group.group)).collect();
            if left.is_empty() {
                break;
            }
            for group in left {
                // A group that was destroyed meanwhile has nothing to catch up with.
                tokio::select! {
                    _ = group.caught_up() => {}
                    () = self.gone(group.group) => {}
                }
                done.insert(group.group);
            }
        }
        self.caught_up.store(true, Ordering::Release);
        tracing::info!("this node is ready: its replicas have caught up");
    }

    async fn gone(&self, group: PartitionId) {
        while self.groups.get(group).is_some() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn show_figures(self: &Arc<Self>, node: &Node) {
        node.metrics.follow_log(&self.log);
        let registry = node.metrics.registry();
        let counters = Arc::clone(self.peers.counters());
        registry.counter_fn("kvstore_peer_frames_total", "Frames sent to other nodes.", &[], move || {
            counters.read().frames_sent
        });
        let counters = Arc::clone(self.peers.counters());
        registry.counter_fn("kvstore_peer_messages_total", "Messages in those frames.", &[], move || {
            counters.read().messages_sent
        });
        let router = Arc::clone(&self.router);
        registry.gauge_fn(
            "kvstore_snapshots_held",
            "Scans and queries that hold snapshots.",
            &[],
            move || router.moments().count() as f64,
        );
    }

    fn show_lag(&self, groups: &[Arc<Group>], metrics: &Metrics) {
        let mut lag = Lag::default();
        // In a group that sleeps everybody has everything.
        groups.iter().filter(|group| !group.sleep().is_asleep()).for_each(|group| group.count_lag(&mut lag));
        let map = self.router.map();
        let nodes = &map.map().nodes;
        metrics.lag.show(&lag, |id| nodes.get(&id).map_or_else(|| id.to_string(), |node| node.name.clone()));
    }

    /// Makes this node dispensable, so that its doors can close: leadership goes first, while
    /// whoever asks is still served, and what is under way is finished before streams end.
    pub async fn leave(&self, patience: Duration) {
        self.leaving.store(true, Ordering::Release);
        let (handed, left) = self.groups.hand_over_all(&HashSet::new(), patience).await;
        tracing::info!(handed, left, "leadership was handed over");
        self.router.doorway.shut();
        if tokio::time::timeout(LAST_ANSWERS, self.router.doorway.empty()).await.is_err() {
            tracing::warn!("some operations are broken off");
        }
        self.closing.cancel();
        self.inbound.close();
    }

    /// Ends everything in order; what was acknowledged is on disk.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.closing.cancel();
        self.inbound.close();
        let tasks: Vec<_> = self.tasks.lock().drain(..).collect();
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        self.router.moments().let_all_go();
        self.groups.stop().await;
        self.peers.close();
        let log = Arc::clone(&self.log);
        let engine = Arc::clone(self.groups.engine());
        threads::blocking(move || {
            log.shutdown();
            if let Err(error) = engine.flush() {
                tracing::warn!(%error, "the state was not flushed at the end; the log has it all");
            }
        })
        .await;
    }
}

async fn until(stop: CancellationToken, task: impl Future<Output = ()>) {
    stop.run_until_cancelled(task).await;
}

async fn watch_disk(node: Arc<Node>) {
    let mut turn = 0_u64;
    loop {
        if let Err(error) = node.disk.look() {
            tracing::warn!(%error, "the disk cannot be examined");
        }
        if turn.is_multiple_of(15) {
            let disk = Arc::clone(&node.disk);
            threads::blocking(move || disk.measure()).await;
        }
        let metrics = &node.metrics;
        metrics.disk_usage_bytes.set(node.disk.used_bytes());
        metrics.disk_free_bytes.set(node.disk.free_bytes());
        metrics.disk_size_bytes.set(node.disk.total_bytes());
        metrics.disk_nearly_full.set(node.disk.is_nearly_full().into());
        if let Ok(member) = node.member() {
            let groups = member.groups.all();
            if let Some((group, why)) = groups.iter().find_map(|group| Some((group.group, group.broken()?))) {
                fatal::stop("a replica has come to an end", &format!("partition {group}: {why}"));
            }
            metrics.replicas.set(groups.len() as u64);
            metrics
                .replicas_asleep
                .set(groups.iter().filter(|group| group.sleep().is_asleep()).count() as u64);
            metrics.leaders.set(groups.iter().filter(|group| group.leads()).count() as u64);
            metrics.waiting_write_bytes.set(member.router.admission.waiting() as u64);
            member.show_lag(&groups, metrics);
        }
        node.slow.tell_rest();
        turn += 1;
        tokio::time::sleep(DISK_LOOK).await;
    }
}

type Databases = (Arc<Log>, Arc<dyn StateEngine>);

async fn open_databases(node: &Node) -> Result<Databases, MemberError> {
    let (log_path, state_path) = (node.folder.log(), node.folder.state());
    let storage = node.config.storage;
    let (log, state) = threads::blocking(move || {
        let chosen = RocksStateOptions {
            block_cache_bytes: storage.block_cache_bytes,
            write_buffer_bytes: storage.write_buffer_bytes,
            // Only where somebody said what all of it may take together.
            lends_write_buffers: storage.memory.is_some(),
            compression: storage.compression,
            bloom_bits: storage.bloom_bits,
            memory_mapped_reads: storage.memory_mapped_reads,
            background_bytes_per_second: storage.background_bytes_per_second,
            ..RocksStateOptions::default()
        };
        let recent = LogOptions::of(storage.log_buffer_bytes, storage.recent_entries_bytes);
        let log = Log::open(&log_path, &recent)?;
        let state = RocksState::open(&state_path, chosen)?;
        Ok::<_, MemberError>((log, state))
    })
    .await?;
    memory::show_used(node.metrics.registry(), &log, &state);
    Ok((log, state))
}
