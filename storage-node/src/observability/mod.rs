//! What a node tells about itself: log lines for people, figures for machines.

pub mod logging;
pub mod metrics;
pub mod slow;
