//! What a Trilith cluster says of itself, as plain data: everything that planning may rest on.

use std::collections::{BTreeMap, BTreeSet};

use placement::{ClusterId, Move, NodeId, NodeState};
use proto::v1::{HistorySettings, SplitPolicy, ValueSettings};

use crate::table::indexes::Index;

/// What is known of a data plane.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum DataPlane {
    /// Nobody who could know has answered. It decides nothing: unknown is never drained,
    /// never empty, and never uninitialised.
    #[default]
    Unknown,
    /// A node answered that it belongs to no cluster, and no node said otherwise.
    Uninitialised,
    /// The meta group answered, linearizably.
    Known(Box<ClusterView>),
}

/// The meta group's own view.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ClusterView {
    /// Which cluster it is.
    pub cluster: ClusterId,
    /// The version of what nodes write and say to each other.
    pub cluster_version: u32,
    /// The node that leads the meta group.
    pub meta_leader: Option<NodeId>,
    /// The nodes that were not removed.
    pub nodes: BTreeMap<NodeId, NodeView>,
    /// The nodes that were removed. A tombstone is for ever, so it counts wherever it is seen.
    pub tombstones: BTreeSet<NodeId>,
    /// The tables.
    pub tables: Vec<TableView>,
    /// How many partitions there are.
    pub partitions: u64,
    /// Partitions that nobody leads.
    pub without_leader: u64,
    /// Partitions with fewer healthy copies than their tables ask for.
    pub under_replicated: u64,
    /// Some of both, by number; at most 32.
    pub unhealthy: Vec<u64>,
    /// The moves that are under way.
    pub moves: Vec<MoveView>,
    /// What would bring the cluster into balance, on the map of `revision`.
    pub proposal: Vec<ProposedMove>,
    /// The revision of the map that the proposal is for.
    pub revision: u64,
    /// Whether the data plane itself finds that nothing needs to move.
    pub balanced: bool,
    /// One sentence for a person.
    pub summary: String,
}

/// A storage node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeView {
    /// Its identity.
    pub id: NodeId,
    /// Its name, which is its pod's.
    pub name: String,
    /// The newest cluster version that its program supports.
    pub supports_version: u32,
    /// Where it is in its life.
    pub state: NodeState,
    /// Whether the meta leader heard of it just now.
    pub alive: bool,
    /// How long it has been silent, in seconds.
    pub silent_for: u64,
    /// The zone that it says it is in.
    pub zone: String,
    /// The machine that it says it is on.
    pub host: String,
    /// Partitions that it leads.
    pub leaders: u64,
    /// Copies that it holds.
    pub replicas: u64,
    /// Whether it holds a vote of the meta group.
    pub holds_meta: bool,
    /// Bytes used on its disk.
    pub disk_used: u64,
    /// Bytes that its disk has.
    pub disk_total: u64,
    /// Whether it refuses writes because its disk is nearly full.
    pub disk_nearly_full: bool,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableView {
    /// Its number, which is never used again.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Copies of each partition.
    pub replicas: u32,
    /// How many partitions it has.
    pub partitions: u32,
    /// How many it is getting, while partitions are being split; else 0.
    pub wanted_partitions: u32,
    /// How many buckets.
    pub buckets: u32,
    /// Milliseconds after which items go; 0: never.
    pub default_ttl_ms: u64,
    /// How long it keeps its changes.
    pub history: HistorySettings,
    /// What it demands of values.
    pub values: ValueSettings,
    /// How many milliseconds a read gives an item; 0: none.
    pub touch_on_read_ms: u64,
    /// What its items can be found by besides their keys.
    pub indexes: Vec<Index>,
    /// When its partitions are split by themselves.
    pub split: SplitPolicy,
    /// Who declared it: a `KVTable`'s UID, or nobody.
    pub owner: String,
}

/// A move that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveView {
    /// Its number.
    pub id: u64,
    /// What is moved.
    pub order: Move,
    /// A line for a person.
    pub line: String,
}

/// A move that the planner proposes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposedMove {
    /// What is moved.
    pub order: Move,
    /// A line for a person.
    pub line: String,
}

impl DataPlane {
    /// The meta group's view, where it answered.
    pub fn known(&self) -> Option<&ClusterView> {
        match self {
            Self::Known(view) => Some(view),
            Self::Unknown | Self::Uninitialised => None,
        }
    }
}

impl ClusterView {
    /// The node of that name that was not removed.
    pub fn named(&self, name: &str) -> Option<&NodeView> {
        self.nodes.values().find(|node| node.name == name)
    }

    /// The most copies that a table asks for.
    pub fn most_replicas(&self) -> u32 {
        self.tables.iter().map(|table| table.replicas).max().unwrap_or(1)
    }

    /// The nodes that take part and are there.
    pub fn serving_alive(&self) -> impl Iterator<Item = &NodeView> {
        self.nodes.values().filter(|node| node.alive && node.state == NodeState::Serving)
    }

    /// How many voters the meta group should have, by the nodes that serve.
    pub fn wanted_meta_voters(&self) -> usize {
        match self.nodes.values().filter(|node| node.state == NodeState::Serving).count() {
            0..3 => 1,
            3..9 => 3,
            _ => 5,
        }
    }

    /// Whether the meta group has the voters that it should have.
    pub fn meta_is_whole(&self) -> bool {
        let voters = self.nodes.values().filter(|node| node.holds_meta).count();
        self.meta_leader.is_some() && voters >= self.wanted_meta_voters()
    }
}

impl NodeView {
    /// Whether it is on its way out or already empty.
    pub fn is_leaving(&self) -> bool {
        self.state.is_leaving()
    }
}
