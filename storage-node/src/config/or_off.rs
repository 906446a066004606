//! Something that may also be switched off.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::written;

/// A value, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrOff<T> {
    /// Not at all.
    Off,
    /// So.
    On(T),
}

impl<T> OrOff<T> {
    /// The value, unless it is off.
    pub fn on(self) -> Option<T> {
        match self {
            Self::Off => None,
            Self::On(value) => Some(value),
        }
    }
}

impl<T> From<Option<T>> for OrOff<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Off, Self::On)
    }
}

/// A text that is neither.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}, or `off`")]
pub struct BadOrOff(String);

impl<T: FromStr<Err: fmt::Display>> FromStr for OrOff<T> {
    type Err = BadOrOff;

    fn from_str(text: &str) -> Result<Self, BadOrOff> {
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self::Off);
        }
        text.parse().map(Self::On).map_err(|why: T::Err| BadOrOff(why.to_string()))
    }
}

impl<T: fmt::Display> fmt::Display for OrOff<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::On(value) => value.fmt(f),
        }
    }
}

impl<T: fmt::Display> Serialize for OrOff<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for OrOff<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        written::parsed(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::super::TimeSpan;
    use super::*;

    #[test]
    fn a_value_or_off() {
        let half = OrOff::On(TimeSpan::from_millis(500));
        assert_eq!("500ms".parse(), Ok(half));
        assert_eq!(half.to_string(), "500ms");
        for text in ["off", "false", "Off"] {
            assert_eq!(serde_yaml::from_str::<OrOff<TimeSpan>>(text).unwrap(), OrOff::Off, "{text}");
        }
        for text in ["500", "true", "\"\""] {
            let why = serde_yaml::from_str::<OrOff<TimeSpan>>(text).unwrap_err().to_string();
            assert!(why.contains("such as 250ms, or `off`"), "{why}");
        }
    }
}
