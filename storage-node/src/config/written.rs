//! Values that a file may hold as a text, a number or a truth: what counts is what was written.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

/// Reads a value as it would be read from a flag. YAML takes a bare `0.5` for a number, and some
/// who write YAML take a bare `off` for false; on the command line both are texts.
pub fn parsed<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Switch(bool),
        Whole(u64),
        Fraction(f64),
        Text(String),
    }
    let text = match Written::deserialize(deserializer)? {
        Written::Switch(true) => "on".to_owned(),
        Written::Switch(false) => "off".to_owned(),
        Written::Whole(number) => number.to_string(),
        Written::Fraction(number) => number.to_string(),
        Written::Text(text) => text,
    };
    text.parse().map_err(de::Error::custom)
}

/// Has serde write a type as its text, and read it by [`parsed`].
macro_rules! as_text {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::config::written::parsed(deserializer)
            }
        }
    };
}

pub(super) use as_text;

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads back what a flag would have been given.
    struct Given(String);

    impl FromStr for Given {
        type Err = String;

        fn from_str(text: &str) -> Result<Self, String> {
            if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(Self(text.to_owned())) }
        }
    }

    fn given(yaml: &str) -> Result<String, String> {
        let value = serde_yaml::Deserializer::from_str(yaml);
        parsed::<Given, _>(value).map(|given| given.0).map_err(|error| error.to_string())
    }

    #[test]
    fn whatever_was_written_becomes_its_text() {
        for (yaml, text) in
            [("off", "off"), ("false", "off"), ("true", "on"), ("17", "17"), ("0.5", "0.5"), ("\"17\"", "17")]
        {
            assert_eq!(given(yaml).as_deref(), Ok(text), "{yaml}");
        }
        assert_eq!(given("-1").as_deref(), Ok("-1"));
        assert!(given("\"\"").unwrap_err().contains("it is empty"));
        assert!(given("[1]").is_err());
    }
}
