//! Copies as loads to be made even.

use super::even::{Loads, Price};
use super::layout::{Copies, Freedom, Layout};
use super::nodes::{NodeIndex, NodeSet, Nodes};

impl Loads for Layout<'_> {
    fn nodes(&self) -> &Nodes {
        self.nodes
    }

    fn load(&self, node: NodeIndex) -> usize {
        Layout::load(self, node)
    }

    fn reach(&self, from: NodeIndex, price: Price) -> NodeSet {
        let mut all = self.nodes.taking.clone();
        all.remove(from);
        let mut found = NodeSet::default();
        for copies in self.held_by(from).filter_map(|at| self.get(at)) {
            if price_of(copies) == price {
                found.unite(&copies.alternatives(from, self.nodes));
                if found.covers(&all) {
                    break;
                }
            }
        }
        found
    }

    fn concerned(&self, at: usize) -> Vec<NodeIndex> {
        self.get(at).map(|copies| copies.now.clone()).unwrap_or_default()
    }

    /// Prefers the table of which `from` holds most in comparison, so that each table is
    /// spread too, and then a copy that does not lead.
    fn pick(&self, from: NodeIndex, to: NodeIndex, price: Price, spent: &[usize]) -> Option<usize> {
        let fitting = self.held_by(from).filter_map(|at| Some((at, self.get(at)?))).filter(|(at, copies)| {
            price_of(copies) == price
                && !spent.contains(at)
                && copies.alternatives(from, self.nodes).contains(to)
        });
        let best = fitting.min_by_key(|(at, copies)| {
            let surplus =
                self.load_of_table(copies.table, from) as i64 - self.load_of_table(copies.table, to) as i64;
            (-surplus, copies.leader == Some(from), *at)
        });
        best.map(|(at, _)| at)
    }

    fn shift(&mut self, at: usize, from: NodeIndex, to: NodeIndex) {
        self.change(at, Some(from), Some(to));
    }

    fn wishes(&self) -> Vec<(usize, NodeIndex, NodeIndex)> {
        let wish = |(at, copies): (usize, &Copies)| {
            let (from, to) = (copies.lost()?, copies.gained()?);
            let as_crowded =
                || Copies::crowding(&copies.before, self.nodes) == Copies::crowding(&copies.now, self.nodes);
            (self.nodes.taking.contains(from) && as_crowded()).then_some((at, from, to))
        };
        self.iter().enumerate().filter_map(wish).collect()
    }
}

fn price_of(copies: &Copies) -> Price {
    if copies.freedom == Freedom::Unbuilt || copies.is_moved() { Price::Nothing } else { Price::AMove }
}
