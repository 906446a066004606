//! The storage node: partitions as Raft groups on RocksDB, behind a gRPC door.
//!
//! ```text
//!   doors ──▶ router ──▶ raft::Group ──▶ partition (what an entry does) ──▶ storage::state
//!                            │
//!                            └─▶ storage::log, raft::network ──▶ the other replicas
//!
//!   control ──▶ meta (what the cluster knows and decides, pure) ──▶ which replicas run here
//! ```
//!
//! Start reading at [`router`] for the way of an operation, at [`control`] for the way of a
//! cluster's decisions. Time, randomness and threads come in through [`seams`] only.

pub mod config;
pub mod control;
pub mod disk;
pub mod doors;
pub mod index;
pub mod json;
pub mod meta;
pub mod node;
pub mod observability;
pub mod partition;
pub mod raft;
pub mod router;
pub mod seams;
pub mod storage;
pub mod watch;
