//! Who holds what while a plan is made: as the map has it, and as the plan will leave it.

use std::collections::{BTreeMap, BTreeSet};

use super::nodes::{Crowding, NodeIndex, NodeSet, Nodes, PerNode};
use crate::id::{PartitionId, TableId};
use crate::map::{PartitionMap, Replica};
use crate::moves::{Leaders, Move};

/// All partitions, and what each node carries once the plan is done.
pub(super) struct Layout<'a> {
    pub nodes: &'a Nodes,
    copies: Vec<Copies>,
    held: PerNode<BTreeSet<usize>>,
    held_of_table: PerNode<BTreeMap<TableId, usize>>,
}

/// The copies of one partition.
#[derive(Debug, Clone)]
pub(super) struct Copies {
    pub partition: PartitionId,
    pub table: TableId,
    /// How many there should be.
    pub wanted: usize,
    pub freedom: Freedom,
    /// Where they are.
    pub before: Vec<NodeIndex>,
    /// Where they will be.
    pub now: Vec<NodeIndex>,
    /// Where the one that leads is.
    pub leader: Option<NodeIndex>,
}

/// How far a plan may change the copies of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freedom {
    /// Not at all: a move is under way, or nobody knows how many there should be.
    Fixed,
    /// By one move.
    OneMove,
    /// As it likes: the copies do not exist yet.
    Unbuilt,
}

impl<'a> Layout<'a> {
    pub(super) fn of(map: &PartitionMap, leaders: &Leaders, nodes: &'a Nodes) -> Self {
        let mut layout = Self {
            nodes,
            copies: Vec::with_capacity(map.partitions.len()),
            held: nodes.table(BTreeSet::new()),
            held_of_table: nodes.table(BTreeMap::new()),
        };
        for partition in map.partitions.values() {
            let table = map.tables.get(&partition.table);
            let settled = partition.voters().count() == partition.replicas.len();
            let mut places: Vec<NodeIndex> =
                partition.replicas.iter().filter_map(|replica: &Replica| nodes.index(replica.node)).collect();
            places.sort_unstable();
            places.dedup();
            let leader = leaders.get(&partition.id).and_then(|leader| nodes.index(*leader));
            layout.push(Copies {
                partition: partition.id,
                table: partition.table,
                wanted: table.map_or(0, |table| usize::from(table.replicas)),
                freedom: if settled && table.is_some() { Freedom::OneMove } else { Freedom::Fixed },
                leader: leader.filter(|leader| places.contains(leader)),
                before: places.clone(),
                now: places,
            });
        }
        layout
    }

    /// Takes a partition in; gives its position.
    pub(super) fn push(&mut self, copies: Copies) -> usize {
        let at = self.copies.len();
        for &node in &copies.now {
            self.held[node].insert(at);
            *self.held_of_table[node].entry(copies.table).or_default() += 1;
        }
        self.copies.push(copies);
        at
    }

    /// Keeps every copy where it is.
    pub(super) fn fix(&mut self) {
        self.copies.iter_mut().for_each(|copies| copies.freedom = Freedom::Fixed);
    }

    pub(super) fn len(&self) -> usize {
        self.copies.len()
    }

    pub(super) fn get(&self, at: usize) -> Option<&Copies> {
        self.copies.get(at)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Copies> {
        self.copies.iter()
    }

    /// How many copies a node will hold.
    pub(super) fn load(&self, node: NodeIndex) -> usize {
        self.held[node].len()
    }

    /// The positions of the partitions that a node will hold a copy of.
    pub(super) fn held_by(&self, node: NodeIndex) -> impl Iterator<Item = usize> {
        self.held[node].iter().copied()
    }

    /// How many copies of one table's partitions a node will hold.
    pub(super) fn load_of_table(&self, table: TableId, node: NodeIndex) -> usize {
        self.held_of_table[node].get(&table).copied().unwrap_or(0)
    }

    /// Takes a copy away from one node, gives one to another, or both.
    pub(super) fn change(&mut self, at: usize, from: Option<NodeIndex>, to: Option<NodeIndex>) {
        let Some(copies) = self.copies.get_mut(at) else { return };
        if let Some(node) = from {
            copies.now.retain(|held| *held != node);
            self.held[node].remove(&at);
            if let Some(count) = self.held_of_table[node].get_mut(&copies.table) {
                *count = count.saturating_sub(1);
            }
        }
        if let Some(node) = to
            && !copies.now.contains(&node)
        {
            copies.now.push(node);
            copies.now.sort_unstable();
            self.held[node].insert(at);
            *self.held_of_table[node].entry(copies.table).or_default() += 1;
        }
    }

    /// The node of a set that carries least, and least of that table.
    pub(super) fn lightest(&self, among: &NodeSet, table: TableId) -> Option<NodeIndex> {
        among.iter().min_by_key(|node| (self.load(*node), self.load_of_table(table, *node), *node))
    }

    /// The moves that lead from the map to this layout.
    pub(super) fn moves(&self, map: &PartitionMap) -> Vec<Move> {
        self.copies.iter().filter_map(|copies| copies.to_move(self.nodes, map)).collect()
    }
}

impl Copies {
    pub(super) fn is_moved(&self) -> bool {
        self.before != self.now
    }

    /// The copies beside the one on `node`.
    pub(super) fn beside(&self, node: NodeIndex) -> Vec<NodeIndex> {
        self.now.iter().copied().filter(|other| *other != node).collect()
    }

    /// The node that the plan takes a copy from.
    pub(super) fn lost(&self) -> Option<NodeIndex> {
        self.before.iter().copied().find(|node| !self.now.contains(node))
    }

    /// The node that the plan gives a copy to.
    pub(super) fn gained(&self) -> Option<NodeIndex> {
        self.now.iter().copied().find(|node| !self.before.contains(node))
    }

    /// Where the copy on `from` could be instead: no more crowded than it must be, and not
    /// more than one move away from where the copies are.
    pub(super) fn alternatives(&self, from: NodeIndex, nodes: &Nodes) -> NodeSet {
        let lost = match self.freedom {
            Freedom::Fixed => return NodeSet::default(),
            Freedom::Unbuilt => None,
            Freedom::OneMove => match (self.lost(), self.gained()) {
                (None, None) => None,
                (_, Some(gained)) if gained == from => None,
                (Some(lost), _) => Some(lost),
                (None, Some(_)) => return NodeSet::default(),
            },
        };
        let mut found = nodes.roomiest(&self.beside(from));
        found.remove(from);
        if let Some(lost) = lost {
            // The one move is spent: another copy may only go in place of the one that went.
            found.intersect(&NodeSet::from_iter([lost]));
        }
        found
    }

    /// How crowded the copies are that are at these places.
    pub(super) fn crowding(places: &[NodeIndex], nodes: &Nodes) -> Crowding {
        places.iter().enumerate().fold((0, 0), |(hosts, zones), (at, node)| {
            let (host, zone) = nodes.crowding(*node, places.get(at + 1..).unwrap_or_default());
            (hosts + host, zones + zone)
        })
    }

    fn to_move(&self, nodes: &Nodes, map: &PartitionMap) -> Option<Move> {
        let partition = self.partition;
        let replica_on = |node| Some(map.partitions.get(&partition)?.replica_on(nodes.id(node))?.id);
        match (self.lost(), self.gained()) {
            (None, None) => None,
            (None, Some(to)) => Some(Move::Add { partition, to: nodes.id(to) }),
            (Some(from), None) => {
                Some(Move::Remove { partition, replica: replica_on(from)?, from: nodes.id(from) })
            }
            (Some(from), Some(to)) => Some(Move::Replace {
                partition,
                replica: replica_on(from)?,
                from: nodes.id(from),
                to: nodes.id(to),
            }),
        }
    }
}
