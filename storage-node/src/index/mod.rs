//! What items can be found by besides their key.
//!
//! ```text
//!   declared   name, path, type ─▶ [`definition`]
//!   item's JSON ─▶ [`extract`] one pass, all indexes ─▶ [`value`] bytes in the order of the values
//!   question ─▶ [`bounds`] runs of such bytes
//! ```
//!
//! Nothing here reads or writes a state: keeping indexes is `partition::indexes`, asking them
//! `partition::query`.

pub mod bounds;
pub mod definition;
pub mod extract;
pub mod plan;
pub mod timestamp;
pub mod value;

pub use bounds::Run;
pub use definition::Definition;
pub use value::Value;
