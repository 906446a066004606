//! Where the replicas of a new table go.

use std::collections::BTreeSet;

use super::even::{Spend, even_out};
use super::layout::{Copies, Freedom, Layout};
use super::leaders::Leading;
use super::nodes::Nodes;
use crate::id::{NodeId, PartitionId, TableId};
use crate::map::PartitionMap;
use crate::moves::Leaders;

/// Why a table cannot be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{replicas} replicas need {replicas} serving nodes, and there are {serving}: \
     add nodes, or ask for fewer replicas"
)]
pub struct NotEnoughNodes {
    /// How many copies were asked for.
    pub replicas: u8,
    /// How many nodes serve.
    pub serving: usize,
}

/// Where the replicas of a new table's partitions go: for each partition a list of nodes, the
/// first being the one that should lead first.
///
/// Copies are kept apart as [`plan`](super::plan) keeps them, each node ends up with as many
/// copies as the others as far as what it holds already allows, and each leads as many of
/// the new partitions.
pub fn place_table(
    map: &PartitionMap,
    partitions: u16,
    replicas: u8,
) -> Result<Vec<Vec<NodeId>>, NotEnoughNodes> {
    let nodes = Nodes::of(map, &BTreeSet::new());
    let serving = nodes.taking.iter().count();
    if serving < usize::from(replicas) {
        return Err(NotEnoughNodes { replicas, serving });
    }
    let mut layout = Layout::of(map, &Leaders::new(), &nodes);
    layout.fix();
    let turn = map.tables.keys().last().map_or(0, |last| last.0);
    let table = TableId(turn.saturating_add(1));
    let mut new = Vec::with_capacity(usize::from(partitions));
    for number in 0..partitions {
        let at = layout.push(Copies {
            partition: PartitionId(u64::from(number)),
            table,
            wanted: usize::from(replicas),
            freedom: Freedom::Unbuilt,
            before: Vec::new(),
            now: Vec::new(),
            leader: None,
        });
        new.push(at);
        for _ in 0..replicas {
            let held = layout.get(at).map(|copies| copies.now.as_slice()).unwrap_or_default();
            let place = layout.lightest(&nodes.roomiest(held), table);
            layout.change(at, None, place);
        }
    }
    even_out(&mut layout, Spend::Nothing);
    let mut leading = Leading::first(&layout, turn);
    even_out(&mut leading, Spend::Nothing);
    let placed = new.into_iter().filter_map(|at| layout.get(at)).zip(leading.leaders());
    Ok(placed
        .map(|(copies, leader)| {
            let others = copies.now.iter().copied().filter(|node| *node != leader);
            std::iter::once(leader).chain(others).map(|node| nodes.id(node)).collect()
        })
        .collect())
}
