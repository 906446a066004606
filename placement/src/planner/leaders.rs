//! Leaders as loads to be made even.

use std::collections::BTreeSet;

use super::even::{Loads, Price};
use super::layout::{Copies, Freedom, Layout};
use super::nodes::{NodeIndex, NodeSet, Nodes, PerNode};
use crate::id::PartitionId;
use crate::moves::Move;

/// Who leads what once the plan is done.
pub(super) struct Leading<'a> {
    nodes: &'a Nodes,
    /// The partitions whose leader the plan may change.
    open: Vec<Led>,
    led: PerNode<BTreeSet<usize>>,
    /// How many partitions each node leads beside those.
    fixed: PerNode<usize>,
}

struct Led {
    partition: PartitionId,
    /// Who leads; nobody yet, where the partition is to be created.
    before: Option<NodeIndex>,
    now: NodeIndex,
    /// Who may lead.
    voters: NodeSet,
}

impl<'a> Leading<'a> {
    /// The leaders as they are, those on nodes that leave already handed to others. The
    /// leader of a partition whose copies move stays as it is; one that itself is moved
    /// counts nowhere, since who follows it is settled only when that happens.
    pub(super) fn of(layout: &Layout<'a>) -> Self {
        let nodes = layout.nodes;
        let mut leading = Self::none(nodes);
        let mut homeless = Vec::new();
        for copies in layout.iter() {
            let Some(leader) = copies.leader.filter(|leader| copies.now.contains(leader)) else { continue };
            let fixed = copies.freedom != Freedom::OneMove || copies.is_moved();
            if fixed || nodes.unreachable.contains(leader) {
                leading.fixed[leader] += 1;
            } else if nodes.leaving.contains(leader) {
                homeless.push((copies, leader));
            } else {
                leading.push(copies, Some(leader), leader);
            }
        }
        for (copies, leader) in homeless {
            let heir = leading.lightest(copies);
            leading.push(copies, Some(leader), heir.unwrap_or(leader));
        }
        leading
    }

    /// First leaders for the partitions that do not exist yet. Who leads what exists is not
    /// known here, so that `turn`, another one for each table, decides which node comes
    /// first: small tables would all be led by the same node otherwise.
    pub(super) fn first(layout: &Layout<'a>, turn: u32) -> Self {
        let mut leading = Self::none(layout.nodes);
        let taking: Vec<NodeIndex> = layout.nodes.taking.iter().collect();
        let turn = turn as usize % taking.len().max(1);
        let (later, first) = taking.split_at(turn);
        let order: Vec<NodeIndex> = first.iter().chain(later).copied().collect();
        for copies in layout.iter().filter(|copies| copies.freedom == Freedom::Unbuilt) {
            let voters = order.iter().copied().filter(|node| copies.now.contains(node));
            if let Some(leader) = voters.min_by_key(|node| leading.load(*node)) {
                leading.push(copies, None, leader);
            }
        }
        leading
    }

    /// The transfers that make it so.
    pub(super) fn moves(&self) -> impl Iterator<Item = Move> {
        self.open.iter().filter_map(|led| {
            let from = led.before.filter(|before| *before != led.now)?;
            let (from, to) = (self.nodes.id(from), self.nodes.id(led.now));
            Some(Move::TransferLeader { partition: led.partition, from, to })
        })
    }

    /// Who leads each partition, in the order in which the partitions came.
    pub(super) fn leaders(&self) -> impl Iterator<Item = NodeIndex> {
        self.open.iter().map(|led| led.now)
    }

    fn none(nodes: &'a Nodes) -> Self {
        Self { nodes, open: Vec::new(), led: nodes.table(BTreeSet::new()), fixed: nodes.table(0) }
    }

    fn push(&mut self, copies: &Copies, before: Option<NodeIndex>, now: NodeIndex) {
        self.led[now].insert(self.open.len());
        let voters = self.voters(copies);
        self.open.push(Led { partition: copies.partition, before, now, voters });
    }

    fn voters(&self, copies: &Copies) -> NodeSet {
        copies.now.iter().copied().filter(|node| self.nodes.taking.contains(*node)).collect()
    }

    fn lightest(&self, copies: &Copies) -> Option<NodeIndex> {
        self.voters(copies).iter().min_by_key(|node| (self.load(*node), *node))
    }

    fn led_by(&self, node: NodeIndex, price: Price) -> impl Iterator<Item = (usize, &Led)> {
        let led = self.led[node].iter().filter_map(|at| Some((*at, self.open.get(*at)?)));
        led.filter(move |(_, led)| led.price() == price)
    }
}

impl Led {
    fn price(&self) -> Price {
        if self.before == Some(self.now) { Price::AMove } else { Price::Nothing }
    }
}

impl Loads for Leading<'_> {
    fn nodes(&self) -> &Nodes {
        self.nodes
    }

    fn load(&self, node: NodeIndex) -> usize {
        self.fixed[node] + self.led[node].len()
    }

    fn reach(&self, from: NodeIndex, price: Price) -> NodeSet {
        let mut found = NodeSet::default();
        self.led_by(from, price).for_each(|(_, led)| found.unite(&led.voters));
        found.remove(from);
        found
    }

    fn concerned(&self, at: usize) -> Vec<NodeIndex> {
        self.open.get(at).map(|led| led.now).into_iter().collect()
    }

    fn pick(&self, from: NodeIndex, to: NodeIndex, price: Price, spent: &[usize]) -> Option<usize> {
        let mut fitting =
            self.led_by(from, price).filter(|(at, led)| led.voters.contains(to) && !spent.contains(at));
        fitting.next().map(|(at, _)| at)
    }

    fn shift(&mut self, at: usize, from: NodeIndex, to: NodeIndex) {
        if let Some(led) = self.open.get_mut(at) {
            led.now = to;
            self.led[from].remove(&at);
            self.led[to].insert(at);
        }
    }

    fn wishes(&self) -> Vec<(usize, NodeIndex, NodeIndex)> {
        let wish = |(at, led): (usize, &Led)| {
            let from =
                led.before.filter(|before| *before != led.now && self.nodes.taking.contains(*before))?;
            Some((at, from, led.now))
        };
        self.open.iter().enumerate().filter_map(wish).collect()
    }
}
