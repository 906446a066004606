//! Where a key lives, and where it should live.
//!
//! ```text
//!     key ──slot.rs──▶ Slot ──bucket.rs──▶ Bucket ──map.rs──▶ Partition ──▶ replicas on nodes
//!                                                                │
//!                          check.rs: may these be made ◀── moves.rs ◀── planner.rs: what to move
//! ```
//!
//! Everything here is pure: no clock, no randomness, no network. The same input gives the
//! same plan on every machine, which is why clients, nodes and the operator share it.
//! Start reading in [`map`], and for what is moved, and why, in [`planner`].

pub mod bucket;
pub mod check;
pub mod division;
pub mod id;
pub mod map;
pub mod moves;
pub mod planner;
pub mod slot;

pub use bucket::{Bucket, BucketCount, BucketRange};
pub use check::{Violation, check};
pub use id::{ClusterId, Epoch, NodeId, PartitionId, ReplicaId, Revision, TableId, TableName, Version};
pub use map::{Node, NodeState, Partition, PartitionMap, Replica, Role, Table};
pub use moves::{Leaders, Move, after, describe};
pub use planner::{NotEnoughNodes, Policy, place_table, plan};
pub use slot::Slot;
