//! On or off.

use std::fmt;
use std::str::FromStr;

use super::written;

/// Whether something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// A text that is neither.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither `on` nor `off`")]
pub struct BadSwitch(String);

impl Switch {
    /// Whether it is.
    pub fn is_on(self) -> bool {
        self == Self::On
    }
}

impl From<bool> for Switch {
    fn from(on: bool) -> Self {
        if on { Self::On } else { Self::Off }
    }
}

impl FromStr for Switch {
    type Err = BadSwitch;

    fn from_str(text: &str) -> Result<Self, BadSwitch> {
        match text.to_ascii_lowercase().as_str() {
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => Err(BadSwitch(text.to_owned())),
        }
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "on" } else { "off" })
    }
}

written::as_text!(Switch);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_on_or_off() {
        for (text, switch) in
            [("on", Switch::On), ("true", Switch::On), ("off", Switch::Off), ("Off", Switch::Off)]
        {
            assert_eq!(serde_yaml::from_str::<Switch>(text).unwrap(), switch, "{text}");
            assert_eq!(switch.to_string().parse(), Ok(switch));
        }
        assert!("1".parse::<Switch>().unwrap_err().to_string().contains("`on` nor `off`"));
    }
}
