//! Scenario 10. Deleted with Retain and made again, a cluster finds its data; deleted with Delete, nothing is
//! left of it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use crds::cluster::Retention;
use crds::{KVCluster, KVTable};
use e2e::kubernetes::{Stage, objects, samples};
use e2e::until::until_every;
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::api::ListParams;
use kube::{Api, Resource, ResourceExt as _};
use serde_json::json;

const WITHIN: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub async fn run(stage: &mut Stage) -> anyhow::Result<()> {
    let witness =
        stage.serving(&samples::cluster("orders", 3), &samples::table("default", "orders"), WITHIN).await?;
    witness.await_more_writes(300, WITHIN).await?;
    let (before, claims) = (witness.cluster().await?, stage.claims("orders").await?.len());

    delete_both(stage).await?;
    until_every("the storage pods are gone", WITHIN, LOOK_EVERY, async || {
        let left = stage.pods("orders").await?.len();
        ensure!(left == 0, "{left} are there");
        Ok(())
    })
    .await?;
    ensure!(stage.claims("orders").await?.len() == claims, "claims went although they were to be kept");
    stage.say("the cluster is gone, and its claims are kept");

    // The witness goes on all the while: what it was told before must be there afterwards.
    stage.declare(&samples::cluster("orders", 3)).await?;
    stage.declare(&samples::table("default", "orders")).await?;
    stage.await_ready("orders", "default", WITHIN).await?;
    witness.await_more_writes(300, WITHIN).await?;
    let after = witness.cluster().await?;
    ensure!(
        after.cluster == before.cluster,
        "another cluster was made: {} was {}",
        after.cluster,
        before.cluster
    );
    let verdict = witness.end().await?;
    ensure!(verdict.keys > 0, "nothing is there");
    stage.figure("keys found again", verdict.keys);

    let delete = json!({ "spec": { "claimRetention": { "whenDeleted": Retention::Delete } } });
    stage.patch::<KVCluster>("orders", &delete).await?;
    stage.patch::<KVTable>("default", &json!({ "spec": { "deletionPolicy": Retention::Delete } })).await?;
    stage.await_that("it is held until its data is gone", "orders", WITHIN, is_held::<KVCluster>).await?;
    stage.await_that("it is held until its data is gone", "default", WITHIN, is_held::<KVTable>).await?;
    // The table's cluster is going, so the table is not held any longer: its data goes with the claims.
    delete_both(stage).await?;
    nothing_is_left(stage).await
}

async fn delete_both(stage: &Stage) -> anyhow::Result<()> {
    stage.delete::<KVCluster>("orders").await?;
    stage.delete::<KVTable>("default").await?;
    stage.await_gone::<KVCluster>("orders", WITHIN).await?;
    stage.await_gone::<KVTable>("default", WITHIN).await
}

fn is_held<K: Resource>(resource: &K) -> anyhow::Result<()> {
    ensure!(!resource.finalizers().is_empty(), "it is not yet");
    Ok(())
}

/// No object of any kind carries the cluster's label, and no volume is there that its claims had.
async fn nothing_is_left(stage: &Stage) -> anyhow::Result<()> {
    let volumes: Api<PersistentVolume> = Api::all(stage.kube.client.clone());
    until_every("nothing of the cluster is left", WITHIN, LOOK_EVERY, async || {
        let label = "app.kubernetes.io/instance=orders";
        let mut left = objects::labelled(&stage.kube.client, &stage.namespace, label).await?;
        let all = volumes.list(&ListParams::default()).await?;
        left.extend(
            all.iter().filter(|volume| is_of(volume, &stage.namespace)).map(|volume| volume.name_any()),
        );
        ensure!(left.is_empty(), "there are {}", left.join(", "));
        Ok(())
    })
    .await
    .context("after a deletion with Delete")
}

fn is_of(volume: &PersistentVolume, namespace: &str) -> bool {
    let claim = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    claim.is_some_and(|claim| claim.namespace.as_deref() == Some(namespace))
}
