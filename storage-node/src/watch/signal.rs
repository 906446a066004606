//! How a watch is told which of its partitions have something for it.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use placement::PartitionId;
use tokio::sync::Notify;

/// The partitions that have something, until the watch takes them.
#[derive(Debug, Default)]
pub struct Signal {
    ready: Mutex<BTreeSet<PartitionId>>,
    raised: Notify,
}

impl Signal {
    /// That partition has something, or may have.
    pub fn raise(&self, partition: PartitionId) {
        if self.ready.lock().insert(partition) {
            self.raised.notify_one();
        }
    }

    /// Those that have; waits until there is one.
    pub async fn take(&self) -> BTreeSet<PartitionId> {
        loop {
            let ready = std::mem::take(&mut *self.ready.lock());
            if !ready.is_empty() {
                return ready;
            }
            self.raised.notified().await;
        }
    }
}
