//! How much may wait: writes that are queued on this node, in bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::observability::metrics::Counter;

/// Counts what waits, and refuses what would be too much.
#[derive(Debug)]
pub struct Admission {
    waiting: Arc<AtomicUsize>,
    limit: usize,
    refused: Counter,
}

/// The room that a write takes while it waits; it is given back when this is dropped.
#[derive(Debug)]
pub struct Admitted {
    waiting: Arc<AtomicUsize>,
    bytes: usize,
}

impl Admission {
    /// Nothing waits yet. Whatever is refused is counted.
    pub fn new(limit: usize, refused: Counter) -> Self {
        Self { waiting: Arc::default(), limit, refused }
    }

    /// Room for so many bytes, if there is. A single write that is larger than the limit gets
    /// in when nothing else waits.
    pub fn admit(&self, bytes: usize) -> Option<Admitted> {
        let before = self.waiting.fetch_add(bytes, Ordering::AcqRel);
        let admitted = Admitted { waiting: Arc::clone(&self.waiting), bytes };
        if before == 0 || before.saturating_add(bytes) <= self.limit {
            return Some(admitted);
        }
        self.refused.increment();
        None
    }

    /// How much waits now.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back() {
        let refused = Counter::default();
        let admission = Admission::new(100, refused.clone());
        let first = admission.admit(60).unwrap();
        assert!(admission.admit(60).is_none());
        assert_eq!(refused.get(), 1);
        assert_eq!(admission.waiting(), 60);
        drop(first);
        // Larger than everything, but alone.
        assert!(admission.admit(500).is_some());
        assert_eq!(admission.waiting(), 0);
    }
}
