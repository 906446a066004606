//! What a program may set about a client.

use std::time::Duration;

/// How a client behaves. The defaults suit a service in the cluster's own network.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long one call may take, all attempts together, unless the call says otherwise.
    pub deadline: Duration,
    /// How long one attempt may take before another node is asked. A call that has no
    /// more than one attempt to make gets its whole deadline.
    pub attempt_timeout: Duration,
    /// How long opening a connection may take.
    pub connect_timeout: Duration,
    /// HTTP/2 connections to each node, from 1 to 4. One is enough until a core of the
    /// client is busy with it.
    pub connections_per_node: usize,
    /// Operations of one pipeline that may be unanswered at a time; more wait.
    pub max_in_flight: usize,
    /// Whether to follow the partition map in the background. Without it every node still
    /// answers, by forwarding, which is what a program wants that makes one call and ends.
    pub follow_map: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            attempt_timeout: Duration::from_secs(3),
            connect_timeout: Duration::from_secs(1),
            connections_per_node: 1,
            max_in_flight: 1024,
            follow_map: true,
        }
    }
}
