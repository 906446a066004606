//! Copies and leaders move for the sake of balance, by whoever the spec says decides.
//!
//! Copies that a table lacks, or has too many of, are no matter of taste: they are added and
//! removed under every policy.

use placement::{Move, NodeState};

use crate::cluster::intent::{Intent, RebalanceMode};
use crate::cluster::observed::Observed;
use crate::dataplane::{ClusterView, ProposedMove};

use super::{Step, Turn};

/// Nobody decides, so nothing moves.
pub(super) const OFF: RebalanceMode = RebalanceMode::Off;

/// Makes the planner's moves.
pub(super) fn turn(intent: &Intent, observed: &Observed) -> Turn {
    let Some(view) = observed.data.known() else { return Turn::Nothing };
    let mode = intent.rebalance.mode;
    if mode == RebalanceMode::Off {
        let unwanted: Vec<Step> = view
            .moves
            .iter()
            .filter(|moving| is_for_balance(view, &moving.order))
            .map(|moving| Step::CancelMove { id: moving.id })
            .collect();
        if !unwanted.is_empty() {
            return Turn::Act(unwanted);
        }
    }
    if !view.moves.is_empty() {
        return Turn::Wait(format!("{} moves are under way", view.moves.len()));
    }
    // A node that is away for a moment gets its share back by coming back.
    if view.nodes.values().any(|node| !node.alive) {
        return Turn::Nothing;
    }
    let (balance, duties): (Vec<_>, Vec<_>) =
        view.proposal.iter().partition(|proposed| is_for_balance(view, &proposed.order));
    let bound = intent.rebalance.concurrent.max(1);
    let moves: Vec<&ProposedMove> = match mode {
        _ if !duties.is_empty() => duties.into_iter().take(bound).collect(),
        RebalanceMode::Auto => balance.into_iter().take(bound).collect(),
        // All at once: after the first of them the proposal would be another one.
        RebalanceMode::Manual if is_approved(intent, view) => balance,
        RebalanceMode::Manual | RebalanceMode::Off => Vec::new(),
    };
    if moves.is_empty() { Turn::Nothing } else { Turn::Act(vec![start(view, moves.into_iter())]) }
}

/// The word by which somebody approves a proposal: it changes with any of its moves, so an
/// approval never counts for other moves than those that were seen.
pub fn token(view: &ClusterView) -> Option<String> {
    let lines = view.proposal.iter().map(|proposed| proposed.line.as_str());
    let text = lines.collect::<Vec<_>>().join("\n");
    (!text.is_empty()).then(|| format!("{:08x}", crc32c::crc32c(text.as_bytes())))
}

/// The order to make these moves.
pub(super) fn start<'a>(view: &ClusterView, moves: impl Iterator<Item = &'a ProposedMove>) -> Step {
    let (orders, lines) = moves.map(|proposed| (proposed.order, proposed.line.clone())).unzip();
    Step::StartMoves { orders, lines, revision: view.revision }
}

fn is_approved(intent: &Intent, view: &ClusterView) -> bool {
    let approved = intent.rebalance.approved.as_ref();
    approved.is_some() && approved == token(view).as_ref()
}

/// Whether a move is made only so that loads are even.
fn is_for_balance(view: &ClusterView, order: &Move) -> bool {
    let leaves = |node| view.nodes.get(&node).is_none_or(|node| node.state != NodeState::Serving);
    match order {
        Move::Add { .. } | Move::Remove { .. } => false,
        Move::Replace { from, .. } | Move::TransferLeader { from, .. } => !leaves(*from),
    }
}
