//! Which moves bring a cluster to where it should be.
//!
//! ```text
//!     map, leaders ──nodes, layout──▶ where copies are
//!         duties:    too few copies, too many, on a node that leaves, crowded together
//!         replicas:  ┐
//!         leaders:   ┴─ even: the same load for every node, with the fewest moves
//!     ──▶ moves, the most urgent first
//! ```
//!
//! A plan changes the copies of a partition at most once, so some states need several plans,
//! one after the other: three for a partition that goes from one copy to five, say, and one
//! more for leaders, which can go to a new copy only once it is there. Each plan brings the
//! cluster nearer; where nothing is left to do, the plan is empty.
//!
//! Kept apart means: copies of a partition are never on one node, and share a host or a
//! zone only where the nodes that serve leave no choice, then as evenly as they allow.
//! A node whose zone is not known counts as being in one zone with all such nodes, which is
//! the cautious reading; a node whose host is not known is a host of its own.

mod duties;
mod even;
mod layout;
mod leaders;
mod nodes;
mod replicas;
mod table;

#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod sketch;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub use table::{NotEnoughNodes, place_table};

use crate::id::NodeId;
use crate::map::{NodeState, PartitionMap};
use crate::moves::{Leaders, Move};

use even::{Spend, even_out};
use layout::Layout;
use leaders::Leading;
use nodes::Nodes;

/// What a plan may do beyond what it must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Move copies for the sake of even loads. What a node that leaves holds is moved, and
    /// copies are added, removed and kept apart, in any case.
    pub balance_replicas: bool,
    /// Transfer leaders for the sake of even loads. A leader goes from a node that leaves
    /// in any case.
    pub balance_leaders: bool,
    /// Nodes that nobody can reach now. They keep what they hold, unless they leave, and
    /// are given nothing.
    pub unreachable: BTreeSet<NodeId>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { balance_replicas: true, balance_leaders: true, unreachable: BTreeSet::new() }
    }
}

/// The moves that bring the cluster to where it should be, or nearer to it.
///
/// The most urgent come first, and each is right by itself: whoever does not want to make
/// all of them can make the first few and plan again. A partition with a learner has a move
/// under way and gets none.
pub fn plan(map: &PartitionMap, leaders: &Leaders, policy: &Policy) -> Vec<Move> {
    let nodes = Nodes::of(map, &policy.unreachable);
    let spend = |balance: bool| if balance { Spend::Moves } else { Spend::Nothing };

    let mut layout = Layout::of(map, leaders, &nodes);
    duties::fill_thin_and_empty(&mut layout);
    duties::spread(&mut layout);
    // First as even as can be had for nothing, so that less is left to pay for.
    even_out(&mut layout, Spend::Nothing);
    even_out(&mut layout, spend(policy.balance_replicas));

    let mut leading = Leading::of(&layout);
    even_out(&mut leading, Spend::Nothing);
    even_out(&mut leading, spend(policy.balance_leaders));

    let mut moves = layout.moves(map);
    moves.extend(leading.moves());
    moves.sort_by_key(|mv| (urgency(map, mv), mv.partition()));
    moves
}

/// What is missing comes before what leaves, that before what could be better, and what is
/// superfluous hurts least.
fn urgency(map: &PartitionMap, mv: &Move) -> u8 {
    let leaves = |node| map.nodes.get(node).is_none_or(|node| node.state != NodeState::Serving);
    match mv {
        Move::Add { .. } => 0,
        Move::Replace { from, .. } if leaves(from) => 1,
        Move::TransferLeader { from, .. } if leaves(from) => 2,
        Move::Replace { .. } => 3,
        Move::Remove { .. } => 4,
        Move::TransferLeader { .. } => 5,
    }
}
