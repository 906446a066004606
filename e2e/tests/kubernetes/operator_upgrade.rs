//! Scenario 9. A new operator makes its pods of another template, and has another default image for nodes: no
//! storage pod restarts.

use std::time::Duration;

use anyhow::ensure;
use crds::KVCluster;
use e2e::kubernetes::chart::{self, Choice};
use e2e::kubernetes::{Stage, pods, samples};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, PodSpec, Service};
use kube::ResourceExt as _;
use serde_json::json;

const WITHIN: Duration = Duration::from_secs(90);
/// What an operator before this one would have given its pods to end. It is no input that anybody
/// declares, so it tells by itself which operator a template is of.
const OLDER_GRACE: i64 = 45;

pub async fn run(stage: &mut Stage) -> anyhow::Result<()> {
    let witness =
        stage.serving(&samples::cluster("orders", 3), &samples::table("default", "orders"), WITHIN).await?;
    make_of_older_template(stage).await?;
    let before = lives(stage).await?;
    let failed = witness.mark().await?.failed_requests;

    let upgraded = upgrade(stage).await;
    let after = lives(stage).await?;
    // Whatever became of it, the next scenarios find the operator that they expect.
    stage.operator().await?;
    upgraded?;
    ensure!(before == after, "storage pods restarted with the operator: {before:?} became {after:?}");
    stage.await_settled("orders", WITHIN).await?;
    let back = lives(stage).await?;
    ensure!(before == back, "storage pods restarted when the operator was changed back: {back:?}");
    let verdict = witness.end().await?;
    let failed = verdict.report.failed_requests - failed;
    ensure!(failed == 0, "{failed} requests failed: {}", verdict.report.errors.join("; "));
    stage.figure("longest gap", format!("{} ms", verdict.report.longest_gap_ms));
    stage.figure("storage pods restarted", 0);
    Ok(())
}

/// Leaves the cluster as an older operator would: pods of a template that the next one would not make.
async fn make_of_older_template(stage: &Stage) -> anyhow::Result<()> {
    stage.kube.stop_operator().await?;
    let older =
        json!({ "spec": { "template": { "spec": { "terminationGracePeriodSeconds": OLDER_GRACE } } } });
    stage.patch::<StatefulSet>("orders-main", &older).await?;
    for pod in stage.pods("orders").await? {
        let (client, name) = (&stage.kube.client, pod.name_any());
        pods::delete(client, &stage.namespace, &name).await?;
        let before = pod.metadata.uid.as_deref();
        let made = pods::await_another(client, &stage.namespace, &name, before, WITHIN).await?;
        ensure!(grace(made.spec.as_ref()) == Some(OLDER_GRACE), "{name} is not made of the older template");
    }
    stage.say("all pods are as an older operator would have made them");
    Ok(())
}

async fn upgrade(stage: &Stage) -> anyhow::Result<()> {
    let mut values: Vec<String> =
        ["operator.image.tag=next", "node.image.tag=next"].map(str::to_owned).into();
    values.push(format!("test.endpoint=orders.{}.svc:7400", stage.namespace));
    chart::install(&stage.kube, &Choice { values, ..Choice::default() }).await?;
    let operator = stage.kube.operator_pod().await?;
    let image = pods::image(&operator).unwrap_or_default();
    ensure!(image.ends_with(":next"), "the operator is still {image}");
    let look = |set: &StatefulSet| {
        let template = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        ensure!(grace(template) != Some(OLDER_GRACE), "it is still the older one");
        Ok(())
    };
    stage.await_that("the template is the new operator's", "orders-main", WITHIN, look).await?;
    // A change that restarts nothing is carried out by it, so it has had its look at the pods too.
    let patch = json!({ "spec": { "doors": { "service": { "annotations": { "by": "next" } } } } });
    stage.patch::<KVCluster>("orders", &patch).await?;
    let look = |service: &Service| {
        ensure!(service.annotations().contains_key("by"), "it does not yet");
        Ok(())
    };
    stage.await_that("the new operator acts", "orders", WITHIN, look).await?;
    stage.await_settled("orders", WITHIN).await?;
    chart::test().await
}

/// What tells a pod that was made anew, or whose container was started again.
async fn lives(stage: &Stage) -> anyhow::Result<Vec<(String, Option<String>, i32)>> {
    let live = |pod: &Pod| (pod.name_any(), pod.uid(), pods::restarts(pod));
    Ok(stage.pods("orders").await?.iter().map(live).collect())
}

fn grace(pod: Option<&PodSpec>) -> Option<i64> {
    pod.and_then(|pod| pod.termination_grace_period_seconds)
}
