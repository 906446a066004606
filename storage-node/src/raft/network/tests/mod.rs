//! Nodes in one process, over real connections.

mod exchange;
mod memory;
pub(in crate::raft) mod node;
mod replicas;
mod restart;
mod snapshot;

use std::time::Duration;

use crate::seams::clock;

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until a condition holds.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = clock::now() + DEADLINE;
    while !holds() {
        assert!(clock::now() < deadline, "{what} within {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
