//! What counts: atomics behind cheap handles.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Only ever grows. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// That many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Goes up and down. Clones are the same gauge.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// It is now so much; what is beyond an `i64` is shown as the largest.
    pub fn set(&self, value: u64) {
        self.0.store(i64::try_from(value).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// So much more.
    pub fn add(&self, value: u64) {
        self.0.fetch_add(i64::try_from(value).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// So much less. Threads may be seen to take away before they add, so it may pass below
    /// zero for a moment.
    pub fn subtract(&self, value: u64) {
        self.0.fetch_sub(i64::try_from(value).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// How much it is.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long things took, in buckets whose bounds double: 50 µs, 100 µs, … 13.1 s, beyond.
/// The bounds are the same everywhere, so that figures of all nodes can be added up.
#[derive(Debug, Clone, Default)]
pub struct Histogram(Arc<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    counts: [AtomicU64; Histogram::BOUNDS + 1],
    sum_nanos: AtomicU64,
}

/// What a histogram held when it was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reading {
    /// For each bound in seconds, how many took no longer; the last bound is infinite.
    pub(super) up_to: Vec<(f64, u64)>,
    /// How many in all.
    pub(super) count: u64,
    /// How long in all, in seconds.
    pub(super) sum: f64,
}

impl Histogram {
    /// How many bounds there are below infinity.
    const BOUNDS: usize = 19;
    /// The lowest bound: about half of what the quickest call over a network takes.
    const LOWEST_NANOS: u64 = 50_000;

    /// Counts one that took so long.
    pub fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        // How often the lowest bound must double until it holds this.
        let doublings = u64::BITS - (nanos.saturating_sub(1) / Self::LOWEST_NANOS).leading_zeros();
        let bucket = (doublings as usize).min(Self::BOUNDS);
        // The bucket is at most BOUNDS, and there is one more than that.
        self.0.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.0.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// What it holds. Whoever records meanwhile may be in it or not, but counts agree with
    /// each other: the last bucket is the count.
    pub(super) fn read(&self) -> Reading {
        let mut count = 0;
        let mut up_to = Vec::with_capacity(Self::BOUNDS + 1);
        for (bucket, found) in self.0.counts.iter().enumerate() {
            count += found.load(Ordering::Relaxed);
            let nanos = (Self::LOWEST_NANOS << bucket) as f64;
            let bound = if bucket == Self::BOUNDS { f64::INFINITY } else { nanos / 1e9 };
            up_to.push((bound, count));
        }
        Reading { up_to, count, sum: self.0.sum_nanos.load(Ordering::Relaxed) as f64 / 1e9 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let cases = [
            (0, 0.000_05),
            (50_000, 0.000_05),
            (50_001, 0.000_1),
            (100_000, 0.000_1),
            (100_001, 0.000_2),
            (1_000_000_000, 1.638_4),
            (13_107_200_000, 13.107_2),
            (13_107_200_001, f64::INFINITY),
            (u64::MAX, f64::INFINITY),
        ];
        for (nanos, bound) in cases {
            let histogram = Histogram::default();
            histogram.record(Duration::from_nanos(nanos));
            let first = histogram.read().up_to.into_iter().find(|&(_, count)| count == 1).unwrap();
            let same =
                if bound.is_infinite() { first.0.is_infinite() } else { (first.0 - bound).abs() < 1e-12 };
            assert!(same, "{nanos}: {first:?}");
        }
    }

    #[test]
    fn nothing_is_lost_when_many_threads_count() {
        let counter = Counter::default();
        let gauge = Gauge::default();
        let histogram = Histogram::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        counter.increment();
                        gauge.add(3);
                        gauge.subtract(2);
                        histogram.record(Duration::from_millis(1));
                    }
                });
            }
        });
        assert_eq!(counter.get(), 40_000);
        assert_eq!(gauge.get(), 40_000);
        let reading = histogram.read();
        assert_eq!(reading.count, 40_000);
        assert!((reading.sum - 40.0).abs() < 1e-9);
    }
}
