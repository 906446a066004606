//! What somebody wants to follow.

use bytes::Bytes;
use proto::v1::interest::Which;
use proto::v1::{Failure, Interest as Wire};

use crate::router::failure;
use crate::router::scan::after_prefix;

/// Which keys of a table. Two that are equal are looked up once, however many follow them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Interest {
    /// This key.
    Key(Bytes),
    /// Keys that begin so; with nothing, all.
    Prefix(Bytes),
    /// Keys from the first on, before the second, which may be left empty.
    Range(Bytes, Bytes),
}

impl Interest {
    /// What a client asked for.
    pub fn parse(wire: &Wire, longest_key: usize) -> Result<Self, Failure> {
        let short = |what: &str, key: &Bytes| match key.len() > longest_key {
            true => Err(failure::over_limit(what, longest_key as u64, key.len() as u64)),
            false => Ok(()),
        };
        match &wire.which {
            Some(Which::Key(key)) => {
                if key.is_empty() {
                    return Err(failure::invalid("a key that is watched has at least one byte"));
                }
                short("key", key)?;
                Ok(Self::Key(key.clone()))
            }
            Some(Which::Prefix(prefix)) => {
                short("prefix", prefix)?;
                Ok(Self::Prefix(prefix.clone()))
            }
            Some(Which::Range(range)) => {
                short("start", &range.start)?;
                short("end", &range.end)?;
                if !range.end.is_empty() && range.end <= range.start {
                    return Err(failure::invalid("a range that is watched ends after its start"));
                }
                Ok(Self::Range(range.start.clone(), range.end.clone()))
            }
            None => Ok(Self::Prefix(Bytes::new())),
        }
    }

    /// Whether a key is among them.
    pub fn has(&self, key: &[u8]) -> bool {
        match self {
            Self::Key(this) => this == key,
            Self::Prefix(prefix) => key.starts_with(prefix),
            Self::Range(start, end) => start <= key && (end.is_empty() || key < &end[..]),
        }
    }

    /// The run of keys that it covers: from the first on, before the second unless that is empty.
    pub fn bounds(&self) -> (Bytes, Bytes) {
        match self {
            Self::Key(key) => (key.clone(), [key, &[0][..]].concat().into()),
            Self::Prefix(prefix) => (prefix.clone(), after_prefix(prefix)),
            Self::Range(start, end) => (start.clone(), end.clone()),
        }
    }
}
