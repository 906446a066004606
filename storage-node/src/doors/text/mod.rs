//! Lines of text, for netcat, scripts and whoever has nothing better.
//!
//! ```text
//!   PUT|key|value         OK
//!   GET|key               OK|value   NOT_FOUND
//!   DELETE|key            OK   NOT_FOUND
//!   RANGE|first|end       OK|n, then n lines key|value; without the end, empty: open
//!   BATCH|k1|v1|k2|v2…    OK; each pair by itself
//!   PING                  PONG
//!   CLUSTER_STATUS        OK|n, then n lines name|value
//!   CLUSTER_NODES         OK|n, then n lines, a node each
//!   CLUSTER_LEADER        OK|name|address
//!                         ERROR|code|message, of any of them
//! ```
//!
//! Each line is answered, in order; lines may be sent without waiting for answers, and act as
//! if each were done before the next. The table is `default`.
//!
//! Start reading in [`conversation`]. [`line`] and [`command`] are pure and depend on nothing of
//! this crate, so that they can be fuzzed without it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::conversation::{Conversation, Rules};
use crate::config::NodeConfig;
use crate::doors::Operations;
use crate::doors::connections::{self, Connections, Listener};

pub mod answer;
pub mod cluster;
pub mod command;
pub mod conversation;
pub mod held;
pub mod line;
pub mod range;
pub mod store;
pub mod window;

#[cfg(test)]
mod tests;

/// What a line takes beside keys and values: its command and what stands between.
const ROOM_BESIDE: usize = 4 << 10;

impl Rules {
    /// What a node was told.
    pub fn of(config: &NodeConfig) -> Self {
        let timeout = config.doors.connection_idle_timeout;
        Self {
            // The largest batch fits; a key or a value that is too long in itself is refused
            // with its own limit.
            line_bytes: config.limits.max_batch_bytes + ROOM_BESIDE,
            line_fields: 1 + 2 * config.limits.max_batch_operations,
            idle_timeout: (timeout > Duration::ZERO).then_some(timeout),
        }
    }
}

/// Serves until it is told to stop, and then answers what has begun.
pub async fn serve(
    listener: Listener,
    operations: Operations,
    connections: Arc<Connections>,
    rules: Rules,
    stop: CancellationToken,
) {
    let (door, ending) = (operations.door(), stop.clone());
    let converse =
        move |stream, slot| Conversation::new(stream, slot, rules, operations.clone()).run(ending.clone());
    connections::serve(listener, door, connections, answer::TOO_MANY_CONNECTIONS, stop, converse).await;
}
