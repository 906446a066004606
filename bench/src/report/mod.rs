//! What is said in the end: figures with medians and ratios, as a table, as Markdown and as
//! JSON, under the facts of the machine that they were measured on.

pub mod figure;
pub mod machine;
pub mod table;

use serde::{Deserialize, Serialize};

pub use figure::{Figure, Goal, Unit};
pub use machine::Machine;

/// A whole comparison.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The system that Trilith is compared with.
    pub beside: String,
    /// Where it was measured, and with what.
    pub machine: Machine,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// What a reader has to know to judge the figures.
    pub notes: Vec<String>,
    /// What could not be measured, and why.
    pub failures: Vec<String>,
}

impl Report {
    /// For a terminal.
    pub fn text(&self) -> String {
        let mut lines = vec![self.machine.to_string(), String::new()];
        lines.extend(table::aligned(&self.cells()));
        lines.push(String::new());
        lines.extend(self.notes.iter().map(|note| format!("- {note}")));
        lines.extend(self.failures.iter().map(|failure| format!("NOT MEASURED: {failure}")));
        lines.join("\n") + "\n"
    }

    /// For `docs/benchmarks/`.
    pub fn markdown(&self) -> String {
        let mut lines = vec![format!("# Trilith beside {}", self.beside), String::new()];
        lines.extend(self.machine.to_string().lines().map(|line| format!("- {line}")));
        lines.push(String::new());
        lines.extend(table::markdown(&self.cells()));
        lines.push(String::new());
        lines.extend(self.notes.iter().map(|note| format!("- {note}")));
        lines.extend(self.failures.iter().map(|failure| format!("- **Not measured:** {failure}")));
        lines.join("\n") + "\n"
    }

    fn cells(&self) -> Vec<Vec<String>> {
        let beside = &self.beside;
        let latencies = format!("p50/p99 {beside}");
        let head = ["measurement", "Trilith", beside, "ratio", "p50/p99 Trilith", &latencies];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(self.figures.iter().map(Figure::cells));
        if self.figures.iter().any(|figure| figure.goal.is_some()) {
            let goals = std::iter::once("goal".to_owned()).chain(self.figures.iter().map(Figure::judged));
            rows.iter_mut().zip(goals).for_each(|(row, goal)| row.insert(4, goal));
        }
        rows
    }
}

/// The middle one; between the two middle ones where their number is even.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get((sorted.len() / 2).checked_sub(1)?)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }
}
