//! What any operator needs around its decisions: the API server, whose turn it is, what is told
//! to people and to monitoring.
//!
//! ```text
//!   backoff.rs  whoever fails is tried again later and later
//!   caches.rs   one watch (watch.rs) for each kind; what is read is read from here
//!   objects.rs  objects are applied when they differ from what was declared for them
//!   lease.rs    one of several operators acts
//!   events.rs   every step is told
//!   figures.rs  what always moves is told now and then
//!   metrics.rs  counts, http.rs shows them and says whether the process is well
//! ```

pub mod backoff;
pub mod caches;
pub mod events;
pub mod figures;
pub mod http;
pub mod lease;
pub mod logs;
pub mod metrics;
pub mod objects;
pub mod watch;
