//! Operations as values, for batches, transactions and pipelines, and their answers.

use std::time::Duration;

use bytes::Bytes;
use proto::v1::condition::Is;
use proto::v1::modify_request::Change;
use proto::v1::operation::Operation as Wire;
use proto::v1::{self, ContentKind, DeleteResponse, Item, PutResponse, Retry};

use crate::error::Error;

/// What must hold of a key for a write to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// There must be no such key.
    Absent,
    /// There must be such a key.
    Exists,
    /// The key's version must be this one.
    Version(u64),
}

/// What a get may say besides the key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GetOptions {
    /// From any replica, possibly an older item.
    pub stale: bool,
    /// Of a value that is JSON only what these paths lead to; none: the whole value.
    pub paths: Vec<String>,
    /// Gives an item that has an end at least so long; none: as the table says.
    pub touch: Option<Duration>,
}

/// A change of parts of a value that is JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Patch {
    /// A JSON Merge Patch (RFC 7396). No item counts as an empty object.
    Merge(Bytes),
    /// A JSON Patch (RFC 6902), of an item that is there.
    Json(Bytes),
}

/// What a put may say besides key and value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// How long the item lives; none: as the table says. At least a millisecond.
    pub ttl: Option<Duration>,
    /// Write only if this holds.
    pub condition: Option<Condition>,
    /// What the value is.
    pub content: ContentKind,
}

/// One operation on one key.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Reads a key.
    Get {
        /// The key.
        key: Bytes,
    },
    /// Writes a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// The rest.
        options: PutOptions,
    },
    /// Deletes a key.
    Delete {
        /// The key.
        key: Bytes,
        /// Delete only if this holds.
        condition: Option<Condition>,
    },
    /// Asks whether there is such a key.
    Exists {
        /// The key.
        key: Bytes,
    },
}

/// What an operation gave.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Of a get: the item, if there is one.
    Get(Option<Item>),
    /// Of a put.
    Put(PutResponse),
    /// Of a delete.
    Delete(DeleteResponse),
    /// Of an exists.
    Exists(bool),
}

impl Operation {
    /// Reads a key.
    pub fn get(key: impl Into<Bytes>) -> Self {
        Self::Get { key: key.into() }
    }

    /// Writes a key.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>, options: PutOptions) -> Self {
        Self::Put { key: key.into(), value: value.into(), options }
    }

    /// Deletes a key.
    pub fn delete(key: impl Into<Bytes>, condition: Option<Condition>) -> Self {
        Self::Delete { key: key.into(), condition }
    }

    /// Asks whether there is such a key.
    pub fn exists(key: impl Into<Bytes>) -> Self {
        Self::Exists { key: key.into() }
    }

    /// The key that it is about.
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Get { key } | Self::Put { key, .. } | Self::Delete { key, .. } | Self::Exists { key } => {
                key
            }
        }
    }

    /// Whether it changes anything.
    pub fn is_write(&self) -> bool {
        matches!(self, Self::Put { .. } | Self::Delete { .. })
    }

    /// About how many bytes it takes on the wire.
    pub fn size(&self) -> usize {
        const AROUND: usize = 64;
        let value = if let Self::Put { value, .. } = self { value.len() } else { 0 };
        self.key().len() + value + AROUND
    }

    /// As it travels. Inside a batch or a transaction, table and retry are those of the
    /// request around it, and left out here.
    pub(crate) fn to_wire(&self, table: &str, retry: Option<Retry>) -> v1::Operation {
        let (table, key) = (table.to_owned(), self.key().clone());
        let operation = match self {
            Self::Get { .. } => Wire::Get(v1::GetRequest { table, key, ..v1::GetRequest::default() }),
            Self::Exists { .. } => Wire::Exists(v1::ExistsRequest { table, key, stale: false }),
            Self::Put { value, options, .. } => {
                Wire::Put(put_request(table, key, value.clone(), options, retry))
            }
            Self::Delete { condition, .. } => {
                let condition = condition.map(Into::into);
                Wire::Delete(v1::DeleteRequest { table, key, condition, retry })
            }
        };
        v1::Operation { operation: Some(operation) }
    }
}

impl From<Condition> for v1::Condition {
    fn from(condition: Condition) -> Self {
        let is = match condition {
            Condition::Absent => Is::Absent(true),
            Condition::Exists => Is::Exists(true),
            Condition::Version(version) => Is::Version(version),
        };
        Self { is: Some(is) }
    }
}

impl From<Patch> for Change {
    fn from(patch: Patch) -> Self {
        match patch {
            Patch::Merge(patch) => Self::MergePatch(patch),
            Patch::Json(patch) => Self::JsonPatch(patch),
        }
    }
}

/// A get as it travels.
pub(crate) fn get_request(table: String, key: Bytes, options: &GetOptions) -> v1::GetRequest {
    v1::GetRequest {
        table,
        key,
        stale: options.stale,
        paths: options.paths.clone(),
        touch_ms: options.touch.map_or(0, whole_ms),
        ..v1::GetRequest::default()
    }
}

/// A put as it travels.
pub(crate) fn put_request(
    table: String,
    key: Bytes,
    value: Bytes,
    options: &PutOptions,
    retry: Option<Retry>,
) -> v1::PutRequest {
    v1::PutRequest {
        table,
        key,
        value,
        condition: options.condition.map(Into::into),
        ttl_ms: options.ttl.map_or(0, |ttl| whole_ms(ttl).max(1)),
        content: options.content.into(),
        retry,
    }
}

/// The answer that a result holds, or the failure.
pub(crate) fn answer_of(result: v1::Result) -> Result<Answer, v1::Failure> {
    use v1::result::Result as Found;
    match result.result {
        Some(Found::Get(got)) => Ok(Answer::Get(got.item)),
        Some(Found::Put(put)) => Ok(Answer::Put(put)),
        Some(Found::Delete(deleted)) => Ok(Answer::Delete(deleted)),
        Some(Found::Exists(exists)) => Ok(Answer::Exists(exists.exists)),
        Some(Found::Failure(failure)) => Err(failure),
        Some(Found::Batch(_) | Found::Txn(_) | Found::Modify(_) | Found::Copy(_) | Found::Clear(_))
        | None => Err(nonsense()),
    }
}

/// What results that do not fit their operations are treated as.
pub(crate) fn nonsense() -> v1::Failure {
    v1::Failure::new(tonic::Code::Internal, "the node's answer does not fit the request", None)
}

/// Answers of a list that was done as a whole.
pub(crate) fn answers_of(results: Vec<v1::Result>) -> Result<Vec<Answer>, Error> {
    let answers = results.into_iter().map(|result| answer_of(result).map_err(|f| Error::from_failure(&f)));
    answers.collect()
}
/// A time as the wire has it.
pub(crate) fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
