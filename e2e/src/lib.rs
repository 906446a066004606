//! Verbs for scenarios that run real nodes: as processes on this machine, or on Kubernetes.
//!
//! ```text
//!   tests/*.rs      scenarios, one file each: read these first
//!      │ say
//!      ▼
//!   scenario        one at a time, a seed, what is printed
//!   cluster         form, kill9, pause, drain, await_healthy …
//!      │               process   one node and its log
//!      │               network   ports on this machine, or a namespace for each node
//!      ▼
//!   history         what was attempted, and what may be seen afterwards
//!   workload        clients that write and read, and keep that history
//!   followers       watches beside writers, and what they are told
//!   replicas        whether every copy holds the same
//!   curl, browser   what people have at hand for the HTTP door
//!   redis           a real Redis beside ours, and what is played on both
//!
//!   tests/kubernetes/   scenarios on a real Kubernetes cluster, one file each
//!      │ say
//!      ▼
//!   kubernetes      apply, await_condition, kill_machine, …
//!   witness         the application that runs there all the while, and what it saw
//! ```
//!
//! Nothing here waits for a time to pass where it can wait for a condition: see [`until`].
//! A process that a scenario starts ends with it, however it ends.

pub mod browser;
pub mod cluster;
pub mod commands;
pub mod curl;
pub mod files;
pub mod followers;
pub mod history;
pub mod kubernetes;
pub mod network;
pub mod pace;
pub mod process;
pub mod programs;
pub mod redis;
pub mod replicas;
pub mod scenario;
pub mod until;
pub mod witness;
pub mod workload;

pub use cluster::{Cluster, Shape};
pub use scenario::Scenario;
pub use until::until;
