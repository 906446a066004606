//! MULTI, EXEC and WATCH: what was queued becomes one transaction, on keys of one slot.

use bytes::Bytes;
use proto::v1::compare::That;
use proto::v1::{
    Compare, GetRequest, Operation, TxnRequest, operation::Operation as Kind, result::Result as Outcome,
};

use super::commands::{Plan, Verb};
use super::parse::Request;
use super::refusal;
use super::reply::Reply;
use super::run::{PATIENCE, perform};
use super::shape::Shape;
use crate::doors::Operations;

/// Commands that are queued at once.
const MOST_QUEUED: usize = 1000;
/// What they may hold.
const MOST_BYTES: usize = 16 << 20;

/// What was queued since MULTI.
#[derive(Debug, Default)]
pub struct Queue {
    /// The commands.
    pub queued: Vec<Queued>,
    /// One of them was refused, so none will be done.
    pub failed: bool,
    bytes: usize,
}

/// A command that waits for EXEC.
#[derive(Debug)]
pub enum Queued {
    /// On keys.
    Keys(Plan),
    /// Of the connection.
    Connection(Verb, Request),
}

impl Queue {
    /// Queues a command of so many bytes.
    pub fn push(&mut self, queued: Queued, bytes: usize) -> Reply {
        self.bytes += bytes;
        if self.queued.len() >= MOST_QUEUED || self.bytes > MOST_BYTES {
            self.failed = true;
            self.queued.clear();
            return Reply::err(format!(
                "a transaction holds at most {MOST_QUEUED} commands and {MOST_BYTES} bytes"
            ));
        }
        self.queued.push(queued);
        Reply::Status("QUEUED")
    }

    /// What it holds.
    pub fn held(&self) -> usize {
        self.bytes
    }
}

/// A key that must not have changed: with the version that it had, 0 where there was none.
pub type Watched = (Bytes, u64);

/// The versions of keys as they are now.
pub async fn versions(operations: &Operations, table: &str, keys: Vec<Bytes>) -> Result<Vec<Watched>, Reply> {
    let read = |key: &Bytes| {
        let get = GetRequest { key: key.clone(), without_value: true, ..GetRequest::default() };
        Operation { operation: Some(Kind::Get(get)) }
    };
    let results = perform(operations, table, keys.iter().map(read).collect()).await;
    let mut watched = Vec::with_capacity(keys.len());
    for (key, result) in keys.into_iter().zip(results) {
        match result.result {
            Some(Outcome::Get(got)) => watched.push((key, got.item.map_or(0, |item| item.version))),
            Some(Outcome::Failure(failure)) => return Err(refusal::of(&failure)),
            _ => return Err(Reply::err("an operation had another's result")),
        }
    }
    Ok(watched)
}

/// What the commands on keys came to, in their order; none where a watched key has changed.
pub async fn execute(
    operations: &Operations,
    table: &str,
    watched: Vec<Watched>,
    plans: Vec<Plan>,
) -> Result<Option<Vec<Reply>>, Reply> {
    let compares: Vec<Compare> = watched
        .into_iter()
        .map(|(key, version)| {
            let that = if version == 0 { That::Absent(true) } else { That::VersionEquals(version) };
            Compare { key, that: Some(that) }
        })
        .collect();
    let mut shapes: Vec<(Shape, usize)> = Vec::with_capacity(plans.len());
    let mut then = Vec::new();
    for plan in plans {
        shapes.push((plan.shape, plan.operations.len()));
        then.extend(plan.operations.into_iter().map(|kind| Operation { operation: Some(kind) }));
    }
    if compares.is_empty() && then.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let txn = TxnRequest { table: table.to_owned(), compares, then, ..TxnRequest::default() };
    let outcome = operations.run(&operations.context(PATIENCE), Kind::Txn(txn)).await;
    match outcome.map_err(|failure| refusal::of(&failure))? {
        Outcome::Txn(txn) if !txn.succeeded => Ok(None),
        Outcome::Txn(txn) => {
            let mut results = txn.results.into_iter();
            let replies =
                shapes.into_iter().map(|(shape, count)| shape.reply(results.by_ref().take(count).collect()));
            Ok(Some(replies.collect()))
        }
        _ => Err(Reply::err("an operation had another's result")),
    }
}
