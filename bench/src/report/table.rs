//! Rows of cells as text. The first row is the head.

/// Columns as wide as their widest cell; the first to the left, the others to the right.
pub fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let widths = widths(rows);
    let mut lines: Vec<String> = rows.iter().map(|row| line(row, &widths, "  ")).collect();
    let rule = widths.iter().map(|&width| "-".repeat(width)).collect::<Vec<_>>().join("  ");
    lines.insert(lines.len().min(1), rule);
    lines
}

/// A Markdown table, aligned in its source as well.
pub fn markdown(rows: &[Vec<String>]) -> Vec<String> {
    let widths = widths(rows);
    let mut lines: Vec<String> =
        rows.iter().map(|row| format!("| {} |", line(row, &widths, " | "))).collect();
    let rules = widths.iter().enumerate().map(|(column, &width)| match column {
        0 => "-".repeat(width.max(3)),
        _ => "-".repeat(width.max(3) - 1) + ":",
    });
    let rule = format!("| {} |", rules.collect::<Vec<_>>().join(" | "));
    lines.insert(lines.len().min(1), rule);
    lines
}

fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    (0..columns).map(|column| width(column).unwrap_or(0)).collect()
}

fn line(row: &[String], widths: &[usize], between: &str) -> String {
    let cells = widths.iter().enumerate().map(|(column, &width)| {
        let cell = row.get(column).map_or("", String::as_str);
        if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
    });
    cells.collect::<Vec<_>>().join(between)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        [["name", "rate"], ["put", "1,000/s"], ["a long one", "2×"]]
            .map(|row| row.map(str::to_owned).to_vec())
            .to_vec()
    }

    #[test]
    fn text_is_aligned() {
        assert_eq!(
            aligned(&rows()),
            ["name           rate", "----------  -------", "put         1,000/s", "a long one       2×"]
        );
    }

    #[test]
    fn markdown_is_a_table() {
        assert_eq!(
            markdown(&rows()),
            [
                "| name       |    rate |",
                "| ---------- | ------: |",
                "| put        | 1,000/s |",
                "| a long one |      2× |"
            ]
        );
    }
}
