//! The end of a process that cannot vouch for its data any longer.

use std::fmt::Display;

/// Says what happened and stops at once, without flushing: a disk that failed once is not
/// asked to take anything more, and nothing that is in doubt is served.
pub fn stop(what: &str, why: &dyn Display) -> ! {
    tracing::error!(error = %why, "{what}; this node stops, because it can no longer vouch for its data");
    std::process::abort()
}
