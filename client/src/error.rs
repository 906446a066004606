//! Why a call has no outcome. The one place that turns a failure on the wire into an error.

use proto::v1::{Failure, error_detail::Detail};
use tonic::Code;

/// Why a call has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An endpoint is no address.
    #[error("{endpoint:?} is not an endpoint: {why}; use HOST:PORT")]
    BadEndpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        why: String,
    },
    /// No endpoint accepted a connection.
    #[error("no node answers at {endpoints}: {why}")]
    Unreachable {
        /// What was tried.
        endpoints: String,
        /// What the last one said.
        why: String,
    },
    /// The request is wrong whatever the cluster's state.
    #[error("{0}")]
    InvalidArgument(String),
    /// A limit was passed.
    #[error("{what} is over its limit: {actual} is more than {limit}")]
    OverLimit {
        /// What is too large.
        what: String,
        /// The most that is allowed.
        limit: u64,
        /// What was sent.
        actual: u64,
    },
    /// There is no such table.
    #[error("there is no table {0:?}")]
    UnknownTable(String),
    /// The keys of an atomic batch or a transaction are not of one slot.
    #[error("the keys are of different slots: give keys that change together one {{tag}}")]
    CrossSlot,
    /// A cursor is not of this scan.
    #[error("the cursor cannot be used: {0}")]
    BadCursor(String),
    /// The snapshot of a cursor is held no more: the scan or query has to begin again.
    #[error("{0}")]
    SnapshotExpired(String),
    /// A token is none of this table's watches.
    #[error("the token cannot be used: {0}")]
    BadToken(String),
    /// What a watch was to go on with is no longer kept: it has to begin again with the items that
    /// there are.
    #[error(
        "changes of partition {partition} after revision {wanted} are no longer kept, only those after {oldest}"
    )]
    Compacted {
        /// The partition.
        partition: u64,
        /// Where the watch stood.
        wanted: u64,
        /// What is kept.
        oldest: u64,
    },
    /// Another key of the same `{tag}` has the value that only one may have.
    #[error("key {:?} has the same value in the unique index {index}", String::from_utf8_lossy(key))]
    UniqueClash {
        /// The index.
        index: String,
        /// The other key.
        key: bytes::Bytes,
    },
    /// What should be created is there already.
    #[error("{0}")]
    AlreadyExists(String),
    /// What is named is not there (a node, a move).
    #[error("{0}")]
    NotFound(String),
    /// The node belongs to another cluster.
    #[error("the node belongs to another cluster: {0}")]
    WrongCluster(String),
    /// The cluster's state does not allow it.
    #[error("{0}")]
    FailedPrecondition(String),
    /// The cluster has no room for it now. Nothing was done.
    #[error("{0}")]
    ResourceExhausted(String),
    /// The caller may not do that.
    #[error("{0}")]
    PermissionDenied(String),
    /// Nobody could do it within the deadline. Nothing was done.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// No answer came within the deadline. Only what changes nothing ends this way.
    #[error("no answer within the deadline: {0}")]
    DeadlineExceeded(String),
    /// The write may have been done, or may yet be done, or not.
    #[error("the outcome is unknown: {0}")]
    OutcomeUnknown(String),
    /// The node failed in a way that it has no name for.
    #[error("the node failed: {0}")]
    Internal(String),
}

impl Error {
    /// Whether it is certain that nothing was done.
    pub fn is_definite(&self) -> bool {
        !matches!(self, Self::OutcomeUnknown(_))
    }

    /// What a failure on the wire means, taken by itself.
    pub(crate) fn from_failure(failure: &Failure) -> Self {
        let message = failure.message.clone();
        match failure.reason() {
            Some(Detail::OverLimit(over)) => {
                Self::OverLimit { what: over.what.clone(), limit: over.limit, actual: over.actual }
            }
            Some(Detail::UnknownTable(unknown)) => Self::UnknownTable(unknown.table.clone()),
            Some(Detail::CrossSlot(_)) => Self::CrossSlot,
            Some(Detail::BadCursor(bad)) => Self::BadCursor(bad.why.clone()),
            Some(Detail::SnapshotExpired(_)) => Self::SnapshotExpired(message),
            Some(Detail::BadToken(bad)) => Self::BadToken(bad.why.clone()),
            Some(Detail::Compacted(gone)) => {
                Self::Compacted { partition: gone.partition, wanted: gone.wanted, oldest: gone.oldest }
            }
            Some(Detail::AlreadyExists(_)) => Self::AlreadyExists(message),
            Some(Detail::WrongCluster(_)) => Self::WrongCluster(message),
            Some(Detail::OutcomeUnknown(unknown)) => Self::OutcomeUnknown(unknown.why.clone()),
            Some(Detail::NotLeader(_) | Detail::WrongEpoch(_) | Detail::RetryAfter(_)) => {
                Self::Unavailable(message)
            }
            Some(Detail::Unsuitable(_) | Detail::IndexNotReady(_)) => Self::FailedPrecondition(message),
            Some(Detail::UniqueClash(clash)) => {
                Self::UniqueClash { index: clash.index.clone(), key: clash.key.clone() }
            }
            Some(Detail::UnknownIndex(_)) => Self::NotFound(message),
            None => Self::from_code(Code::from(failure.code), message),
        }
    }

    fn from_code(code: Code, message: String) -> Self {
        match code {
            Code::InvalidArgument | Code::OutOfRange => Self::InvalidArgument(message),
            Code::Unimplemented => {
                Self::InvalidArgument(format!("the node does not know this call: {message}"))
            }
            Code::NotFound => Self::NotFound(message),
            Code::AlreadyExists => Self::AlreadyExists(message),
            Code::FailedPrecondition => Self::FailedPrecondition(message),
            Code::ResourceExhausted => Self::ResourceExhausted(message),
            Code::PermissionDenied | Code::Unauthenticated => Self::PermissionDenied(message),
            Code::Unavailable | Code::Aborted | Code::Cancelled => Self::Unavailable(message),
            Code::DeadlineExceeded => Self::DeadlineExceeded(message),
            Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => Self::Internal(message),
        }
    }
}
