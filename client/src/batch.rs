//! Batches: many operations in few requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use proto::v1::{self, BatchRequest, BatchResponse, Failure};

use crate::attempts::{Attempts, Place, once, unary};
use crate::client::Client;
use crate::core::kv_client;
use crate::error::Error;
use crate::operation::{Answer, Operation, answer_of, nonsense};
use crate::retry::{Effect, History, Trouble, final_error};

/// The most operations of one request: the limit of a batch.
const MAX_OPERATIONS: usize = 1000;
/// The most bytes of one request. Well below the limit of a batch, so that one request
/// does not hold up the others of its connection for long.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Requests of one batch that are under way at a time.
const CONCURRENT: usize = 16;

/// What a batch gave.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchOutcome {
    /// One for each operation, in their order.
    pub results: Vec<Result<Answer, Error>>,
    /// False when the batch was atomic and a condition did not hold: nothing was written.
    pub applied: bool,
}

/// A request of a batch: operations of one partition and their places in the whole.
#[derive(Debug, Default)]
struct Part {
    places: Vec<usize>,
    operations: Vec<Operation>,
    bytes: usize,
}

/// Does each operation by itself. See [`crate::Table::batch`].
pub(crate) async fn independent(
    client: &Client,
    table: &Arc<str>,
    operations: Vec<Operation>,
    deadline: Duration,
) -> BatchOutcome {
    let total = operations.len();
    let map = client.shared().map();
    // Parts of one partition run one after another, so that operations on one key keep
    // their order; partitions run side by side.
    let queues = split(operations, |key| map.partition_of(table, key));
    let work = futures::stream::iter(queues).map(|parts| async move {
        let mut done = Vec::new();
        for part in parts {
            let results = run_part(client, table, &part.operations, deadline).await;
            done.extend(part.places.into_iter().zip(results));
        }
        done
    });
    let mut results: Vec<Option<Result<Answer, Error>>> = vec![None; total];
    let mut finished = work.buffer_unordered(CONCURRENT);
    while let Some(done) = finished.next().await {
        for (place, result) in done {
            if let Some(slot) = results.get_mut(place) {
                *slot = Some(result);
            }
        }
    }
    let missing = || Err(Error::from_failure(&nonsense()));
    let results = results.into_iter().map(|result| result.unwrap_or_else(missing)).collect();
    BatchOutcome { results, applied: true }
}

/// Does all operations or none. See [`crate::Table::batch_atomic`].
pub(crate) async fn atomic(
    client: &Client,
    table: &Arc<str>,
    operations: Vec<Operation>,
    deadline: Duration,
) -> Result<BatchOutcome, Error> {
    let attempts = Attempts::new(client, place(table, &operations), effect(&operations), deadline);
    let answer = unary(attempts, |attempt| {
        let message = request(table, &operations, true, attempt.retry.clone());
        async move { kv_client(attempt.channel.clone()).batch(attempt.request(message)).await }
    })
    .await?;
    let results = answer.results.into_iter().map(|r| answer_of(r).map_err(|f| Error::from_failure(&f)));
    Ok(BatchOutcome { results: results.collect(), applied: answer.applied })
}

/// Runs one part to its outcome: one result for each operation.
///
/// A node may do a part of it and fail another (when the partition was split since). Then
/// the whole part is sent again under its sequence: what was done answers from memory.
async fn run_part(
    client: &Client,
    table: &Arc<str>,
    operations: &[Operation],
    deadline: Duration,
) -> Vec<Result<Answer, Error>> {
    let effect = effect(operations);
    let mut attempts = Attempts::new(client, place(table, operations), effect, deadline);
    let mut partial: Option<BatchResponse> = None;
    // Whether an operation may have been done by an attempt that did not say so.
    let mut doubts = vec![false; operations.len()];
    let send = |attempt: crate::attempts::Attempt| {
        let message = request(table, operations, false, attempt.retry.clone());
        async move { kv_client(attempt.channel.clone()).batch(attempt.request(message)).await }
    };
    let error = loop {
        let attempt = match attempts.next() {
            Ok(attempt) => attempt,
            Err(error) => break error,
        };
        let trouble = match once(attempt, &send).await {
            Ok(answer) if answer.results.len() != operations.len() => Trouble::Refused(nonsense()),
            Ok(answer) => match worst(&answer) {
                None => {
                    attempts.done();
                    return results(answer, effect, &doubts);
                }
                Some(failure) => {
                    for (doubt, result) in doubts.iter_mut().zip(&answer.results) {
                        *doubt |=
                            failure_of(result).is_some_and(|f| Trouble::Refused(f.clone()).is_ambiguous());
                    }
                    partial = Some(answer);
                    Trouble::Refused(failure)
                }
            },
            Err(trouble) => {
                if trouble.is_ambiguous() {
                    doubts.fill(true);
                }
                trouble
            }
        };
        if let Err(error) = attempts.after(&trouble).await {
            break error;
        }
    };
    match partial {
        Some(answer) => results(answer, effect, &doubts),
        None => vec![Err(error); operations.len()],
    }
}

/// The results of the last answer. Under doubt, what it refuses may have been done before.
fn results(answer: BatchResponse, effect: Effect, doubts: &[bool]) -> Vec<Result<Answer, Error>> {
    let judge = |(result, doubt): (v1::Result, &bool)| {
        let history = History { ambiguous: u32::from(*doubt), ..History::default() };
        answer_of(result).map_err(|failure| final_error(effect, &history, &Trouble::Refused(failure)))
    };
    answer.results.into_iter().zip(doubts).map(judge).collect()
}

fn failure_of(result: &v1::Result) -> Option<&Failure> {
    match &result.result {
        Some(v1::result::Result::Failure(failure)) => Some(failure),
        _ => None,
    }
}

/// The failure that decides whether the whole is sent again: one that is worth it, an
/// ambiguous one before all.
fn worst(answer: &BatchResponse) -> Option<Failure> {
    answer.results.iter().filter_map(failure_of).max_by_key(|failure| rank(failure)).cloned()
}

fn rank(failure: &Failure) -> u8 {
    if Trouble::Refused(failure.clone()).is_ambiguous() {
        return 2;
    }
    u8::from(matches!(Error::from_failure(failure), Error::Unavailable(_)))
}

fn effect(operations: &[Operation]) -> Effect {
    if operations.iter().any(Operation::is_write) { Effect::Sequenced } else { Effect::Repeatable }
}

fn place(table: &Arc<str>, operations: &[Operation]) -> Place {
    match operations.first() {
        Some(first) => Place::Key { table: Arc::clone(table), key: first.key().clone() },
        None => Place::Any,
    }
}

fn request(table: &str, operations: &[Operation], atomic: bool, retry: Option<v1::Retry>) -> BatchRequest {
    let operations = operations.iter().map(|operation| operation.to_wire("", None)).collect();
    BatchRequest { table: table.to_owned(), operations, atomic, retry }
}

/// Cuts a list into requests, grouped by partition. Where the map is silent everything is
/// one group, and the node that gets it spreads it.
fn split(operations: Vec<Operation>, partition_of: impl Fn(&Bytes) -> Option<u64>) -> Vec<Vec<Part>> {
    let mut groups: HashMap<Option<u64>, Vec<Part>> = HashMap::new();
    for (place, operation) in operations.into_iter().enumerate() {
        let parts = groups.entry(partition_of(operation.key())).or_default();
        let size = operation.size();
        let room = parts
            .last()
            .is_some_and(|part| part.operations.len() < MAX_OPERATIONS && part.bytes + size <= MAX_BYTES);
        if !room {
            parts.push(Part::default());
        }
        if let Some(part) = parts.last_mut() {
            part.places.push(place);
            part.operations.push(operation);
            part.bytes += size;
        }
    }
    groups.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_length_is_cut_into_requests_within_the_limits() {
        let large = vec![b'v'; MAX_BYTES / 2];
        let mut operations: Vec<_> = (0..2500).map(|n| Operation::get(format!("k{n}"))).collect();
        operations
            .extend((0..3).map(|_| Operation::put("large", large.clone(), crate::PutOptions::default())));
        let groups = split(operations, |key| Some(u64::from(key.len() % 2 == 0)));
        assert_eq!(groups.len(), 2);
        let parts: Vec<_> = groups.into_iter().flatten().collect();
        assert!(parts.iter().all(|part| part.operations.len() <= MAX_OPERATIONS && part.bytes <= MAX_BYTES));
        let mut places: Vec<_> = parts.iter().flat_map(|part| part.places.clone()).collect();
        places.sort_unstable();
        assert_eq!(places, (0..2503).collect::<Vec<_>>());
    }

    #[test]
    fn one_value_larger_than_a_request_travels_alone() {
        let value = vec![0; 2 * MAX_BYTES];
        let groups = split(vec![Operation::put("k", value, crate::PutOptions::default())], |_| None);
        assert_eq!(groups.into_iter().flatten().count(), 1);
    }
}
