//! Numbers of JSON compared by what they say, however many digits they have. Nothing is rounded,
//! so every node comes to the same answer.

use std::cmp::Ordering;

/// A number as digits that begin and end with another than 0, and the place of the point before
/// them: 0.digits × 10^exponent. Zero has no digits.
#[derive(Debug, PartialEq, Eq)]
struct Exact<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    exponent: i64,
}

/// Compares two numbers as JSON writes them.
pub fn compare(left: &str, right: &str) -> Ordering {
    let (left, right) = (Exact::of(left), Exact::of(right));
    match (left.sign(), right.sign()) {
        (-1, -1) => right.compare_size(&left),
        (1, 1) => left.compare_size(&right),
        (left, right) => left.cmp(&right),
    }
}

impl<'a> Exact<'a> {
    fn of(text: &'a str) -> Self {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let (whole, mut fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let mut exponent = power_of(power).saturating_add(whole.len() as i64);
        let mut whole = whole;
        if whole.is_empty() {
            let significant = fraction.trim_start_matches('0');
            exponent = exponent.saturating_sub((fraction.len() - significant.len()) as i64);
            fraction = significant;
        }
        if fraction.is_empty() {
            whole = whole.trim_end_matches('0');
        }
        Self { negative, whole, fraction, exponent }
    }

    fn sign(&self) -> i8 {
        match (self.whole.is_empty() && self.fraction.is_empty(), self.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }

    fn compare_size(&self, other: &Self) -> Ordering {
        let digits = |number: &Self| number.whole.bytes().chain(number.fraction.bytes()).collect::<Vec<_>>();
        self.exponent.cmp(&other.exponent).then_with(|| digits(self).cmp(&digits(other)))
    }
}

/// The power of ten. One that has no room in 64 bits is as far away as one that just has.
fn power_of(text: &str) -> i64 {
    let far = if text.starts_with('-') { i64::MIN } else { i64::MAX };
    text.strip_prefix('+').unwrap_or(text).parse().unwrap_or(far)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_compared_by_what_they_say() {
        let equal = [
            ("1", "1.0"),
            ("10", "1e1"),
            ("100e-2", "1"),
            ("0", "-0"),
            ("0.000", "0e9"),
            ("0.012", "1.2E-2"),
            ("-1.50", "-15e-1"),
            ("12300", "1.23e+4"),
        ];
        for (left, right) in equal {
            assert_eq!(compare(left, right), Ordering::Equal, "{left} {right}");
        }
        let rising = [
            "-1e999999999999999999999",
            "-1e400",
            "-2",
            "-1.5",
            "-1e-400",
            "0",
            "1e-400",
            "0.1",
            "0.11",
            "0.2",
            "1",
            "9007199254740992",
            "9007199254740993",
            "9007199254740993.1",
            "1e400",
            "1.1e400",
            "1e999999999999999999999",
        ];
        for pair in rising.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_whole_numbers_and_floats(left in any::<i64>(), right in any::<i64>(), power in -3_i32..3) {
            prop_assert_eq!(compare(&left.to_string(), &right.to_string()), left.cmp(&right));
            let (left, right) = (left as i32, right as i32);
            let scaled = compare(&format!("{left}e{power}"), &format!("{right}.0e{power}"));
            prop_assert_eq!(scaled, left.cmp(&right));
        }
    }
}
