//! A length of time as people write it.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A length of time: whole numbers with units, such as `30s`, `10m` or `1h30m`. The text is kept
/// as it was written, so that what is read back from the API server is what was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TimeSpan(pub String);

/// Why a text is not a length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a length of time: write whole numbers with ms, s, m, h or d, such as 30s or 1h30m")]
pub struct BadTimeSpan(String);

impl TimeSpan {
    /// From its text, which is not checked.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The time that it says.
    pub fn duration(&self) -> Result<Duration, BadTimeSpan> {
        let bad = || BadTimeSpan(self.0.clone());
        let mut rest = self.0.as_str();
        let mut sum = Duration::ZERO;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest.split_at_checked(digits).ok_or_else(bad)?;
            let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, after) = after.split_at_checked(letters).ok_or_else(bad)?;
            let millis: u64 = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(bad()),
            };
            let number: u64 = number.parse().map_err(|_| bad())?;
            let part = Duration::from_millis(number.checked_mul(millis).ok_or_else(bad)?);
            sum = sum.checked_add(part).ok_or_else(bad)?;
            rest = after;
        }
        if self.0.is_empty() { Err(bad()) } else { Ok(sum) }
    }
}

impl JsonSchema for TimeSpan {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "TimeSpan".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^([0-9]{1,9}(ms|s|m|h|d))+$",
            "maxLength": 24,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_add_up() {
        for (text, millis) in
            [("30s", 30_000), ("1h30m", 5_400_000), ("250ms", 250), ("0s", 0), ("7d", 604_800_000)]
        {
            assert_eq!(TimeSpan::new(text).duration(), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "s", "-1s", "1.5h", "1h ", "1 h", "99999999999999999999s", "ä"] {
            assert!(TimeSpan::new(text).duration().is_err(), "{text}");
        }
    }
}
