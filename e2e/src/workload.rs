//! Clients that write and read side by side, and note what happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use client::{Client, Condition, Error, PutOptions, Table};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;

use crate::history::guarded::Guarded;
use crate::history::{History, Outcome, What};

/// After this many errors of one worker in a row it pauses, so that it does not spin while a
/// cluster is down.
const PAUSE: Duration = Duration::from_millis(20);

/// What the clients do.
#[derive(Debug, Clone)]
pub struct Load {
    /// Of which table.
    pub table: String,
    /// How many keys they share.
    pub keys: u32,
    /// How many write.
    pub writers: u32,
    /// How many read.
    pub readers: u32,
    /// How long one call may take.
    pub deadline: Duration,
    /// The seed of their choices.
    pub seed: u64,
}

/// A load that goes on until it is ended.
#[derive(Debug)]
pub struct Running {
    /// What they did and saw.
    pub history: Arc<History>,
    errors: Arc<Guarded<Vec<String>>>,
    stop: Arc<AtomicBool>,
    workers: JoinSet<()>,
}

impl Load {
    /// Begins, each worker as fast as it is answered.
    pub fn begin(&self, client: &Client) -> Running {
        self.begin_with(client, Arc::default(), Duration::ZERO)
    }

    /// Begins on a history that others may keep too, each worker with a rest after each call.
    pub fn begin_with(&self, client: &Client, history: Arc<History>, rest: Duration) -> Running {
        let (errors, stop) = (Arc::new(Guarded::default()), Arc::new(AtomicBool::new(false)));
        let mut workers = JoinSet::new();
        for worker in 0..self.writers + self.readers {
            let worker = Worker {
                name: worker,
                writes: worker < self.writers,
                keys: self.keys,
                table: client.table(&self.table).with_deadline(self.deadline),
                history: Arc::clone(&history),
                random: StdRng::seed_from_u64(self.seed.wrapping_add(u64::from(worker))),
                written: 0,
                errors: Arc::clone(&errors),
                rest,
            };
            workers.spawn(worker.run(Arc::clone(&stop)));
        }
        Running { history, errors, stop, workers }
    }
}

impl Running {
    /// The errors that callers were told since this was asked last.
    pub fn take_errors(&self) -> Vec<String> {
        std::mem::take(&mut self.errors.lock())
    }

    /// Ends it when every call under way has an outcome. Gives every error that a caller was
    /// told and that was not taken before.
    pub async fn end(mut self) -> anyhow::Result<(Arc<History>, Vec<String>)> {
        self.stop.store(true, Ordering::Release);
        while let Some(worker) = self.workers.join_next().await {
            worker.context("a client failed")?;
        }
        let errors = self.take_errors();
        Ok((self.history, errors))
    }
}

struct Worker {
    name: u32,
    writes: bool,
    keys: u32,
    table: Table,
    history: Arc<History>,
    random: StdRng,
    written: u64,
    errors: Arc<Guarded<Vec<String>>>,
    rest: Duration,
}

impl Worker {
    async fn run(mut self, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Acquire) {
            let key = format!("key-{:04}", self.random.random_range(0..self.keys));
            let done = match (self.writes, self.random.random_range(0..10)) {
                (false, _) => self.read(&key).await.map(|_| ()),
                (true, 0) => self.delete(&key).await,
                (true, 1..=3) => self.put_over_what_is_there(&key).await,
                (true, _) => self.put(&key, None).await,
            };
            if let Err(error) = done {
                self.errors.lock().push(format!("{key}: {error}"));
                tokio::time::sleep(PAUSE).await;
            }
            if !self.rest.is_zero() {
                tokio::time::sleep(self.rest).await;
            }
        }
    }

    async fn read(&self, key: &str) -> Result<Option<u64>, Error> {
        let began = self.history.now();
        let item = self.table.get(key.to_owned()).await?;
        let version = item.as_ref().map(|item| item.version);
        let item = item.map(|item| (String::from_utf8_lossy(&item.value).into_owned(), item.version));
        self.history.saw(key, began, item);
        Ok(version)
    }

    async fn put(&mut self, key: &str, condition: Option<Condition>) -> Result<(), Error> {
        self.written += 1;
        let value = format!("{key} by {} #{}", self.name, self.written);
        // "Absent" may hold many times, with deletes in between; a version holds once.
        let over = condition.and_then(|condition| match condition {
            Condition::Version(version) => Some(version),
            Condition::Absent | Condition::Exists => None,
        });
        let ticket = self.history.begin(key, What::Put(value.clone(), over));
        let options = PutOptions { condition, ..PutOptions::default() };
        let told = self.table.put(key.to_owned(), value, options).await;
        let outcome = match &told {
            Ok(put) if put.applied => Outcome::Acknowledged(Some(put.version)),
            Ok(_) => Outcome::NotDone,
            Err(error) => outcome_of(error),
        };
        self.history.end(&ticket, outcome);
        told.map(|_| ())
    }

    async fn put_over_what_is_there(&mut self, key: &str) -> Result<(), Error> {
        let condition = self.read(key).await?.map_or(Condition::Absent, Condition::Version);
        self.put(key, Some(condition)).await
    }

    async fn delete(&mut self, key: &str) -> Result<(), Error> {
        let ticket = self.history.begin(key, What::Delete);
        let told = self.table.delete(key.to_owned(), None).await;
        let outcome = match &told {
            Ok(delete) if delete.deleted => Outcome::Acknowledged(None),
            Ok(_) => Outcome::NotDone,
            Err(error) => outcome_of(error),
        };
        self.history.end(&ticket, outcome);
        told.map(|_| ())
    }
}

/// What a writer knows after an error.
pub(crate) fn outcome_of(error: &Error) -> Outcome {
    if error.is_definite() { Outcome::NotDone } else { Outcome::Unknown }
}
