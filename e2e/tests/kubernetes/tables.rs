//! Scenario 12. A table with an index gets a million items, more partitions and another index, and the
//! table of an application more partitions, while the application uses it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use crds::KVTable;
use crds::table::status::IndexState;
use e2e::kubernetes::witness::Witness;
use e2e::kubernetes::{Stage, samples};
use e2e::witness::many::{Load, Question};
use serde_json::json;

const ITEMS: u64 = 1_000_000;
const PEOPLE: &str = "people";
const WITHIN: Duration = Duration::from_secs(90);
/// A million items, beside an application on the same two cores.
const LOADED_WITHIN: Duration = Duration::from_secs(180);
const SPLIT_WITHIN: Duration = Duration::from_secs(120);
const BUILT_WITHIN: Duration = Duration::from_secs(180);

pub async fn run(stage: &mut Stage) -> anyhow::Result<()> {
    let orders = samples::keeping_nothing(samples::cluster("orders", 3));
    let witness = stage.serving(&orders, &samples::table("default", "orders"), WITHIN).await?;

    let people: KVTable = serde_json::from_value(json!({
        "apiVersion": "kv.trilith.dev/v1alpha1",
        "kind": "KVTable",
        "metadata": { "name": PEOPLE },
        "spec": {
            "cluster": "orders",
            "partitions": 4,
            "history": { "keep": "None" },
            "values": { "demand": "Json" },
            "indexes": [{ "name": "city", "path": "$.city", "type": "String" }],
        },
    }))?;
    stage.declare(&people).await?;
    stage.await_condition::<KVTable>(PEOPLE, "Ready", "True", WITHIN).await?;
    refusals(stage).await?;

    let began = Instant::now();
    witness.load(&Load { table: PEOPLE.to_owned(), items: ITEMS }, LOADED_WITHIN).await?;
    let took = began.elapsed().as_secs_f64();
    stage.figure("load", format!("{ITEMS} items in {took:.0} s, {:.0}/s", ITEMS as f64 / took));
    finds(&witness, "city", 7).await?;

    // More partitions of both, under the application's load.
    let began = Instant::now();
    for name in ["default", PEOPLE] {
        let partitions = if name == PEOPLE { 8 } else { 16 };
        stage.patch::<KVTable>(name, &json!({ "spec": { "partitions": partitions } })).await?;
    }
    for (name, wanted) in [("default", 16), (PEOPLE, 8)] {
        let split = |table: &KVTable| {
            let partitions = table.status.as_ref().and_then(|status| status.partitions);
            ensure!(partitions == Some(wanted), "it has {partitions:?} partitions");
            Ok(())
        };
        stage.await_that("the table is split", name, SPLIT_WITHIN, split).await?;
    }
    stage.figure("4 to 8 and 8 to 16 partitions", format!("{:.1} s", began.elapsed().as_secs_f64()));
    finds(&witness, "city", 7).await?;

    // Another index over what is there already.
    let began = Instant::now();
    let indexes = json!({ "spec": { "indexes": [
        { "name": "city", "path": "$.city", "type": "String" },
        { "name": "age", "path": "$.age", "type": "Number" },
    ] } });
    stage.patch::<KVTable>(PEOPLE, &indexes).await?;
    let built = |table: &KVTable| {
        let status = table.status.as_ref().context("it has no status")?;
        let age = status.indexes.iter().find(|index| index.name == "age").context("it is not shown")?;
        ensure!(age.state == IndexState::Ready, "{:?}, {} %", age.state, age.percent);
        Ok(())
    };
    stage.await_that("the index is built", PEOPLE, BUILT_WITHIN, built).await?;
    stage.figure("index over what was there", format!("{:.1} s", began.elapsed().as_secs_f64()));
    finds(&witness, "age", 42).await?;
    stage.await_condition::<KVTable>(PEOPLE, "Ready", "True", WITHIN).await?;

    let verdict = witness.end_without_failures().await?;
    stage.figure("writes meanwhile", verdict.report.acknowledged);
    stage.figure("longest gap", format!("{} ms", verdict.report.longest_gap_ms));
    Ok(())
}

/// What cannot be is refused by the API server, or said by the operator, and changes nothing.
async fn refusals(stage: &Stage) -> anyhow::Result<()> {
    let twice = json!({ "spec": { "indexes": [
        { "name": "city", "path": "$.town", "type": "String" },
    ] } });
    let refused = stage.patch::<KVTable>(PEOPLE, &twice).await.err();
    let refused = refused.context("an index is taken that is another one under the same name")?;
    ensure!(format!("{refused:#}").contains("never changes"), "{refused:#}");
    let many = json!({ "spec": { "partitions": 2000 } });
    ensure!(stage.patch::<KVTable>(PEOPLE, &many).await.is_err(), "more partitions than buckets are taken");
    stage.say("what cannot be is refused");
    Ok(())
}

async fn finds(witness: &Witness, index: &str, value: u64) -> anyhow::Result<()> {
    let question = Question { table: PEOPLE.to_owned(), index: index.to_owned(), value, loaded: ITEMS };
    let found = witness.find(&question).await?;
    ensure!(found.counted == found.loaded, "by {index} {} of {} are found", found.counted, found.loaded);
    Ok(())
}
