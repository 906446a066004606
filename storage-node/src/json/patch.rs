//! What changes of a value by a patch have in common.

use thiserror::Error;

use super::text::{DEEPEST, NotJson};
use super::tree::Tree;

/// What a value may become.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The longest it may become, on the way as well.
    pub most_bytes: usize,
}

/// Why a patch was not done. Nothing of it was then.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PatchError {
    /// There is no such key.
    #[error("there is no such key, and a JSON patch changes what is there")]
    NoSuchKey,
    /// What is there is no JSON.
    #[error("the value is not JSON: {0}")]
    NotJson(NotJson),
    /// A path leads nowhere.
    #[error("operation {operation} ({what}) cannot be done: {why}")]
    NoSuchPath {
        /// Which, counted from 0.
        operation: usize,
        /// Its name and path.
        what: String,
        /// What is missing.
        why: String,
    },
    /// A value is not the one that a `test` names.
    #[error("operation {operation} (test {path}) does not hold: the value there is another")]
    TestFailed {
        /// Which, counted from 0.
        operation: usize,
        /// Where.
        path: String,
    },
    /// The value would be too long.
    #[error("the value would become longer than values may be")]
    TooLong,
    /// The value would have too many levels.
    #[error("the value would have more than {DEEPEST} levels")]
    TooDeep,
    /// It would hold others up.
    #[error("the patch takes too much work on a value of this length: do it by several")]
    TooMuchWork,
}

impl Bounds {
    /// The value as it is written, if it may become so.
    pub fn written(self, tree: &Tree<'_>) -> Result<Vec<u8>, PatchError> {
        let extent = tree.extent();
        if extent.bytes > self.most_bytes {
            return Err(PatchError::TooLong);
        }
        if extent.depth > DEEPEST {
            return Err(PatchError::TooDeep);
        }
        let mut out = Vec::with_capacity(extent.bytes);
        tree.write(&mut out);
        Ok(out)
    }
}
