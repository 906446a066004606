//! From an operation to the partition that does it.
//!
//! ```text
//!   door ─▶ limits ─▶ table ─▶ slot ─▶ partition ─┬─ led here ─▶ group
//!                                                 └─ elsewhere ─▶ the leader's node, which never
//!                                                                 passes it on again
//! ```
//!
//! Any node takes any operation. What was definitely not done is tried again until the
//! caller's deadline; a write whose outcome is in doubt is reported so. Start reading in
//! [`operations`].

pub mod admission;
mod asked;
pub mod context;
pub mod cursor;
pub mod doorway;
pub mod failure;
pub mod limits;
pub mod local;
pub mod moments;
mod newer;
pub mod newest;
pub mod operations;
mod pages;
pub mod query;
mod query_cursor;
pub mod scan;
pub mod scatter;
mod touch;
pub mod whole_table;

pub use admission::Admission;
pub use context::Context;
pub use limits::Limits;
pub use newest::NewestMap;
pub use operations::Router;
