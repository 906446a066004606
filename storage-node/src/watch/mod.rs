//! Following what changes.
//!
//! ```text
//!   apply ─▶ Feed ─▶ its dispatcher looks each change up once ─▶ a queue for each interest
//!              │                                                      │
//!              └ nobody follows: nothing is done                      ▼
//!   history on disk ────────────▶ Leg: what one partition has for one watch ─▶ Watch ─▶ a door
//!      (whoever fell behind)
//! ```
//!
//! A watch pulls. What it does not take in time it reads from history later, so however slow it
//! is, no write waits for it, and what is kept for it in memory is bounded. Where it stands is one
//! revision for each run of buckets, and nothing of nodes, so it goes on anywhere.
//!
//! Start reading in [`table`]; [`leg`] is where the two ways of reading meet.

pub mod away;
pub mod feed;
pub mod history;
pub mod interest;
pub mod leg;
pub mod signal;
pub mod table;
pub mod token;

pub use feed::Feed;
pub use table::{SINCE_VERSION, Watch};
