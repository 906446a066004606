//! Carries the plan of a table out.

use crds::KVTable;
use crds::annotations::FINALIZER;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use proto::v1::{AlterTableRequest, CreateTableRequest, HistorySettings, SplitPolicy, ValueSettings};
use serde_json::json;

use super::indexes::Index;
use super::plan::{Plan, Step};
use crate::cluster::context::Context;
use crate::dataplane::{Link, Where, told};
use crate::faults;
use crate::runtime::objects::MANAGER;

/// The steps that were done, and why the next one was not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// What was done.
    pub done: Vec<Step>,
    /// What was not, and why.
    pub held: Option<(Step, String)>,
}

/// Carries out the steps in order, up to the first that cannot be.
pub async fn carry_out(context: &Context, table: &KVTable, plan: &Plan) -> Outcome {
    let mut outcome = Outcome::default();
    let about = table.object_ref(&());
    let fault = context.fault.as_ref();
    for step in &plan.steps {
        faults::before(fault, step.name());
        match take(context, table, step).await {
            Ok(()) => {
                context.metrics.step(step.name());
                tracing::info!(table = table.name_any(), step = step.name(), "{step}");
                if !matches!(step, Step::Hold | Step::Release) {
                    context.events.did(&about, "Table", &step.to_string()).await;
                }
                faults::after(fault, step.name());
                outcome.done.push(step.clone());
            }
            // The status shows it, and an Event tells it when the status begins to.
            Err(why) => {
                tracing::info!(table = table.name_any(), step = step.name(), why, "a step was not done");
                outcome.held = Some((step.clone(), why));
                break;
            }
        }
    }
    outcome
}

async fn take(context: &Context, table: &KVTable, step: &Step) -> Result<(), String> {
    let link = || -> Result<Link, String> {
        let which =
            Where { namespace: table.namespace().unwrap_or_default(), name: table.spec.cluster.clone() };
        context.links.open_to(&which).ok_or_else(|| "the cluster has no address yet".to_owned())
    };
    match step {
        Step::Create(valid) => {
            let request = CreateTableRequest {
                name: valid.name.to_string(),
                partitions: valid.partitions,
                replicas: valid.replicas,
                buckets: valid.buckets,
                default_ttl_ms: valid.default_ttl_ms,
                owner: valid.owner.clone(),
                wait: false,
                history: (valid.history != HistorySettings::default()).then_some(valid.history),
                values: (valid.values != ValueSettings::default()).then(|| valid.values.clone()),
                touch_on_read_ms: valid.touch_on_read_ms,
                indexes: valid.indexes.iter().map(Index::settings).collect(),
                split: (valid.split != SplitPolicy::default()).then_some(valid.split),
            };
            link()?.create_table(request).await.map_err(|error| told(&error))
        }
        Step::Alter {
            name,
            partitions,
            replicas,
            default_ttl_ms,
            history,
            values,
            touch_on_read_ms,
            indexes,
            split,
        } => {
            let indexes = indexes.clone().unwrap_or_default();
            let request = AlterTableRequest {
                name: name.clone(),
                default_ttl_ms: *default_ttl_ms,
                replicas: *replicas,
                history: *history,
                values: values.clone(),
                touch_on_read_ms: *touch_on_read_ms,
                drop_indexes: indexes.drop,
                add_indexes: indexes.add.iter().map(Index::settings).collect(),
                partitions: *partitions,
                split: *split,
            };
            link()?.alter_table(request).await.map_err(|error| told(&error))
        }
        Step::Drop { name } => link()?.drop_table(name).await.map_err(|error| told(&error)),
        Step::Hold => set_finalizer(context, table, true).await.map_err(|error| error.to_string()),
        Step::Release => set_finalizer(context, table, false).await.map_err(|error| error.to_string()),
    }
}

async fn set_finalizer(context: &Context, table: &KVTable, held: bool) -> Result<(), kube::Error> {
    let mut finalizers = table.finalizers().to_vec();
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    if held {
        finalizers.push(FINALIZER.to_owned());
    }
    if finalizers == table.finalizers() {
        return Ok(());
    }
    let api: Api<KVTable> = Api::namespaced(context.client.clone(), &table.namespace().unwrap_or_default());
    let how = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let patch =
        json!({ "metadata": { "finalizers": finalizers, "resourceVersion": table.resource_version() } });
    match api.patch(&table.name_any(), &how, &Patch::Merge(patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}
