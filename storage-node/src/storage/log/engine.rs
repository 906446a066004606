//! What the log needs of whatever keeps it: RocksDB, or memory in simulations.

use std::ops::Range;

use bytes::Bytes;
use placement::{PartitionId, ReplicaId};

use super::error::LogError;
use crate::raft::type_config::{Entry, LogId, Vote};

/// Keeps the logs of all replicas of a node.
///
/// There is one writer, so `write` is never called by two threads at once. Reads come from
/// anywhere and see every write that has returned.
pub trait LogEngine: Send + Sync + 'static {
    /// Writes the records in their order, all or none, and returns when they are durable.
    ///
    /// After an error nobody knows what is on disk: the caller ends the process and never
    /// tries again.
    fn write(&self, records: &[Record]) -> Result<(), LogError>;

    /// The entries of a replica in a range of indexes, from the first that is there, as one
    /// consistent view. It ends early once the entries after the first hold more than
    /// `max_bytes`.
    fn read_entries(
        &self,
        replica: ReplicaId,
        range: Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, LogError>;

    /// Where a replica's log stands.
    fn positions(&self, replica: ReplicaId) -> Result<Positions, LogError>;

    /// The records of all replicas, in the order of their ids.
    fn replica_records(&self) -> Result<Vec<ReplicaRecord>, LogError>;

    /// Every replica of which anything is stored, in the order of their ids.
    fn replicas(&self) -> Result<Vec<ReplicaId>, LogError>;

    /// Whether reads may wait for a disk, so that they belong on a thread that may block.
    fn reads_block(&self) -> bool;
}

/// One change of the log.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// Entries, in the order of their indexes.
    Append {
        /// Whose.
        replica: ReplicaId,
        /// What.
        entries: Vec<Entry>,
    },
    /// The term, and whom the replica votes for in it.
    Vote {
        /// Whose.
        replica: ReplicaId,
        /// The vote.
        vote: Vote,
    },
    /// How far the log is known to be committed.
    Committed {
        /// Whose.
        replica: ReplicaId,
        /// The last committed entry.
        log_id: Option<LogId>,
    },
    /// Removes the entries from an index on.
    Truncate {
        /// Whose.
        replica: ReplicaId,
        /// The first index to go.
        from: u64,
    },
    /// Removes the entries up to an id, that one included.
    Purge {
        /// Whose.
        replica: ReplicaId,
        /// The last entry to go.
        log_id: LogId,
    },
    /// Creates a replica or marks it as being destroyed.
    Replica(ReplicaRecord),
    /// Removes all that is stored of a replica.
    Destroy {
        /// Which.
        replica: ReplicaId,
    },
}

impl Record {
    /// Whether somebody waits for this record to be durable.
    ///
    /// A lost commit position is learnt again from the leader, and a lost purge is done
    /// again, so these ride along with the next record that must be synced.
    pub fn needs_sync(&self) -> bool {
        match self {
            Self::Append { entries, .. } => !entries.is_empty(),
            Self::Vote { .. } | Self::Truncate { .. } | Self::Replica(_) | Self::Destroy { .. } => true,
            Self::Committed { .. } | Self::Purge { .. } => false,
        }
    }

    /// About how many bytes it takes in a batch.
    pub fn size(&self) -> usize {
        match self {
            Self::Append { entries, .. } => entries.iter().map(super::cache::entry_size).sum(),
            Self::Replica(record) => 64 + record.birth.len(),
            _ => 64,
        }
    }
}

/// Where a replica's log stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Positions {
    /// The last vote.
    pub vote: Option<Vote>,
    /// The last commit position that was stored; it may lag.
    pub committed: Option<LogId>,
    /// The last entry that was purged.
    pub purged: Option<LogId>,
    /// The last entry, or `purged` where there is none.
    pub last: Option<LogId>,
}

/// That a replica lives on this node.
///
/// It is created from what the meta group says and outlives restarts, so that start-up knows
/// which groups to run and which destructions to finish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaRecord {
    /// Its group.
    pub group: PartitionId,
    /// The replica; the name is never used again.
    pub replica: ReplicaId,
    /// What the group was created with. The log does not look into it.
    pub birth: Bytes,
    /// Whether it lives.
    pub state: ReplicaState,
}

/// Whether a replica lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaState {
    /// It takes part in its group.
    Alive,
    /// Its data is being deleted; start-up goes on with that.
    Destroying,
}
