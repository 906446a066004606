//! Scenario 3. Every node restarts, for another resource request and for another image, and no request of
//! an application fails.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use crds::KVCluster;
use e2e::kubernetes::witness::Witness;
use e2e::kubernetes::{Stage, pods, samples};
use e2e::until::until_every;
use kube::ResourceExt as _;

const WITHIN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Writes begin every 10 ms.
const LONGEST_GAP_MS: u64 = 500;

pub async fn run(stage: &mut Stage) -> anyhow::Result<()> {
    let mut orders = samples::cluster("orders", 3);
    let witness = stage.serving(&orders, &samples::table("default", "orders"), WITHIN).await?;
    witness.await_more_writes(300, WITHIN).await?;
    let watchman = stage.watchman("orders", &witness);

    let pool = orders.spec.pools.first_mut().context("the cluster has no pool")?;
    pool.resources = samples::requests("60m", "144Mi");
    let resources = rolled(stage, &orders, &witness, "a changed request").await?;

    orders.spec.image = Some(stage.kube.image("trilith-node", "next"));
    let image = rolled(stage, &orders, &witness, "a changed image").await?;
    let declared = orders.spec.image.as_deref();
    for pod in stage.pods("orders").await? {
        ensure!(pods::image(&pod) == declared, "{} runs {:?}", pod.name_any(), pods::image(&pod));
    }

    watchman.was_content()?;
    let verdict = witness.end_without_failures().await?;
    stage.figure("writes", verdict.report.acknowledged);
    let longest = resources.max(image);
    ensure!(longest <= LONGEST_GAP_MS, "no write succeeded for {longest} ms; {LONGEST_GAP_MS} is the goal");
    Ok(())
}

/// Declares a change, waits until every pod is another one, and gives the longest gap.
async fn rolled(stage: &mut Stage, orders: &KVCluster, witness: &Witness, what: &str) -> anyhow::Result<u64> {
    let before = stage.pod_uids("orders").await?;
    witness.mark().await?;
    stage.declare(orders).await?;
    until_every("every pod is another one", WITHIN, LOOK_EVERY, async || {
        let now = stage.pod_uids("orders").await?;
        let same = now.iter().filter(|(name, uid)| before.get(*name) == Some(*uid)).count();
        ensure!(same == 0 && now.len() == before.len(), "{same} of {} are as before", now.len());
        Ok(())
    })
    .await?;
    stage.await_settled("orders", WITHIN).await?;
    let report = witness.mark().await?;
    stage.figure(&format!("longest gap of {what}"), format!("{} ms", report.longest_gap_ms));
    // A partition that does not serve shows here, also while others do.
    stage.figure(&format!("slowest write of {what}"), format!("{} ms", report.slowest_write_ms));
    Ok(report.longest_gap_ms)
}
