//! What is wanted of a cluster, reduced to what planning needs.
//!
//! It is taken from the validated spec in one place, so that planning knows neither custom
//! resources nor Kubernetes' types and its tests read as sentences.

use placement::ClusterId;

use crds::cluster::{ClusterVersion, RebalanceMode as DeclaredMode, Retention as DeclaredRetention};

use super::objects::inputs;
use super::observed::Seat;
use super::validate::ValidCluster;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// The object's name.
    pub name: String,
    /// The UID of the object: the cluster's id, unless older claims say another one.
    pub uid: ClusterId,
    /// The pools, in the order of the spec.
    pub pools: Vec<PoolIntent>,
    /// Whether nothing but status may be done.
    pub paused: bool,
    /// Whether no pod should run, with the claims kept.
    pub hibernate: bool,
    /// How pods are replaced.
    pub update: UpdateIntent,
    /// Whether the cluster version is raised once every node supports a newer one.
    pub raises_version: bool,
    /// What happens to a node that is gone for long.
    pub repair: RepairIntent,
    /// Who decides on moves for the sake of balance.
    pub rebalance: RebalanceIntent,
    /// What happens to the claim of a node that was removed by scaling down.
    pub claims_when_scaled: Retention,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolIntent {
    /// Its name.
    pub name: String,
    /// How many nodes.
    pub replicas: u32,
    /// The hash of the inputs that need a restart.
    pub inputs: String,
    /// The size of each claim, in bytes.
    pub storage: u64,
}

/// How pods are replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateIntent {
    /// Whether no pod is replaced now.
    pub paused: bool,
    /// How long a changed pod may take until it is ready, in seconds.
    pub timeout: i64,
    /// Whether a pod is replaced although leaders stay on it.
    pub proceed_with_leaders: bool,
    /// Whether a pod is replaced although partitions with one copy are away meanwhile.
    pub allow_single_replica: bool,
}

/// What happens to a node that is gone for long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairIntent {
    /// Whether anything happens.
    pub on: bool,
    /// How long a node may be silent, in seconds.
    pub delay: u64,
}

/// Who decides on moves for the sake of balance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebalanceIntent {
    /// Who.
    pub mode: RebalanceMode,
    /// How many moves may be under way at a time.
    pub concurrent: usize,
    /// The proposal that somebody approved, by its token.
    pub approved: Option<String>,
}

/// Who decides on moves for the sake of balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebalanceMode {
    /// The operator makes the planner's moves.
    Auto,
    /// Somebody looks at the plan first.
    Manual,
    /// Nobody: nothing moves for the sake of balance.
    Off,
}

/// Whether data is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// It is kept.
    Retain,
    /// It goes.
    Delete,
}

impl From<&ValidCluster> for Intent {
    fn from(cluster: &ValidCluster) -> Self {
        let pools = cluster.pools.iter().map(|pool| PoolIntent {
            name: pool.spec.name.clone(),
            replicas: pool.replicas,
            inputs: inputs::hash(cluster, pool),
            storage: pool.storage_bytes,
        });
        let repair = cluster.repair_after;
        Self {
            name: cluster.name.clone(),
            uid: cluster.uid,
            pools: pools.collect(),
            paused: cluster.paused,
            hibernate: cluster.hibernate,
            update: UpdateIntent {
                paused: cluster.updates.paused,
                timeout: i64::try_from(cluster.updates.timeout.as_secs()).unwrap_or(i64::MAX),
                proceed_with_leaders: cluster.updates.proceed_with_leaders,
                allow_single_replica: cluster.updates.allow_single_replica,
            },
            raises_version: cluster.updates.cluster_version == ClusterVersion::Auto,
            repair: RepairIntent { on: repair.is_some(), delay: repair.unwrap_or_default().as_secs() },
            rebalance: RebalanceIntent {
                mode: match cluster.rebalance.mode {
                    DeclaredMode::Auto => RebalanceMode::Auto,
                    DeclaredMode::Manual => RebalanceMode::Manual,
                    DeclaredMode::Disabled => RebalanceMode::Off,
                },
                concurrent: cluster.rebalance.concurrent_moves as usize,
                approved: cluster.rebalance.approved_plan.clone(),
            },
            claims_when_scaled: match cluster.claim_retention.when_scaled {
                DeclaredRetention::Retain => Retention::Retain,
                DeclaredRetention::Delete => Retention::Delete,
            },
        }
    }
}

impl Intent {
    /// The pool of that name.
    pub fn pool(&self, name: &str) -> Option<&PoolIntent> {
        self.pools.iter().find(|pool| pool.name == name)
    }

    /// How many nodes a pool should have; a pool that the spec does not name should have none.
    pub fn replicas(&self, pool: &str) -> u32 {
        self.pool(pool).map_or(0, |pool| pool.replicas)
    }

    /// Whether there should be a node at a seat.
    pub fn wants(&self, seat: &Seat) -> bool {
        seat.ordinal < self.replicas(&seat.pool)
    }

    /// How many nodes there should be.
    pub fn nodes(&self) -> u32 {
        self.pools.iter().map(|pool| pool.replicas).sum()
    }

    /// The seats that there should be, in order.
    pub fn seats(&self) -> impl Iterator<Item = Seat> + '_ {
        self.pools
            .iter()
            .flat_map(|pool| (0..pool.replicas).map(|ordinal| Seat { pool: pool.name.clone(), ordinal }))
    }

    /// The name of the pod, and of the node, at a seat.
    pub fn pod_name(&self, seat: &Seat) -> String {
        format!("{}-{}-{}", self.name, seat.pool, seat.ordinal)
    }

    /// The name of the claim of a seat, by which the `StatefulSet` finds it.
    pub fn claim_name(&self, seat: &Seat) -> String {
        format!("data-{}", self.pod_name(seat))
    }
}
