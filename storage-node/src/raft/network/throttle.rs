//! How fast snapshots may leave this node, all of them together.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::seams::clock;

/// A token bucket of bytes, shared by all snapshots that a node sends.
#[derive(Debug)]
pub struct SnapshotThrottle {
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    per_second: u64,
    /// Negative while somebody sleeps off what was taken ahead of time.
    bytes: f64,
    filled: Instant,
}

impl SnapshotThrottle {
    /// A tenth of a second's bytes may go at once.
    const BURST: f64 = 0.1;

    /// A throttle of so many bytes a second; 0: none.
    pub fn new(bytes_per_second: u64) -> Self {
        let bucket = Bucket { per_second: bytes_per_second, bytes: 0.0, filled: clock::now() };
        Self { bucket: Mutex::new(bucket) }
    }

    /// Changes the rate, also for snapshots that are on their way. 0: no limit.
    pub fn set(&self, bytes_per_second: u64) {
        let mut bucket = self.bucket.lock();
        bucket.fill();
        bucket.per_second = bytes_per_second;
        bucket.bytes = bucket.bytes.max(0.0);
    }

    /// Waits until so many bytes may go. Each taker sleeps off its own share, so takers are
    /// served in the order in which they came.
    pub async fn take(&self, bytes: usize) {
        let pause = self.bucket.lock().take(bytes);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}

impl Bucket {
    fn fill(&mut self) {
        let now = clock::now();
        let rate = self.per_second as f64;
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * rate;
        self.bytes = (self.bytes + gained).min(rate * SnapshotThrottle::BURST);
        self.filled = now;
    }

    fn take(&mut self, bytes: usize) -> Duration {
        if self.per_second == 0 {
            return Duration::ZERO;
        }
        self.fill();
        self.bytes -= bytes as f64;
        if self.bytes >= 0.0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(-self.bytes / self.per_second as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_ahead_is_slept_off_in_order() {
        let throttle = SnapshotThrottle::new(1 << 20);
        let mut bucket = throttle.bucket.lock();
        let first = bucket.take(1 << 20);
        let second = bucket.take(1 << 20);
        assert!(first > Duration::from_millis(800), "{first:?}");
        assert!(second > first + Duration::from_millis(800), "{second:?}");
    }

    #[test]
    fn no_rate_is_no_limit() {
        assert_eq!(SnapshotThrottle::new(0).bucket.lock().take(usize::MAX), Duration::ZERO);
    }
}
