//! How the objects of a cluster are found. Labels never name a version, because selectors never change.

use std::collections::BTreeMap;

use crds::annotations::POOL;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Who sets all these labels, and owns the fields that it sets.
pub const MANAGER: &str = "trilith-operator";
/// The label that says which part of a cluster an object is.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// The component of pods, and of what belongs to a pod.
pub const STORAGE: &str = "storage";
/// The component of the Service of nodes, by which metrics are collected.
pub const NODES: &str = "nodes";

/// Labels.
pub type Labels = BTreeMap<String, String>;

fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// Of everything that belongs to a cluster.
pub fn of_cluster(cluster: &str) -> Labels {
    labels([
        ("app.kubernetes.io/name", "trilith"),
        ("app.kubernetes.io/instance", cluster),
        ("app.kubernetes.io/managed-by", MANAGER),
    ])
}

/// Of pods, `StatefulSet`s and claims of a pool.
pub fn of_pool(cluster: &str, pool: &str) -> Labels {
    let mut all = of_cluster(cluster);
    all.extend(labels([(COMPONENT, STORAGE), (POOL, pool)]));
    all
}

/// By which the pods of a cluster are found.
pub fn pods(cluster: &str) -> Labels {
    labels([
        ("app.kubernetes.io/name", "trilith"),
        ("app.kubernetes.io/instance", cluster),
        (COMPONENT, STORAGE),
    ])
}

/// By which the pods of a pool are found.
pub fn pods_of_pool(cluster: &str, pool: &str) -> Labels {
    let mut all = pods(cluster);
    all.insert(POOL.to_owned(), pool.to_owned());
    all
}

/// By which the Service of nodes is found among the Services.
pub fn nodes_service(cluster: &str) -> Labels {
    labels([
        ("app.kubernetes.io/name", "trilith"),
        ("app.kubernetes.io/instance", cluster),
        (COMPONENT, NODES),
    ])
}

/// Labels as a selector.
pub fn matching(labels: Labels) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), match_expressions: None }
}

/// Labels as a list request takes them.
pub fn query(labels: &Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(",")
}
