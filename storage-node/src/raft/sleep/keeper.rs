//! Looks after the sleep of all replicas of a node.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};

use crate::raft::Groups;

/// How often every replica is looked at; a leader's death is noticed that much later.
const LOOK: Duration = Duration::from_millis(100);
const AT_ONCE: usize = 32;

/// Puts groups to sleep and wakes those whose leader is gone, for as long as it is polled.
pub async fn keep(groups: Arc<Groups>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let all = groups.all();
        stream::iter(&all).for_each_concurrent(AT_ONCE, |group| group.sleep().look()).await;
    }
}
