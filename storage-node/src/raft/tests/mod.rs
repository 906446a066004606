//! Replicas as a node runs them: real logs, states and connections, in one process.

mod crash;
mod lifecycle;
mod machine;
mod moving;
mod site;
mod sleeping;
mod splitting;
mod start;
mod suite;

use std::time::Duration;

use openraft::Config;

use crate::seams::clock;

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

tokio::task_local! {
    /// Whether replicas that are started in this task go on leading where they led before:
    /// what [`crash`] shows to be wrong.
    static LEADERS_ARE_RESTORED: bool;
}

/// The configuration of a replica, as far as a test changes it.
pub(super) fn as_the_test_wants(config: Config) -> Config {
    let restored = LEADERS_ARE_RESTORED.try_with(|restored| *restored).ok();
    Config { enable_leader_restore: restored.or(config.enable_leader_restore), ..config }
}

/// Waits until a condition holds.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = clock::now() + DEADLINE;
    while !holds() {
        assert!(clock::now() < deadline, "{what} within {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
