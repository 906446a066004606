//! One measured thing, round by round.

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

/// One row of the table: the same thing measured in both systems, or in ours alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// What it counts.
    pub unit: Unit,
    /// Trilith, by round.
    pub trilith: Vec<Sample>,
    /// etcd in the same rounds; empty where there is nothing to compare with.
    pub etcd: Vec<Sample>,
}

impl Figure {
    /// A figure with nothing measured yet.
    pub fn new(name: impl Into<String>, unit: Unit) -> Self {
        Self { name: name.into(), unit, trilith: Vec::new(), etcd: Vec::new() }
    }

    /// Trilith divided by etcd. Each round is divided by itself and the median taken then,
    /// because the machine's speed moves between rounds more than within one.
    pub fn ratio(&self) -> Option<f64> {
        let ratios: Vec<f64> = self
            .trilith
            .iter()
            .zip(&self.etcd)
            .filter(|(_, etcd)| etcd.value > 0.0)
            .map(|(trilith, etcd)| trilith.value / etcd.value)
            .collect();
        median(&ratios)
    }

    /// The row: name, Trilith, etcd, ratio, and the latencies of both.
    pub fn cells(&self) -> Vec<String> {
        let middle = |samples: &[Sample]| {
            let values: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
            median(&values).map(|value| self.unit.show(value)).unwrap_or_default()
        };
        vec![
            self.name.clone(),
            middle(&self.trilith),
            middle(&self.etcd),
            self.ratio().map(|ratio| format!("{ratio:.2}×")).unwrap_or_default(),
            latencies(&self.trilith),
            latencies(&self.etcd),
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

    fn figure(trilith: &[f64], etcd: &[f64]) -> Figure {
        let samples = |values: &[f64]| values.iter().copied().map(Sample::from).collect();
        Figure { trilith: samples(trilith), etcd: samples(etcd), ..Figure::new("puts", Unit::PerSecond) }
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
    fn without_etcd_there_is_no_ratio() {
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
    fn thousands_have_commas() {
        assert_eq!(thousands(0.0), "0");
        assert_eq!(thousands(999.4), "999");
        assert_eq!(thousands(1_234_567.0), "1,234,567");
    }
}
