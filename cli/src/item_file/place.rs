//! Where something stands in a file, and what can be wrong there.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// Where an item begins, or, in a file of blocks, the block that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// In bytes from the beginning.
    pub offset: u64,
    /// The number of its line, from 1; in a file of blocks how many items are before it.
    pub number: u64,
}

/// A place as people look for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spot {
    /// A line, from 1.
    Line(u64),
    /// A block, by the offset of its first byte.
    Block(u64),
}

/// Why there is no next item.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// This item is wrong, and the one after it can be read.
    #[error("{at}: {why}")]
    Item {
        /// Where it is.
        at: Spot,
        /// What is wrong with it.
        why: String,
    },
    /// From here on nothing can be read.
    #[error("{at}: {why}")]
    File {
        /// Where it is.
        at: Spot,
        /// What is wrong.
        why: String,
    },
    /// The bytes themselves cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl Place {
    /// Where a file of lines begins.
    pub const FIRST: Self = Self { offset: 0, number: 1 };
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Block(offset) => write!(f, "the block at byte {offset}"),
        }
    }
}
