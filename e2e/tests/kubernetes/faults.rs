//! Scenario 7. The operator dies at each step of a scale-down and of a rolling change. It goes on from there,
//! and no pod and no claim is ever deleted early.
//!
//! An operator that dies *before* a step dies there again each time it is started, so the cluster
//! stays where it is until one comes that dies later. One that dies *after* a step finds it done
//! when it is started again, and goes on.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use crds::KVCluster;
use e2e::kubernetes::{Stage, samples};
use e2e::until::until_every;

const WITHIN: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// In the order in which a scale-down comes to them.
const SCALE_DOWN: [&str; 5] =
    ["before:drain", "before:remove", "before:scale-set", "before:delete-claim", "after:delete-claim"];
/// In the order in which a rolling change comes to them.
const ROLL: [&str; 4] =
    ["before:switch-template", "before:transfer-leaders", "before:restart-pod", "after:restart-pod"];

pub async fn run(stage: &mut Stage) -> anyhow::Result<()> {
    let mut orders = samples::keeping_nothing(samples::cluster("orders", 5));
    let witness = stage.serving(&orders, &samples::table("default", "orders"), WITHIN).await?;
    let watchman = stage.watchman("orders", &witness);

    // While the node is being emptied; Kubernetes starts the operator again, and nobody helps it.
    set_replicas(&mut orders, 4)?;
    die_at_each(stage, &["after:drain"], &orders).await?;
    stage.await_settled("orders", WITHIN).await?;
    await_claims(stage, 4).await?;

    set_replicas(&mut orders, 3)?;
    die_at_each(stage, &SCALE_DOWN, &orders).await?;
    stage.await_settled("orders", WITHIN).await?;
    await_claims(stage, 3).await?;
    stage.say("the scale-down is done");

    let before = stage.pod_uids("orders").await?;
    orders.spec.pools.first_mut().context("the cluster has no pool")?.resources =
        samples::requests("60m", "144Mi");
    die_at_each(stage, &ROLL, &orders).await?;
    // An operator without faults takes over, once the Lease of the one that died has run out.
    stage.operator().await?;
    stage.await_settled("orders", WITHIN).await?;
    let now = stage.pod_uids("orders").await?;
    ensure!(
        now.iter().all(|(name, uid)| before.get(name) != Some(uid)),
        "not every pod was replaced: {now:?}"
    );

    watchman.was_content()?;
    stage.figure("deaths of the operator", 1 + SCALE_DOWN.len() + ROLL.len());
    stage.figure("pods and claims deleted, none early", watchman.seen().deleted.len());
    let verdict = witness.end_without_failures().await?;
    stage.figure("longest gap", format!("{} ms", verdict.report.longest_gap_ms));
    Ok(())
}

/// Declares a change under an operator that dies at the first of these, then runs one that dies at
/// the second, and so on.
async fn die_at_each(stage: &Stage, faults: &[&str], orders: &KVCluster) -> anyhow::Result<()> {
    for (number, fault) in faults.iter().enumerate() {
        stage.kube.set_fault(fault).await?;
        if number == 0 {
            stage.declare(orders).await?;
        }
        stage.kube.await_fault(fault, WITHIN).await?;
        stage.say(format_args!("the operator died {}", fault.replace(':', " ")));
    }
    Ok(())
}

fn set_replicas(orders: &mut KVCluster, replicas: i32) -> anyhow::Result<()> {
    orders.spec.pools.first_mut().context("the cluster has no pool")?.replicas = replicas;
    Ok(())
}

async fn await_claims(stage: &Stage, wanted: usize) -> anyhow::Result<()> {
    until_every("the claims of removed nodes are gone", WITHIN, LOOK_EVERY, async || {
        let there = stage.claims("orders").await?.len();
        ensure!(there == wanted, "{there} claims are there");
        Ok(())
    })
    .await
}
