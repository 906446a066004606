//! What the objects of a cluster are called.

use crds::cluster::NODES_SUFFIX;

/// The volume of a pod that holds its data, and what the names of claims begin with.
pub const DATA: &str = "data";

/// The `StatefulSet` of a pool.
pub fn stateful_set(cluster: &str, pool: &str) -> String {
    format!("{cluster}-{pool}")
}

/// A pod, and the node in it.
pub fn pod(cluster: &str, pool: &str, ordinal: u32) -> String {
    format!("{cluster}-{pool}-{ordinal}")
}

/// The claim of a pod: the name under which a `StatefulSet` looks for it.
pub fn claim(cluster: &str, pool: &str, ordinal: u32) -> String {
    format!("{DATA}-{}", pod(cluster, pool, ordinal))
}

/// The Service that gives each pod a DNS name.
pub fn nodes_service(cluster: &str) -> String {
    format!("{cluster}{NODES_SUFFIX}")
}

/// The Service that applications connect to.
pub fn client_service(cluster: &str) -> String {
    cluster.to_owned()
}

/// The DNS name of a pod. It leaves out the domain of the Kubernetes cluster, which pods search by themselves.
pub fn pod_host(namespace: &str, cluster: &str, pod: &str) -> String {
    format!("{pod}.{}.{namespace}.svc", nodes_service(cluster))
}

/// The `ServiceAccount` that is made where none is named.
pub fn service_account(cluster: &str) -> String {
    cluster.to_owned()
}
