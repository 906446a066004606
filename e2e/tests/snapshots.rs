//! Pages of one moment: pairs of keys that always change together, far apart in the order of keys, are
//! scanned a few at a time while they change, leaders move and partitions are split. Without a snapshot
//! the halves of a pair are of different times; with one they never are, and where the moment is gone
//! the scan says so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use client::{Error, Item, Operation, PutOptions, QueryOptions, ScanOptions, Table};
use e2e::commands::trilith;
use e2e::curl::curl;
use e2e::{Cluster, Scenario, Shape, until};
use proto::v1::{AlterTableRequest, CreateTableRequest, IndexSettings, IndexType, NodeRequest};
use tokio::task::JoinSet;

const TABLE: &str = "pairs";
const PAIRS: u64 = 200;
const WRITERS: u64 = 4;
const PAGE: u64 = 40;
const WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn all_pages_are_of_one_moment() -> anyhow::Result<()> {
    let scenario = Scenario::begin("snapshots").await?;
    let mut cluster = Cluster::form(Shape { partitions: 0, ..Shape::default() }).await?;
    let client = cluster.client()?;
    let admin = client.admin().with_deadline(WITHIN);
    let request = CreateTableRequest {
        name: TABLE.to_owned(),
        partitions: 2,
        replicas: 3,
        wait: true,
        indexes: vec![IndexSettings {
            name: "half".to_owned(),
            path: "$.half".to_owned(),
            r#type: IndexType::String.into(),
            ..IndexSettings::default()
        }],
        ..CreateTableRequest::default()
    };
    admin.create_table(request).await?;
    let table = client.table(TABLE).with_deadline(WITHIN);
    for pair in 0..PAIRS {
        change(&table, pair, 0).await?;
    }
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (table, stop, written) = (table.clone(), Arc::clone(&stop), Arc::clone(&written));
        writers.spawn(async move {
            for number in 1.. {
                for pair in (0..PAIRS).filter(|pair| pair % WRITERS == writer) {
                    if stop.load(Ordering::Acquire) {
                        return Ok(());
                    }
                    change(&table, pair, number).await?;
                    written.fetch_add(1, Ordering::AcqRel);
                }
            }
            anyhow::Ok(())
        });
    }

    // Without a snapshot the test can see what it is about.
    until("halves differ that are read at different times", WITHIN, async || {
        let options = ScanOptions { limit: Some(PAGE), ..ScanOptions::default() };
        let items = scan(&table, options, async |_| more(&written).await).await?;
        ensure!(differing(&items)?.is_some(), "none does");
        Ok(())
    })
    .await?;
    let held = ScanOptions { limit: Some(PAGE), snapshot: Some(WITHIN), ..ScanOptions::default() };
    let items = scan(&table, held.clone(), async |_| more(&written).await).await?;
    agree(&items, "between pages that wait for writes")?;

    // The one who holds a moment need not lead.
    let items = scan(&table, held.clone(), async |page| {
        if page == 2 {
            let node = NodeRequest { node: "node-1".to_owned() };
            admin.transfer_leaders(node).await?;
        }
        more(&written).await
    });
    agree(&items.await?, "while leaders moved")?;
    let items = scan(&table, held.clone(), async |page| {
        if page == 2 {
            let partitions = Some(8);
            let name = TABLE.to_owned();
            admin.alter_table(AlterTableRequest { name, partitions, ..AlterTableRequest::default() }).await?;
            until("the table is split", WITHIN, async || {
                let partitions = cluster.partitions(TABLE).await?.len();
                ensure!(partitions == 8, "{partitions} partitions");
                Ok(())
            })
            .await?;
        }
        more(&written).await
    });
    agree(&items.await?, "while the table was split")?;
    scenario.say("scans are of one moment beside writers, moving leaders and splits");

    let items = query(&table, Some(WITHIN), &written).await?;
    agree(&items, "by an index")?;
    let items = query(&table, Some(WITHIN), &written).await?;
    agree(&items, "by an index, again")?;
    scenario.say("so are queries");

    // What was let go is held no more, on any node.
    until("nothing is held", WITHIN, async || {
        for node in cluster.running().collect::<Vec<_>>() {
            let url = format!("http://{}/metrics", cluster.http_address(node)?);
            let shown = curl(&["-s", &url]).await?.text();
            let line = shown.lines().find(|line| line.starts_with("kvstore_snapshots_held"));
            ensure!(line == Some("kvstore_snapshots_held 0"), "node {node}: {line:?}");
        }
        Ok(())
    })
    .await?;

    let brief = ScanOptions { snapshot: Some(Duration::from_millis(500)), ..held.clone() };
    let (_, cursor) = page(&table, &brief).await?;
    let begun = std::time::Instant::now();
    let end = until("its time is over", WITHIN, async || {
        match page(&table, &ScanOptions { cursor: cursor.clone(), ..brief.clone() }).await {
            Err(Error::SnapshotExpired(why)) => Ok(why),
            Err(error) => Err(error.into()),
            Ok(_) => bail!("it is held still"),
        }
    })
    .await?;
    ensure!(begun.elapsed() >= Duration::from_millis(400), "it ended too early");
    ensure!(end.contains("begin again"), "{end}");

    // Whoever loses the node that holds a part is told so, and is not given something else.
    let (_, cursor) = page(&table, &held).await?;
    for node in 0..cluster.size() {
        cluster.kill9(node)?;
        cluster.start(node).await?;
        cluster.await_healthy().await?;
    }
    let answer = page(&table, &ScanOptions { cursor: cursor.clone(), ..held.clone() }).await;
    ensure!(matches!(answer, Err(Error::SnapshotExpired(_))), "{answer:?}");
    scenario.say("what is over or lost is refused");

    let answer = page(&table, &ScanOptions { cursor: cursor.clone(), snapshot: None, ..held.clone() }).await;
    ensure!(matches!(answer, Err(Error::BadCursor(_))), "{answer:?}");
    let long = ScanOptions { snapshot: Some(Duration::from_secs(301)), ..held.clone() };
    let answer = page(&table, &long).await;
    ensure!(matches!(answer, Err(Error::OverLimit { .. })), "{answer:?}");
    doors(&cluster).await?;

    stop.store(true, Ordering::Release);
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    cluster.finish()
}

/// The same by REST and by the command line.
async fn doors(cluster: &Cluster) -> anyhow::Result<()> {
    let endpoints = cluster.endpoints();
    let said = trilith(&endpoints, &["-t", TABLE, "-o", "json", "scan", "--limit", "10", "--snapshot", "1m"]);
    let said = said.await?.output()?;
    let last: serde_json::Value = serde_json::from_str(said.lines().last().context("it says nothing")?)?;
    let cursor = last["cursor"].as_str().context("it says no cursor")?.to_owned();
    let more = ["-t", TABLE, "scan", "--limit", "10", "--keys-only", "--snapshot", "1m", "--cursor", &cursor];
    let keys = trilith(&endpoints, &more).await?.output()?;
    ensure!(keys.lines().count() == 10, "{keys}");
    let base = format!("http://{}/api/v1/tables/{TABLE}/kv/range?limit=10", cluster.http_address(1)?);
    let first = curl(&[&format!("{base}&snapshot=0.5")]).await?.json(200)?;
    let cursor = first["cursor"].as_str().context("there is no cursor")?;
    until("its time is over", WITHIN, async || {
        let url = format!("{base}&snapshot=0.5&cursor={cursor}");
        curl(&[&url]).await?.problem(410, "snapshot-expired")?;
        Ok(())
    })
    .await?;
    curl(&[&format!("{base}&snapshot=301")]).await?.problem(400, "invalid-request")?;
    Ok(())
}

/// Changes both halves of a pair; one that is not known to be done is done again.
async fn change(table: &Table, pair: u64, number: u64) -> anyhow::Result<()> {
    let put = |half: &str| {
        let value = format!(r#"{{"half":"{half}","pair":{pair},"number":{number}}}"#);
        Operation::put(format!("{half}{{{pair}}}"), value, PutOptions::default())
    };
    loop {
        match table.batch_atomic(vec![put("a"), put("z")]).await {
            Ok(_) => return Ok(()),
            Err(Error::OutcomeUnknown(_) | Error::Unavailable(_) | Error::DeadlineExceeded(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Returns once as much more was written as makes a difference.
async fn more(written: &AtomicU64) -> anyhow::Result<()> {
    let before = written.load(Ordering::Acquire);
    until("there are more writes", WITHIN, async || {
        let now = written.load(Ordering::Acquire);
        ensure!(now > before + PAIRS / 4, "{}", now - before);
        Ok(())
    })
    .await
}

async fn page(table: &Table, options: &ScanOptions) -> Result<(Vec<Item>, bytes::Bytes), Error> {
    match table.scan(options.clone()).next_page().await {
        Some(Ok(page)) => Ok((page.items, page.cursor)),
        Some(Err(error)) => Err(error),
        None => Ok((Vec::new(), bytes::Bytes::new())),
    }
}

/// All items, page by page, and what is done between pages.
async fn scan(
    table: &Table,
    mut options: ScanOptions,
    mut between: impl AsyncFnMut(usize) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<Item>> {
    let mut all = Vec::new();
    for number in 1.. {
        let (items, cursor) = page(table, &options).await?;
        all.extend(items);
        if cursor.is_empty() {
            break;
        }
        options.cursor = cursor;
        between(number).await?;
    }
    Ok(all)
}

async fn query(table: &Table, snapshot: Option<Duration>, written: &AtomicU64) -> anyhow::Result<Vec<Item>> {
    let mut options = QueryOptions { limit: Some(PAGE), snapshot, ..QueryOptions::default() };
    let mut all = Vec::new();
    while let Some(page) = table.query("half", &options).next_page().await {
        let page = page?;
        all.extend(page.items);
        if page.cursor.is_empty() {
            break;
        }
        options.cursor = page.cursor;
        more(written).await?;
    }
    Ok(all)
}

/// A pair whose halves are of different times.
fn differing(items: &[Item]) -> anyhow::Result<Option<u64>> {
    let mut numbers: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for item in items {
        let value: serde_json::Value = serde_json::from_slice(&item.value)?;
        let pair = value["pair"].as_u64().context("it is no half of a pair")?;
        numbers.entry(pair).or_default().push(value["number"].as_u64().context("it has no number")?);
    }
    ensure!(numbers.len() as u64 == PAIRS, "{} pairs", numbers.len());
    ensure!(numbers.values().all(|halves| halves.len() == 2), "some are there once, or three times");
    Ok(numbers.iter().find(|(_, halves)| halves.first() != halves.last()).map(|(pair, _)| *pair))
}

fn agree(items: &[Item], when: &str) -> anyhow::Result<()> {
    let differs = differing(items)?;
    ensure!(differs.is_none(), "{when}: the halves of {differs:?} differ");
    Ok(())
}
