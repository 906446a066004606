//! What a partition does with the commands of its log.
//!
//! ```text
//!   entry ─▶ commands ─▶ session known? ─▶ owned here? ─▶ operation on the overlay ─▶ answers
//!                                                              │
//!                                              one set of changes for many entries, with the
//!                                              progress that they amount to
//! ```
//!
//! Nothing here waits, and nothing consults a clock: the entry brings the leader's. So every
//! replica, and every replay after a crash, comes to the same state. Start reading in
//! [`state`].

pub mod answer;
pub mod decimal;
pub mod demand;
pub mod descriptor;
pub mod expiry;
pub mod history;
pub mod indexes;
pub mod modify;
pub mod operations;
pub mod overlay;
pub mod parts;
pub mod patching;
pub mod progress;
pub mod query;
pub mod read;
pub mod selection;
pub mod sessions;
pub mod split;
pub mod state;

pub use answer::Answer;
pub use descriptor::Descriptor;
pub use progress::Progress;
pub use state::PartitionState;
