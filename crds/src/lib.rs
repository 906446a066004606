//! The resources that people declare, and the definitions by which Kubernetes knows them.
//!
//! ```text
//!     cluster.rs  KVCluster ─┬─ cluster/pool.rs      storage nodes that are alike
//!                            ├─ cluster/doors.rs     how applications come in
//!                            ├─ cluster/engine.rs    how nodes use memory and disk
//!                            ├─ cluster/policies.rs  what may be done when
//!                            └─ cluster/status.rs    how it is
//!     table.rs    KVTable   ─── table/status.rs
//!                    │
//!                    ▼
//!     definitions.rs ──▶ kvclusters.yaml, kvtables.yaml      (generated, beside this crate's Cargo.toml)
//! ```
//!
//! A field's comment is what `kubectl explain` shows, its default is in the schema, and the rules
//! that bind it stand beside it, so that the API server refuses what cannot be. Rules cost the API
//! server time, and it refuses a definition whose rules might cost too much: whatever a rule looks
//! at is bounded by `maxItems`, `maxProperties` or `maxLength`.
//!
//! `spec.tls` and `spec.auth` are names kept free for later. Fields are only ever added.

#![expect(clippy::doc_markdown, reason = "comments of fields are shown by kubectl explain, as plain text")]
#![expect(clippy::duplicated_attributes, reason = "several columns of one type are no mistake")]

pub mod annotations;
pub mod byte_quantity;
pub mod cluster;
pub mod conditions;
pub mod definitions;
pub mod switch;
pub mod table;
pub mod time_span;

pub use byte_quantity::{BadByteQuantity, ByteQuantity};
pub use cluster::{KVCluster, KVClusterSpec, KVClusterStatus};
pub use switch::Switch;
pub use table::{KVTable, KVTableSpec, KVTableStatus};
pub use time_span::{BadTimeSpan, TimeSpan};

/// The group of both kinds.
pub const GROUP: &str = "kv.trilith.dev";
/// Their version.
pub const VERSION: &str = "v1alpha1";
