//! What is asked once more, just before something is done that cannot be undone.
//!
//! A plan rests on caches that may be a moment old. The data plane is asked whether what a pod or a claim holds
//! is still needed; the API server, whether the pods are still as they were seen. Whatever turns out to be
//! otherwise ends the plan, and the next look decides anew.

use k8s_openapi::api::core::v1 as core;
use kube::Api;
use kube::api::ListParams;
use placement::NodeId;

use super::{Hands, HeldBy, Taken, api_server, caution, data_plane, news};
use crate::cluster::objects::{labels, names};
use crate::cluster::observe;
use crate::cluster::observed::{Identity, Pod, Seat};
use crate::cluster::plan::Gate;
use crate::dataplane::{Answered, Verdict};

impl Hands<'_> {
    /// Whether a pod may be deleted, for its `StatefulSet` to make it anew.
    pub(super) async fn may_restart(&self, pod: &str, uid: &str, gate: Gate) -> Taken {
        match gate {
            Gate::NeverRan => match self.now(pod).await? {
                Some(now) if now.uid == uid && now.never_ran => Ok(()),
                _ => Err(news(format!("{pod} has started meanwhile."))),
            },
            Gate::BelongsToNobody => {
                let address = self.is_where_it_was(pod).await?;
                match self.link()?.who(&address).await.map_err(data_plane)? {
                    Answered::Nobody => Ok(()),
                    Answered::Node(..) => Err(news(format!("{pod} has joined meanwhile."))),
                }
            }
            Gate::CanRestart { node, with_leaders, single_replica } => {
                let link = self.link()?;
                if !with_leaders {
                    let kept = link.leaders_kept(node, single_replica).await.map_err(data_plane)?;
                    if kept > 0 {
                        return Err(caution(format!("It still leads {kept} groups.")));
                    }
                }
                // Another pod may be ending although the cache and the data plane show it as well.
                self.pods_are_as_seen().await?;
                match link.can_restart(node, single_replica).await.map_err(data_plane)? {
                    Verdict::Yes => Ok(()),
                    Verdict::No(why) => Err(caution(why)),
                }
            }
        }
    }

    /// Nobody needs what a claim holds: the node that it is labelled with was removed, and none of its pod's
    /// name exists, because a label may be old.
    pub(super) async fn claim_is_nobodys(&self, claim: &str, node: Option<NodeId>) -> Taken {
        if let Some(node) = node {
            self.was_removed(node).await?;
        }
        let pod = claim.strip_prefix(names::DATA).and_then(|rest| rest.strip_prefix('-')).unwrap_or(claim);
        self.no_node_is_named(pod).await
    }

    /// Nobody needs the pod at a seat.
    pub(super) async fn seat_is_empty(&self, seat: &Seat) -> Taken {
        let observed = &self.found.observed;
        if !observed.was_created() {
            return Ok(());
        }
        let living = match observed.pod(seat).map(|pod| pod.identity) {
            Some(Identity::Node(node)) => Some(node),
            Some(Identity::Nobody) => None,
            _ => observed.claim(seat).and_then(|claim| claim.node),
        };
        if let Some(node) = living {
            self.was_removed(node).await?;
        }
        self.no_node_is_named(&names::pod(&self.name(), &seat.pool, seat.ordinal)).await
    }

    pub(super) async fn was_removed(&self, node: NodeId) -> Taken {
        match self.link()?.was_removed(node).await.map_err(data_plane)? {
            true => Ok(()),
            false => Err(caution(format!("Node {node} is not removed."))),
        }
    }

    async fn no_node_is_named(&self, pod: &str) -> Taken {
        let view = self.link()?.observe().await.map_err(data_plane)?;
        match view.filter(|view| view.cluster == self.found.cluster_id).as_ref().map(|view| view.named(pod)) {
            Some(None) => Ok(()),
            Some(Some(node)) => Err(caution(format!("{pod} is node {}, which is in use.", node.id))),
            None => Err(caution("What answered is not this cluster.".to_owned())),
        }
    }

    /// The address of a pod, where it is still the pod that was asked at that address. Addresses are given to
    /// other pods, those of other clusters among them.
    pub(super) async fn is_where_it_was(&self, name: &str) -> Result<String, (HeldBy, String)> {
        let address = self.address(name)?;
        let seen = self.found.observed.pods.iter().find(|pod| pod.name == name);
        let now = self.pods().get_opt(name).await.map_err(api_server)?;
        let same = now.as_ref().is_some_and(|now| {
            now.metadata.uid.as_ref() == seen.map(|seen| &seen.uid)
                && observe::address(now).as_deref() == Some(address)
        });
        if same { Ok(address.to_owned()) } else { Err(news(format!("{name} is another pod by now."))) }
    }

    async fn pods_are_as_seen(&self) -> Taken {
        let own = labels::query(&labels::pods(&self.name()));
        let now = self.pods().list(&ListParams::default().labels(&own)).await.map_err(api_server)?;
        let mut now: Vec<Pod> = now.iter().filter_map(|pod| observe::pod_of(&self.name(), pod)).collect();
        now.sort_by(|one, other| one.seat.cmp(&other.seat));
        let matters = |pod: &Pod| (pod.uid.clone(), pod.ready, pod.deleting);
        let seen = &self.found.observed.pods;
        match now.iter().map(matters).eq(seen.iter().map(matters)) {
            true => Ok(()),
            false => Err(news("The pods are others by now.")),
        }
    }

    /// A pod as it is now.
    async fn now(&self, name: &str) -> Result<Option<Pod>, (HeldBy, String)> {
        let pod = self.pods().get_opt(name).await.map_err(api_server)?;
        Ok(pod.and_then(|pod| observe::pod_of(&self.name(), &pod)))
    }

    fn pods(&self) -> Api<core::Pod> {
        self.api()
    }
}
