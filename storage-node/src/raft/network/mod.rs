//! Peers: how the replicas of a group reach each other.
//!
//! ```text
//!             this node                                       another node
//!
//!  openraft ── Network ─┐                                 ┌─ Endpoint ── openraft
//!  openraft ── Network ─┼─ Lane ═══ stream of frames ═══ Inbound ─ Endpoint ── openraft
//!  router ──── forward ─┘                                 └─ Forwarded ── router
//!
//!  openraft ── Network ──── one call for each snapshot ─── SnapshotReceiver ── Endpoint
//! ```
//!
//! Every pair of nodes has three lanes in each direction, each a connection with one
//! long-lived stream: appends, control (votes, heartbeats, transfers) and forwarded
//! operations, so that none waits behind another's bulk. Messages of all groups share them:
//! whatever waits when the connection can take more becomes **one frame**. Nothing here
//! waits on a timer to make a frame fuller.
//!
//! Start reading at [`lane`] for the sending side and at [`inbound`] for the receiving one.
//! What a restarted replica must not do at first is in [`guard`].

pub mod connect;
pub mod contacts;
pub mod counters;
pub mod endpoint;
pub mod forward;
pub mod guard;
pub mod inbound;
pub mod lane;
pub mod liveness;
pub mod outbox;
pub mod peers;
mod pipeline;
pub mod raft_endpoint;
pub mod raft_network;
pub mod scratch;
mod session;
pub mod snapshot_files;
mod snapshot_receiver;
mod snapshot_sender;
pub mod throttle;
pub mod wire;

#[cfg(test)]
pub(in crate::raft) mod tests;
