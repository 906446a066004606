//! Where a door listens.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use super::written;

/// An address of this machine, and a port; port 0 asks for any that is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddress(pub SocketAddr);

/// A text that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an address to listen on: write IP:PORT, such as 127.0.0.1:7400, or 0.0.0.0:7400 for every address"
)]
pub struct BadListenAddress(String);

impl ListenAddress {
    /// A port that only this machine reaches.
    pub fn loopback(port: u16) -> Self {
        Self(SocketAddr::from(([127, 0, 0, 1], port)))
    }
}

impl FromStr for ListenAddress {
    type Err = BadListenAddress;

    fn from_str(text: &str) -> Result<Self, BadListenAddress> {
        text.parse().map(Self).map_err(|_| BadListenAddress(text.to_owned()))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

written::as_text!(ListenAddress);

#[cfg(test)]
mod tests {
    use super::super::OrOff;
    use super::*;

    #[test]
    fn an_address_or_off() {
        let at: OrOff<ListenAddress> = "127.0.0.1:6379".parse().unwrap();
        assert_eq!(at, OrOff::On(ListenAddress::loopback(6379)));
        assert_eq!(at.to_string(), "127.0.0.1:6379");
        for text in ["off", "false"] {
            assert_eq!(serde_yaml::from_str::<OrOff<ListenAddress>>(text).unwrap(), OrOff::Off, "{text}");
        }
        for text in ["6379", "true", "localhost:6379"] {
            let why = serde_yaml::from_str::<OrOff<ListenAddress>>(text).unwrap_err().to_string();
            assert!(why.contains("write IP:PORT") && why.ends_with("or `off`"), "{why}");
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
    }
}
