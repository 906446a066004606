//! Latencies, and what coordinated omission leaves out of them.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest latency that is told apart from longer ones.
const LONGEST: Duration = Duration::from_mins(10);

/// Latencies are kept in microseconds to three digits.
const DIGITS: u8 = 3;

/// The histogram could not be made or merged.
#[derive(Debug, Error)]
#[error("latencies cannot be kept: {0}")]
pub struct HistogramError(String);

/// The latencies of many operations.
#[derive(Debug, Clone)]
pub struct Latencies {
    histogram: Histogram<u64>,
}

impl Latencies {
    /// None yet.
    pub fn new() -> Result<Self, HistogramError> {
        let histogram = Histogram::new_with_bounds(1, LONGEST.as_micros() as u64, DIGITS)
            .map_err(|error| HistogramError(error.to_string()))?;
        Ok(Self { histogram })
    }

    /// Adds one; what is longer than the longest counts as the longest.
    pub fn record(&mut self, latency: Duration) {
        self.histogram.saturating_record(latency.as_micros().try_into().unwrap_or(u64::MAX));
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) -> Result<(), HistogramError> {
        self.histogram.add(&other.histogram).map_err(|error| HistogramError(error.to_string()))
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The latencies of a closed loop, with those added that it kept from happening.
    ///
    /// A client that waited for one second sent nothing meanwhile, so the stall shows as one
    /// slow operation where a caller with a steady rate would have met many. The steady rate
    /// is taken to be one operation per median latency: for each longer one, the operations
    /// are added that would have been sent while it lasted.
    #[must_use]
    pub fn corrected(&self) -> Self {
        let interval = self.histogram.value_at_quantile(0.5).max(1);
        Self { histogram: self.histogram.clone_correct(interval) }
    }

    /// The figures that are reported.
    pub fn summary(&self) -> LatencySummary {
        let at = |quantile| self.histogram.value_at_quantile(quantile);
        LatencySummary {
            mean_us: self.histogram.mean(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.histogram.max(),
        }
    }
}

/// Latencies in a few figures, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencySummary {
    /// The mean.
    pub mean_us: f64,
    /// The median.
    pub p50_us: u64,
    /// Nine of ten are at most this.
    pub p90_us: u64,
    /// 99 of 100 are at most this.
    pub p99_us: u64,
    /// 999 of 1,000 are at most this.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn a_stall_in_a_closed_loop_is_spread_over_what_it_kept_from_happening() {
        let mut latencies = Latencies::new().unwrap();
        for _ in 0..999 {
            latencies.record(MILLISECOND);
        }
        latencies.record(1_000 * MILLISECOND);
        let raw = latencies.summary();
        let corrected = latencies.corrected();
        // As measured, even the 99.9th percentile has not noticed the stall. In truth a caller
        // with a steady rate spent half of the two seconds inside it.
        assert_eq!(raw.p999_us, 1_000);
        assert!(corrected.count() > 1_990, "{}", corrected.count());
        assert!(corrected.summary().p90_us > 750_000, "{:?}", corrected.summary());
        assert_eq!(corrected.summary().max_us, raw.max_us);
    }

    #[test]
    fn steady_latencies_need_no_correction() {
        let mut latencies = Latencies::new().unwrap();
        for _ in 0..1_000 {
            latencies.record(MILLISECOND);
        }
        assert_eq!(latencies.corrected().summary(), latencies.summary());
    }

    #[test]
    fn merged_latencies_count_together() {
        let mut one = Latencies::new().unwrap();
        one.record(MILLISECOND);
        let mut other = Latencies::new().unwrap();
        other.record(3 * MILLISECOND);
        one.merge(&other).unwrap();
        assert_eq!(one.count(), 2);
        assert!((one.summary().mean_us - 2_000.0).abs() < 5.0);
    }

    #[test]
    fn what_is_out_of_bounds_is_not_lost() {
        let mut latencies = Latencies::new().unwrap();
        latencies.record(Duration::ZERO);
        latencies.record(Duration::from_hours(1));
        assert_eq!(latencies.count(), 2);
    }
}
