//! Points in time as RFC 3339 writes them, to the millisecond.

/// Milliseconds since 1970, which are negative before. What is finer is cut off; a leap second is the
/// second after it.
pub fn parse(text: &str) -> Option<i64> {
    let mut rest = text;
    let year = digits(&mut rest, 4)?;
    sign(&mut rest, "-")?;
    let month = digits(&mut rest, 2)?;
    sign(&mut rest, "-")?;
    let day = digits(&mut rest, 2)?;
    sign(&mut rest, "Tt ")?;
    let hour = digits(&mut rest, 2)?;
    sign(&mut rest, ":")?;
    let minute = digits(&mut rest, 2)?;
    sign(&mut rest, ":")?;
    let second = digits(&mut rest, 2)?;
    let milliseconds = fraction(&mut rest)?;
    let offset = offset_minutes(rest)?;
    let in_range = (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !in_range {
        return None;
    }
    let minutes = (days_since_1970(year, month, day) * 24 + hour) * 60 + minute - offset;
    Some((minutes * 60 + second) * 1000 + milliseconds)
}

fn digits(rest: &mut &str, count: usize) -> Option<i64> {
    let (number, after) = rest.split_at_checked(count)?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    *rest = after;
    number.parse().ok()
}

fn sign(rest: &mut &str, among: &str) -> Option<()> {
    *rest = rest.strip_prefix(|sign| among.contains(sign))?;
    Some(())
}

/// The milliseconds of the part behind the point, where there is one.
fn fraction(rest: &mut &str) -> Option<i64> {
    let Some(after) = rest.strip_prefix('.') else { return Some(0) };
    let end = after.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(after.len());
    let (part, after) = after.split_at_checked(end)?;
    *rest = after;
    let mut milliseconds = 0;
    for place in 0..3 {
        let digit = part.as_bytes().get(place).map_or(0, |digit| i64::from(digit - b'0'));
        milliseconds = milliseconds * 10 + digit;
    }
    (!part.is_empty()).then_some(milliseconds)
}

fn offset_minutes(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let mut rest = text.strip_prefix(['+', '-'])?;
    let hours = digits(&mut rest, 2)?;
    sign(&mut rest, ":")?;
    let minutes = digits(&mut rest, 2)?;
    let offset = hours * 60 + minutes;
    let fits = hours < 24 && minutes < 60 && rest.is_empty();
    fits.then_some(if text.starts_with('-') { -offset } else { offset })
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Counts in years that begin in March, so that the day that comes and goes is the last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_in_time_are_read() {
        let all = [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.999Z", -1),
            ("2000-02-29T12:00:00Z", 951_825_600_000),
            ("2024-02-29t12:34:56.5+01:30", 1_709_204_696_500),
            ("2026-11-22 08:00:00.123999-02:00", 1_795_341_600_123),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000),
            ("9999-12-31T23:59:60Z", 253_402_300_800_000),
        ];
        for (text, wanted) in all {
            assert_eq!(parse(text), Some(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        let all = [
            "",
            "2024-02-30T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:60:00Z",
            "2024-01-01T00:00:61Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+1:00",
            "2024-01-01T00:00:00+24:00",
            "2024-01-01T00:00:00Z ",
            "2024-01-01",
            "24-01-01T00:00:00Z",
            "2024-01-01T00:00:00ö",
        ];
        for text in all {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
