//! One look at a cluster: observe, validate, plan, apply, tell.

use std::sync::Arc;
use std::time::Duration;

use crds::annotations::FINALIZER;
use crds::conditions::{Reason, merged};
use crds::{KVCluster, KVClusterStatus};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

use super::apply::{self, Hands, HeldBy, Outcome};
use super::context::{Context, Monitored};
use super::intent::Intent;
use super::keep;
use super::observe::{self, Found};
use super::plan::{Plan, Problem, Step, plan, plan_deletion};
use super::status::{Facts, Told, of_deletion, of_invalid, stale_for, status};
use super::validate::{Invalid, ValidCluster, is_paused, validate};
use crate::dataplane::Where;
use crate::runtime::caches;
use crate::runtime::objects::{self, ObjectError};

/// How long at most until a cluster is looked at again, in which nothing seems to happen.
pub const RESYNC: Duration = Duration::from_secs(300);
/// How soon to look again when the data plane does not let a step be carried out yet.
const RETRY: Duration = Duration::from_secs(2);
/// How soon to look again when what was decided on has changed. The watches mostly bring it earlier.
const AGAIN: Duration = Duration::from_secs(1);
/// How long until it is looked again whether the kind `ServiceMonitor` exists, in seconds.
const LOOK_FOR_KIND: i64 = 600;

/// A look at a cluster failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not answer, or refused something that only the operator asks for.
    #[error("the API server did not do what the operator asked: {0}")]
    Api(#[from] kube::Error),
}

/// Looks at a cluster as it is now.
pub async fn reconcile(resource: Arc<KVCluster>, context: Arc<Context>) -> Result<Action, Error> {
    context.metrics.reconcile("KVCluster");
    look(resource, &context, Timestamp::now()).await
}

async fn look(resource: Arc<KVCluster>, context: &Context, now: Timestamp) -> Result<Action, Error> {
    let which = caches::which(&*resource);
    let mut found = observe::objects(&context.caches, &resource, now.as_second());
    if resource.metadata.deletion_timestamp.is_some() {
        return dismantle(&resource, context, &found, now).await;
    }
    let recorded = recorded_image(&resource, &found);
    let cluster = match validate(&resource, &context.node_image, recorded.as_deref()) {
        Ok(cluster) => cluster,
        Err(invalid) => return refuse(&resource, context, &invalid, now).await,
    };
    if !cluster.paused {
        apply::set_finalizer(context, &resource, cluster.deletes_claims()).await?;
    }
    observe::ask(&context.links, &which, &mut found).await;

    let intent = Intent::from(&cluster);
    let plan = plan(&intent, &found.observed);
    let (outcome, refused) = act(&resource, context, &cluster, &found, &plan).await;

    let facts = Facts {
        cluster: &cluster,
        intent: &intent,
        found: &found,
        plan: &plan,
        outcome: &outcome,
        refused: refused.as_ref().map(|(reason, why)| (*reason, why.as_str())),
    };
    let before = resource.status.clone().unwrap_or_default();
    let after = status(&before, facts, now);
    tell_of_problems(&resource, context, &plan, (&before, &after)).await;
    let stale = stale_for(&after, &found, now);
    objects::tell(&context.client, &*resource, &before, after).await?;
    let planned = plan.requeue.into_iter().chain(stale).min();
    Ok(next_look(context, &which, planned, &outcome, refused.is_some()))
}

/// What to do after a look that failed.
pub fn on_error(resource: Arc<KVCluster>, error: &Error, context: Arc<Context>) -> Action {
    context.metrics.error("KVCluster");
    tracing::warn!(%error, cluster = resource.name_any(), "a look at a cluster failed");
    Action::requeue(context.failing.failed(caches::which(&*resource)))
}

async fn act(
    resource: &KVCluster,
    context: &Context,
    cluster: &ValidCluster,
    found: &Found,
    plan: &Plan,
) -> (Outcome, Option<(Reason, String)>) {
    if cluster.paused {
        return (Outcome::default(), None);
    }
    let mut refused = None;
    let mut note = |result: Result<(), (Reason, String)>| {
        if let Err(why) = result {
            refused.get_or_insert(why);
        }
    };
    let object = |error: ObjectError| {
        let taken = matches!(error, ObjectError::Taken { .. });
        (if taken { Reason::ObjectTaken } else { Reason::ObjectRefused }, error.to_string())
    };
    let api_server = |error: kube::Error| (Reason::ObjectRefused, objects::said(&error));
    note(keep::objects(&context.client, &context.caches, cluster).await.map_err(object));
    let hands = Hands::new(context, resource, Some(cluster), found, plan);
    let outcome = hands.carry_out().await;
    // A step may just have changed a StatefulSet that the cache still shows as it was.
    if plan.steps.is_empty() {
        note(hands.keep_sets().await.map_err(object));
        note(keep::prune(&context.client, &context.caches, cluster, found).await.map_err(api_server));
        let now = Timestamp::from_second(found.observed.now).unwrap_or_default();
        note(monitor(context, cluster, now).await.map_err(api_server));
    }
    if let Some((reason, why)) = refused.as_ref().filter(|(_, why)| !hands.is_told(why)) {
        context.events.warn(&resource.object_ref(&()), reason.as_str(), why).await;
    }
    (outcome, refused)
}

/// Sees to the `ServiceMonitor` once for each generation, and again where its kind may have come since.
async fn monitor(context: &Context, cluster: &ValidCluster, now: Timestamp) -> Result<(), kube::Error> {
    let which = Where { namespace: cluster.namespace.clone(), name: cluster.name.clone() };
    let wanted = cluster.service_monitor.is_some();
    let seen_to = context.monitored.lock().get(&which).copied();
    let done = seen_to.is_some_and(|seen| {
        seen.generation == cluster.generation
            && (!wanted || seen.kind_exists || now.as_second() - seen.at.as_second() < LOOK_FOR_KIND)
    });
    // One that was never wanted was never made; after a start that is not known, so it is asked for once the
    // spec changes.
    if done || (seen_to.is_none() && !wanted && cluster.generation == 1) {
        return Ok(());
    }
    let kind_exists = keep::monitoring(&context.client, cluster).await?;
    if !kind_exists {
        tracing::info!(cluster = cluster.name, "there is no kind ServiceMonitor, so none is made");
    }
    let seen = Monitored { generation: cluster.generation, kind_exists, at: now };
    context.monitored.lock().insert(which, seen);
    Ok(())
}

/// A cluster that is being deleted.
async fn dismantle(
    resource: &KVCluster,
    context: &Context,
    found: &Found,
    now: Timestamp,
) -> Result<Action, Error> {
    let which = caches::which(resource);
    if !resource.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        context.forget(&which);
        return Ok(Action::await_change());
    }
    // What the spec says at the end counts: a policy that was changed to Retain keeps the data.
    let delete = resource.spec.claim_retention.when_deleted == crds::cluster::Retention::Delete;
    let paused = is_paused(&resource.metadata);
    let plan = if paused { Plan::default() } else { plan_deletion(&found.observed, delete) };
    let hands = Hands::new(context, resource, None, found, &plan);
    let outcome = hands.carry_out().await;
    if !outcome.done.contains(&Step::ReleaseFinalizer) {
        let before = resource.status.clone().unwrap_or_default();
        let generation = resource.metadata.generation.unwrap_or_default();
        let told = of_deletion(&plan, &outcome, paused);
        objects::tell(&context.client, resource, &before, with(&before, told, generation, now)).await?;
    }
    Ok(next_look(context, &which, plan.requeue, &outcome, false))
}

async fn refuse(
    resource: &KVCluster,
    context: &Context,
    invalid: &Invalid,
    now: Timestamp,
) -> Result<Action, Error> {
    let told = of_invalid(invalid);
    let before = resource.status.clone().unwrap_or_default();
    let generation = resource.metadata.generation.unwrap_or_default();
    let after = with(&before, told, generation, now);
    if after != before {
        context.events.warn(&resource.object_ref(&()), "Invalid", &invalid.to_string()).await;
    }
    objects::tell(&context.client, resource, &before, after).await?;
    Ok(Action::requeue(RESYNC))
}

/// A status in which only what is told is another.
fn with(before: &KVClusterStatus, told: Told, generation: i64, now: Timestamp) -> KVClusterStatus {
    KVClusterStatus {
        observed_generation: Some(generation),
        conditions: merged(&before.conditions, &told.findings, generation, now),
        summary: Some(told.summary),
        ..before.clone()
    }
}

/// What cannot be done is told once, when the status begins to show it.
async fn tell_of_problems(
    resource: &KVCluster,
    context: &Context,
    plan: &Plan,
    (before, after): (&KVClusterStatus, &KVClusterStatus),
) {
    let shown = |status: &KVClusterStatus, problem: &Problem| {
        status.conditions.iter().any(|condition| condition.message == problem.message)
    };
    for problem in &plan.problems {
        if shown(after, problem) && !shown(before, problem) {
            let reason = problem.reason.to_string();
            context.events.warn(&resource.object_ref(&()), &reason, &problem.message).await;
        }
    }
}

/// The image that was decided on before: the status says so, and if that is lost the pools do.
fn recorded_image(resource: &KVCluster, found: &Found) -> Option<String> {
    let told = resource.status.as_ref().and_then(|status| status.image.clone());
    told.or_else(|| found.image().map(str::to_owned))
}

fn next_look(
    context: &Context,
    which: &Where,
    planned: Option<u64>,
    outcome: &Outcome,
    refused: bool,
) -> Action {
    let soon = match outcome.held.as_ref().map(|held| held.by) {
        Some(HeldBy::News) if !refused => Some(AGAIN),
        Some(HeldBy::Caution) if !refused => Some(RETRY),
        Some(_) => Some(context.failing.failed(which.clone())),
        None if refused => Some(context.failing.failed(which.clone())),
        None => {
            context.failing.forget(which);
            None
        }
    };
    let planned = planned.map_or(RESYNC, Duration::from_secs);
    Action::requeue(soon.unwrap_or(planned).min(RESYNC))
}

#[cfg(test)]
mod tests;
