//! Aligned columns of text, coloured where it helps.

use std::fmt;

use anstream::adapter::strip_str;

const HEADING: &str = "\x1b[1;36m";
const GOOD: &str = "\x1b[32m";
const BAD: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// Something that is as it should be.
pub fn good(text: &str) -> String {
    format!("{GOOD}{text}{PLAIN}")
}

/// Something to be looked at.
pub fn bad(text: &str) -> String {
    format!("{BAD}{text}{PLAIN}")
}

/// A table of text, each column as wide as its widest cell.
#[derive(Debug, Clone)]
pub struct Columns {
    rows: Vec<Vec<String>>,
}

impl Columns {
    /// With these headings.
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.map(str::to_owned).to_vec()] }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }
}

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| shown(cell)).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..count).map(width).collect();
        for (index, row) in self.rows.iter().enumerate() {
            let pad = |(cell, width): (&String, &usize)| {
                let blanks = width.saturating_sub(shown(cell));
                format!("{cell}{:blanks$}", "")
            };
            let cells: Vec<String> = row.iter().zip(&widths).map(pad).collect();
            let line = cells.join("  ");
            match index {
                0 => write!(f, "{HEADING}{}{PLAIN}", line.trim_end())?,
                _ => write!(f, "\n{}", line.trim_end())?,
            }
        }
        Ok(())
    }
}

/// How wide a cell is on the screen.
fn shown(cell: &str) -> usize {
    strip_str(cell).to_string().chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut columns = Columns::new(["NODE", "STATE", "ZONE"]);
        columns.row(["node-1".into(), "serving".into(), String::new()]);
        columns.row(["n".into(), bad("x"), "a".into()]);
        let coloured = columns.to_string();
        assert_eq!(
            strip_str(&coloured).to_string(),
            "NODE    STATE    ZONE\nnode-1  serving\nn       x        a"
        );
        assert!(coloured.starts_with("\x1b[1;36mNODE") && coloured.contains("\x1b[31mx\x1b[0m"));
    }
}
