//! The operator: it keeps Trilith clusters and tables on Kubernetes as their resources declare.
//!
//! ```text
//!   cluster/    a KVCluster: observe ▶ validate ▶ plan ▶ apply ▶ status
//!   table/      a KVTable, by the same steps
//!   dataplane/  what a Trilith cluster says of itself, and the orders that it takes
//!   runtime/    the API server, the Lease, Events, metrics, health
//! ```
//!
//! The operator knows storage nodes only by their Admin service. It never imports them, and they
//! know nothing of Kubernetes.

pub mod access;
pub mod cluster;
pub mod connect;
pub mod dataplane;
pub mod definitions;
pub mod faults;
#[cfg(test)]
mod fixtures;
pub mod run;
pub mod runtime;
pub mod settings;
pub mod table;
