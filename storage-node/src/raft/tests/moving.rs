//! A group moves from one node to another.

use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::RaftLogStorage;
use placement::{Bucket, ReplicaId, TableId};

use super::eventually;
use super::site::{GROUP, Site, all_equal, dump, places, voters, write};
use crate::raft::network::tests::node::{Book, node_id};
use crate::storage::keys;
use crate::storage::state::{Changes, RocksState, RocksStateOptions, StateEngine};

/// More than are kept for followers a little behind.
const WRITES: usize = 1_200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_moves_by_snapshot_and_leaves_its_neighbours_alone() {
    let book = Arc::new(Book::default());
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let engine = |at: usize| -> Arc<dyn StateEngine> {
        RocksState::open(&folders[at].path().join("state"), RocksStateOptions::default()).unwrap()
    };
    let old = Site::start(1, &book, engine(0)).await;
    old.group.initialize(places([1])).await.unwrap();
    for number in 0..WRITES {
        write(&old, &format!("key-{}", number % 700), &format!("value-{number}")).await;
    }

    // As the node's collector does it: mark, flush, record.
    let pinned = old.group.pin();
    let flushed = old.group.mark(&pinned).unwrap();
    let upto = flushed.meta.last_log_id.unwrap().index();
    write(&old, "after the mark", "x").await;
    old.engine.flush().unwrap();
    old.group.note_flushed(flushed).await;
    let purged = || {
        let mut store = old.log.store(GROUP, ReplicaId(1)).unwrap();
        futures::executor::block_on(store.get_log_state()).unwrap().last_purged_log_id
    };
    eventually("the log is purged", || purged().is_some()).await;
    assert!(purged().unwrap().index() <= upto, "no further than what is flushed");

    // The new node holds something of other tables, and leftovers where the group will be.
    let target = engine(1);
    let neighbour = keys::item(TableId(2), Bucket(0), b"neighbour");
    let leftover = keys::item(TableId(1), Bucket(3), b"leftover");
    let mut changes = Changes::default();
    changes.put(neighbour.clone(), Bytes::from_static(b"stays"));
    changes.put(leftover.clone(), Bytes::from_static(b"goes"));
    target.write(changes).unwrap();
    let new = Site::start(2, &book, target).await;
    old.group.add_learner(ReplicaId(2), node_id(2)).await.unwrap();
    let sites = [old, new];
    all_equal(&sites).await;
    assert!(sites[1].node.received.read().snapshot_bytes_received > 0, "it came as a snapshot");
    assert_eq!(dump(&sites[0].group), dump(&sites[1].group));
    assert_eq!(sites[1].engine.get(&neighbour).unwrap().unwrap(), "stays");
    assert_eq!(sites[1].engine.get(&leftover).unwrap(), None);

    sites[0].group.set_voters(voters([1, 2])).await.unwrap();
    sites[0].group.transfer_leader(ReplicaId(2)).await.unwrap();
    eventually("the new replica leads", || sites[1].group.lease_holds()).await;
    sites[1].group.set_voters(voters([2])).await.unwrap();
    sites[0].group.stop().await;
    write(&sites[1], "key-0", "from the new one").await;
    assert_eq!(sites[1].value("key-0").unwrap(), "from the new one");
    assert_eq!(sites[1].value("after the mark").unwrap(), "x");
}
