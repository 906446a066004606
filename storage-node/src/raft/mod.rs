//! Raft groups. Nothing above this module names openraft.
//!
//! A [`Group`] is a replica as the rest of the node uses it: propose, read behind a barrier,
//! change who votes, hand leadership on, observe. [`groups`] makes and destroys them as the
//! map says; [`network`] is how replicas reach each other.

pub mod barrier;
pub mod entry;
mod floor;
pub mod group;
pub mod groups;
pub mod log_store;
pub mod machine;
pub mod network;
pub mod proposals;
pub mod sleep;
pub mod state_machine;
pub mod type_config;

#[cfg(test)]
mod tests;

pub use group::{Ending, Group, GroupError, Timing};
pub use groups::Groups;
