//! What can go wrong with the log, said so that an operator knows what to do.

use std::io;
use std::path::PathBuf;

use placement::{PartitionId, ReplicaId};

use crate::raft::entry::BadEntry;

/// Why the log could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Another process holds the folder.
    #[error("the log in {} is in use by another process: stop that one first, two must never share it", path.display())]
    InUse {
        /// The log's folder.
        path: PathBuf,
    },
    /// A file system call failed.
    #[error("cannot use the log file {}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A write-ahead file is damaged before entries that were acknowledged.
    #[error(
        "the log file {} is damaged at byte {offset} ({what}), and acknowledged records follow: nothing was \
         changed; restore the file from the same disk, or remove this node from the cluster and let it join \
         again with an empty data folder", file.display()
    )]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// How it is damaged.
        what: &'static str,
    },
    /// RocksDB refused to open. Its own message names the file where one is to blame.
    #[error(
        "cannot open the log in {}: if a file in it is damaged, remove this node from the cluster and let it join \
         again with an empty data folder", path.display()
    )]
    Open {
        /// The log's folder.
        path: PathBuf,
        /// What RocksDB said.
        source: rocksdb::Error,
    },
    /// Written by a newer program.
    #[error("the log in {} has format {found}; this program knows format {known}: run a newer one", path.display())]
    Format {
        /// The log's folder.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The newest format that this program knows.
        known: u32,
    },
    /// A database, but not a log.
    #[error("{} holds a database that is not a log: point the node at its own data folder", path.display())]
    NotALog {
        /// The folder.
        path: PathBuf,
    },
    /// Reading failed. RocksDB's message names the file.
    #[error("cannot read the log: {0}; if a file is damaged, replace this node")]
    Read(#[source] rocksdb::Error),
    /// Writing or syncing failed. The process ends, because what is on disk is now unknown.
    #[error("cannot write the log: {0}")]
    Write(#[source] rocksdb::Error),
    /// A record does not parse.
    #[error("damaged record of replica {replica} in the log: {what}; replace this node")]
    Record {
        /// Whose record.
        replica: ReplicaId,
        /// Which record, and how it is damaged.
        what: &'static str,
    },
    /// An entry does not parse.
    #[error("entry {index} of replica {replica} cannot be read from the log")]
    Entry {
        /// Whose entry.
        replica: ReplicaId,
        /// Its index.
        index: u64,
        /// Why not.
        source: BadEntry,
    },
    /// Entries that the log must hold are not there.
    #[error("the log of replica {replica} misses entry {index}, which it once held: replace this node")]
    Missing {
        /// Whose entry.
        replica: ReplicaId,
        /// The first index that is missing.
        index: u64,
    },
    /// An append would leave a hole or overwrite without truncation.
    #[error("replica {replica} was to append entry {found} where entry {expected} is next")]
    Gap {
        /// Whose log.
        replica: ReplicaId,
        /// The index that is next.
        expected: u64,
        /// The index that came.
        found: u64,
    },
    /// There is no record of the replica: it was never created here, or is destroyed.
    #[error("replica {replica} has no record on this node")]
    UnknownReplica {
        /// The replica asked for.
        replica: ReplicaId,
    },
    /// The replica's record names another group.
    #[error("replica {replica} belongs to group {recorded}, not to group {asked}")]
    WrongGroup {
        /// The replica.
        replica: ReplicaId,
        /// The group in its record.
        recorded: PartitionId,
        /// The group that was asked for.
        asked: PartitionId,
    },
    /// The replica is being destroyed, or is not yet marked so when it must be.
    #[error("replica {replica} is {state}")]
    WrongState {
        /// The replica.
        replica: ReplicaId,
        /// What it is now.
        state: &'static str,
    },
    /// The writer's thread could not be started.
    #[error("cannot start the log's thread")]
    Thread(#[source] io::Error),
    /// The log was shut down.
    #[error("the log is shut down")]
    Closed,
}

impl From<LogError> for io::Error {
    fn from(error: LogError) -> Self {
        let kind = match &error {
            LogError::Gap { .. } => io::ErrorKind::InvalidInput,
            LogError::Closed => io::ErrorKind::BrokenPipe,
            LogError::Damaged { .. }
            | LogError::Record { .. }
            | LogError::Entry { .. }
            | LogError::Missing { .. } => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
