//! What the operator costs: with nothing to do, and with two hundred tables. It is no scenario of
//! its own but figures, and comes after the ten.

use std::time::Duration;

use anyhow::ensure;
use crds::KVTable;
use e2e::kubernetes::conditions::Conditioned as _;
use e2e::kubernetes::operator::requests_since;
use e2e::kubernetes::{Stage, samples};
use e2e::until::until_every;
use kube::api::ListParams;

const IDLE: Duration = Duration::from_secs(60);
/// Figures that always move are refreshed once a minute, in the status of the cluster and of its table.
const MOST_IDLE_WRITES: u64 = 2;
const TABLES: usize = 200;
const WITHIN: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The chart's limit of 256 MiB leaves room for as many again.
const MOST_MEMORY: u64 = 128 << 20;

pub async fn run(stage: &mut Stage) -> anyhow::Result<()> {
    stage.operator().await?;
    stage.declare(&samples::cluster("orders", 3)).await?;
    stage.declare(&samples::table("default", "orders")).await?;
    stage.await_ready("orders", "default", WITHIN).await?;
    stage.await_settled("orders", WITHIN).await?;
    idle(stage).await?;
    two_hundred_tables(stage).await
}

/// With nothing to do nothing is written but the Lease, which one operator of one renews.
async fn idle(stage: &mut Stage) -> anyhow::Result<()> {
    let kube = stage.kube.clone();
    let (before, written_before) =
        (kube.operator_requests().await?, kube.writes_of_custom_resources().await?);
    // Nothing is waited for here: what is measured is a minute in which nothing happens.
    tokio::time::sleep(IDLE).await;
    let (after, written_after) = (kube.operator_requests().await?, kube.writes_of_custom_resources().await?);
    let since = requests_since(&before, &after)?;
    let told: Vec<String> = since.iter().map(|(verb, count)| format!("{verb} {count}")).collect();
    stage
        .figure("idle requests per minute", format!("{} ({})", since.values().sum::<u64>(), told.join(", ")));
    // The Lease is renewed by PUT. Everything else that the operator writes goes by one of these.
    let writes: u64 = ["POST", "PATCH", "DELETE"].iter().filter_map(|verb| since.get(*verb)).sum();
    ensure!(writes <= MOST_IDLE_WRITES, "the operator wrote {writes} times in an idle minute");
    let resources = written_after.saturating_sub(written_before);
    ensure!(
        resources <= MOST_IDLE_WRITES,
        "custom resources were written {resources} times in an idle minute"
    );
    Ok(())
}

async fn two_hundred_tables(stage: &mut Stage) -> anyhow::Result<()> {
    let began = stage.elapsed();
    for number in 0..TABLES {
        let mut table = samples::table(&format!("table-{number:03}"), "orders");
        (table.spec.partitions, table.spec.buckets, table.spec.replicas) = (1, 1, 1);
        stage.declare(&table).await?;
    }
    let all = TABLES + 1;
    until_every("all tables are ready", WITHIN, LOOK_EVERY, async || {
        let tables = stage.api::<KVTable>().list(&ListParams::default()).await?.items;
        let ready = tables.iter().filter(|table| table.has("Ready", "True").is_ok()).count();
        ensure!(ready == all, "{ready} of {all} are");
        Ok(())
    })
    .await?;
    stage.figure(
        "until 200 tables are ready",
        format!("{:.0} s", stage.elapsed().saturating_sub(began).as_secs_f64()),
    );
    let memory = stage.kube.operator_memory().await?;
    stage.figure("operator memory with 200 tables", format!("{} MiB", memory >> 20));
    ensure!(memory <= MOST_MEMORY, "the operator uses {} MiB", memory >> 20);
    Ok(())
}
