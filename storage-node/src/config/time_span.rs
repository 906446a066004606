//! A length of time that people write with a unit.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::written;

/// A length of time in whole milliseconds, such as `250ms`, `10s` or `5m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeSpan(u64);

/// Why a text is not a length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a length of time: write a whole number with one of ms, s, m, h, such as 250ms")]
pub struct BadTimeSpan(String);

impl TimeSpan {
    /// That many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// As the standard library has it.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl From<Duration> for TimeSpan {
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for TimeSpan {
    /// The largest unit that divides it, so that nothing is rounded.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        match units.into_iter().find(|&(millis, _)| self.0 != 0 && self.0.is_multiple_of(millis)) {
            Some((millis, unit)) => write!(f, "{}{unit}", self.0 / millis),
            None => write!(f, "{}ms", self.0),
        }
    }
}

impl FromStr for TimeSpan {
    type Err = BadTimeSpan;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadTimeSpan(text.to_owned());
        let text = text.trim();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits).ok_or_else(bad)?;
        let millis: u64 = match unit.trim_start() {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(bad()),
        };
        let number: u64 = number.parse().map_err(|_| bad())?;
        number.checked_mul(millis).map(Self).ok_or_else(bad)
    }
}

written::as_text!(TimeSpan);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_needs_its_unit() {
        for (text, millis) in [("250ms", 250), ("10s", 10_000), ("5 m", 300_000), ("1h", 3_600_000)] {
            assert_eq!(text.parse(), Ok(TimeSpan(millis)), "{text}");
        }
        for text in ["", "250", "ms", "-1s", "1.5s", "1 day", "999999999999999999h"] {
            assert!(text.parse::<TimeSpan>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_printed_reads_back_the_same() {
        for millis in [0, 1, 250, 1_000, 1_500, 60_000, 7_200_000, u64::MAX] {
            assert_eq!(TimeSpan(millis).to_string().parse(), Ok(TimeSpan(millis)));
        }
        assert_eq!(TimeSpan(90_000).to_string(), "90s");
    }
}
