//! Scenario 8. What cannot be done is said, in the status and by Events, and a corrected YAML goes on.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use crds::{KVCluster, KVTable};
use e2e::kubernetes::conditions::Conditioned as _;
use e2e::kubernetes::{Stage, pods, samples};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::ResourceExt as _;

const WITHIN: Duration = Duration::from_secs(90);

pub async fn run(stage: &mut Stage) -> anyhow::Result<()> {
    stage.operator().await?;
    table_without_cluster(stage).await?;
    full_quota(stage).await?;
    let witness = stage.witness("orders", "default").await?;
    witness.await_first_write(WITHIN).await?;
    stage.await_settled("orders", WITHIN).await?;
    two_tables_of_one_name(stage).await?;
    impossible_pool(stage).await?;
    bad_image(stage).await?;
    // Two of three nodes were away for a moment, so requests may have failed; none may have lied.
    let verdict = witness.end().await?;
    stage.figure("failed requests", verdict.report.failed_requests);
    stage.figure("longest gap", format!("{} ms", verdict.report.longest_gap_ms));
    Ok(())
}

async fn table_without_cluster(stage: &Stage) -> anyhow::Result<()> {
    stage.declare(&samples::table("default", "orders")).await?;
    let why = ("Ready", "False", "ClusterNotFound", "orders");
    stage.await_reason::<KVTable>("default", why, WITHIN).await?;
    stage.await_event("default", "ClusterNotFound", WITHIN).await?;
    stage.say("a table without a cluster waits, and says so");
    Ok(())
}

/// The cluster cannot be made in a full namespace, and is once there is room.
async fn full_quota(stage: &Stage) -> anyhow::Result<()> {
    let quota = r#"{"apiVersion":"v1","kind":"ResourceQuota","metadata":{"name":"full"},
        "spec":{"hard":{"persistentvolumeclaims":"1"}}}"#;
    stage.apply(quota).await?;
    // The API server holds to a quota once it has counted what is there.
    stage
        .await_that("the quota counts", "full", WITHIN, |quota: &ResourceQuota| {
            let status = quota.status.as_ref().and_then(|status| status.used.as_ref());
            status.map(|_| ()).context("it does not yet")
        })
        .await?;
    stage.declare(&samples::cluster("orders", 3)).await?;
    let why = ("Progressing", "False", "ObjectRefused", "quota");
    stage.await_reason::<KVCluster>("orders", why, WITHIN).await?;
    stage.await_event("orders", "quota", WITHIN).await?;
    stage.delete::<ResourceQuota>("full").await?;
    stage.await_ready("orders", "default", WITHIN).await?;
    stage.say("a full quota is said, and with room the cluster and its table come");
    Ok(())
}

async fn two_tables_of_one_name(stage: &Stage) -> anyhow::Result<()> {
    let mut second = samples::table("second", "orders");
    second.spec.name = Some("default".to_owned());
    stage.declare(&second).await?;
    let why = ("Ready", "False", "NameTaken", "default");
    stage.await_reason::<KVTable>("second", why, WITHIN).await?;
    stage.await_event("second", "NameTaken", WITHIN).await?;
    stage.await_condition::<KVTable>("default", "Ready", "True", WITHIN).await?;
    stage.delete::<KVTable>("second").await?;
    stage.await_gone::<KVTable>("second", WITHIN).await?;
    // A table's name never changes; with another one the same YAML is right.
    second.spec.name = Some("others".to_owned());
    second.spec.partitions = 1;
    stage.declare(&second).await?;
    stage.await_condition::<KVTable>("second", "Ready", "True", WITHIN).await?;
    stage.say("of two tables of one name the second says that the name is taken");
    Ok(())
}

async fn impossible_pool(stage: &Stage) -> anyhow::Result<()> {
    let mut orders = samples::cluster("orders", 3);
    orders.spec.pools.first_mut().context("no pool")?.replicas = 0;
    let refused = stage.declare(&orders).await;
    let why = refused.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(why.contains("quorum"), "a cluster without nodes is taken, or refused with {why:?}");

    // Fewer nodes than a table has replicas: stored, and not done.
    orders.spec.pools.first_mut().context("no pool")?.replicas = 2;
    stage.declare(&orders).await?;
    let why = ("Progressing", "False", "Blocked", "replicas");
    stage.await_reason::<KVCluster>("orders", why, WITHIN).await?;
    stage.await_event("orders", "a table has 3 replicas", WITHIN).await?;
    ensure!(stage.pods("orders").await?.len() == 3, "a node went although it may not");

    // A pool that no machine can hold.
    orders = samples::cluster("orders", 3);
    let mut huge = samples::pool("huge", 1);
    huge.resources = samples::requests("900", "128Mi");
    orders.spec.pools.push(huge);
    stage.declare(&orders).await?;
    let look = |cluster: &KVCluster| cluster.has_because("Ready", "False", "PodFailing", "orders-huge-0");
    stage.await_that("the pool that nobody can hold is named", "orders", WITHIN, look).await?;
    stage.await_event("orders-huge-0", "Insufficient cpu", WITHIN).await?;
    orders.spec.pools.pop();
    stage.declare(&orders).await?;
    stage.await_settled("orders", WITHIN).await?;
    stage.say("impossible pools are refused or named, and taken back");
    Ok(())
}

/// A bad image costs one pod. A healthy pod that is evicted meanwhile returns on the old image.
async fn bad_image(stage: &Stage) -> anyhow::Result<()> {
    let before = stage.pod_uids("orders").await?;
    let mut orders = samples::with_update_timeout(samples::cluster("orders", 3), "12s");
    orders.spec.image = Some(stage.kube.image("trilith-node", "there-is-none"));
    stage.declare(&orders).await?;
    let why = ("Degraded", "True", "RolledBack", "there-is-none");
    stage.await_reason::<KVCluster>("orders", why, WITHIN).await?;
    stage.await_event("orders", "GiveUpTemplate", WITHIN).await?;
    let now = stage.pods("orders").await?;
    let replaced = now.iter().filter(|pod| before.get(&pod.name_any()) != pod.metadata.uid.as_ref()).count();
    ensure!(replaced == 1, "a bad image cost {replaced} pods");
    stage.say("a bad image cost one pod, and was taken back");

    let healthy = now.iter().find(|pod| pods::is_ready(pod)).context("no pod is ready")?;
    let (client, name) = (&stage.kube.client, healthy.name_any());
    // With one pod down the disruption budget forbids evictions, so this one goes without being asked.
    let evicted = pods::evict(&stage.namespace, &name).await;
    ensure!(evicted.is_err(), "the disruption budget let {name} be evicted while another pod was down");
    pods::delete(client, &stage.namespace, &name).await?;
    let returned =
        pods::await_another(client, &stage.namespace, &name, healthy.metadata.uid.as_deref(), WITHIN).await?;
    ensure!(
        pods::image(&returned) == pods::image(healthy),
        "{name} returned with {:?}",
        pods::image(&returned)
    );
    stage.say("a healthy pod that went meanwhile came back on the old image");

    orders = samples::cluster("orders", 3);
    orders.spec.image = Some(stage.kube.image("trilith-node", "next"));
    stage.declare(&orders).await?;
    stage.await_settled("orders", WITHIN).await?;
    stage.say("a corrected image went on");
    Ok(())
}
