//! Commands of a pipeline that run together: all that came at once and touch only keys become
//! one batch, which the router takes to their partitions; the replies come in their order.

use std::time::Duration;

use bytes::Bytes;
use proto::v1::{
    BatchRequest, GetRequest, GetResponse, Operation, Result as OperationResult,
    operation::Operation as Kind, result::Result as Outcome,
};

use super::commands::Plan;
use super::outlet::{Outlet, Stuck};
use super::refusal;
use super::reply::{Reply, Version};
use super::shape::Shape;
use crate::doors::Operations;
use crate::partition::operations::{READ_BY_ONE, key_of, keys_of, reads_too_much};
use crate::router::operations::table_mut;

/// For an operation of a client that does not say how long it waits.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// A run is ended when it has so many operations or about so many bytes.
const MOST_OPERATIONS: usize = 1000;
const MOST_BYTES: usize = 1 << 20;
/// Values that one command, such as MGET, may have read besides those that come together. They
/// are one reply, and all held until it is written.
const MOST_ALONE: usize = 64 << 20;

/// What has gathered.
#[derive(Debug, Default)]
pub struct Run {
    operations: Vec<Operation>,
    bytes: usize,
    places: Vec<Place>,
}

/// A reply that is due.
#[derive(Debug)]
enum Place {
    /// That of a command with so many operations.
    Of(Shape, usize),
    /// It is known already.
    Known(Reply),
}

impl Run {
    /// Adds a command.
    pub fn push(&mut self, plan: Plan) {
        self.places.push(Place::Of(plan.shape, plan.operations.len()));
        for kind in plan.operations {
            self.bytes += size_of(&kind);
            self.operations.push(Operation { operation: Some(kind) });
        }
    }

    /// Adds a reply that is known.
    pub fn push_known(&mut self, reply: Reply) {
        self.places.push(Place::Known(reply));
    }

    /// Whether nothing is due.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether it is time to carry out what there is.
    pub fn is_full(&self) -> bool {
        self.operations.len() >= MOST_OPERATIONS
            || self.bytes >= MOST_BYTES
            || self.places.len() >= MOST_OPERATIONS
    }

    /// Carries everything out, and writes and sends the replies.
    ///
    /// Values are read together as far as a batch has room for them. The others are read one by
    /// one, when it is their turn to be sent: whoever asks for a thousand large values, and
    /// takes none, makes the node hold one of them.
    pub async fn finish(
        &mut self,
        operations: &Operations,
        table: &str,
        version: Version,
        out: &mut Outlet<'_>,
    ) -> Result<(), Stuck> {
        self.bytes = 0;
        let places = std::mem::take(&mut self.places);
        let all = std::mem::take(&mut self.operations);
        let reads: Vec<Option<Bytes>> = all.iter().map(value_read).collect();
        let results = perform(operations, table, all).await;
        let mut waiting: usize = results.iter().map(value_bytes).sum();
        let mut results = results.into_iter().zip(reads);
        for place in places {
            let reply = match place {
                Place::Known(reply) => reply,
                Place::Of(shape, count) => {
                    let mut parts = Vec::with_capacity(count.min(MOST_OPERATIONS));
                    let mut alone = 0;
                    for (mut result, read) in results.by_ref().take(count) {
                        waiting = waiting.saturating_sub(value_bytes(&result));
                        if let Some(key) = read.filter(|_| is_crowded(&result) && alone < MOST_ALONE) {
                            let get = GetRequest { key, ..GetRequest::default() };
                            let context = operations.context(PATIENCE);
                            result = operations.begin(&context, in_table(Kind::Get(get), table)).await;
                            alone += value_bytes(&result);
                        }
                        parts.push(result);
                    }
                    shape.reply(parts)
                }
            };
            reply.write(version, out.bytes);
            out.relieve(waiting).await?;
        }
        Ok(())
    }
}

/// Does operations that need not be atomic: a result each, in their order.
pub async fn perform(operations: &Operations, table: &str, mut all: Vec<Operation>) -> Vec<OperationResult> {
    let context = operations.context(PATIENCE);
    match all.len() {
        0 => Vec::new(),
        1 => {
            let Some(kind) = all.pop().and_then(|operation| operation.operation) else { return Vec::new() };
            vec![operations.begin(&context, in_table(kind, table)).await]
        }
        count => {
            // Many a command may have more operations than a batch may hold.
            let mut results = Vec::with_capacity(count);
            let mut read = 0;
            while !all.is_empty() {
                let rest = all.split_off(all.len().min(MOST_OPERATIONS));
                let mut some = batch(operations, table, std::mem::replace(&mut all, rest)).await;
                for result in &mut some {
                    read += value_bytes(result);
                    if read > READ_BY_ONE && value_bytes(result) > 0 {
                        let refused = reads_too_much(read as u64);
                        *result = OperationResult { result: Some(Outcome::Failure(refused)) };
                    }
                }
                results.extend(some);
            }
            results
        }
    }
}

async fn batch(operations: &Operations, table: &str, all: Vec<Operation>) -> Vec<OperationResult> {
    let context = operations.context(PATIENCE);
    let count = all.len();
    let request = BatchRequest { table: table.to_owned(), operations: all, ..BatchRequest::default() };
    let result = operations.begin(&context, Kind::Batch(request)).await;
    match result.result {
        Some(Outcome::Batch(answered)) if answered.results.len() == count => answered.results,
        other => vec![OperationResult { result: other }; count],
    }
}

/// Whether a value found no room beside the others.
fn is_crowded(result: &OperationResult) -> bool {
    matches!(&result.result, Some(Outcome::Failure(failure)) if refusal::is_for_want_of_room(failure))
}

/// How long the value is that was read.
fn value_bytes(result: &OperationResult) -> usize {
    match &result.result {
        Some(Outcome::Get(GetResponse { item: Some(item) })) => item.value.len(),
        _ => 0,
    }
}

/// The key of a read of a whole value.
fn value_read(operation: &Operation) -> Option<Bytes> {
    match &operation.operation {
        Some(Kind::Get(get)) if !get.without_value => Some(get.key.clone()),
        _ => None,
    }
}

/// The same operation, in a table.
pub fn in_table(mut kind: Kind, name: &str) -> Kind {
    name.clone_into(table_mut(&mut kind));
    kind
}

fn size_of(kind: &Kind) -> usize {
    let value = match kind {
        Kind::Put(put) => put.value.len(),
        Kind::Txn(_) | Kind::Modify(_) => {
            prost::Message::encoded_len(&Operation { operation: Some(kind.clone()) })
        }
        _ => 0,
    };
    value + key_of(kind).map_or_else(|| keys_of(kind).len() * 64, |key| key.len())
}
