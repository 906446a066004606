//! The operator's view of a Trilith cluster, and the only place that speaks to one.
//!
//! ```text
//!   view.rs    what a cluster says of itself, as plain data: what planning rests on
//!   ask.rs     the calls of `trilith.v1.Admin`, typed
//!   links.rs   a link to each cluster that there is, and a follower of its map, which asks for
//!              a look at the cluster whenever something changed there
//! ```

mod ask;
mod links;
mod view;

pub use ask::{Answered, Link, Verdict, is_silence, told};
pub use links::{Links, Where};
pub use view::{ClusterView, DataPlane, MoveView, NodeView, ProposedMove, TableView};
