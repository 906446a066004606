//! What a node tells about itself: log lines for people, figures and traces for machines.

pub mod logging;
pub mod metrics;
pub mod slow;
pub mod traces;
