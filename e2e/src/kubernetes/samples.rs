//! The resources that scenarios begin with, small enough for the machine that they run on.

use crds::cluster::{Pool, RebalanceMode, Retention};
use crds::{ByteQuantity, KVCluster, KVClusterSpec, KVTable, KVTableSpec, TimeSpan};
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A cluster with one pool `main` of so many nodes.
pub fn cluster(name: &str, replicas: i32) -> KVCluster {
    KVCluster::new(name, KVClusterSpec::of_pools(vec![pool("main", replicas)]))
}

/// A pool of so many nodes.
pub fn pool(name: &str, replicas: i32) -> Pool {
    let mut pool = Pool::new(name, replicas);
    pool.storage.size = ByteQuantity::new("1Gi");
    pool.resources = requests("50m", "128Mi");
    pool
}

/// What a node asks of its machine.
pub fn requests(cpu: &str, memory: &str) -> ResourceRequirements {
    let requests = [("cpu", cpu), ("memory", memory)];
    let requests = requests.map(|(name, much)| (name.to_owned(), Quantity(much.to_owned())));
    ResourceRequirements { requests: Some(requests.into()), ..ResourceRequirements::default() }
}

/// A table of a cluster, with eight partitions of three replicas.
pub fn table(name: &str, cluster: &str) -> KVTable {
    KVTable::new(name, KVTableSpec::of_cluster(cluster))
}

/// Repairs after so many seconds.
pub fn repairing_after(mut cluster: KVCluster, delay: &'static str) -> KVCluster {
    cluster.spec.repair.delay = TimeSpan::new(delay);
    cluster
}

/// Gives a change so long to work before it is taken back.
pub fn with_update_timeout(mut cluster: KVCluster, timeout: &'static str) -> KVCluster {
    cluster.spec.updates.timeout = TimeSpan::new(timeout);
    cluster
}

/// Leaves moves for the sake of balance to somebody.
pub fn rebalanced_by(mut cluster: KVCluster, mode: RebalanceMode) -> KVCluster {
    cluster.spec.rebalance.mode = mode;
    cluster
}

/// Keeps nothing: neither of nodes that go, nor in the end.
pub fn keeping_nothing(mut cluster: KVCluster) -> KVCluster {
    cluster.spec.claim_retention.when_scaled = Retention::Delete;
    cluster.spec.claim_retention.when_deleted = Retention::Delete;
    cluster
}
