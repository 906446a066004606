//! What a plan has to do whatever it costs: the right number of copies, none on a node that
//! leaves, and none that could fail with another one where there is room apart.

use std::cmp::Reverse;

use super::layout::{Copies, Freedom, Layout};
use super::nodes::NodeIndex;

/// Gives each partition the move that it needs most: a copy more where there are too few,
/// one less where there are too many, and else one off a node that leaves.
pub(super) fn fill_thin_and_empty(layout: &mut Layout<'_>) {
    for at in 0..layout.len() {
        let Some(copies) = layout.get(at).filter(|copies| copies.freedom == Freedom::OneMove) else {
            continue;
        };
        if copies.now.len() > copies.wanted {
            let surplus = surplus(copies, layout);
            layout.change(at, surplus, None);
            continue;
        }
        if copies.now.len() < copies.wanted {
            let place = layout.lightest(&layout.nodes.roomiest(&copies.now), copies.table);
            if place.is_some() {
                layout.change(at, None, place);
                continue;
            }
        }
        let nodes = layout.nodes;
        let leaving = copies.now.iter().copied().filter(|node| nodes.leaving.contains(*node));
        // The one that nobody can reach counts for nothing already: it goes first.
        let Some(from) = leaving.min_by_key(|node| (!nodes.unreachable.contains(*node), *node)) else {
            continue;
        };
        let place = layout.lightest(&nodes.roomiest(&copies.beside(from)), copies.table);
        if place.is_some() {
            layout.change(at, Some(from), place);
        }
    }
}

/// Moves copies apart that share a host or a zone although there is room elsewhere.
pub(super) fn spread(layout: &mut Layout<'_>) {
    for at in 0..layout.len() {
        let Some(copies) = layout.get(at) else { continue };
        if copies.freedom != Freedom::OneMove || copies.is_moved() {
            continue;
        }
        if let Some((from, to)) = better_place(copies, layout) {
            layout.change(at, Some(from), Some(to));
        }
    }
}

/// The copy that can best be spared.
fn surplus(copies: &Copies, layout: &Layout<'_>) -> Option<NodeIndex> {
    let nodes = layout.nodes;
    copies.now.iter().copied().max_by_key(|&node| {
        (
            nodes.unreachable.contains(node),
            nodes.leaving.contains(node),
            nodes.crowding(node, &copies.beside(node)),
            copies.leader != Some(node),
            layout.load(node),
            Reverse(node),
        )
    })
}

/// The exchange of one copy's place that leaves the copies least crowded, if any helps.
fn better_place(copies: &Copies, layout: &Layout<'_>) -> Option<(NodeIndex, NodeIndex)> {
    let nodes = layout.nodes;
    let crowded_now = Copies::crowding(&copies.now, nodes);
    if crowded_now == (0, 0) {
        return None;
    }
    let movable = copies.now.iter().copied().filter(|node| nodes.taking.contains(*node));
    let exchanges = movable.filter_map(|from| {
        let mut places = copies.beside(from);
        let to = layout.lightest(&nodes.roomiest(&places), copies.table)?;
        places.push(to);
        let crowded = Copies::crowding(&places, nodes);
        let leads = copies.leader == Some(from);
        (crowded < crowded_now).then_some(((crowded, Reverse(layout.load(from)), leads, from), to))
    });
    exchanges.min().map(|((.., from), to)| (from, to))
}
