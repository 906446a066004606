//! Who asks for an operation, through which door, and until when they wait.

use std::time::Duration;

use tokio::time::Instant;

use crate::observability::traces::Trace;
use crate::seams::clock;

/// A way into a node; the label `door`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// gRPC.
    Grpc,
    /// REST.
    Http,
    /// The Redis protocol, any key.
    Redis,
    /// The Redis protocol for clients that know of a cluster.
    RedisCluster,
    /// Lines of text.
    Text,
}

impl Door {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 5] = [Self::Grpc, Self::Http, Self::Redis, Self::RedisCluster, Self::Text];

    /// Its name as a label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
            Self::Redis => "redis",
            Self::RedisCluster => "redis-cluster",
            Self::Text => "text",
        }
    }
}

/// Who asks, and until when they wait.
#[derive(Debug, Clone)]
pub struct Context {
    /// Who asks; nobody has a name yet.
    pub caller: Caller,
    /// The door that they came in by.
    pub door: Door,
    /// When they stop waiting.
    pub deadline: Instant,
    /// The trace that it belongs to.
    pub trace: Trace,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Anybody.
    Anonymous,
}

impl Context {
    /// Somebody who waits for so long.
    pub fn within(door: Door, patience: Duration) -> Self {
        let deadline = clock::now() + patience;
        Self { caller: Caller::Anonymous, door, deadline, trace: Trace::None }
    }

    /// The same for a trace.
    #[must_use]
    pub fn in_trace(self, trace: Trace) -> Self {
        Self { trace, ..self }
    }

    /// The same until then.
    #[must_use]
    pub fn until(self, deadline: Instant) -> Self {
        Self { deadline, ..self }
    }

    /// What is left.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(clock::now())
    }
}
