//! Operations that take long are logged, so that somebody finds out which and where the time went.
//!
//! A disk that is slow makes everything slow. So only the first few within a while are logged one
//! by one, and the rest is counted: "and 412 more".

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::metrics::{Counter, Operation, Outcome, Registry};
use crate::router::context::Door;
use crate::seams::clock;

/// So many are logged one by one …
const MOST_LINES: u32 = 10;
/// … within so long.
const WITHIN: Duration = Duration::from_secs(10);
/// What is shown of a key.
const KEY_SHOWN: usize = 64;

/// Notes which operations were slow.
#[derive(Debug)]
pub struct SlowOperations {
    after: Option<Duration>,
    counted: [Counter; Door::ALL.len()],
    lines: Mutex<Lines>,
}

/// An operation that was slow.
#[derive(Debug)]
pub struct SlowOperation<'a> {
    /// The door it came in by.
    pub door: Door,
    /// Its kind.
    pub operation: Operation,
    /// Its table.
    pub table: &'a str,
    /// Its key, or the first of several.
    pub key: &'a [u8],
    /// How large the request was.
    pub bytes: usize,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
    /// How much of that went by before its last attempt began: pauses because no leader was known,
    /// and attempts that came to nothing.
    pub waited: Duration,
    /// How often it was tried; 0: it is not known, as it went to several partitions.
    pub attempts: u32,
    /// The node that it was passed on to.
    pub forwarded_to: Option<String>,
}

/// How many lines were said of late.
#[derive(Debug, Default)]
struct Lines {
    began: Option<Instant>,
    said: u32,
    unsaid: u64,
}

impl SlowOperations {
    /// Notes those that take so long, or none.
    pub fn new(after: Option<Duration>, registry: &Registry) -> Self {
        let counted = Door::ALL.map(|door| {
            let help = "Operations of clients that took longer than slow_operation.";
            registry.counter("kvstore_slow_operations_total", help, &[("door", door.label())])
        });
        Self { after, counted, lines: Mutex::default() }
    }

    /// Whether any are noted.
    pub fn is_on(&self) -> bool {
        self.after.is_some()
    }

    /// Notes an operation that took so long, if that is slow.
    pub fn note<'a>(&self, door: Door, took: Duration, operation: impl FnOnce() -> SlowOperation<'a>) {
        if self.after.is_none_or(|after| took < after) {
            return;
        }
        // The array has a place for each variant, in the order of their declaration.
        self.counted[door as usize].increment();
        self.tell_rest();
        if self.lines.lock().admit(clock::now()) {
            log(&operation());
        }
    }

    /// Says how many were not logged, once it is time to. To be called now and then.
    pub fn tell_rest(&self) {
        let rest = self.lines.lock().rest(clock::now());
        if let Some(more) = rest {
            tracing::warn!(more, "and {more} more operations were slow within {WITHIN:?}");
        }
    }
}

fn log(slow: &SlowOperation<'_>) {
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    tracing::warn!(
        door = slow.door.label(),
        operation = slow.operation.label(),
        table = slow.table,
        key = shown(slow.key),
        bytes = slow.bytes,
        outcome = slow.outcome.label(),
        took_ms = millis(slow.took),
        waited_ms = (slow.attempts > 0).then(|| millis(slow.waited)),
        attempts = (slow.attempts > 0).then_some(slow.attempts),
        forwarded_to = slow.forwarded_to,
        "an operation was slow"
    );
}

/// The beginning of a key, as text.
fn shown(key: &[u8]) -> String {
    match key.get(..KEY_SHOWN).filter(|begin| begin.len() < key.len()) {
        Some(begin) => format!("{}… ({} bytes)", begin.escape_ascii(), key.len()),
        None => key.escape_ascii().to_string(),
    }
}

impl Lines {
    /// Whether one more line may be said; else it is counted.
    fn admit(&mut self, now: Instant) -> bool {
        if self.is_over(now) {
            self.began = Some(now);
            self.said = 0;
        }
        let may = self.said < MOST_LINES;
        if may {
            self.said += 1;
        } else {
            self.unsaid += 1;
        }
        may
    }

    /// How many were not said, once, when it is time to say so.
    fn rest(&mut self, now: Instant) -> Option<u64> {
        if self.unsaid == 0 || !self.is_over(now) {
            return None;
        }
        Some(std::mem::take(&mut self.unsaid))
    }

    fn is_over(&self, now: Instant) -> bool {
        self.began.is_none_or(|began| now.saturating_duration_since(began) >= WITHIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_said_and_the_rest_is_counted() {
        let (mut lines, begin) = (Lines::default(), clock::now());
        let said = (0..422).filter(|_| lines.admit(begin)).count();
        assert_eq!(said, MOST_LINES as usize);
        assert_eq!(lines.rest(begin + WITHIN / 2), None, "more may come");
        let later = begin + WITHIN;
        assert_eq!(lines.rest(later), Some(412));
        assert_eq!(lines.rest(later), None, "it is said once");
        assert!(lines.admit(later));
    }

    #[test]
    fn only_what_takes_long_is_counted() {
        let registry = Registry::default();
        let noted = |slow: &SlowOperations, millis| {
            let took = Duration::from_millis(millis);
            slow.note(Door::Text, took, || SlowOperation {
                door: Door::Text,
                operation: Operation::Put,
                table: "default",
                key: b"a",
                bytes: 10,
                outcome: Outcome::Done,
                took,
                waited: Duration::ZERO,
                attempts: 1,
                forwarded_to: None,
            });
            slow.counted[Door::Text as usize].get()
        };
        let slow = SlowOperations::new(Some(Duration::from_millis(500)), &registry);
        assert_eq!(noted(&slow, 499), 0);
        assert_eq!(noted(&slow, 500), 1);
        assert_eq!(noted(&SlowOperations::new(None, &registry), 5_000), 0);
    }

    #[test]
    fn a_key_is_shortened_and_escaped() {
        assert_eq!(shown(b"a\x00\n\"\xff"), "a\\x00\\n\\\"\\xff");
        assert_eq!(shown(&[b'k'; 64]), "k".repeat(64));
        assert_eq!(shown(&[b'k'; 65]), format!("{}… (65 bytes)", "k".repeat(64)));
    }
}
