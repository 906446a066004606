//! One measured thing, round by round.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::median;
use crate::load::latency::LatencySummary;

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Operations per second: more is better.
    PerSecond,
    /// Milliseconds: fewer are better.
    Milliseconds,
    /// Seconds: fewer are better.
    Seconds,
    /// Log fsyncs for each write on each node: fewer are better.
    FsyncsPerWrite,
    /// Percent of one processor: fewer are better.
    PercentOfCore,
    /// Mebibytes: fewer are better.
    Mebibytes,
    /// A ratio of two other figures.
    Times,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::PerSecond => format!("{}/s", thousands(value)),
            Self::Milliseconds if value >= 100.0 => format!("{} ms", thousands(value)),
            Self::Milliseconds => format!("{value:.2} ms"),
            Self::Seconds => format!("{value:.2} s"),
            Self::FsyncsPerWrite => format!("{value:.3}"),
            Self::PercentOfCore => format!("{value:.1} %"),
            Self::Mebibytes => format!("{value:.2} MiB"),
            Self::Times => format!("{value:.2}×"),
        }
    }
}

/// What one system gave in one round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The figure itself.
    pub value: f64,
    /// The latencies that go with it, corrected for coordinated omission.
    pub latency: Option<LatencySummary>,
}

impl From<f64> for Sample {
    fn from(value: f64) -> Self {
        Self { value, latency: None }
    }
}

/// What a ratio has to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Of a rate.
    AtLeast(f64),
    /// Of a time.
    AtMost(f64),
}

impl Goal {
    fn is_met(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(least) => ratio >= least,
            Self::AtMost(most) => ratio <= most,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(out, "≥ {least:.2}×"),
            Self::AtMost(most) => write!(out, "≤ {most:.2}×"),
        }
    }
}

/// One row of the table: the same thing measured in both systems, or in ours alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// What it counts.
    pub unit: Unit,
    /// Trilith, by round.
    pub trilith: Vec<Sample>,
    /// The system beside it in the same rounds; empty where there is nothing to compare with.
    pub other: Vec<Sample>,
    /// What the ratio has to be, where that was said beforehand.
    pub goal: Option<Goal>,
}

impl Figure {
    /// A figure with nothing measured yet.
    pub fn new(name: impl Into<String>, unit: Unit) -> Self {
        Self { name: name.into(), unit, trilith: Vec::new(), other: Vec::new(), goal: None }
    }

    /// The same with a ratio that it has to reach.
    #[must_use]
    pub fn with_goal(self, goal: Goal) -> Self {
        Self { goal: Some(goal), ..self }
    }

    /// Trilith divided by the other system. Each round is divided by itself and the median taken then,
    /// because the machine's speed moves between rounds more than within one.
    pub fn ratio(&self) -> Option<f64> {
        let ratios: Vec<f64> = self
            .trilith
            .iter()
            .zip(&self.other)
            .filter(|(_, other)| other.value > 0.0)
            .map(|(trilith, other)| trilith.value / other.value)
            .collect();
        median(&ratios)
    }

    /// What the last round gave, to be shown while others are still to come.
    pub fn newest(&self, beside: &str) -> String {
        let (trilith, other) = (self.trilith.last(), self.other.last());
        let shown = |name: &str, sample: &Sample| format!("{name} {}", self.unit.show(sample.value));
        let ratio = trilith.zip(other).filter(|(_, other)| other.value > 0.0);
        let parts = [
            other.map(|other| shown(beside, other)),
            trilith.map(|trilith| shown("Trilith", trilith)),
            ratio.map(|(trilith, other)| format!("{:.2}×", trilith.value / other.value)),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// The goal and whether it is met; empty where there is none, or no ratio.
    pub fn judged(&self) -> String {
        match (self.goal, self.ratio()) {
            (Some(goal), Some(ratio)) => {
                format!("{goal}: {}", if goal.is_met(ratio) { "met" } else { "MISSED" })
            }
            (Some(goal), None) => format!("{goal}: not measured"),
            (None, _) => String::new(),
        }
    }

    /// The row: name, Trilith, the other, ratio, and the latencies of both.
    pub fn cells(&self) -> Vec<String> {
        let middle = |samples: &[Sample]| {
            let values: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
            median(&values).map(|value| self.unit.show(value)).unwrap_or_default()
        };
        vec![
            self.name.clone(),
            middle(&self.trilith),
            middle(&self.other),
            self.ratio().map(|ratio| format!("{ratio:.2}×")).unwrap_or_default(),
            latencies(&self.trilith),
            latencies(&self.other),
        ]
    }
}

/// Medians over the rounds of the median and the 99th percentile, in milliseconds.
fn latencies(samples: &[Sample]) -> String {
    let over_rounds = |take: fn(&LatencySummary) -> u64| {
        let values: Vec<f64> = samples
            .iter()
            .filter_map(|sample| sample.latency.as_ref())
            .map(|latency| take(latency) as f64 / 1_000.0)
            .collect();
        median(&values)
    };
    match (over_rounds(|latency| latency.p50_us), over_rounds(|latency| latency.p99_us)) {
        (Some(middle), Some(high)) => format!("{middle:.2}/{high:.2} ms"),
        _ => String::new(),
    }
}

/// A whole number with commas.
pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(trilith: &[f64], other: &[f64]) -> Figure {
        let samples = |values: &[f64]| values.iter().copied().map(Sample::from).collect();
        Figure { trilith: samples(trilith), other: samples(other), ..Figure::new("puts", Unit::PerSecond) }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The second round found a machine half as fast. The ratio of the medians would be
        // 2,000/1,000; within each round it is always 3.
        let figure = figure(&[6_000.0, 1_500.0, 3_000.0], &[2_000.0, 500.0, 1_000.0]);
        assert_eq!(figure.ratio(), Some(3.0));
        assert_eq!(figure.cells()[1..4], ["3,000/s", "1,000/s", "3.00×"]);
    }

    #[test]
    fn a_round_is_shown_as_it_ends() {
        let round = figure(&[1.0, 11_015.0], &[1.0, 46_260.0]);
        assert_eq!(round.newest("Redis"), "Redis 46,260/s, Trilith 11,015/s, 0.24×");
        assert_eq!(figure(&[], &[46_260.0]).newest("Redis"), "Redis 46,260/s");
    }

    #[test]
    fn with_nothing_beside_there_is_no_ratio() {
        let figure = figure(&[1.0], &[]);
        assert_eq!(figure.ratio(), None);
        assert_eq!(figure.cells()[2..], ["", "", "", ""]);
    }

    #[test]
    fn latencies_are_medians_over_the_rounds() {
        let latency = |p50_us, p99_us| Sample {
            value: 1.0,
            latency: Some(LatencySummary { p50_us, p99_us, ..LatencySummary::default() }),
        };
        let shown = latencies(&[latency(900, 9_000), latency(1_000, 3_000), latency(5_000, 4_000)]);
        assert_eq!(shown, "1.00/4.00 ms");
    }

    #[test]
    fn a_goal_is_met_or_missed() {
        let rates = figure(&[40.0], &[100.0]);
        assert_eq!(rates.clone().with_goal(Goal::AtLeast(0.4)).judged(), "≥ 0.40×: met");
        assert_eq!(rates.clone().with_goal(Goal::AtLeast(0.41)).judged(), "≥ 0.41×: MISSED");
        assert_eq!(rates.clone().with_goal(Goal::AtMost(0.39)).judged(), "≤ 0.39×: MISSED");
        assert_eq!(rates.judged(), "");
        assert_eq!(figure(&[1.0], &[]).with_goal(Goal::AtMost(2.5)).judged(), "≤ 2.50×: not measured");
    }

    #[test]
    fn thousands_have_commas() {
        assert_eq!(thousands(0.0), "0");
        assert_eq!(thousands(999.4), "999");
        assert_eq!(thousands(1_234_567.0), "1,234,567");
    }
}
