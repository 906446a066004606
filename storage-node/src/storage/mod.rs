//! What is on disk: the log of all groups, and the state that it leads to.

pub mod change;
pub mod item;
pub mod keys;
pub mod log;
pub mod state;
