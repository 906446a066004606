//! The two clocks: one that measures, one that dates.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The instant that timers and leases are measured by; tokio's, so that simulated time
/// moves it.
#[expect(clippy::disallowed_methods, reason = "this is the seam")]
pub fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since 1970 by the node's own wall clock. Only a leader stamps with it, and
/// only through its group's clock, which never goes back.
#[derive(Debug, Clone, Default)]
pub struct WallClock {
    /// Tests shift it, to see that a wild clock expires nothing.
    shift_ms: Arc<AtomicI64>,
}

impl WallClock {
    /// The time now.
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    pub fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        now.saturating_add_signed(self.shift_ms.load(Ordering::Relaxed))
    }

    /// Moves the clock by that much from where the machine's stands.
    pub fn shift(&self, by_ms: i64) {
        self.shift_ms.store(by_ms, Ordering::Relaxed);
    }
}
