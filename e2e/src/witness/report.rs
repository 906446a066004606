//! What the witness says, as JSON lines and as answers at its door.

use serde::{Deserialize, Serialize};

/// How it goes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// When the first write was acknowledged, in milliseconds since 1970; none: it was not yet.
    pub first_write_at: Option<u64>,
    /// Why the first write is not there yet.
    pub waiting: Option<String>,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Writes that were certainly not done, mostly because their condition did not hold.
    pub not_done: u64,
    /// Writes whose outcome is not known, those under way included.
    pub unknown: u64,
    /// Reads.
    pub reads: u64,
    /// Requests that failed although the client tried again as it does.
    pub failed_requests: u64,
    /// What the first of them said.
    pub errors: Vec<String>,
    /// The longest time without a successful write since the last mark.
    pub longest_gap_ms: u64,
    /// The longest that one write took since the last mark.
    pub slowest_write_ms: u64,
}

/// What was wrong in the end.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Verdict {
    /// How it went.
    pub report: Report,
    /// How many keys were there at the end.
    pub keys: u64,
    /// What nothing explains: lost writes, stale reads, values that nobody wrote. At most 20.
    pub violations: Vec<String>,
    /// Why it could not be judged.
    pub unjudged: Option<String>,
}

impl Verdict {
    /// Whether nothing was lost, stale or made up.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty() && self.unjudged.is_none()
    }
}

/// The cluster as the data plane itself has it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ClusterReport {
    /// Its id.
    pub cluster: String,
    /// The node that leads the meta group, by name.
    pub meta_leader: Option<String>,
    /// The nodes.
    pub nodes: Vec<NodeReport>,
    /// Moves under way and the last that ended.
    pub moves: Vec<MoveReport>,
    /// Where each partition is.
    pub partitions: Vec<PartitionReport>,
    /// Whether no move would improve anything.
    pub balanced: bool,
    /// Partitions that lack replicas.
    pub under_replicated: u64,
    /// Partitions that lack a leader.
    pub without_leader: u64,
}

/// A node.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its UUID.
    pub id: String,
    /// Its name: that of its pod.
    pub name: String,
    /// Where it stands in its life.
    pub state: String,
    /// Whether it is heard of.
    pub alive: bool,
    /// The zone that it is in; empty: not known.
    pub zone: String,
    /// The machine that it is on; empty: not known.
    pub host: String,
    /// How many replicas it holds.
    pub replicas: u64,
    /// How many partitions it leads.
    pub leaders: u64,
}

/// A move.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveReport {
    /// Its number, which grows.
    pub id: u64,
    /// Whether a replica moves, and not only leadership.
    pub moves_replica: bool,
    /// How far it is.
    pub stage: String,
    /// What it does, for people.
    pub line: String,
}

/// A partition.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PartitionReport {
    /// Its number.
    pub id: u64,
    /// The nodes that hold it, by UUID.
    pub nodes: Vec<String>,
    /// The node that leads it, by UUID.
    pub leader: Option<String>,
}

impl ClusterReport {
    /// The node of this name.
    pub fn node(&self, name: &str) -> Option<&NodeReport> {
        self.nodes.iter().find(|node| node.name == name)
    }
}

/// What a reader that asks one node directly got to see.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LonelyReport {
    /// What the node answered.
    pub sights: Vec<Sight>,
    /// How often it did not.
    pub refused: u64,
}

/// What a reader saw that asked one node directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// When it asked, in milliseconds since 1970.
    pub began: u64,
    /// What the counter showed.
    pub count: u64,
}
