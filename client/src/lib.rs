//! The Rust client: it keeps the partition map, asks the leader of a key directly, and
//! sends again what may be sent again.
//!
//! ```text
//!   Table / Batch / Txn / Scan / Query / Watch / Pipeline / Admin      what a program calls
//!        │
//!        ▼
//!   attempts ──where──▶ route (the map) ──▶ channels ──▶ a node
//!        ▲                    ▲                           │
//!        └── retry: what now? ┴───── what went wrong ◀────┘
//! ```
//!
//! Start reading in [`retry`]: it is the one place that decides what happens after a
//! failure, and it is pure. What it guarantees: a write is never applied twice, a write
//! whose outcome is not known is reported as [`Error::OutcomeUnknown`] and as nothing else,
//! and a write that was certainly not done is never reported as unknown.
//!
//! Outcomes such as "no such key" or "the condition did not hold" are values, not errors.

mod admin;
mod attempts;
mod batch;
mod channels;
mod client;
mod core;
mod error;
mod follower;
mod operation;
mod options;
mod pages;
mod pipeline;
mod query;
pub mod retry;
mod route;
mod scan;
mod sequence;
mod table;
mod txn;
mod watch;

pub use admin::Admin;
pub use batch::BatchOutcome;
pub use client::Client;
pub use error::Error;
pub use operation::{Answer, Condition, GetOptions, Operation, Patch, PutOptions};
pub use options::Options;
pub use pipeline::{Pending, Pipeline};
pub use proto::v1::{
    ContentKind, DeleteResponse, Event, Item, ModifyResponse, PutResponse, event::Kind as EventKind,
};
pub use query::{Query, QueryOptions, Wanted};
pub use scan::{Page, Scan, ScanOptions};
pub use table::Table;
pub use txn::{Compare, Txn, TxnOutcome};
pub use watch::{Changes, Interest, Keys, Watch, WatchOptions};

/// What a call gives, or why it does not.
pub type Result<T> = std::result::Result<T, Error>;
