//! A move: one change of who holds or leads a partition, as data that others carry out.

use std::collections::BTreeMap;
use std::fmt;

use crate::id::{Epoch, NodeId, PartitionId, ReplicaId, Revision};
use crate::map::{Partition, PartitionMap, Replica, Role};

/// One change of who holds or leads a partition.
///
/// Its `Display` names nodes by their ids; [`describe`] says the same with the names that
/// people gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Move {
    /// A copy goes from one node to another: the new one is caught up and votes before the
    /// old one goes. If the old one leads, whoever carries the move out first lets another
    /// one lead.
    Replace {
        /// Whose copy.
        partition: PartitionId,
        /// The copy that goes.
        replica: ReplicaId,
        /// The node that holds it.
        from: NodeId,
        /// The node that gets a new copy.
        to: NodeId,
    },
    /// The partition gets one copy more.
    Add {
        /// Whose copy.
        partition: PartitionId,
        /// The node that gets it.
        to: NodeId,
    },
    /// The partition loses one copy.
    Remove {
        /// Whose copy.
        partition: PartitionId,
        /// The copy that goes.
        replica: ReplicaId,
        /// The node that holds it.
        from: NodeId,
    },
    /// Another one of the voters leads.
    TransferLeader {
        /// Whose leader.
        partition: PartitionId,
        /// The node that leads.
        from: NodeId,
        /// The node that shall lead.
        to: NodeId,
    },
}

/// Which node leads a partition, as far as that is known.
pub type Leaders = BTreeMap<PartitionId, NodeId>;

impl Move {
    /// The partition that the move changes.
    pub fn partition(&self) -> PartitionId {
        match *self {
            Self::Replace { partition, .. }
            | Self::Add { partition, .. }
            | Self::Remove { partition, .. }
            | Self::TransferLeader { partition, .. } => partition,
        }
    }

    /// The node that gives something up, where one does.
    pub fn from(&self) -> Option<NodeId> {
        match *self {
            Self::Replace { from, .. } | Self::Remove { from, .. } | Self::TransferLeader { from, .. } => {
                Some(from)
            }
            Self::Add { .. } => None,
        }
    }

    /// The node that gets something, where one does.
    pub fn to(&self) -> Option<NodeId> {
        match *self {
            Self::Replace { to, .. } | Self::Add { to, .. } | Self::TransferLeader { to, .. } => Some(to),
            Self::Remove { .. } => None,
        }
    }

    /// Whether copies change, and not only who leads.
    pub fn moves_replica(&self) -> bool {
        !matches!(self, Self::TransferLeader { .. })
    }

    /// The line that tells of the move, with whatever names the caller has for things.
    fn line(&self, partition: impl fmt::Display, node: impl Fn(NodeId) -> String) -> String {
        match *self {
            Self::Replace { replica, from, to, .. } => {
                format!("{partition}: replica {replica} from {} to {}", node(from), node(to))
            }
            Self::Add { to, .. } => format!("{partition}: add a replica on {}", node(to)),
            Self::Remove { replica, from, .. } => {
                format!("{partition}: remove replica {replica} from {}", node(from))
            }
            Self::TransferLeader { from, to, .. } => {
                format!("{partition}: leader from {} to {}", node(from), node(to))
            }
        }
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let partition = format_args!("partition {}", self.partition()).to_string();
        f.write_str(&self.line(partition, |node| node.to_string()))
    }
}

/// The move in one line, with the names of its table and nodes. What the map does not know
/// is told by its id.
pub fn describe(map: &PartitionMap, mv: &Move) -> String {
    let id = mv.partition();
    let table = map.partitions.get(&id).and_then(|partition| map.tables.get(&partition.table));
    let partition = match table {
        Some(table) => format!("partition {id} of {}", table.name),
        None => format!("partition {id}"),
    };
    mv.line(partition, |node| {
        map.nodes.get(&node).map_or_else(|| node.to_string(), |known| known.name.clone())
    })
}

/// The map once the moves are done, new copies under names above all that the map has. A
/// move that does not fit the map changes nothing.
pub fn after(map: &PartitionMap, moves: &[Move]) -> PartitionMap {
    let mut map = map.clone();
    let ids = map.partitions.values().flat_map(|partition| &partition.replicas).map(|replica| replica.id.0);
    let mut last = ids.max().unwrap_or(0);
    let mut changed = false;
    for mv in moves {
        let Some(partition) = map.partitions.get_mut(&mv.partition()) else { continue };
        if change(partition, mv, ReplicaId(last.saturating_add(1))) {
            last = last.saturating_add(1);
            partition.epoch = Epoch(partition.epoch.0.saturating_add(1));
            changed = true;
        }
    }
    if changed {
        map.revision = Revision(map.revision.0.saturating_add(1));
    }
    map
}

/// Carries a move out on its partition; says whether copies changed.
fn change(partition: &mut Partition, mv: &Move, fresh: ReplicaId) -> bool {
    let new = |node| Replica { id: fresh, node, role: Role::Voter };
    match *mv {
        Move::Replace { replica, from, to, .. } => {
            if partition.replica_on(to).is_some() {
                return false;
            }
            let old = partition.replicas.iter_mut().find(|held| held.id == replica && held.node == from);
            old.map(|old| *old = new(to)).is_some()
        }
        Move::Add { to, .. } => {
            let free = partition.replica_on(to).is_none();
            if free {
                partition.replicas.push(new(to));
            }
            free
        }
        Move::Remove { replica, from, .. } => {
            let held = partition.replicas.len();
            partition.replicas.retain(|held| !(held.id == replica && held.node == from));
            partition.replicas.len() < held
        }
        Move::TransferLeader { .. } => false,
    }
}
