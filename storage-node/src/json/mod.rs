//! What a node does with values that are JSON: follows paths into them, and patches them where
//! they are applied.
//!
//! Values are never taken apart and put together again: they are checked, walked through as text
//! ([`text`]), and what a patch does not touch keeps its bytes ([`tree`]).

pub mod equal;
pub mod filter;
pub mod json_patch;
pub mod merge_patch;
pub mod number;
pub mod patch;
pub mod path;
pub mod pointer;
pub mod projection;
pub mod schema;
pub mod text;
pub mod tree;
