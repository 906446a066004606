//! What was attempted, and what may be seen because of it.
//!
//! Every write is noted before it is sent, and its outcome when there is one. What is seen
//! later, by a read at the time or at the end, must be explained by an attempt that was not
//! certainly undone, and that no acknowledged write certainly replaced. "Certainly" is by
//! real time: one began after the other had been acknowledged. So many writers may share a
//! key, and no clock of the cluster is trusted.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use guarded::Guarded;

pub(crate) mod guarded;
mod judge;

pub use judge::Violation;

/// What a write does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Writes a value that no other attempt writes; with a version: only over that one.
    Put(String, Option<u64>),
    /// Deletes.
    Delete,
}

/// What became of a write, as its writer was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was told yet, or that it is not known. It may be done at any later time.
    Unknown,
    /// Acknowledged; with the version that a put made.
    Acknowledged(Option<u64>),
    /// Certainly not done: it failed, or its condition did not hold.
    NotDone,
}

/// One write.
#[derive(Debug, Clone)]
struct Attempt {
    what: What,
    began: u64,
    /// When its writer was told; none while the outcome is unknown.
    ended: Option<u64>,
    outcome: Outcome,
}

/// One look at a key.
#[derive(Debug, Clone)]
struct Seen {
    began: u64,
    ended: u64,
    /// The value and its version; none: there was no such key.
    item: Option<(String, u64)>,
}

/// All of it, by key.
#[derive(Debug)]
pub struct History {
    start: Instant,
    keys: Guarded<HashMap<String, KeyHistory>>,
}

#[derive(Debug, Default)]
struct KeyHistory {
    attempts: Vec<Attempt>,
    seen: Vec<Seen>,
}

/// The attempt that an outcome belongs to.
#[derive(Debug)]
pub struct Ticket {
    key: String,
    at: usize,
}

/// How much happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Writes that were certainly not done.
    pub not_done: usize,
    /// Writes of which that is not known.
    pub unknown: usize,
    /// Looks at a key.
    pub seen: usize,
}

impl Default for History {
    fn default() -> Self {
        Self { start: Instant::now(), keys: Guarded::default() }
    }
}

impl History {
    /// The time by which attempts and looks are ordered.
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Notes a write that is about to be sent.
    pub fn begin(&self, key: &str, what: What) -> Ticket {
        let mut keys = self.keys.lock();
        let attempts = &mut keys.entry(key.to_owned()).or_default().attempts;
        attempts.push(Attempt { what, began: self.now(), ended: None, outcome: Outcome::Unknown });
        Ticket { key: key.to_owned(), at: attempts.len() - 1 }
    }

    /// Notes what its writer was told.
    pub fn end(&self, ticket: &Ticket, outcome: Outcome) {
        let mut keys = self.keys.lock();
        let attempts = keys.get_mut(&ticket.key).map(|key| &mut key.attempts);
        if let Some(attempt) = attempts.and_then(|attempts| attempts.get_mut(ticket.at)) {
            attempt.ended = (outcome != Outcome::Unknown).then(|| self.now());
            attempt.outcome = outcome;
        }
    }

    /// Notes a linearizable look at a key, which began at that time and ends now.
    pub fn saw(&self, key: &str, began: u64, item: Option<(String, u64)>) {
        let seen = Seen { began, ended: self.now(), item };
        self.keys.lock().entry(key.to_owned()).or_default().seen.push(seen);
    }

    /// Notes everything that is there at the end, keys that are not there included.
    pub fn saw_all(&self, began: u64, mut items: BTreeMap<String, (String, u64)>) {
        let ended = self.now();
        let mut keys = self.keys.lock();
        for (key, history) in keys.iter_mut() {
            history.seen.push(Seen { began, ended, item: items.remove(key) });
        }
        for (key, item) in items {
            keys.entry(key).or_default().seen.push(Seen { began, ended, item: Some(item) });
        }
    }

    /// How much happened.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for key in self.keys.lock().values() {
            counts.seen += key.seen.len();
            for attempt in &key.attempts {
                match attempt.outcome {
                    Outcome::Acknowledged(_) => counts.acknowledged += 1,
                    Outcome::NotDone => counts.not_done += 1,
                    Outcome::Unknown => counts.unknown += 1,
                }
            }
        }
        counts
    }

    /// Everything that nothing explains.
    pub fn violations(&self) -> Vec<Violation> {
        self.keys.lock().iter().flat_map(|(key, history)| judge::judge(key, history)).collect()
    }
}
