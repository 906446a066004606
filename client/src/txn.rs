//! Transactions: compare, then do one of two lists, atomically.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::v1::compare::That;
use proto::v1::{self, TxnRequest};

use crate::attempts::{Attempts, Place, unary};
use crate::client::Client;
use crate::core::kv_client;
use crate::error::Error;
use crate::operation::{Answer, Operation, answers_of};
use crate::retry::Effect;

/// Something that must hold of a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Compare {
    key: Bytes,
    that: That,
}

/// A transaction, built up part by part. All its keys must be of one slot.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Txn {
    compares: Vec<Compare>,
    then: Vec<Operation>,
    otherwise: Vec<Operation>,
}

/// What a transaction gave.
#[derive(Debug, Clone, PartialEq)]
pub struct TxnOutcome {
    /// Whether every compare held, so that the first list was done.
    pub succeeded: bool,
    /// The answers of the list that was done.
    pub answers: Vec<Answer>,
}

impl Compare {
    /// There is no such key.
    pub fn absent(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), that: That::Absent(true) }
    }

    /// There is such a key.
    pub fn exists(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), that: That::Exists(true) }
    }

    /// The key's version is this one.
    pub fn version_equals(key: impl Into<Bytes>, version: u64) -> Self {
        Self { key: key.into(), that: That::VersionEquals(version) }
    }

    /// The key's version is below this one.
    pub fn version_below(key: impl Into<Bytes>, version: u64) -> Self {
        Self { key: key.into(), that: That::VersionBelow(version) }
    }

    /// The key's value is this one.
    pub fn value_equals(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), that: That::ValueEquals(value.into()) }
    }
}

impl Txn {
    /// A transaction that does nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what must hold.
    #[must_use]
    pub fn when(mut self, compare: Compare) -> Self {
        self.compares.push(compare);
        self
    }

    /// Adds what is done when everything holds.
    #[must_use]
    pub fn then(mut self, operation: Operation) -> Self {
        self.then.push(operation);
        self
    }

    /// Adds what is done when something does not hold.
    #[must_use]
    pub fn otherwise(mut self, operation: Operation) -> Self {
        self.otherwise.push(operation);
        self
    }

    fn writes(&self) -> bool {
        self.then.iter().chain(&self.otherwise).any(Operation::is_write)
    }

    fn first_key(&self) -> Option<&Bytes> {
        let compared = self.compares.iter().map(|compare| &compare.key);
        compared.chain(self.then.iter().chain(&self.otherwise).map(Operation::key)).next()
    }

    fn to_wire(&self, table: &str, retry: Option<v1::Retry>) -> TxnRequest {
        let list = |operations: &[Operation]| {
            operations.iter().map(|operation| operation.to_wire("", None)).collect()
        };
        let compare =
            |compare: &Compare| v1::Compare { key: compare.key.clone(), that: Some(compare.that.clone()) };
        TxnRequest {
            table: table.to_owned(),
            compares: self.compares.iter().map(compare).collect(),
            then: list(&self.then),
            otherwise: list(&self.otherwise),
            retry,
        }
    }
}

/// Runs a transaction to its outcome.
pub(crate) async fn run(
    client: &Client,
    table: &Arc<str>,
    txn: &Txn,
    deadline: Duration,
) -> Result<TxnOutcome, Error> {
    let effect = if txn.writes() { Effect::Sequenced } else { Effect::Repeatable };
    let place = match txn.first_key() {
        Some(key) => Place::Key { table: Arc::clone(table), key: key.clone() },
        None => Place::Any,
    };
    let answer = unary(Attempts::new(client, place, effect, deadline), |attempt| {
        let message = txn.to_wire(table, attempt.retry.clone());
        async move { kv_client(attempt.channel.clone()).txn(attempt.request(message)).await }
    })
    .await?;
    Ok(TxnOutcome { succeeded: answer.succeeded, answers: answers_of(answer.results)? })
}
