//! One look at a table: observe, validate, plan, apply, tell.

use std::sync::Arc;
use std::time::Duration;

use crds::annotations::FINALIZER;
use crds::{KVTable, KVTableStatus};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

use super::apply::carry_out;
use super::observe::{Cluster, observe};
use super::plan::{Plan, Step, plan, plan_deletion};
use super::status::{is_building, of_invalid, splitting, status};
use super::validate::{leaving, validate};
use crate::cluster::context::Context;
use crate::cluster::controller::{Error, RESYNC};
use crate::runtime::{caches, objects};

/// How soon to look again while something is under way.
const SOON: Duration = Duration::from_secs(2);
/// How soon to look again while something is in the way.
const LATER: Duration = Duration::from_secs(30);

/// One look at a table.
pub async fn reconcile(resource: Arc<KVTable>, context: Arc<Context>) -> Result<Action, Error> {
    context.metrics.reconcile("KVTable");
    look(&resource, &context, Timestamp::now()).await
}

async fn look(resource: &KVTable, context: &Context, now: Timestamp) -> Result<Action, Error> {
    let before = resource.status.clone().unwrap_or_default();
    let generation = resource.metadata.generation.unwrap_or_default();
    let held = resource.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    let going = resource.metadata.deletion_timestamp.is_some();
    if going && !held {
        return Ok(Action::await_change());
    }
    let table = match if going { Ok(leaving(resource)) } else { validate(resource).map(Some) } {
        Ok(table) => table,
        Err(invalid) => {
            let after = of_invalid(&before, &invalid.to_string(), generation, now);
            if after != before {
                context.events.warn(&resource.object_ref(&()), "Invalid", &invalid.to_string()).await;
            }
            objects::tell(&context.client, resource, &before, after).await?;
            return Ok(Action::requeue(RESYNC));
        }
    };
    let observed = observe(context, resource).await;
    let plan = match &table {
        Some(table) if going => plan_deletion(table, &observed),
        Some(table) => plan(table, &observed, &resource.spec.cluster, held),
        None => Plan { steps: vec![Step::Release], problem: None },
    };
    let outcome = carry_out(context, resource, &plan).await;
    let which = caches::which(resource);
    if going && outcome.held.is_none() && plan.problem.is_none() {
        context.failing_tables.forget(&which);
        return Ok(Action::await_change());
    }
    if let Some(table) = &table {
        let after = status(&before, table, generation, (&observed, &plan, &outcome), now);
        tell_of_problem(resource, context, &before, &after).await;
        objects::tell(&context.client, resource, &before, after).await?;
    }
    if outcome.held.is_some() {
        return Ok(Action::requeue(context.failing_tables.failed(which)));
    }
    context.failing_tables.forget(&which);
    let under_way = splitting(&observed).is_some() || observed.indexes.iter().any(is_building);
    let unwell = observed.partitions.iter().any(|partition| !partition.trouble.is_empty());
    Ok(Action::requeue(match &observed.cluster {
        _ if !plan.steps.is_empty() => SOON,
        // Its cluster says when it answers again; this is for when that is missed.
        Cluster::Silent(_) => LATER,
        _ if unwell || under_way => SOON,
        _ => RESYNC,
    }))
}

/// What to do after a look that failed.
pub fn on_error(resource: Arc<KVTable>, error: &Error, context: Arc<Context>) -> Action {
    context.metrics.error("KVTable");
    tracing::warn!(%error, table = resource.name_any(), "a look at a table failed");
    Action::requeue(context.failing_tables.failed(caches::which(&*resource)))
}

/// A problem is told once, when it begins: the status shows it from then on.
async fn tell_of_problem(
    resource: &KVTable,
    context: &Context,
    before: &KVTableStatus,
    after: &KVTableStatus,
) {
    let stuck = |status: &KVTableStatus| {
        let progressing = status.conditions.iter().find(|condition| condition.type_ == "Progressing");
        let stuck = progressing.filter(|condition| condition.status == "False" && condition.reason != "Idle");
        stuck.map(|condition| (condition.reason.clone(), condition.message.clone()))
    };
    if let Some((reason, message)) = stuck(after).filter(|problem| stuck(before).as_ref() != Some(problem)) {
        context.events.warn(&resource.object_ref(&()), &reason, &message).await;
    }
}

#[cfg(test)]
mod tests;
