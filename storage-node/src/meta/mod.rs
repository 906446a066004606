//! The meta group: what the cluster knows of itself, and what it decides to do next.
//!
//! ```text
//!   command ─▶ MetaState::apply ─▶ answer + changed records ─▶ the group's batch on disk
//!              (state, nodes,              │                          │
//!               tables, orders,            ▼                          ▼
//!               membership)          changes_since ─▶ followers   MetaState::load
//!                                      (follow)
//!
//!   state + what nodes report ─▶ moves::next_step     the next step of one move
//!                              ─▶ growth::next_change  the next change of the meta group's voters
//!                              ─▶ drain, status        what a person or an operator asks
//! ```
//!
//! Everything here is pure: no clock, no randomness, no network, no Raft. Time comes in as
//! a number, ids come from counters in the state. So every replica that applies the same
//! commands holds the same state, and every decision can be tested as a table. Start
//! reading in [`state`].

pub mod changes;
pub mod drain;
pub mod follow;
pub mod growth;
mod indexes;
mod membership;
pub mod moves;
mod nodes;
mod orders;
pub mod records;
pub mod refusal;
pub mod reports;
pub mod splits;
pub mod state;
pub mod status;
pub mod switch;
mod tables;
#[cfg(test)]
mod testing;
mod values;

pub use follow::FollowedMap;
pub use records::{LoadError, RecordChange};
pub use refusal::Refusal;
pub use reports::Reports;
pub use state::{Applied, MetaState, MoveId, MoveRecord, PendingSplit, UnknownCommand};
