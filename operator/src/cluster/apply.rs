//! Carries a plan out. Nothing is decided here but whether a step may still be done.
//!
//! ```text
//!   gates.rs       what is asked once more just before: of the data plane before anything goes that may
//!                  hold data, of the API server where what was cached may be old
//!   finalizers.rs  resources are held, and let go
//! ```
//!
//! A step that cannot be done ends the plan, but for those that nothing else rests on. What was done stays
//! done, and the next plan goes on from there.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::KVCluster;
use crds::annotations::{CLUSTER_ID, FIRST_CLAIM, NODE_ID};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolumeClaim, Pod};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use parking_lot::Mutex;
use serde_json::json;

use super::context::Context;
use super::objects::claim;
use super::observe::Found;
use super::observed::{Identity, Seat};
use super::plan::{Plan, Step, Template};
use super::sets::{self, Note};
use super::validate::ValidCluster;
use crate::dataplane::{Link, Where, is_silence, told};
use crate::faults;
use crate::runtime::objects::{self, MANAGER, ObjectError};

mod finalizers;
mod gates;

pub use finalizers::set_finalizer;

/// What became of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// The steps that were carried out.
    pub done: Vec<Step>,
    /// The step that ended it.
    pub held: Option<Held>,
}

/// A step that could not be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub step: Step,
    /// Why not, for a person.
    pub why: String,
    /// Who did not let it be.
    pub by: HeldBy,
}

/// Who did not let a step be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldBy {
    /// The data plane says that it would cost a quorum or data.
    Caution,
    /// The data plane refused.
    DataPlane,
    /// Nobody answered for the data plane.
    Silence,
    /// The API server refused.
    ApiServer,
    /// What it was decided on has changed since. This is no failure: it is decided anew at once.
    News,
}

/// A cluster whose plan is carried out.
pub struct Hands<'a> {
    /// What the operator has.
    pub context: &'a Context,
    /// The resource.
    pub resource: &'a KVCluster,
    /// What is declared. None while the resource is being deleted.
    pub cluster: Option<&'a ValidCluster>,
    /// What was found.
    pub found: &'a Found,
    /// The plan.
    pub plan: &'a Plan,
    /// The `StatefulSets` as they are after what was done of it, by pool. The cache shows them later.
    written: Mutex<BTreeMap<String, Arc<StatefulSet>>>,
}

impl<'a> Hands<'a> {
    /// Hands that carry out a plan.
    pub fn new(
        context: &'a Context,
        resource: &'a KVCluster,
        cluster: Option<&'a ValidCluster>,
        found: &'a Found,
        plan: &'a Plan,
    ) -> Self {
        Self { context, resource, cluster, found, plan, written: Mutex::default() }
    }
}

impl Hands<'_> {
    /// Carries out the steps in order, up to the first that cannot be and that others may rest on.
    pub async fn carry_out(&self) -> Outcome {
        let mut outcome = Outcome::default();
        let about = self.resource.object_ref(&());
        let fault = self.context.fault.as_ref();
        for step in &self.plan.steps {
            faults::before(fault, step.name());
            match self.take(step).await {
                Ok(()) => {
                    self.context.metrics.step(step.name());
                    tracing::info!(
                        cluster = self.name(),
                        namespace = self.namespace(),
                        step = step.name(),
                        "{step}"
                    );
                    self.context.events.did(&about, &reason(step), &capitalised(step)).await;
                    faults::after(fault, step.name());
                    outcome.done.push(step.clone());
                }
                Err((by, why)) => {
                    self.tell_held(&about, step, by, &why).await;
                    outcome.held.get_or_insert(Held { step: step.clone(), why, by });
                    if !step.stands_alone() {
                        break;
                    }
                }
            }
        }
        outcome
    }

    /// Keeps the `StatefulSets` as the plan has them, where no step has.
    pub async fn keep_sets(&self) -> Result<(), ObjectError> {
        let Some(cluster) = self.cluster else { return Ok(()) };
        for pool in &cluster.pools {
            let Some(plan) = self.plan.sets.get(&pool.spec.name) else { continue };
            let Some(present) = self.found.sets.get(&pool.spec.name) else { continue };
            let built =
                sets::build(cluster, pool, self.found.cluster_id, plan, Some(present), &Note::Nothing);
            if let Some(set) = built {
                let kept = objects::keep_exactly(&self.context.client, Some(present.as_ref()), &set).await;
                match kept {
                    Ok(_) | Err(ObjectError::Stale { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    async fn tell_held(&self, about: &ObjectReference, step: &Step, by: HeldBy, why: &str) {
        tracing::info!(cluster = self.name(), step = step.name(), why, "a step has to wait");
        // The status shows it from the first time on; telling it again is noise.
        if self.is_told(why) {
            return;
        }
        let note = format!("Not done yet: {step}. {why}");
        match by {
            HeldBy::News => {}
            HeldBy::Caution => self.context.events.did(about, "Waiting", &note).await,
            HeldBy::DataPlane | HeldBy::Silence | HeldBy::ApiServer => {
                self.context.events.warn(about, "StepFailed", &note).await;
            }
        }
    }

    /// Whether the status says so already.
    pub fn is_told(&self, why: &str) -> bool {
        let conditions = self.resource.status.iter().flat_map(|status| &status.conditions);
        let mut progressing = conditions.filter(|condition| condition.type_ == "Progressing");
        progressing.any(|condition| condition.message.ends_with(why))
    }

    async fn take(&self, step: &Step) -> Taken {
        match step {
            Step::CreateClaim { seat, first, .. } => self.create_claim(seat, *first).await,
            Step::MarkClaim { claim } => self.label_claim(claim, FIRST_CLAIM, "true").await,
            Step::LabelClaim { claim, node } => self.label_claim(claim, NODE_ID, &node.to_string()).await,
            Step::GrowClaim { claim, .. } => self.grow_claim(claim).await,
            Step::DeleteClaim { claim, uid, node, unasked } => {
                if !unasked {
                    self.claim_is_nobodys(claim, *node).await?;
                }
                let api: Api<PersistentVolumeClaim> = self.api();
                objects::delete(&api, claim, uid, false).await.map_err(api_server)
            }
            Step::ScaleSet { pool, from, to } => {
                let gone = *to..from.unwrap_or(*to);
                if !self.hibernates() {
                    for ordinal in gone {
                        self.seat_is_empty(&Seat { pool: pool.clone(), ordinal }).await?;
                    }
                }
                self.apply_set(pool, *to, &Note::Nothing).await
            }
            Step::SwitchTemplate { pool, .. } => self.apply_present_size(pool, &Note::Nothing).await,
            Step::GiveUpTemplate { pool, failed, .. } => {
                self.apply_present_size(pool, &Note::Failed(failed.clone())).await
            }
            Step::RecordGoodTemplate { pool, inputs } => {
                self.apply_present_size(pool, &Note::Good(inputs.clone())).await
            }
            Step::DeleteSet { pool } => self.delete_set(pool).await,
            Step::Init { pod } => {
                let address = self.is_where_it_was(pod).await?;
                self.link()?.init(&address, self.found.cluster_id).await.map_err(data_plane)
            }
            Step::Join { pod } => {
                let member = self.member()?;
                let (address, of) = (self.is_where_it_was(pod).await?, self.is_where_it_was(member).await?);
                self.link()?.join(&address, &of).await.map_err(data_plane)
            }
            Step::Drain { node, .. } => self.link()?.drain(*node).await.map_err(data_plane),
            Step::Undrain { node, .. } => self.link()?.undrain(*node).await.map_err(data_plane),
            Step::Remove { node, .. } => self.link()?.remove(*node).await.map_err(data_plane),
            Step::TransferLeaders { node, .. } => {
                // Leaders that stay, and a node that does not answer, are judged by the step that needs
                // them gone.
                if let Err(error) = self.link()?.transfer_leaders(*node).await {
                    tracing::info!(%node, %error, "it did not hand its leaders over");
                }
                Ok(())
            }
            Step::RestartPod { pod, uid, gate } => {
                self.may_restart(pod, uid, *gate).await?;
                let api: Api<Pod> = self.api();
                objects::delete(&api, pod, uid, false).await.map_err(api_server)
            }
            Step::ForceDeletePod { pod, uid, node } => {
                if let Some(node) = node {
                    self.was_removed(*node).await?;
                }
                let api: Api<Pod> = self.api();
                objects::delete(&api, pod, uid, true).await.map_err(api_server)
            }
            Step::StartMoves { orders, revision, .. } => {
                match self.link()?.start_moves(orders, *revision).await {
                    // Refused, because the map is another one by now.
                    Err(client::Error::Unavailable(why)) => Err(news(why)),
                    done => done.map_err(data_plane),
                }
            }
            Step::CancelMove { id } => self.link()?.cancel_move(*id).await.map_err(data_plane),
            Step::RaiseVersion { to, .. } => self.link()?.raise_version(*to).await.map_err(data_plane),
            Step::ReleaseFinalizer => self.let_go().await,
        }
    }

    async fn create_claim(&self, seat: &Seat, first: bool) -> Taken {
        let Some((cluster, pool)) = self.pool(&seat.pool) else { return Ok(()) };
        let claim = claim::claim(cluster, pool, seat.ordinal, self.found.cluster_id, first);
        let api: Api<PersistentVolumeClaim> = self.api();
        let how = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        match api.create(&how, &claim).await {
            Ok(_) => Ok(()),
            // One that the cache does not show yet, or that is not labelled as ours: the next look,
            // or its absence from it, tells which.
            Err(kube::Error::Api(status)) if status.code == 409 => self.is_labelled(&claim).await,
            Err(error) => Err(api_server(error)),
        }
    }

    async fn is_labelled(&self, claim: &PersistentVolumeClaim) -> Taken {
        let api: Api<PersistentVolumeClaim> = self.api();
        let present = api.get(&claim.name_any()).await.map_err(api_server)?;
        if present.labels().contains_key(CLUSTER_ID) {
            return Ok(());
        }
        let why = format!("Claim {} is there already and belongs to somebody else.", claim.name_any());
        Err((HeldBy::ApiServer, why))
    }

    async fn label_claim(&self, claim: &str, label: &str, value: &str) -> Taken {
        self.patch_claim(claim, json!({ "metadata": { "labels": { label: value } } })).await
    }

    async fn grow_claim(&self, claim: &str) -> Taken {
        let grown = self.found.observed.claims.iter().find(|other| other.name == claim);
        let Some((_, pool)) = grown.and_then(|claim| self.pool(&claim.seat.pool)) else { return Ok(()) };
        let size = pool.spec.storage.size.quantity();
        self.patch_claim(claim, json!({ "spec": { "resources": { "requests": { "storage": size } } } })).await
    }

    async fn patch_claim(&self, claim: &str, patch: serde_json::Value) -> Taken {
        let api: Api<PersistentVolumeClaim> = self.api();
        let how = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        api.patch(claim, &how, &Patch::Merge(patch)).await.map(drop).map_err(api_server)
    }

    async fn apply_present_size(&self, pool: &str, note: &Note) -> Taken {
        let present = self.present(pool).and_then(|set| set.spec.as_ref()?.replicas);
        let replicas = present.map_or(0, |replicas| u32::try_from(replicas).unwrap_or(0));
        self.apply_set(pool, replicas, note).await
    }

    async fn apply_set(&self, pool: &str, replicas: u32, note: &Note) -> Taken {
        let Some((cluster, declared)) = self.pool(pool) else {
            return self.resize_undeclared(pool, replicas).await;
        };
        let Some(mut plan) = self.plan.sets.get(pool).cloned() else { return Ok(()) };
        plan.replicas = replicas;
        if matches!(note, Note::Good(_)) {
            // What is good is what is there; another template is for a later step.
            plan.template = Template::Present;
        }
        let present = self.present(pool);
        let built = sets::build(cluster, declared, self.found.cluster_id, &plan, present.as_deref(), note);
        let Some(set) = built else {
            let why = format!("The template to put back in pool {pool} is not there any more.");
            return Err((HeldBy::ApiServer, why));
        };
        let kept = objects::keep_exactly(&self.context.client, present.as_deref(), &set).await;
        if let Some(set) = kept.map_err(object)? {
            self.written.lock().insert(pool.to_owned(), Arc::new(set));
        }
        Ok(())
    }

    /// The `StatefulSet` of a pool, as this plan has left it or else as it was found.
    fn present(&self, pool: &str) -> Option<Arc<StatefulSet>> {
        let written = self.written.lock().get(pool).cloned();
        written.or_else(|| self.found.sets.get(pool).cloned())
    }

    /// A pool that is not declared any more keeps its `StatefulSet` as it is, but for its size.
    async fn resize_undeclared(&self, pool: &str, replicas: u32) -> Taken {
        let Some(present) = self.found.sets.get(pool) else { return Ok(()) };
        let api: Api<StatefulSet> = self.api();
        let how = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let exactly = json!({ "uid": present.uid(), "resourceVersion": present.resource_version() });
        let patch = json!({ "metadata": exactly, "spec": { "replicas": replicas } });
        match api.patch(&present.name_any(), &how, &Patch::Merge(patch)).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Err(news(status.message)),
            done => done.map(drop).map_err(api_server),
        }
    }

    async fn delete_set(&self, pool: &str) -> Taken {
        let Some(present) = self.found.sets.get(pool) else { return Ok(()) };
        let api: Api<StatefulSet> = self.api();
        let uid = present.uid().unwrap_or_default();
        objects::delete(&api, &present.name_any(), &uid, false).await.map_err(api_server)
    }

    fn pool(&self, name: &str) -> Option<(&ValidCluster, &super::validate::ValidPool)> {
        let cluster = self.cluster?;
        Some((cluster, cluster.pool(name)?))
    }

    fn hibernates(&self) -> bool {
        self.cluster.is_some_and(|cluster| cluster.hibernate)
    }

    fn link(&self) -> Result<Link, (HeldBy, String)> {
        let which = Where { namespace: self.namespace(), name: self.name() };
        let link = self.context.links.open_to(&which);
        link.ok_or_else(|| (HeldBy::Silence, "No pod has an address yet.".to_owned()))
    }

    fn address(&self, pod: &str) -> Result<&str, (HeldBy, String)> {
        let address = self.found.addresses.get(pod);
        address.map(String::as_str).ok_or_else(|| (HeldBy::Silence, format!("{pod} has no address yet.")))
    }

    /// A pod that is in the cluster.
    fn member(&self) -> Result<&str, (HeldBy, String)> {
        let members = self.found.observed.pods.iter().filter(|pod| matches!(pod.identity, Identity::Node(_)));
        let best =
            members.filter(|pod| self.found.addresses.contains_key(&pod.name)).min_by_key(|pod| !pod.ready);
        best.map_or_else(
            || Err((HeldBy::Silence, "No pod is in the cluster yet.".to_owned())),
            |pod| Ok(pod.name.as_str()),
        )
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.context.client.clone(), &self.namespace())
    }

    fn name(&self) -> String {
        self.resource.name_any()
    }

    fn namespace(&self) -> String {
        self.resource.namespace().unwrap_or_default()
    }
}

type Taken = Result<(), (HeldBy, String)>;

fn data_plane(error: client::Error) -> (HeldBy, String) {
    tracing::info!(%error, "the data plane did not do it");
    (if is_silence(&error) { HeldBy::Silence } else { HeldBy::DataPlane }, told(&error))
}

fn api_server(error: kube::Error) -> (HeldBy, String) {
    (HeldBy::ApiServer, objects::said(&error))
}

fn object(error: ObjectError) -> (HeldBy, String) {
    let by = if matches!(error, ObjectError::Stale { .. }) { HeldBy::News } else { HeldBy::ApiServer };
    (by, error.to_string())
}

/// What was decided on is not so any more; the next look decides anew.
fn news(what: impl Into<String>) -> (HeldBy, String) {
    (HeldBy::News, what.into())
}

fn caution(why: String) -> (HeldBy, String) {
    (HeldBy::Caution, why)
}

/// The word under which an Event tells a step: its name without hyphens.
fn reason(step: &Step) -> String {
    step.name().split('-').map(capital).collect()
}

fn capitalised(step: &Step) -> String {
    capital(&step.to_string())
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    first + letters.as_str()
}
