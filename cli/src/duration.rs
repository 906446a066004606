//! Durations as people write them: `10s`, `5m`, `1h30m`, `1d`.

use std::time::Duration;

/// Units from the longest to the shortest, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Reads a duration of one or more parts, each a whole number with its unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration: write for example 500ms, 10s, 5m, 1h30m or 1d");
    let mut rest = text.trim();
    let mut total: u64 = 0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let part = number.checked_mul(*scale).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = next;
    }
    if total == 0 {
        return Err(format!("{text:?} is no time at all: give at least 1ms"));
    }
    Ok(Duration::from_millis(total))
}

/// Writes a duration with its two longest units, which is as exact as a person reads.
pub fn show_duration(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut parts = Vec::new();
    for (unit, scale) in UNITS {
        if left >= scale && parts.len() < 2 {
            parts.push(format!("{}{unit}", left / scale));
            left %= scale;
        } else if !parts.is_empty() {
            break;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.concat() }
}

/// The same of milliseconds.
pub fn show_ms(milliseconds: u64) -> String {
    show_duration(Duration::from_millis(milliseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, ms) in [
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for wrong in
            ["", "10", "s", "1w", "-1s", "1.5h", "0s", "99999999999999999999s", "999999999999999999d"]
        {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_are_written() {
        for (ms, text) in [
            (0, "0s"),
            (12, "12ms"),
            (61_000, "1m1s"),
            (3_600_000, "1h"),
            (3_600_500, "1h"),
            (90_061_001, "1d1h"),
        ] {
            assert_eq!(show_ms(ms), text);
        }
    }
}
