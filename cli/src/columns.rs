//! Aligned columns of plain text.

use std::fmt;

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
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..count).map(width).collect();
        for (index, row) in self.rows.iter().enumerate() {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(cells.join("  ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut columns = Columns::new(["NODE", "STATE", "ZONE"]);
        columns.row(["node-1".into(), "serving".into(), String::new()]);
        columns.row(["n".into(), "x".into(), "a".into()]);
        assert_eq!(columns.to_string(), "NODE    STATE    ZONE\nnode-1  serving\nn       x        a");
    }
}
