//! A batch that need not be atomic: each operation is by itself, and yet those for the same
//! partition travel and are written together.
//!
//! ```text
//!   operations ─▶ by partition ─┬─ writes, and reads of keys that are written here ─▶ one command
//!                               └─ other reads ─▶ one barrier, then read
//! ```
//!
//! Operations on the same key take effect in the order of the batch.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, join_all};
use placement::{PartitionId, Table};
use proto::v1::{
    BatchRequest, BatchResponse, Failure, GetResponse, Operation, Result as OperationResult,
    error_detail::Detail, operation::Operation as Kind, result::Result as Outcome,
};
use tokio::sync::Semaphore;

use super::context::Context;
use super::failure;
use super::operations::{Prepared, Router, is_write};
use crate::partition::operations::{READ_BY_ONE, keys_of, reads_too_much};
use crate::seams::runtime;

/// Partitions that a batch reads from at once: each may answer with as much as a message holds.
const READ_AT_ONCE: usize = 8;
/// After the map has changed under a batch.
const PAUSE_MS: (u64, u64) = (5, 20);

/// Operations for one partition, with their places in the batch.
#[derive(Default)]
struct Share {
    places: Vec<usize>,
    operations: Vec<Operation>,
}

impl Share {
    fn push(&mut self, place: usize, kind: Kind) {
        self.places.push(place);
        self.operations.push(Operation { operation: Some(kind) });
    }
}

/// What a partition is to do.
#[derive(Default)]
struct Shares {
    /// Keys that some operation of a batch writes that others read from.
    written: HashSet<Bytes>,
    writes: Share,
    reads: Share,
}

impl Router {
    /// Begins all operations of a batch: the writes at once and in their order. `results` come
    /// in the order of the operations.
    pub(super) fn scatter(
        self: &Arc<Self>,
        context: &Context,
        table: &Table,
        batch: BatchRequest,
    ) -> BoxFuture<'static, Outcome> {
        let count = batch.operations.len();
        let operations = batch.operations.into_iter().enumerate();
        let operations = operations
            .map(|(place, operation)| (place, operation.operation))
            .map(|(place, kind)| (place, kind.map(|kind| with_retry(kind, batch.retry.as_ref(), place))));
        let parts = self.begin_shares(context, table, operations.collect());
        async move {
            let mut results = vec![OperationResult::default(); count];
            for (place, result) in parts.await {
                if let Some(slot) = results.get_mut(place) {
                    *slot = result;
                }
            }
            refuse_what_is_too_much(&mut results);
            Outcome::Batch(BatchResponse { results, applied: true })
        }
        .boxed()
    }

    fn begin_shares(
        self: &Arc<Self>,
        context: &Context,
        table: &Table,
        operations: Vec<(usize, Option<Kind>)>,
    ) -> BoxFuture<'static, Vec<(usize, OperationResult)>> {
        let map = self.map();
        let mut of_partitions: BTreeMap<PartitionId, Shares> = BTreeMap::new();
        let mut refused = Vec::new();
        let mut placed = Vec::with_capacity(operations.len());
        let (mut some_read, mut some_write) = (false, false);
        for (place, kind) in operations {
            let Some(kind) = kind else {
                let failure = failure::invalid("an operation is none that this node knows");
                refused.push((place, failed(failure)));
                continue;
            };
            let partition = keys_of(&kind)
                .first()
                .and_then(|key| map.route(table, key))
                .map_or(PartitionId::META, |p| p.id);
            let writes = is_write(&kind);
            some_read |= !writes;
            some_write |= writes;
            placed.push((place, partition, writes, kind));
        }
        if some_read && some_write {
            for (_, partition, _, kind) in placed.iter().filter(|(_, _, writes, _)| *writes) {
                let written = &mut of_partitions.entry(*partition).or_default().written;
                written.extend(keys_of(kind).into_iter().cloned());
            }
        }
        for (place, partition, writes, kind) in placed {
            let shares = of_partitions.entry(partition).or_default();
            let in_order = writes
                || !shares.written.is_empty()
                    && keys_of(&kind).iter().any(|key| shares.written.contains(*key));
            if in_order { shares.writes.push(place, kind) } else { shares.reads.push(place, kind) }
        }
        let turns = Arc::new(Semaphore::new(READ_AT_ONCE));
        let many_read = of_partitions.len() > READ_AT_ONCE;
        let mut begun = Vec::with_capacity(of_partitions.len());
        for shares in of_partitions.into_values() {
            if !shares.writes.places.is_empty() {
                begun.push(self.begin_share(context, table, shares.writes));
            }
            if shares.reads.places.is_empty() {
                continue;
            }
            if !many_read {
                begun.push(self.begin_share(context, table, shares.reads));
                continue;
            }
            let (router, context, table) = (Arc::clone(self), context.clone(), table.clone());
            let turns = Arc::clone(&turns);
            let read = async move {
                let _turn = turns.acquire().await;
                router.begin_share(&context, &table, shares.reads).await
            };
            begun.push(read.boxed());
        }
        if begun.len() == 1 && refused.is_empty() {
            return begun.swap_remove(0);
        }
        async move {
            let mut results = refused;
            join_all(begun).await.into_iter().for_each(|part| results.extend(part));
            results
        }
        .boxed()
    }

    fn begin_share(
        self: &Arc<Self>,
        context: &Context,
        table: &Table,
        mut share: Share,
    ) -> BoxFuture<'static, Vec<(usize, OperationResult)>> {
        if let ([place], [_]) = (share.places.as_slice(), share.operations.as_slice()) {
            let place = *place;
            let kind = share.operations.pop().and_then(|operation| operation.operation);
            let Some(kind) = kind else { return std::future::ready(Vec::new()).boxed() };
            let done = self.begin_prepared(context, Arc::new(Prepared { table: table.clone(), kind }));
            return done
                .map(move |(outcome, _)| {
                    let outcome = outcome.unwrap_or_else(Outcome::Failure);
                    vec![(place, OperationResult { result: Some(outcome) })]
                })
                .boxed();
        }
        let Share { places, operations } = share;
        let kind = Kind::Batch(BatchRequest { operations, ..BatchRequest::default() });
        let prepared = Arc::new(Prepared { table: table.clone(), kind });
        let done = self.begin_prepared(context, Arc::clone(&prepared));
        let (router, context) = (Arc::clone(self), context.clone());
        async move {
            match done.await.0 {
                Ok(Outcome::Batch(answered)) if answered.results.len() == places.len() => {
                    places.into_iter().zip(answered.results).collect()
                }
                Ok(_) => {
                    let failure = failure::internal("a batch had another number of results than operations");
                    refuse_all(places, &failure)
                }
                // The partition was split: nothing was done, and the parts go different ways now.
                Err(failure) if is_wrong_epoch(&failure) && !context.left().is_zero() => {
                    let pause = Duration::from_millis(runtime::random_between(PAUSE_MS.0, PAUSE_MS.1));
                    tokio::time::sleep(pause).await;
                    let Kind::Batch(batch) = &prepared.kind else { return refuse_all(places, &failure) };
                    let again = batch.operations.iter().map(|operation| operation.operation.clone());
                    let again = places.into_iter().zip(again).collect();
                    router.begin_shares(&context, &prepared.table, again).await
                }
                Err(failure) => refuse_all(places, &failure),
            }
        }
        .boxed()
    }
}

fn failed(failure: Failure) -> OperationResult {
    OperationResult { result: Some(Outcome::Failure(failure)) }
}

fn refuse_all(places: Vec<usize>, failure: &Failure) -> Vec<(usize, OperationResult)> {
    places.into_iter().map(|place| (place, failed(failure.clone()))).collect()
}

fn is_wrong_epoch(failure: &Failure) -> bool {
    matches!(failure.reason(), Some(Detail::WrongEpoch(_)))
}

/// All answers of a batch travel as one message: values beyond what that may hold are taken out
/// again, and their readers told so.
fn refuse_what_is_too_much(results: &mut [OperationResult]) {
    let mut read = 0;
    for result in results {
        let Some(Outcome::Get(GetResponse { item: Some(item) })) = &result.result else { continue };
        read += item.value.len();
        if read > READ_BY_ONE {
            *result = failed(reads_too_much(read as u64));
        }
    }
}

/// The parts of a batch that is sent again are known by the batch's sequence and their place
/// in it.
fn with_retry(mut kind: Kind, retry: Option<&proto::v1::Retry>, place: usize) -> Kind {
    let own = || retry.map(|retry| proto::v1::Retry { part: place as u32, ..retry.clone() });
    let of_kind = match &mut kind {
        Kind::Put(put) => &mut put.retry,
        Kind::Delete(delete) => &mut delete.retry,
        Kind::Modify(modify) => &mut modify.retry,
        Kind::Copy(copy) => &mut copy.retry,
        Kind::Txn(txn) => &mut txn.retry,
        _ => return kind,
    };
    if of_kind.is_none() {
        *of_kind = own();
    }
    kind
}
