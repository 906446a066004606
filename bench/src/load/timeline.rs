//! When operations succeeded, to the millisecond: what an outage looks like from outside.

use std::time::Duration;

use tokio::time::Instant;

/// Successes per millisecond since a beginning.
#[derive(Debug, Clone)]
pub struct Timeline {
    begin: Instant,
    counts: Vec<u32>,
}

impl Timeline {
    /// Nothing has succeeded since `begin`.
    pub fn new(begin: Instant) -> Self {
        Self { begin, counts: Vec::new() }
    }

    /// Notes a success. What succeeded before the beginning is not noted.
    pub fn record(&mut self, at: Instant) {
        let Some(since) = at.checked_duration_since(self.begin) else { return };
        let slot = since.as_millis() as usize;
        if slot >= self.counts.len() {
            self.counts.resize(slot + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(slot) {
            *count = count.saturating_add(1);
        }
    }

    /// Adds all of `other`, which must have the same beginning.
    pub fn merge(&mut self, other: &Self) {
        if other.counts.len() > self.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
    }

    /// The longest time between two successes. What comes before the first and after the
    /// last is no gap: a load has a beginning and an end.
    pub fn longest_gap(&self) -> Duration {
        let mut longest = 0;
        let mut last = None;
        for (slot, _) in self.counts.iter().enumerate().filter(|&(_, &count)| count > 0) {
            longest = longest.max(last.map_or(0, |last| slot - last));
            last = Some(slot);
        }
        Duration::from_millis(longest as u64)
    }

    /// The time from the last success to `end`: whether the system came back at all.
    pub fn silence_before(&self, end: Instant) -> Duration {
        let last = self.counts.iter().rposition(|&count| count > 0).unwrap_or(0);
        end.saturating_duration_since(self.begin + Duration::from_millis(last as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(begin: Instant, milliseconds: &[u64]) -> Timeline {
        let mut timeline = Timeline::new(begin);
        for &at in milliseconds {
            timeline.record(begin + Duration::from_millis(at));
        }
        timeline
    }

    #[test]
    fn the_longest_gap_is_between_two_successes() {
        let begin = Instant::now();
        let seen = timeline(begin, &[50, 51, 60, 1_060, 1_061, 1_500]);
        assert_eq!(seen.longest_gap(), Duration::from_secs(1));
    }

    #[test]
    fn one_client_fills_the_gap_of_another() {
        let begin = Instant::now();
        let mut seen = timeline(begin, &[0, 1_000]);
        seen.merge(&timeline(begin, &[400]));
        assert_eq!(seen.longest_gap(), Duration::from_millis(600));
    }

    #[test]
    fn no_success_or_one_leaves_no_gap() {
        let begin = Instant::now();
        assert_eq!(timeline(begin, &[]).longest_gap(), Duration::ZERO);
        assert_eq!(timeline(begin, &[5]).longest_gap(), Duration::ZERO);
    }

    #[test]
    fn silence_at_the_end_is_seen() {
        let begin = Instant::now();
        let seen = timeline(begin, &[0, 250]);
        assert_eq!(seen.silence_before(begin + Duration::from_secs(1)), Duration::from_millis(750));
    }
}
