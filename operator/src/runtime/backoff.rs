//! Whoever fails again and again is tried again later and later.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

/// The pause after the first failure.
const FIRST: Duration = Duration::from_secs(2);
/// The longest pause: as long as a person waits who has just put something right.
const LONGEST: Duration = Duration::from_secs(30);

/// How often each resource has failed in a row. Those that go well, or are gone, are not kept.
#[derive(Debug)]
pub struct Backoff<K> {
    failures: Mutex<BTreeMap<K, u32>>,
}

impl<K: Ord> Default for Backoff<K> {
    fn default() -> Self {
        Self { failures: Mutex::default() }
    }
}

impl<K: Ord> Backoff<K> {
    /// It failed; how long to wait before it is tried again.
    pub fn failed(&self, which: K) -> Duration {
        let mut failures = self.failures.lock();
        let before = failures.entry(which).or_default();
        let pause = FIRST.saturating_mul(1 << (*before).min(16));
        *before = before.saturating_add(1);
        pause.min(LONGEST)
    }

    /// It went well, or is gone.
    pub fn forget(&self, which: &K) {
        self.failures.lock().remove(which);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_begin_anew() {
        let backoff = Backoff::default();
        let pauses: Vec<u64> = (0..7).map(|_| backoff.failed("kv").as_secs()).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(backoff.failed("other"), FIRST);
        backoff.forget(&"kv");
        assert_eq!(backoff.failed("kv"), FIRST);
    }
}
