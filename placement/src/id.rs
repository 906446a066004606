//! Names of things, as types, so that one is never taken for another.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! uuid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Reads the 16 bytes in which it travels.
            pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().map(Self)
            }

            /// The 16 bytes in which it travels.
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.into_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid!(
    /// A storage node: a UUID in its data folder, never an address or an ordinal.
    NodeId
);
uuid!(
    /// A cluster; a node that meets another cluster's id refuses.
    ClusterId
);
number!(
    /// A table.
    TableId(u32)
);
number!(
    /// A partition, which is a Raft group. Group 0 is the meta group.
    PartitionId(u64)
);
number!(
    /// One copy of a partition on one node: the name that Raft knows it by. Never reused.
    ReplicaId(u64)
);
number!(
    /// Grows when what a partition owns, or who holds it, changes.
    Epoch(u64)
);
number!(
    /// Of the map as a whole; grows with each change of it.
    Revision(u64)
);
number!(
    /// Of a key; grows with each change of it.
    Version(u64)
);

impl PartitionId {
    /// The group that holds the cluster's own records.
    pub const META: Self = Self(0);
}

/// The name of a table: 1 to 128 characters of `a-z A-Z 0-9 . _ -`, not beginning with a
/// dot or a dash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName(String);

/// Why a text is not the name of a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is not a table name: use 1 to {max} characters of a-z, A-Z, 0-9, '.', '_' and '-', \
     not beginning with '.' or '-'",
    max = TableName::MAX_LENGTH
)]
pub struct BadTableName {
    name: String,
}

impl TableName {
    /// The longest name.
    pub const MAX_LENGTH: usize = 128;
    /// The table that counts where none is named.
    pub const DEFAULT: &'static str = "default";

    /// Parses a name; an empty one means `default`.
    pub fn parse(name: &str) -> Result<Self, BadTableName> {
        if name.is_empty() {
            return Ok(Self(Self::DEFAULT.to_owned()));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let good = name.len() <= Self::MAX_LENGTH && name.chars().all(plain) && !name.starts_with(['.', '-']);
        if good {
            Ok(Self(name.to_owned()))
        } else {
            // A name that is refused may be of any length; the message shows its beginning.
            Err(BadTableName { name: name.chars().take(Self::MAX_LENGTH).collect() })
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tables_are_checked() {
        assert_eq!(TableName::parse("").map(|n| n.to_string()), Ok("default".to_owned()));
        assert!(TableName::parse("orders-2026.v_1").is_ok());
        for bad in [".x", "-x", "a b", "ü", "a/b", &"x".repeat(129)] {
            assert!(TableName::parse(bad).is_err(), "{bad}");
        }
    }
}
