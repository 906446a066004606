//! How a node takes part in its cluster: who it is, how it joins, how it follows the map,
//! and what it does while it leads the meta group.
//!
//! ```text
//!   identity ─▶ join ─▶ follower ◀── map ── the meta leader ◀── reports ── reporter
//!                          │                    │
//!                          ▼                    ├─ service  what Admin asks
//!                     Groups::follow            └─ driver   moves, the meta group's voters, drains
//! ```
//!
//! The decisions are `meta`'s and pure; here they are carried out.

pub mod clocks;
pub mod driver;
pub mod follower;
pub mod identity;
pub mod join;
pub mod meta_leader;
pub mod meta_link;
pub mod reporter;
pub mod service;

/// The newest cluster version that this program supports: the commands that it knows.
pub const SUPPORTED_CLUSTER_VERSION: u32 = 2;
