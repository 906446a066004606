//! Sizes and counts as people read them.

/// Writes a number of bytes with three digits or so.
pub fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = UNITS[0];
    for larger in &UNITS[1..] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if unit == "B" {
        format!("{bytes} B")
    } else if value < 10.0 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// Reads a number of bytes such as `64MiB`, `1GiB` or `4096`.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 5] =
        [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("", 1)];
    let wrong = || format!("{text:?} is no number of bytes: write for example 4096, 64MiB or 1GiB");
    let (digits, unit) =
        UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit))).ok_or_else(wrong)?;
    digits.parse::<u64>().ok().and_then(|count| count.checked_mul(unit)).ok_or_else(wrong)
}

/// Writes a count with a comma after each three digits.
pub fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_written() {
        for (count, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(show_count(count), text);
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [("0", 0), ("4096", 4096), ("64MiB", 64 << 20), ("2TiB", 2 << 40)] {
            assert_eq!(parse_bytes(text), Ok(bytes));
        }
        for text in ["", "MiB", "-1", "1.5GiB", "1MB", "99999999TiB"] {
            parse_bytes(text).unwrap_err();
        }
    }

    #[test]
    fn sizes_are_written() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (15 * 1024 * 1024, "15 MiB"),
            (3 << 40, "3.0 TiB"),
        ] {
            assert_eq!(show_bytes(bytes), text);
        }
    }
}
