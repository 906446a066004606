//! What came of the scenarios, as a table: for people, and in Markdown, so that it can be kept.

use std::fmt;
use std::time::Duration;

/// What came of one scenario.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its number and name.
    pub scenario: String,
    /// How long it took.
    pub took: Duration,
    /// Whether it passed.
    pub outcome: Outcome,
    /// What was measured.
    pub figures: Vec<(String, String)>,
}

/// Whether a scenario passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It did.
    Passed,
    /// It did not, and why.
    Failed(String),
    /// It was not played, and why not.
    LeftOut(&'static str),
}

/// What came of all.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// In the order in which they were played.
    pub rows: Vec<Row>,
}

impl Table {
    /// Whether something was played, and nothing failed.
    pub fn all_passed(&self) -> bool {
        let failed = self.rows.iter().any(|row| matches!(row.outcome, Outcome::Failed(_)));
        !failed && self.rows.iter().any(|row| row.outcome == Outcome::Passed)
    }
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed(_) => "FAILED",
            Self::LeftOut(_) => "left out",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = "scenario";
        let width = self.rows.iter().map(|row| row.scenario.len()).max().unwrap_or_default().max(head.len());
        writeln!(f, "| {head:width$} | seconds | result   | figures |")?;
        writeln!(f, "|{:-<width$}--|--------:|----------|---------|", "")?;
        for row in &self.rows {
            let figures: Vec<String> =
                row.figures.iter().map(|(name, much)| format!("{name} {much}")).collect();
            let (seconds, word) = (row.took.as_secs_f64(), row.outcome.word());
            writeln!(f, "| {:width$} | {seconds:7.1} | {word:8} | {} |", row.scenario, figures.join(", "))?;
        }
        for row in self.rows.iter().filter(|row| row.outcome != Outcome::Passed) {
            writeln!(f, "\n{} {}", row.scenario.trim_start(), row.outcome)?;
        }
        Ok(())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match self {
            Self::Passed => Ok(()),
            Self::Failed(why) => write!(f, ": {why}"),
            Self::LeftOut(why) => write!(f, ": {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(outcome: Outcome) -> Row {
        Row { scenario: " 1 create".to_owned(), took: Duration::from_secs(2), outcome, figures: Vec::new() }
    }

    #[test]
    fn nothing_played_is_nothing_passed() {
        let of = |outcomes: &[Outcome]| Table { rows: outcomes.iter().cloned().map(row).collect() };
        let failed = Outcome::Failed("it rained".to_owned());
        assert!(of(&[Outcome::Passed, Outcome::LeftOut("no machines")]).all_passed());
        assert!(!of(&[Outcome::LeftOut("no machines")]).all_passed());
        assert!(!of(&[Outcome::Passed, failed.clone()]).all_passed());
        assert!(of(&[failed]).to_string().contains("it rained"));
    }
}
