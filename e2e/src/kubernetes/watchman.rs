//! Sees every pod and claim of a cluster that is deleted, and asks at once whether it might be.
//!
//! A pod that will not come back may go when its node was removed. One that comes back may go when
//! all other pods are ready. A claim may go when the node whose data it holds was removed. A removed
//! node never returns, so asking just after a deletion tells how it was before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context as _;
use crds::annotations::NODE_ID;
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use tokio::task::JoinSet;

use super::{pods, witness::Witness};
use crate::history::guarded::Guarded;

/// What the watchman saw.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// What was deleted, in order.
    pub deleted: Vec<String>,
    /// What should not have been, or not yet.
    pub early: Vec<String>,
}

/// A watchman on his round.
pub struct Watchman {
    seen: Arc<Guarded<Seen>>,
    /// Ends with the watchman.
    _rounds: JoinSet<()>,
}

impl Watchman {
    /// Watches the storage pods and the claims of a cluster.
    pub fn begin(client: &Client, namespace: &str, cluster: &str, witness: &Witness) -> Self {
        let seen = Arc::new(Guarded::default());
        let mut rounds = JoinSet::new();
        let round = Round {
            cluster: cluster.to_owned(),
            sets: Api::namespaced(client.clone(), namespace),
            witness: witness.clone(),
            seen: Arc::clone(&seen),
        };
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
        rounds.spawn(round.clone().pods(pods));
        rounds.spawn(round.claims(claims));
        Self { seen, _rounds: rounds }
    }

    /// What was seen up to now.
    pub fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }

    /// That nothing was deleted early, and that something was deleted at all.
    pub fn was_content(&self) -> anyhow::Result<()> {
        let seen = self.seen();
        anyhow::ensure!(seen.early.is_empty(), "deleted too early: {}", seen.early.join("; "));
        anyhow::ensure!(!seen.deleted.is_empty(), "the watchman saw nothing at all");
        Ok(())
    }
}

#[derive(Clone)]
struct Round {
    cluster: String,
    sets: Api<StatefulSet>,
    witness: Witness,
    seen: Arc<Guarded<Seen>>,
}

impl Round {
    fn labels(&self, more: &str) -> watcher::Config {
        watcher::Config::default().labels(&format!("app.kubernetes.io/instance={}{more}", self.cluster))
    }

    async fn pods(self, api: Api<Pod>) {
        let mut ready: BTreeMap<String, bool> = BTreeMap::new();
        let mut going = BTreeSet::new();
        let labels = self.labels(",app.kubernetes.io/component=storage");
        let mut events = Box::pin(watcher(api, labels).default_backoff());
        while let Some(event) = events.next().await {
            let Some((pod, gone)) = news(event) else { continue };
            let name = pod.name_any();
            if goes(&pod, gone) && going.insert(pod.uid().unwrap_or_default()) {
                let unready: Vec<String> = ready
                    .iter()
                    .filter(|(other, ready)| **other != name && !**ready)
                    .map(|(other, _)| other.clone())
                    .collect();
                self.seen.lock().deleted.push(format!("pod {name}"));
                if let Err(why) = self.judge_pod(&name, &unready).await {
                    self.seen.lock().early.push(format!("pod {name}: {why:#}"));
                }
            }
            if gone {
                ready.remove(&name);
            } else {
                ready.insert(name, pods::is_ready(&pod));
            }
        }
    }

    async fn claims(self, api: Api<PersistentVolumeClaim>) {
        let mut going = BTreeSet::new();
        let mut events = Box::pin(watcher(api, self.labels("")).default_backoff());
        while let Some(event) = events.next().await {
            let Some((claim, gone)) = news(event) else { continue };
            if goes(&claim, gone) && going.insert(claim.uid().unwrap_or_default()) {
                let name = claim.name_any();
                self.seen.lock().deleted.push(format!("claim {name}"));
                if let Err(why) = self.judge_claim(&claim).await {
                    self.seen.lock().early.push(format!("claim {name}: {why:#}"));
                }
            }
        }
    }

    /// Why a pod should not have been deleted.
    async fn judge_pod(&self, name: &str, unready: &[String]) -> anyhow::Result<()> {
        if self.comes_back(name).await? {
            anyhow::ensure!(unready.is_empty(), "while {} were not ready", unready.join(", "));
            return Ok(());
        }
        let cluster = self.witness.cluster().await.context("nobody knows whether its node was removed")?;
        let state = cluster.node(name).map_or("REMOVED", |node| node.state.as_str());
        anyhow::ensure!(state == "REMOVED", "it does not come back, and its node is {state}");
        Ok(())
    }

    /// Whether the pod's `StatefulSet` makes it anew.
    async fn comes_back(&self, name: &str) -> anyhow::Result<bool> {
        let (set, ordinal) = name.rsplit_once('-').context("its name has no number")?;
        let ordinal: i32 = ordinal.parse().context("its name has no number")?;
        let set = self.sets.get_opt(set).await.context("nobody knows whether it comes back")?;
        Ok(set.and_then(|set| set.spec?.replicas).is_some_and(|replicas| ordinal < replicas))
    }

    /// Why a claim should not have been deleted.
    async fn judge_claim(&self, claim: &PersistentVolumeClaim) -> anyhow::Result<()> {
        let node = claim.labels().get(NODE_ID).context("nobody knew whose data it holds")?;
        let cluster = self.witness.cluster().await.context("nobody knows whether its node was removed")?;
        let holder = cluster.nodes.iter().find(|other| other.id == *node);
        let state = holder.map_or("REMOVED", |node| node.state.as_str());
        anyhow::ensure!(state == "REMOVED", "its node {node} is {state}");
        Ok(())
    }
}

fn news<K>(event: watcher::Result<Event<K>>) -> Option<(K, bool)> {
    match event {
        Ok(Event::Apply(object) | Event::InitApply(object)) => Some((object, false)),
        Ok(Event::Delete(object)) => Some((object, true)),
        // A watch that breaks begins again by itself, with all objects that are there.
        Ok(Event::Init | Event::InitDone) | Err(_) => None,
    }
}

fn goes<K: Resource>(object: &K, gone: bool) -> bool {
    gone || object.meta().deletion_timestamp.is_some()
}
