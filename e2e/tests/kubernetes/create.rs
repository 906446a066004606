//! Scenario 1. From `helm install` and two resources to a first write, with nothing chosen.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use crds::{KVCluster, KVTable};
use e2e::kubernetes::conditions::Conditioned as _;
use e2e::kubernetes::{Stage, chart};
use e2e::witness::run::unix_millis;
use serde_json::json;

const SAMPLE: &str = include_str!("../../../examples/smallest.yaml");
const READY_WITHIN: Duration = Duration::from_secs(60);

pub async fn run(stage: &mut Stage) -> anyhow::Result<()> {
    chart::uninstall(&stage.kube).await?;
    let began = unix_millis();
    chart::install(&stage.kube, &chart::Choice::default()).await?;
    stage.figure("helm install", seconds(unix_millis() - began));

    let applied = unix_millis();
    stage.apply(SAMPLE).await?;
    let witness = stage.witness("orders", "default").await?;
    let report = witness.await_first_write(READY_WITHIN).await?;
    let first = report.first_write_at.context("there is no first write")?;
    stage.figure("apply to first write", format!("{} (goal 15 s)", seconds(first.saturating_sub(applied))));
    stage.await_ready("orders", "default", READY_WITHIN).await?;
    stage.await_settled("orders", READY_WITHIN).await?;
    witness.await_more_writes(500, READY_WITHIN).await?;

    let look = |cluster: &KVCluster| {
        let status = cluster.status.clone().context("it has no status")?;
        ensure!(status.ready_nodes.as_deref() == Some("3/3"), "{:?} nodes are ready", status.ready_nodes);
        ensure!(status.nodes.len() == 3 && status.meta_leader.is_some(), "{:?}", status.nodes);
        ensure!(status.cluster_version >= Some(2), "cluster version {:?}", status.cluster_version);
        cluster.has("Available", "True")
    };
    stage.await_that("three nodes are shown", "orders", READY_WITHIN, look).await?;
    history(stage).await?;
    let verdict = witness.end_without_failures().await?;
    ensure!(verdict.report.reads > 0, "nothing was read");
    stage.figure("writes", verdict.report.acknowledged);
    stage.figure("reads", verdict.report.reads);
    stage.figure("longest gap", format!("{} ms", verdict.report.longest_gap_ms));
    Ok(())
}

/// How long a table keeps its changes is changed in place, and what contradicts itself is refused.
async fn history(stage: &Stage) -> anyhow::Result<()> {
    let wrong = json!({ "spec": { "history": { "keep": "None", "time": "1h" } } });
    let refused =
        stage.patch::<KVTable>("default", &wrong).await.err().context("a wrong history is taken")?;
    ensure!(format!("{refused:#}").contains("go with keep: Bounded"), "{refused:#}");
    let longer = json!({ "spec": { "history": { "keep": "Bounded", "time": "1h", "bytes": "8Mi" } } });
    stage.patch::<KVTable>("default", &longer).await?;
    let kept = |table: &KVTable| {
        let history = table.status.as_ref().and_then(|status| status.history.clone());
        ensure!(history.as_deref() == Some("60 min, 8.0 MiB"), "it keeps {history:?}");
        Ok(())
    };
    stage.await_that("the history is longer", "default", READY_WITHIN, kept).await?;
    stage.say("a table keeps its changes for longer");
    Ok(())
}

fn seconds(millis: u64) -> String {
    format!("{:.1} s", millis as f64 / 1000.0)
}
