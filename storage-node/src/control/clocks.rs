//! What dates entries: the wall clock, unless it is found to be wild.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::seams::clock::WallClock;

/// A clock that is further than this from the median of all nodes is wild.
const MOST_APART_MS: u64 = 500;

/// The node's wall clock, and whether it may be believed.
#[derive(Debug, Clone, Default)]
pub struct Clocks {
    wall: WallClock,
    wild: Arc<AtomicBool>,
}

impl Clocks {
    /// A clock that is believed until others disagree.
    pub fn new(wall: WallClock) -> Self {
        Self { wall, wild: Arc::default() }
    }

    /// What an entry is dated with; none while the clock is wild: one wild clock must not
    /// expire everything.
    pub fn stamp(&self) -> Option<u64> {
        (!self.wild.load(Ordering::Acquire)).then(|| self.wall.now_ms())
    }

    /// What the clock says, believed or not.
    pub fn wall_ms(&self) -> u64 {
        self.wall.now_ms()
    }

    /// Compares the clock with the median of all nodes. Returns whether it is wild: then
    /// this node must lead nothing.
    pub fn compare(&self, median_ms: u64, took_ms: u64) -> bool {
        // The answer is as old as its way here, at most.
        let apart = self.wall.now_ms().abs_diff(median_ms).saturating_sub(took_ms);
        let wild = median_ms > 0 && apart > MOST_APART_MS;
        if self.wild.swap(wild, Ordering::AcqRel) != wild {
            if wild {
                tracing::error!(
                    apart_ms = apart,
                    "this node's clock is far from the others': it gives leadership up"
                );
            } else {
                tracing::info!("this node's clock agrees with the others' again");
            }
        }
        wild
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wild_clock_dates_nothing_until_it_agrees_again() {
        let wall = WallClock::default();
        let clocks = Clocks::new(wall.clone());
        let median = clocks.wall_ms();
        assert!(!clocks.compare(median, 0) && clocks.stamp().is_some());
        wall.shift(10_000);
        assert!(clocks.compare(median, 0) && clocks.stamp().is_none());
        wall.shift(0);
        assert!(!clocks.compare(median, 0) && clocks.stamp().is_some());
        // Nobody else was heard of: there is nothing to compare with.
        wall.shift(10_000);
        assert!(!clocks.compare(0, 0));
    }
}
