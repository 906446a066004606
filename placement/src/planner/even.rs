//! Makes loads even with as few moves as it can.
//!
//! The nodes are the corners of a graph, with an arrow from one to another where something
//! that the first carries could be on the other instead. While a path leads from a node to
//! one that carries at least two less, shifting one thing along each arrow of the path makes
//! the loads more even, and once no such path is left they are as even as the rules allow.
//! A path costs a move for each arrow, except where a move that the plan makes anyway can go
//! to another place; the cheapest path is taken, and the lightest end among the cheapest.

use std::collections::BTreeSet;

use super::nodes::{NodeIndex, NodeSet, Nodes, PerNode};

/// What is to be made even: the copies that nodes hold, or the partitions that they lead.
pub(super) trait Loads {
    fn nodes(&self) -> &Nodes;
    fn load(&self, node: NodeIndex) -> usize;
    /// Where something that `from` carries could go, for that price.
    fn reach(&self, from: NodeIndex, price: Price) -> NodeSet;
    /// The nodes whose reach depends on where the thing at a position is.
    fn concerned(&self, at: usize) -> Vec<NodeIndex>;
    /// The best thing to shift, other than those at the positions in `spent`.
    fn pick(&self, from: NodeIndex, to: NodeIndex, price: Price, spent: &[usize]) -> Option<usize>;
    /// Shifts the thing at a position.
    fn shift(&mut self, at: usize, from: NodeIndex, to: NodeIndex);
    /// The moves made for evenness alone: position, from where, to where.
    fn wishes(&self) -> Vec<(usize, NodeIndex, NodeIndex)>;
}

/// What a shift adds to the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Price {
    /// Nothing: it changes a move that the plan has.
    Nothing,
    /// A move.
    AMove,
}

/// Whether moves may be added to the plan for evenness alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spend {
    Nothing,
    Moves,
}

struct Step {
    from: NodeIndex,
    to: NodeIndex,
    price: Price,
}

enum Search {
    Found(Vec<Step>),
    /// No path helps. From the nodes that were seen no other one can be reached.
    Settled(NodeSet),
}

/// The loads, with what was found out about the arrows so far: a shift changes those of a
/// few nodes only, and to look at all of them again would cost more than all else.
struct Graph<'a, L> {
    loads: &'a mut L,
    reach: PerNode<[Option<NodeSet>; 2]>,
}

/// Makes the loads of all nodes that take something as even as the rules allow.
pub(super) fn even_out(loads: &mut impl Loads, spend: Spend) {
    let reach = loads.nodes().table([None, None]);
    let mut graph = Graph { loads, reach };
    // Each shift lowers the sum of the loads' squares, so this ends.
    while graph.pass(spend) {}
    forget_vain_wishes(loads);
}

impl<L: Loads> Graph<'_, L> {
    /// From the heaviest node down; says whether something was shifted.
    fn pass(&mut self, spend: Spend) -> bool {
        let mut shifted = false;
        let mut open = self.loads.nodes().taking.clone();
        // Arrows that turned out to need the same partition twice on one path.
        let mut barred = BTreeSet::new();
        while let Some(heaviest) = open.iter().map(|node| self.loads.load(node)).max() {
            match self.search(&open, heaviest, spend, &barred) {
                Search::Settled(seen) => open.subtract(&seen),
                Search::Found(path) => match self.follow(&path) {
                    Ok(()) => shifted = true,
                    Err(arrow) => {
                        barred.insert(arrow);
                    }
                },
            }
        }
        shifted
    }

    /// Looks for the cheapest path from one of the heaviest open nodes to one that carries
    /// at least two less, price by price: all nodes that cost nothing, then those that cost
    /// a move, and so on.
    fn search(
        &mut self,
        open: &NodeSet,
        heaviest: usize,
        spend: Spend,
        barred: &BTreeSet<(NodeIndex, NodeIndex)>,
    ) -> Search {
        let mut unseen = open.clone();
        let mut came_from = self.loads.nodes().table(None);
        let mut layer: Vec<NodeIndex> =
            open.iter().filter(|node| self.loads.load(*node) == heaviest).collect();
        layer.iter().for_each(|node| unseen.remove(*node));
        let mut visit = |from, price, to: &NodeSet| {
            let mut new = to.clone();
            new.intersect(&unseen);
            let new: Vec<NodeIndex> = new.iter().filter(|to| !barred.contains(&(from, *to))).collect();
            for &to in &new {
                unseen.remove(to);
                came_from[to] = Some((from, price));
            }
            new
        };
        while !layer.is_empty() {
            let mut next = 0;
            while let Some(&from) = layer.get(next) {
                next += 1;
                layer.extend(visit(from, Price::Nothing, self.reach(from, Price::Nothing)));
            }
            let ends = layer.iter().copied().filter(|node| self.loads.load(*node) + 2 <= heaviest);
            if let Some(mut to) = ends.min_by_key(|node| (self.loads.load(*node), *node)) {
                let mut path = Vec::new();
                while let Some((from, price)) = came_from[to] {
                    path.push(Step { from, to, price });
                    to = from;
                }
                return Search::Found(path);
            }
            let last = std::mem::take(&mut layer);
            if spend == Spend::Moves {
                for from in last {
                    layer.extend(visit(from, Price::AMove, self.reach(from, Price::AMove)));
                }
            }
        }
        let mut seen = open.clone();
        seen.subtract(&unseen);
        Search::Settled(seen)
    }

    fn reach(&mut self, from: NodeIndex, price: Price) -> &NodeSet {
        let [nothing, a_move] = &mut self.reach[from];
        let known = if price == Price::Nothing { nothing } else { a_move };
        known.get_or_insert_with(|| self.loads.reach(from, price))
    }

    /// Shifts along a path, or not at all: then it gives the arrow that could not be followed.
    fn follow(&mut self, path: &[Step]) -> Result<(), (NodeIndex, NodeIndex)> {
        let mut done: Vec<(usize, &Step)> = Vec::new();
        for step in path {
            let spent: Vec<usize> = done.iter().map(|(at, _)| *at).collect();
            let Some(at) = self.loads.pick(step.from, step.to, step.price, &spent) else {
                for (at, step) in done.into_iter().rev() {
                    self.shift(at, step.to, step.from);
                }
                return Err((step.from, step.to));
            };
            self.shift(at, step.from, step.to);
            done.push((at, step));
        }
        Ok(())
    }

    fn shift(&mut self, at: usize, from: NodeIndex, to: NodeIndex) {
        self.loads.shift(at, from, to);
        for node in self.loads.concerned(at).into_iter().chain([from]) {
            self.reach[node] = [None, None];
        }
    }
}

/// Takes moves back without which the loads are as even as with them.
fn forget_vain_wishes(loads: &mut impl Loads) {
    let mut again = true;
    while again {
        again = false;
        for (at, from, to) in loads.wishes() {
            if loads.load(to) > loads.load(from) {
                loads.shift(at, to, from);
                again = true;
            }
        }
    }
}
