//! Raft groups. Nothing above this module names openraft.

pub mod entry;
pub mod type_config;
