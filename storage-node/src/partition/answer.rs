//! What a command is answered with.

use bytes::Bytes;
use proto::v1::{ExpireAnswer, Result as OperationResult};

/// The answer to one command.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// To an operation.
    Operation(OperationResult),
    /// To an expiry.
    Expired(ExpireAnswer),
    /// To a meta command: a `MetaAnswer`.
    Meta(Bytes),
    /// To a split: whether the partition is split as it says.
    Split(bool),
    /// To a command that has nothing to say.
    Done,
}
