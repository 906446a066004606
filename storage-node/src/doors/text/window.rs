//! The commands of one connection that are under way, answered in their order.
//!
//! They run at the same time and yet as if one came after the other: a command whose key an
//! earlier one writes, or that writes a key that an earlier one uses, begins when the earlier
//! one is answered. Whatever asks for more than keys runs alone.

use std::collections::HashMap;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, StreamExt};
use proto::v1::{
    BatchRequest, DeleteRequest, Failure, GetRequest, Operation, PutRequest, Result as OperationResult,
    operation::Operation as Kind, result::Result as Outcome,
};

use super::answer::{self, Code, NOT_FOUND, OK, PONG};
use super::cluster;
use super::command::Command;
use super::held::{Held, Portion};
use super::range;
use super::store::Store;
use crate::router::failure;

/// Commands that are under way at once, at most.
const MOST: usize = 64;
/// Answers that are under way are meant to be this much at most: how many commands run at once
/// goes by the largest of the last answers.
const ANSWER_BYTES: usize = 1 << 20;
/// How large an answer is taken for before there was one: so large that the first commands go one
/// at a time, and twenty clients that all begin with large reads do not swamp the other nodes. After
/// thirty small answers as many run as may.
const FIRST_GUESS: usize = ANSWER_BYTES;

/// The commands that are under way.
pub struct Window<S> {
    store: S,
    held: Held,
    running: FuturesOrdered<BoxFuture<'static, Ended>>,
    used: HashMap<Bytes, Use>,
    /// The last command runs alone.
    alone: bool,
    largest: usize,
}

#[derive(Debug, Default)]
struct Use {
    readers: usize,
    writers: usize,
}

/// A command that has run.
struct Ended {
    answer: Answer,
    keys: Vec<Bytes>,
    writes: bool,
}

/// An answer, and its part of what the connection holds.
#[derive(Debug)]
pub struct Answer {
    bytes: Vec<u8>,
    portion: Portion,
}

impl<S: Store> Window<S> {
    /// Nothing is under way yet.
    pub fn new(store: S, held: Held) -> Self {
        Self {
            store,
            held,
            running: FuturesOrdered::new(),
            used: HashMap::new(),
            alone: false,
            largest: FIRST_GUESS,
        }
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether one more may be under way.
    pub fn has_room(&self) -> bool {
        self.running.len() < MOST
    }

    /// Begins a command, or gives it back when it has to wait until something is answered.
    /// `arrived` is what its line takes.
    pub fn begin(&mut self, command: Command, arrived: usize) -> Result<(), Command> {
        let at_once = (ANSWER_BYTES / self.largest.max(1)).clamp(1, MOST);
        let keys = keys_of(&command);
        let writes = matches!(command, Command::Put(..) | Command::Delete(_) | Command::Batch(_));
        let alone = matches!(command, Command::Range(..));
        let in_the_way =
            keys.iter().filter_map(|key| self.used.get(key)).any(|used| used.writers > 0 || writes);
        if !self.is_empty() && (self.running.len() >= at_once || self.alone || alone || in_the_way) {
            return Err(command);
        }
        for key in &keys {
            let used = self.used.entry(key.clone()).or_default();
            *(if writes { &mut used.writers } else { &mut used.readers }) += 1;
        }
        self.alone = alone;
        let mut portion = self.held.nothing();
        if portion.resize(arrived).is_err() {
            self.push(busy(), portion, keys, writes);
            return Ok(());
        }
        let answer = self.run(command, portion);
        let ended = answer.map(move |answer| Ended { answer, keys, writes });
        self.running.push_back(ended.boxed());
        Ok(())
    }

    /// Puts an answer behind those that are under way.
    pub fn answer(&mut self, bytes: Vec<u8>) {
        let portion = self.held.nothing();
        self.push(bytes, portion, Vec::new(), false);
    }

    /// The next answer, in the order of the commands; none when nothing is under way. Nothing
    /// is lost when this is not awaited to its end.
    pub async fn next(&mut self) -> Option<Answer> {
        let Ended { answer, keys, writes } = self.running.next().await?;
        for key in keys {
            let Some(used) = self.used.get_mut(&key) else { continue };
            let count = if writes { &mut used.writers } else { &mut used.readers };
            *count = count.saturating_sub(1);
            if used.readers + used.writers == 0 {
                self.used.remove(&key);
            }
        }
        // One large answer among small ones is remembered for a while.
        self.largest = (self.largest - self.largest / 8).max(answer.bytes.len());
        Some(answer)
    }

    fn push(&mut self, bytes: Vec<u8>, portion: Portion, keys: Vec<Bytes>, writes: bool) {
        let answer = Answer { bytes, portion };
        self.running.push_back(std::future::ready(Ended { answer, keys, writes }).boxed());
    }

    fn run(&self, command: Command, mut portion: Portion) -> BoxFuture<'static, Answer> {
        let kind = match command {
            Command::Ping => return std::future::ready(settled(PONG.to_vec(), portion)).boxed(),
            Command::Range(first, end) => {
                let store = self.store.clone();
                return async move {
                    let answer = range::range(&store, first, end, &mut portion).await;
                    settled(answer, portion)
                }
                .boxed();
            }
            Command::ClusterStatus => return self.ask(cluster::status, portion),
            Command::ClusterNodes => return self.ask(cluster::nodes, portion),
            Command::ClusterLeader => return self.ask(cluster::leader, portion),
            Command::Get(key) => Kind::Get(GetRequest { key, ..GetRequest::default() }),
            Command::Delete(key) => Kind::Delete(DeleteRequest { key, ..DeleteRequest::default() }),
            Command::Put(key, value) => put(key, value),
            Command::Batch(pairs) => {
                let operations = pairs.into_iter().map(|(key, value)| put(key, value));
                let operations = operations.map(|kind| Operation { operation: Some(kind) }).collect();
                Kind::Batch(BatchRequest { operations, ..BatchRequest::default() })
            }
        };
        // Begun here and not when it is first polled, so that writes keep their order.
        let begun = self.store.begin(kind);
        async move { settled(answer_to(begun.await), portion) }.boxed()
    }

    fn ask(
        &self,
        show: fn(&proto::v1::StatusResponse) -> Vec<u8>,
        portion: Portion,
    ) -> BoxFuture<'static, Answer> {
        let asked = self.store.status();
        async move {
            let answer = match asked.await {
                Ok(status) => show(&status),
                Err(failure) => answer::failed(&failure),
            };
            settled(answer, portion)
        }
        .boxed()
    }
}

impl Answer {
    /// The line or lines, which somebody else says they hold from now on.
    pub fn give_up(self) -> Vec<u8> {
        drop(self.portion);
        self.bytes
    }
}

/// An answer that is there. Where there is no room for it, it is let go: only reads have
/// answers of any size, and a read can be done again.
fn settled(bytes: Vec<u8>, mut portion: Portion) -> Answer {
    // What arrived is let go, so most writes hold less now than before.
    match portion.resize(bytes.capacity()) {
        Ok(()) => Answer { bytes, portion },
        Err(_) => Answer { bytes: busy(), portion },
    }
}

fn busy() -> Vec<u8> {
    answer::error(Code::Busy, "the node's connections hold too much together; nothing was changed")
}

fn put(key: Bytes, value: Bytes) -> Kind {
    Kind::Put(PutRequest { key, value, ..PutRequest::default() })
}

fn keys_of(command: &Command) -> Vec<Bytes> {
    match command {
        Command::Put(key, _) | Command::Get(key) | Command::Delete(key) => vec![key.clone()],
        Command::Batch(pairs) => pairs.iter().map(|(key, _)| key.clone()).collect(),
        _ => Vec::new(),
    }
}

fn answer_to(result: OperationResult) -> Vec<u8> {
    match result.result {
        Some(Outcome::Get(got)) => match got.item {
            Some(item) => answer::found([&item.value]),
            None => NOT_FOUND.to_vec(),
        },
        Some(Outcome::Put(put)) if put.applied => OK.to_vec(),
        Some(Outcome::Delete(deleted)) => if deleted.deleted { OK } else { NOT_FOUND }.to_vec(),
        Some(Outcome::Batch(batch)) => batch_answer(&batch.results),
        Some(Outcome::Failure(failure)) => answer::failed(&failure),
        _ => answer::failed(&failure::internal("an operation had another's result")),
    }
}

/// Each pair is written by itself. Unknown outweighs all, because nobody may take it for
/// failed; then comes that some are written and some are not.
fn batch_answer(results: &[OperationResult]) -> Vec<u8> {
    let failures: Vec<&Failure> = results
        .iter()
        .filter_map(|result| match &result.result {
            Some(Outcome::Failure(failure)) => Some(failure),
            _ => None,
        })
        .collect();
    let written = results.len() - failures.len();
    let unknown = failures.iter().filter(|failure| Code::of(failure) == Code::OutcomeUnknown).count();
    let Some(first) = failures.first() else { return OK.to_vec() };
    let all = results.len();
    if unknown > 0 {
        let message = format!(
            "of {all} pairs {written} are written and the outcome of {unknown} is unknown: read the keys to see"
        );
        return answer::error(Code::OutcomeUnknown, &message);
    }
    if written > 0 {
        let message =
            format!("of {all} pairs {written} are written; the first that is not: {}", first.message);
        return answer::error(Code::PartlyDone, &message);
    }
    answer::failed(first)
}
