//! Follows the partition map in the background, from whichever node answers.

use std::sync::{Arc, Weak};
use std::time::Duration;

use proto::v1::MapRequest;
use tokio::task::JoinHandle;

use crate::core::{Core, admin_client};
use crate::retry::pause;
use crate::route::Address;

/// The background task; it ends with the last handle of the client.
#[derive(Debug)]
pub(crate) struct Follower {
    task: JoinHandle<()>,
}

impl Follower {
    /// Starts following.
    pub(crate) fn start(core: &Arc<Core>) -> Self {
        Self { task: tokio::spawn(follow(Arc::downgrade(core))) }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(core: Weak<Core>) {
    let mut failed = 0;
    let mut last: Option<Address> = None;
    loop {
        let Some(address) = core.upgrade().and_then(|core| core.any(last.as_ref())) else {
            return;
        };
        match follow_one(&core, &address).await {
            Ok(()) => failed = 0,
            Err(why) => {
                failed += 1;
                tracing::debug!(%address, why, "lost the partition map's stream");
            }
        }
        last = Some(address);
        // A stream that ended is opened again after a moment as well, or all clients of a
        // node that stops would come to the next one at once.
        tokio::time::sleep(pause(failed + 1, rand::random()) + Duration::from_millis(10)).await;
    }
}

async fn follow_one(core: &Weak<Core>, address: &Address) -> Result<(), String> {
    let channel = match core.upgrade().map(|core| core.channels.get(address)) {
        Some(Ok(channel)) => channel,
        Some(Err(error)) => return Err(error.to_string()),
        None => return Ok(()),
    };
    let opened = admin_client(channel).map(MapRequest { follow: true }).await;
    let mut pages = opened.map_err(|status| fail(core, address, &status))?.into_inner();
    while let Some(map) = pages.message().await.map_err(|status| fail(core, address, &status))? {
        match core.upgrade() {
            Some(core) => core.learn_map(&map),
            None => break,
        }
    }
    Ok(())
}

fn fail(core: &Weak<Core>, address: &Address, status: &tonic::Status) -> String {
    if let Some(core) = core.upgrade() {
        core.channels.suspect(address);
    }
    status.message().to_owned()
}
