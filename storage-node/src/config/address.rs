//! Where others reach a node.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A host and a port that others can dial: a name or an IP address, and never one that
/// stands for every address of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

/// Why a text is not such an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// It has another form.
    #[error("{0:?} is not an address: write HOST:PORT, such as node-1.example:7400 or [fd00::1]:7400")]
    Form(String),
    /// It says where to listen, not where to dial.
    #[error(
        "{0} stands for every address of a machine, so nobody else can dial it: write a name or one address"
    )]
    Everywhere(String),
}

impl Address {
    /// An address of its parts. A host that is an IPv6 address comes without brackets.
    pub fn new(host: &str, port: u16) -> Result<Self, BadAddress> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let literal = host.parse::<IpAddr>();
        if literal.is_err() && (host.is_empty() || !host.chars().all(plain)) {
            return Err(BadAddress::Form(format!("{host}:{port}")));
        }
        let address = Self { host: host.to_owned(), port };
        match literal {
            Ok(ip) if ip.is_unspecified() => Err(BadAddress::Everywhere(address.to_string())),
            _ => Ok(address),
        }
    }

    /// The same with the port that was bound, where it names port 0 ("any that is free").
    #[must_use]
    pub fn bound_to(&self, listening: SocketAddr) -> Self {
        let port = if self.port == 0 { listening.port() } else { self.port };
        Self { host: self.host.clone(), port }
    }

    /// The name or IP address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 0 until it is bound, where the node listens on any that is free.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadAddress::Form(text.to_owned());
        let (host, port) = text.trim().rsplit_once(':').ok_or_else(bad)?;
        let port = port.parse().map_err(|_| bad())?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if bare.is_none() && host.contains(':') {
            return Err(bad());
        }
        Self::new(bare.unwrap_or(host), port)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_they_are_printed() {
        for text in ["node-1.example:7400", "10.0.0.7:7401", "[fd00::1]:7402", "localhost:0"] {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_nobody_can_dial_is_refused() {
        for text in ["node-1", ":7400", "node-1:", "node-1:99999", "fd00::1:7400", "a b:1", "http://x:1"] {
            assert!(matches!(text.parse::<Address>(), Err(BadAddress::Form(_))), "{text}");
        }
        for text in ["0.0.0.0:7400", "[::]:7400"] {
            assert!(matches!(text.parse::<Address>(), Err(BadAddress::Everywhere(_))), "{text}");
        }
    }

    #[test]
    fn a_free_port_is_told_once_it_is_bound() {
        let listening = "127.0.0.1:40001".parse().unwrap();
        let any: Address = "localhost:0".parse().unwrap();
        assert_eq!(any.bound_to(listening).to_string(), "localhost:40001");
        let fixed: Address = "localhost:7400".parse().unwrap();
        assert_eq!(fixed.bound_to(listening), fixed);
    }
}
