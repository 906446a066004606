//! Where a door listens that may also be closed.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An address to listen on, or none at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoorAddress {
    /// The door stays closed.
    Off,
    /// It listens here.
    At(SocketAddr),
}

/// A text that is neither.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is neither an address nor `off`: write IP:PORT, such as 127.0.0.1:6379, or 0.0.0.0:6379 for every address"
)]
pub struct BadDoorAddress(String);

impl FromStr for DoorAddress {
    type Err = BadDoorAddress;

    fn from_str(text: &str) -> Result<Self, BadDoorAddress> {
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self::Off);
        }
        text.parse().map(Self::At).map_err(|_| BadDoorAddress(text.to_owned()))
    }
}

impl fmt::Display for DoorAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

impl Serialize for DoorAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DoorAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // YAML 1.1 takes a bare `off` for false.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Switch(bool),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Switch(false) => Ok(Self::Off),
            Written::Switch(true) => Err(de::Error::custom(BadDoorAddress("on".to_owned()))),
            Written::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_or_off() {
        assert_eq!("off".parse(), Ok(DoorAddress::Off));
        assert_eq!(serde_yaml::from_str::<DoorAddress>("off").unwrap(), DoorAddress::Off);
        assert_eq!(serde_yaml::from_str::<DoorAddress>("false").unwrap(), DoorAddress::Off);
        let at: DoorAddress = "127.0.0.1:6379".parse().unwrap();
        assert_eq!(at.to_string(), "127.0.0.1:6379");
        let why = "6379".parse::<DoorAddress>().unwrap_err().to_string();
        assert!(why.contains("write IP:PORT"), "{why}");
    }
}
