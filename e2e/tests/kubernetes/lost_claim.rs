//! Scenario 5. A claim and its pod are deleted: the pod comes back empty, as a new node, and is filled again.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use crds::annotations::NODE_ID;
use e2e::kubernetes::{Stage, samples};
use e2e::until::until_every;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt as _;

const WITHIN: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(300);
const POD: &str = "orders-main-1";
const CLAIM: &str = "data-orders-main-1";

pub async fn run(stage: &mut Stage) -> anyhow::Result<()> {
    let witness =
        stage.serving(&samples::cluster("orders", 3), &samples::table("default", "orders"), WITHIN).await?;
    witness.await_more_writes(300, WITHIN).await?;

    let lost = witness.cluster().await?.node(POD).context("there is no such node")?.id.clone();
    let claim = stage.api::<PersistentVolumeClaim>().get(CLAIM).await?.uid();
    stage.delete::<PersistentVolumeClaim>(CLAIM).await?;
    stage.delete::<Pod>(POD).await?;
    stage.say(format_args!("{CLAIM} and {POD} are deleted"));
    let (fresh, held) =
        until_every("a new node took its place, and holds all there is", WITHIN, LOOK_EVERY, async || {
            let cluster = witness.cluster().await?;
            let old = cluster.nodes.iter().find(|node| node.id == lost && node.state != "REMOVED");
            ensure!(old.is_none(), "the old identity is {old:?}");
            let fresh = cluster.node(POD).context("nobody took its place")?;
            ensure!(fresh.alive && fresh.state == "SERVING", "it is {fresh:?}");
            // With three nodes and three copies each node holds one of every partition.
            let held =
                cluster.partitions.iter().filter(|partition| partition.nodes.contains(&fresh.id)).count();
            let all = cluster.partitions.len();
            ensure!(held == all && cluster.under_replicated == 0, "it holds {held} of {all} partitions");
            Ok((fresh.id.clone(), held))
        })
        .await?;
    stage.await_settled("orders", WITHIN).await?;
    let look = |found: &PersistentVolumeClaim| {
        ensure!(found.uid() != claim, "it is the claim that was deleted");
        let holds = found.labels().get(NODE_ID);
        ensure!(holds == Some(&fresh), "it says that it holds {holds:?}, and not {fresh}");
        Ok(())
    };
    stage.await_that("the new claim names the new node", CLAIM, WITHIN, look).await?;
    stage.figure("copies on the new node", held);
    let verdict = witness.end().await?;
    stage.figure("failed requests", verdict.report.failed_requests);
    stage.figure("longest gap", format!("{} ms", verdict.report.longest_gap_ms));
    Ok(())
}
