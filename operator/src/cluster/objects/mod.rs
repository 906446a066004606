//! The objects that Kubernetes is told to keep for a cluster.
//!
//! ```text
//!     names.rs, labels.rs      what they are called, and how they are found
//!     service.rs               a DNS name for each node, an address for applications
//!     config_map.rs            the settings of the nodes
//!     stateful_set.rs          a pool ──▶ pod.rs: its nodes ──▶ inputs.rs: what makes them restart
//!     claim.rs                 a node's volume
//!     disruption_budget.rs     how many may be evicted at once
//!     service_account.rs, network_policy.rs, service_monitor.rs
//! ```
//!
//! All of them are functions of a [`ValidCluster`](super::validate::ValidCluster) and of a few facts that must not change
//! once they are there. They cannot fail, and the same input gives the same object. Only fields that the operator
//! cares for are set: under server-side apply the others stay whoever's they are.

pub mod claim;
pub mod config_map;
pub mod disruption_budget;
pub mod inputs;
pub mod labels;
pub mod names;
pub mod network_policy;
pub mod pod;
pub mod ports;
pub mod service;
pub mod service_account;
pub mod service_monitor;
pub mod stateful_set;

#[cfg(test)]
mod tests;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::validate::ValidCluster;

/// What an object of a cluster is called, how it is found, and that it goes with the cluster.
fn owned(cluster: &ValidCluster, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(cluster.namespace.clone()),
        labels: Some(labels::of_cluster(&cluster.name)),
        owner_references: Some(vec![cluster.owner.clone()]),
        ..ObjectMeta::default()
    }
}
