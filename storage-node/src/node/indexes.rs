//! Builds the indexes of the partitions that this node leads.

use std::sync::Arc;
use std::time::Duration;

use placement::PartitionId;

use crate::raft::Groups;
use crate::router::Router;
use crate::seams::clock;
use crate::watch::SINCE_VERSION;

const LOOK: Duration = Duration::from_millis(100);
/// After each step there is a pause at least so long.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// Goes on for ever: one step at a time on this node, and then a pause as long as the step took, so that
/// a build takes at most half of what there is. What is done is in the partition's state, so whoever
/// leads next goes on from there.
pub async fn build(router: Arc<Router>, groups: Arc<Groups>) {
    loop {
        let may = router.map().cluster_version() >= SINCE_VERSION;
        let building = groups.all().into_iter().filter(|group| {
            may && group.group != PartitionId::META && group.applied().building().is_some() && group.leads()
        });
        let mut worked = false;
        for group in building {
            let began = clock::now();
            match group.build_index().await {
                Ok(()) => worked = true,
                Err(error) => {
                    tracing::debug!(partition = %group.group, %error, "an index was not built further");
                }
            }
            tokio::time::sleep(began.elapsed().max(SHORTEST_PAUSE)).await;
        }
        if !worked {
            tokio::time::sleep(LOOK).await;
        }
    }
}
