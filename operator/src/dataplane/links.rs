//! A link to each cluster, and a follower of its map. The follower is what lets the operator be
//! quiet: it looks at a cluster when the cluster says that something changed.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use client::Error;
use futures::StreamExt;
use parking_lot::Mutex;
use placement::NodeId;
use proto::v1::MapResponse;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::ask::Link;

/// How long to wait before a stream that ended is opened again.
const REOPEN: Duration = Duration::from_secs(2);
/// A stream that says nothing for this long is dead: a node speaks every five seconds.
const SILENT: Duration = Duration::from_secs(15);

/// Which `KVCluster` is meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Where {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The links to all clusters. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Links {
    open: Arc<Mutex<BTreeMap<Where, Open>>>,
    changed: mpsc::Sender<Where>,
}

#[derive(Debug)]
struct Open {
    endpoints: Vec<String>,
    link: Link,
    /// Nodes that were seen to be removed. A tombstone is for ever, so it need be seen once.
    removed: BTreeSet<NodeId>,
    follower: Option<JoinHandle<()>>,
}

impl Links {
    /// No links yet. Whoever holds the receiver hears which clusters have changed. What does
    /// not fit is left out, because a look at that cluster is waiting already.
    pub fn new() -> (Self, mpsc::Receiver<Where>) {
        let (changed, hear) = mpsc::channel(1024);
        (Self { open: Arc::default(), changed }, hear)
    }

    /// The link to a cluster whose pods have these gRPC addresses.
    pub fn to(&self, which: &Where, endpoints: Vec<String>) -> Result<Link, Error> {
        let mut open = self.open.lock();
        if let Some(known) = open.get(which).filter(|known| known.endpoints == endpoints) {
            return Ok(known.link.clone());
        }
        let link = Link::new(endpoints.clone())?;
        let before = open.remove(which);
        let (removed, follows) = before.map_or_else(Default::default, |mut before| {
            (std::mem::take(&mut before.removed), before.follower.is_some())
        });
        let follower = follows.then(|| self.spawn(which, &link));
        open.insert(which.clone(), Open { endpoints, link: link.clone(), removed, follower });
        Ok(link)
    }

    /// The link that is open to a cluster.
    pub fn open_to(&self, which: &Where) -> Option<Link> {
        self.open.lock().get(which).map(|open| open.link.clone())
    }

    /// Follows a cluster that exists, if it is not followed yet.
    pub fn follow(&self, which: &Where) {
        if let Some(open) = self.open.lock().get_mut(which)
            && open.follower.as_ref().is_none_or(JoinHandle::is_finished)
        {
            open.follower = Some(self.spawn(which, &open.link.clone()));
        }
    }

    /// Which of these nodes were removed.
    pub async fn removed(&self, which: &Where, nodes: BTreeSet<NodeId>) -> Result<BTreeSet<NodeId>, Error> {
        let known = self.open.lock().get(which).map(|open| (open.link.clone(), open.removed.clone()));
        let Some((link, mut removed)) = known else { return Ok(BTreeSet::new()) };
        removed.retain(|node| nodes.contains(node));
        for node in nodes {
            if !removed.contains(&node) && link.was_removed(node).await? {
                removed.insert(node);
            }
        }
        if let Some(open) = self.open.lock().get_mut(which) {
            open.removed.extend(&removed);
        }
        Ok(removed)
    }

    /// Forgets a cluster that is gone.
    pub fn forget(&self, which: &Where) {
        self.open.lock().remove(which);
    }

    fn spawn(&self, which: &Where, link: &Link) -> JoinHandle<()> {
        tokio::spawn(follow(which.clone(), link.clone(), self.changed.clone()))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(follower) = self.follower.take() {
            follower.abort();
        }
    }
}

/// Says that a cluster has changed whenever its map did.
async fn follow(which: Where, link: Link, changed: mpsc::Sender<Where>) {
    let mut last = None;
    loop {
        match link.admin().follow_map().await {
            Ok(maps) => {
                let mut maps = std::pin::pin!(maps);
                while let Ok(Some(Ok(map))) = tokio::time::timeout(SILENT, maps.next()).await {
                    let now = Some(digest(&map));
                    if last.is_some() && last != now {
                        // Full: a look at everything is waiting already.
                        let _ = changed.try_send(which.clone());
                    }
                    last = now;
                }
                // Whoever spoke is gone or hangs.
                let _ = changed.try_send(which.clone());
            }
            Err(error) => tracing::debug!(cluster = %which.name, %error, "the map cannot be followed now"),
        }
        if changed.is_closed() {
            return;
        }
        tokio::time::sleep(REOPEN).await;
    }
}

/// What of a map concerns the operator: who leads is left out, since it changes by itself.
fn digest(map: &MapResponse) -> u64 {
    let mut hasher = DefaultHasher::new();
    map.cluster.hash(&mut hasher);
    map.revision.hash(&mut hasher);
    hasher.finish()
}
