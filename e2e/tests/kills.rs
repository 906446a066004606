//! Nodes are killed while clients write, one after the other and at last all at once. What
//! was acknowledged is there, what failed is not, and the copies are equal.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use e2e::scenario::seconds_or;
use e2e::workload::Load;
use e2e::{Cluster, Scenario, Shape, replicas};
use rand::RngExt as _;
use tokio::time::sleep;

const TABLE: &str = "default";
/// Between one kill and the next; chosen so that some meet a node that still catches up.
const EVERY: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_every_kill() -> anyhow::Result<()> {
    let scenario = Scenario::begin("kills").await?;
    let mut cluster = Cluster::form(Shape::default()).await?;
    let client = cluster.client()?;
    let deadline = Duration::from_secs(6);
    let seed = scenario.random(1).random();
    let load = Load { table: TABLE.to_owned(), keys: 200, writers: 6, readers: 2, deadline, seed };
    let mut choices = scenario.random(2);

    let running = load.begin(&client);
    let (began, last) = (Instant::now(), seconds_or(60));
    let mut kills = 0;
    while began.elapsed() + EVERY < last {
        sleep(EVERY.mul_f64(choices.random_range(0.7..1.0))).await;
        let node = choices.random_range(0..cluster.size());
        cluster.kill9(node)?;
        kills += 1;
        sleep(EVERY.mul_f64(choices.random_range(0.0..0.3))).await;
        cluster.start(node).await?;
    }
    scenario.say(format_args!("{kills} kills of one node: {:?}", running.history.counts()));

    cluster.kill9_all()?;
    scenario.say("all three are killed at once");
    for node in 0..cluster.size() {
        cluster.start(node).await?;
    }
    cluster.await_healthy().await?;
    let before = running.history.counts().acknowledged;
    e2e::until("writes go on after all were killed", Duration::from_secs(20), async || {
        ensure!(running.history.counts().acknowledged > before + 100, "too few yet");
        Ok(())
    })
    .await?;
    let (history, errors) = running.end().await?;
    scenario.say(format_args!("the load ended: {:?}, {} errors were told", history.counts(), errors.len()));

    let began = history.now();
    let items = replicas::all_equal(&cluster, TABLE).await?;
    scenario.say(format_args!("all three copies hold the same {} items", items.len()));
    let mut found = std::collections::BTreeMap::new();
    let mut scan = client.table(TABLE).scan(client::ScanOptions::default());
    while let Some(page) = scan.next_page().await {
        for item in page?.items {
            let value = String::from_utf8_lossy(&item.value).into_owned();
            found.insert(String::from_utf8_lossy(&item.key).into_owned(), (value, item.version));
        }
    }
    ensure!(
        found.len() == items.len(),
        "a scan finds {} items, the copies hold {}",
        found.len(),
        items.len()
    );
    history.saw_all(began, found);
    let violations: Vec<_> = history.violations().iter().map(ToString::to_string).collect();
    ensure!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
    ensure!(history.counts().acknowledged > 1_000, "so little was written that it shows nothing");
    cluster.finish().context("after everything was right")
}
