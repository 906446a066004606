//! Measures Trilith beside etcd, on one machine and with one load generator.
//!
//! ```text
//! commands (in the binary) ──► cluster: starts three nodes of either system
//!        │                        │ endpoints, processes, metrics
//!        ▼                        ▼
//!      report ◄── load ──────► target: trilith unary, trilith stream, etcd
//! ```
//!
//! Start reading in [`load`]: what a load is and how its latencies are kept honest. A
//! [`target`] turns an operation into a call of one system; everything above it, down to
//! the last timer, is the same code for all of them. [`cluster`] starts and observes real
//! processes, and [`report`] makes medians, ratios and tables.

pub mod cluster;
pub mod load;
pub mod report;
pub mod target;

/// The client that is generated from the part of etcd's API in `proto/etcd_rpc.proto`.
#[expect(clippy::pedantic, reason = "generated code")]
pub mod etcd_rpc {
    tonic::include_proto!("etcdserverpb");
}
