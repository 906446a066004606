//! Folders and files that are not as they were written.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use client::{PutOptions, Table};
use e2e::{Cluster, Scenario, Shape, files, replicas, until};
use tokio::time::timeout;

const ENDS_WITHIN: Duration = Duration::from_secs(20);
const SCAN_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_trusted_is_refused() -> anyhow::Result<()> {
    let scenario = Scenario::begin("untrusted folder").await?;
    let mut cluster = Cluster::form(Shape { nodes: 1, ..Shape::default() }).await?;
    cluster.stop(0).await?;
    let identity = cluster.data(0)?.join("identity.yaml");
    let text = fs::read_to_string(&identity)?;

    files::replace_text(&identity, "format: 1", "format: 2")?;
    refuses(&mut cluster, &["has format 2; this program knows format 1", "run a newer one"]).await?;
    scenario.say("a newer format is refused");
    fs::write(&identity, "format: 1\nnode: [")?;
    refuses(&mut cluster, &["identity.yaml is damaged"]).await?;
    fs::remove_file(&identity)?;
    refuses(&mut cluster, &["holds data but no identity.yaml"]).await?;
    scenario.say("an identity that is damaged or gone is refused");

    fs::write(&identity, text)?;
    cluster.start(0).await?;
    cluster.await_healthy().await?;
    cluster.finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_refused_by_name() -> anyhow::Result<()> {
    let scenario = Scenario::begin("damaged log").await?;
    let mut cluster = Cluster::form(Shape { nodes: 1, ..Shape::default() }).await?;
    write(&cluster.client()?.table("default"), 400).await?;
    cluster.kill9(0)?;
    let logs = files::with_ending(&cluster.data(0)?.join("raft"), "log")?;
    let log = logs.first().context("there is no write-ahead file")?.clone();
    let name = log.file_name().context("a file without a name")?.to_string_lossy().into_owned();
    let at = files::flip_in_the_middle(&log)?;
    refuses(&mut cluster, &["the log file", &name, "is damaged at byte", "nothing was changed"]).await?;
    scenario.say(format_args!("byte {at} of {name} was flipped, and the node refuses to start"));
    files::flip_in_the_middle(&log)?;
    cluster.start(0).await?;
    cluster.await_healthy().await?;
    let items = replicas::scan_here(&cluster, 0, "default").await?.len();
    ensure!(items == 400, "with the byte as it was there are {items} items");
    scenario.say("flipped back, everything is there: nothing was changed");
    cluster.finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_state_file_stops_the_node_by_name() -> anyhow::Result<()> {
    let scenario = Scenario::begin("damaged state").await?;
    let mut cluster = Cluster::form(Shape { nodes: 1, ..Shape::default() }).await?;
    write(&cluster.client()?.table("default"), 400).await?;
    // What ends in order flushes its state into files.
    cluster.stop(0).await?;
    let tables = files::with_ending(&cluster.data(0)?.join("state"), "sst")?;
    let table = tables.first().context("there is no sorted file")?;
    let name = table.file_name().context("a file without a name")?.to_string_lossy().into_owned();
    let at = files::flip_in_the_middle(table)?;
    cluster.spawn(0, &[])?;
    // Whether it is met at the start or by a read, it is never served.
    let served = until("the damage is met", ENDS_WITHIN, async || {
        if cluster.log_of(0)?.contains(&name) {
            return Ok(None);
        }
        let scan = timeout(SCAN_WITHIN, replicas::scan_here(&cluster, 0, "default"));
        Ok(Some(scan.await??.len()))
    });
    ensure!(served.await?.is_none(), "a damaged file was served");
    ends(&mut cluster, &[&name]).await?;
    scenario.say(format_args!("byte {at} of {name} was flipped, and the node stops and names it"));
    cluster.finish()
}

async fn write(table: &Table, items: usize) -> anyhow::Result<()> {
    for item in 0..items {
        let value: Vec<u8> = (0..4096).map(|_| rand::random()).collect();
        table.put(format!("key-{item:04}"), value, PutOptions::default()).await?;
    }
    Ok(())
}

/// That node 0 does not start, and says why.
async fn refuses(cluster: &mut Cluster, phrases: &[&str]) -> anyhow::Result<()> {
    cluster.spawn(0, &[])?;
    ends(cluster, phrases).await
}

async fn ends(cluster: &mut Cluster, phrases: &[&str]) -> anyhow::Result<()> {
    let status = cluster.await_end(0, ENDS_WITHIN).await?;
    ensure!(!status.success(), "it ends as if nothing were wrong");
    let log = cluster.log_of(0)?;
    let end: Vec<&str> = log.lines().rev().take(12).collect();
    let end = end.join("\n");
    for phrase in phrases {
        ensure!(end.contains(phrase), "it does not say {phrase:?}:\n{end}");
    }
    Ok(())
}
