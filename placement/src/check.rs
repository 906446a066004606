//! Judges a plan, without knowing how it was made: nothing here is shared with the planner.
//!
//! Whoever is handed moves, from the planner or from a person, can ask whether making them
//! would leave a partition worse off.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::id::{NodeId, PartitionId, ReplicaId, TableId};
use crate::map::{Node, NodeState, Partition, PartitionMap, Replica, Role, Table};
use crate::moves::{Leaders, Move};
use crate::planner::Policy;

/// Why a move should not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    /// The move.
    pub mv: Move,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The map has no such partition.
    #[error("there is no such partition")]
    NoSuchPartition,
    /// The map has no such table, so nobody knows how many copies there should be.
    #[error("its table {0} does not exist")]
    NoSuchTable(TableId),
    /// An earlier move of the plan changes the same partition.
    #[error("the plan changes the partition twice")]
    SecondMove,
    /// A learner shows that an earlier plan is still being carried out.
    #[error("replica {0} is a learner: a move is under way")]
    UnderWay(ReplicaId),
    /// What the move takes away is not there.
    #[error("replica {0} is not on node {1}")]
    NoSuchReplica(ReplicaId, NodeId),
    /// A node would hold two copies.
    #[error("node {0} holds a replica already")]
    SharesNode(NodeId),
    /// Only nodes that serve are given something.
    #[error("node {0} does not serve")]
    NotServing(NodeId),
    /// Only nodes that can be reached are given something.
    #[error("node {0} cannot be reached")]
    Unreachable(NodeId),
    /// Copies would share a host although another node would keep them apart.
    #[error("replicas would share a host more than on node {rather}")]
    SharesHost {
        /// A node that would keep them apart.
        rather: NodeId,
    },
    /// Copies would share a zone although another node would keep them apart.
    #[error("replicas would share a zone more than on node {rather}")]
    SharesZone {
        /// A node that would keep them apart.
        rather: NodeId,
    },
    /// There would be more copies than the table asks for.
    #[error("{have} of {wanted} replicas are there: one more is too many")]
    TooMany {
        /// How many vote.
        have: usize,
        /// How many should.
        wanted: usize,
    },
    /// There would be fewer copies than the table asks for.
    #[error("{have} of {wanted} replicas are there: one less is too few")]
    TooFew {
        /// How many vote.
        have: usize,
        /// How many should.
        wanted: usize,
    },
    /// Another copy can better be spared.
    #[error("the replica on node {rather} can better be spared")]
    SparesWorse {
        /// The node that holds it.
        rather: NodeId,
    },
    /// Neither does the node that gives leave, nor do loads become more even.
    #[error("nothing is gained: node {from} would be left with {left}, and node {to} with {given}")]
    Vain {
        /// The node that gives.
        from: NodeId,
        /// How much the whole plan leaves it with.
        left: usize,
        /// The node that is given.
        to: NodeId,
        /// How much the whole plan leaves that one with.
        given: usize,
    },
    /// Somebody else leads, or nobody is known to.
    #[error("node {0} is not known to lead")]
    NotLeader(NodeId),
    /// The one that leads would lead.
    #[error("node {0} leads already")]
    LeadsAlready(NodeId),
    /// Only a voter can lead.
    #[error("node {0} holds no voter")]
    NotVoter(NodeId),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.mv, self.fault)
    }
}

impl std::error::Error for Violation {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.fault)
    }
}

/// Judges each move on the map as the moves before it leave it, and whether the plan as a
/// whole makes loads more even where evenness is all that a move is for.
pub fn check(
    map: &PartitionMap,
    leaders: &Leaders,
    moves: &[Move],
    policy: &Policy,
) -> Result<(), Vec<Violation>> {
    let judge =
        Judge { map, leaders, policy, copies: copies_after(map, moves), led: led_after(map, leaders, moves) };
    let mut changed = BTreeSet::new();
    let mut violations = Vec::new();
    for mv in moves {
        // A partition is changed once, so what earlier moves left of it is what the map says.
        let verdict = if changed.insert(mv.partition()) { judge.judge(mv) } else { Err(Fault::SecondMove) };
        if let Err(fault) = verdict {
            violations.push(Violation { mv: *mv, fault });
        }
    }
    if violations.is_empty() { Ok(()) } else { Err(violations) }
}

struct Judge<'a> {
    map: &'a PartitionMap,
    leaders: &'a Leaders,
    policy: &'a Policy,
    /// How many copies each node holds after the whole plan.
    copies: BTreeMap<NodeId, usize>,
    /// How many partitions each node leads after the whole plan.
    led: BTreeMap<NodeId, usize>,
}

impl Judge<'_> {
    fn judge(&self, mv: &Move) -> Result<(), Fault> {
        let partition = self.map.partitions.get(&mv.partition()).ok_or(Fault::NoSuchPartition)?;
        let table = self.map.tables.get(&partition.table).ok_or(Fault::NoSuchTable(partition.table))?;
        if let Some(learner) = partition.replicas.iter().find(|replica| replica.role == Role::Learner) {
            return Err(Fault::UnderWay(learner.id));
        }
        match *mv {
            Move::Add { to, .. } => self.judge_add(partition, table, to),
            Move::Remove { replica, from, .. } => self.judge_remove(partition, table, replica, from),
            Move::Replace { replica, from, to, .. } => self.judge_replace(partition, replica, from, to),
            Move::TransferLeader { from, to, .. } => self.judge_transfer(partition, from, to),
        }
    }

    fn judge_add(&self, partition: &Partition, table: &Table, to: NodeId) -> Result<(), Fault> {
        let (have, wanted) = (partition.replicas.len(), usize::from(table.replicas));
        if have >= wanted {
            return Err(Fault::TooMany { have, wanted });
        }
        self.judge_place(to, &partition.replicas)
    }

    fn judge_remove(
        &self,
        partition: &Partition,
        table: &Table,
        replica: ReplicaId,
        from: NodeId,
    ) -> Result<(), Fault> {
        held(partition, replica, from)?;
        let (have, wanted) = (partition.replicas.len(), usize::from(table.replicas));
        if have <= wanted {
            return Err(Fault::TooFew { have, wanted });
        }
        let spare = |node: NodeId| {
            let reached = !self.policy.unreachable.contains(&node);
            (!reached, !self.serves(node), self.shared(node, &without(partition, node)))
        };
        let nodes = partition.replicas.iter().map(|replica| replica.node);
        match nodes.max_by_key(|node| spare(*node)) {
            Some(rather) if spare(rather) > spare(from) => Err(Fault::SparesWorse { rather }),
            _ => Ok(()),
        }
    }

    fn judge_replace(
        &self,
        partition: &Partition,
        replica: ReplicaId,
        from: NodeId,
        to: NodeId,
    ) -> Result<(), Fault> {
        held(partition, replica, from)?;
        if partition.replica_on(to).is_some() {
            return Err(Fault::SharesNode(to));
        }
        let rest = without(partition, from);
        self.judge_place(to, &rest)?;
        let must = !self.serves(from) || self.policy.unreachable.contains(&from);
        let apart = self.shared(to, &rest) < self.shared(from, &rest);
        if must || apart { Ok(()) } else { judge_gain(&self.copies, from, to) }
    }

    fn judge_transfer(&self, partition: &Partition, from: NodeId, to: NodeId) -> Result<(), Fault> {
        if self.leaders.get(&partition.id) != Some(&from) {
            return Err(Fault::NotLeader(from));
        }
        if from == to {
            return Err(Fault::LeadsAlready(to));
        }
        self.judge_receiver(to)?;
        if !partition.voters().any(|voter| voter.node == to) {
            return Err(Fault::NotVoter(to));
        }
        if self.serves(from) { judge_gain(&self.led, from, to) } else { Ok(()) }
    }

    /// Whether a copy on that node is as far apart from the others as a copy can be.
    fn judge_place(&self, to: NodeId, rest: &[Replica]) -> Result<(), Fault> {
        self.judge_receiver(to)?;
        if rest.iter().any(|replica| replica.node == to) {
            return Err(Fault::SharesNode(to));
        }
        let (hosts, zones) = self.shared(to, rest);
        for &rather in self.map.nodes.keys() {
            let free =
                self.judge_receiver(rather).is_ok() && rest.iter().all(|replica| replica.node != rather);
            let (fewer_hosts, fewer_zones) = self.shared(rather, rest);
            if free && fewer_hosts < hosts {
                return Err(Fault::SharesHost { rather });
            }
            if free && fewer_hosts == hosts && fewer_zones < zones {
                return Err(Fault::SharesZone { rather });
            }
        }
        Ok(())
    }

    fn judge_receiver(&self, node: NodeId) -> Result<(), Fault> {
        if !self.serves(node) {
            Err(Fault::NotServing(node))
        } else if self.policy.unreachable.contains(&node) {
            Err(Fault::Unreachable(node))
        } else {
            Ok(())
        }
    }

    fn serves(&self, node: NodeId) -> bool {
        self.map.nodes.get(&node).is_some_and(|node| node.state == NodeState::Serving)
    }

    /// How many of the copies are on the same host as the node, and how many in its zone.
    fn shared(&self, node: NodeId, copies: &[Replica]) -> (usize, usize) {
        let known = |node: NodeId| self.map.nodes.get(&node);
        let host = |node| known(node).map(|node: &Node| &node.host).filter(|host| !host.is_empty());
        // A zone that is not known is one zone, the empty one.
        let zone = |node| known(node).map_or("", |node: &Node| &node.zone);
        let same_host = |other| node == other || (host(node).is_some() && host(node) == host(other));
        let count = |same: &dyn Fn(NodeId) -> bool| copies.iter().filter(|copy| same(copy.node)).count();
        (count(&same_host), count(&|other| zone(node) == zone(other)))
    }
}

/// Whether the replica is on that node.
fn held(partition: &Partition, replica: ReplicaId, node: NodeId) -> Result<(), Fault> {
    let found = partition.replica_on(node).is_some_and(|held| held.id == replica);
    if found { Ok(()) } else { Err(Fault::NoSuchReplica(replica, node)) }
}

/// The copies on other nodes.
fn without(partition: &Partition, node: NodeId) -> Vec<Replica> {
    partition.replicas.iter().copied().filter(|replica| replica.node != node).collect()
}

/// Whether loads are more even with the move than without it, given what the whole plan
/// makes of them.
fn judge_gain(loads: &BTreeMap<NodeId, usize>, from: NodeId, to: NodeId) -> Result<(), Fault> {
    let load = |node: NodeId| loads.get(&node).copied().unwrap_or(0);
    let (left, given) = (load(from), load(to));
    if given <= left { Ok(()) } else { Err(Fault::Vain { from, left, to, given }) }
}

fn copies_after(map: &PartitionMap, moves: &[Move]) -> BTreeMap<NodeId, usize> {
    let mut count = BTreeMap::<NodeId, usize>::new();
    for replica in map.partitions.values().flat_map(|partition| &partition.replicas) {
        *count.entry(replica.node).or_default() += 1;
    }
    for mv in moves.iter().filter(|mv| mv.moves_replica()) {
        if let Some(from) = mv.from().and_then(|from| count.get_mut(&from)) {
            *from = from.saturating_sub(1);
        }
        if let Some(to) = mv.to() {
            *count.entry(to).or_default() += 1;
        }
    }
    count
}

/// Leaders after the moves. Where the copy that leads goes, who leads next is not settled,
/// so it counts nowhere.
fn led_after(map: &PartitionMap, leaders: &Leaders, moves: &[Move]) -> BTreeMap<NodeId, usize> {
    let mut leaders: Leaders = leaders
        .iter()
        .filter(|(id, node)| map.partitions.get(id).is_some_and(|known| known.replica_on(**node).is_some()))
        .map(|(id, node)| (*id, *node))
        .collect();
    for mv in moves {
        let id: PartitionId = mv.partition();
        match *mv {
            Move::TransferLeader { to, .. } => {
                leaders.insert(id, to);
            }
            _ if mv.from().is_some() && leaders.get(&id) == mv.from().as_ref() => {
                leaders.remove(&id);
            }
            _ => {}
        }
    }
    let mut count = BTreeMap::new();
    leaders.values().for_each(|node| *count.entry(*node).or_default() += 1);
    count
}

#[cfg(test)]
mod tests;
