//! Where a key lives, and where it should live.
//!
//! ```text
//!     key ──slot.rs──▶ Slot ──bucket.rs──▶ Bucket ──map.rs──▶ Partition ──▶ replicas on nodes
//!                                                     │
//!                              planner.rs: what to move     check.rs: may that move be made
//! ```
//!
//! Everything here is pure: no clock, no randomness, no network. The same input gives the
//! same plan on every machine, which is why clients, nodes and the operator share it.
//! Start reading in [`map`].

pub mod bucket;
pub mod id;
pub mod map;
pub mod slot;

pub use bucket::{Bucket, BucketCount, BucketRange};
pub use id::{ClusterId, Epoch, NodeId, PartitionId, ReplicaId, Revision, TableId, TableName, Version};
pub use map::{Node, NodeState, Partition, PartitionMap, Replica, Role, Table};
pub use slot::Slot;
