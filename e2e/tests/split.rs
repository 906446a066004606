//! A table is cut into more and more partitions while it is written, read, scanned and followed, while
//! nodes are killed and one is drained. Nothing is lost, nothing is done twice, no change is missed, and
//! no key waits for long.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use client::{Admin, Error, Keys, PutOptions, ScanOptions, Table};
use e2e::followers::{Follower, Kind, Told, contents, write};
use e2e::workload::Load;
use e2e::{Cluster, Scenario, Shape, replicas, until};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use proto::v1::{
    AlterTableRequest, CreateTableRequest, DescribeTableRequest, HistorySettings, SplitPolicy,
    history_settings::Keep,
};
use rand::RngExt as _;
use tokio::task::JoinSet;

const FOLLOWED: &str = "followed";
const USED: &str = "used";
const WRITERS: u64 = 3;
/// Keys that are there from the beginning to the end.
const FIXED: u64 = 300;
const WITHIN: Duration = Duration::from_secs(60);
const SPLIT_WITHIN: Duration = Duration::from_secs(120);
const GROWN_WITHIN: Duration = Duration::from_secs(120);
/// Of 16 KiB each.
const ITEMS: usize = 6_000;

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_split_under_everybodys_hands() -> anyhow::Result<()> {
    let scenario = Scenario::begin("split").await?;
    let mut cluster = Cluster::form(Shape { nodes: 4, partitions: 0, ..Shape::default() }).await?;
    let client = cluster.client()?;
    let admin = client.admin().with_deadline(Duration::from_secs(20));
    for name in [FOLLOWED, USED] {
        create(&admin, name, 2).await?;
    }
    let table = client.table(FOLLOWED).with_deadline(WITHIN);
    for number in 0..FIXED {
        table.put(fixed(number), "as it was", PutOptions::default()).await?;
    }

    let (told, stop) = (Arc::new(Mutex::new(Told::default())), Arc::new(AtomicBool::new(false)));
    let mut followers = Vec::new();
    for (name, keys, kind) in [
        ("all", Keys::All, Kind::Steady),
        ("one writer's", Keys::Prefix("w1-".into()), Kind::Steady),
        ("all, by tokens", Keys::All, Kind::ByTokens),
        ("all, slowly", Keys::All, Kind::Slow),
    ] {
        let random = scenario.random(followers.len() as u64);
        followers.push(Follower::begin(name, &table, keys, kind, &stop, random).await?);
    }
    let mut tasks = JoinSet::new();
    for writer in 0..WRITERS {
        let (told, stop) = (Arc::clone(&told), Arc::clone(&stop));
        tasks.spawn(write(writer, table.clone(), told, stop, scenario.random(100 + writer)));
    }
    let scans = Arc::new(AtomicU64::new(0));
    tasks.spawn(scan(table.clone(), Arc::clone(&scans), Arc::clone(&stop)));
    let (keys, deadline) = (200, Duration::from_secs(20));
    let seed = scenario.random(1).random();
    let load = Load { table: USED.to_owned(), keys, writers: 2, readers: 2, deadline, seed };
    let running = load.begin(&client);

    for (round, wanted) in [5_u32, 16].into_iter().enumerate() {
        let scanned = scans.load(Ordering::Acquire);
        alter(&admin, FOLLOWED, wanted).await?;
        alter(&admin, USED, wanted).await?;
        // Whoever leads most, the meta group perhaps among it, dies in the middle.
        cluster.kill9(round)?;
        until("it goes on without a node", SPLIT_WITHIN, async || {
            has_partitions(&admin, FOLLOWED, wanted).await?;
            has_partitions(&admin, USED, wanted).await
        })
        .await?;
        cluster.start(round).await?;
        until("the killed node has caught up", WITHIN, async || cluster.ready(round).await).await?;
        cluster.await_healthy().await?;
        until("scans go on", WITHIN, async || {
            let now = scans.load(Ordering::Acquire);
            ensure!(now > scanned + 3, "{} scans", now - scanned);
            Ok(())
        })
        .await?;
        scenario.say(format_args!("{wanted} partitions; node {round} was killed meanwhile and is back"));
    }
    // What was split moves as any other partition does, also to where its other part is.
    cluster.drain("node-4", SPLIT_WITHIN).await?;
    scenario.say("a node was drained");

    stop.store(true, Ordering::Release);
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    let (history, errors) = running.end().await?;
    // Whose node was killed may have been told that it is not known what became of a write.
    scenario.say(format_args!("the load ended: {:?}, {} errors", history.counts(), errors.len()));
    let violations: Vec<_> = history.violations().iter().map(ToString::to_string).collect();
    ensure!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
    let puts = told.lock().puts.len();
    until("what is followed is what is there", WITHIN, async || {
        let there = contents(&table).await?;
        ensure!(there.keys().all(|key| !key.contains("-brief-")), "some have yet to end");
        for follower in &followers {
            let written = there.iter().filter(|(key, _)| key.starts_with('w'));
            follower.agrees(&written.map(|(key, item)| (key.clone(), item.clone())).collect())?;
        }
        Ok(())
    })
    .await?;
    let told = std::mem::take(&mut *told.lock());
    for follower in followers {
        follower.end(&told).await?;
    }
    scenario.say(format_args!("{puts} puts and {} scans", scans.load(Ordering::Acquire)));
    // Each of the others has a replica of everything now.
    cluster.stop(3).await?;
    for name in [FOLLOWED, USED] {
        replicas::all_equal(&cluster, name).await?;
    }
    cluster.finish()
}

/// Keys are written one after the other, each by a writer of its own, while the table is split.
#[tokio::test(flavor = "multi_thread")]
async fn a_split_stops_writes_to_its_keys_for_a_moment_only() -> anyhow::Result<()> {
    let scenario = Scenario::begin("split-pause").await?;
    let cluster = Cluster::form(Shape { nodes: 3, partitions: 0, ..Shape::default() }).await?;
    let client = cluster.client()?;
    let admin = client.admin().with_deadline(Duration::from_secs(20));
    create(&admin, USED, 2).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let longest = Arc::new(Mutex::new(vec![Duration::ZERO; 8]));
    let mut tasks = JoinSet::new();
    for number in 0..8 {
        let table = client.table(USED).with_deadline(WITHIN);
        let (stop, longest) = (Arc::clone(&stop), Arc::clone(&longest));
        tasks.spawn(async move {
            while !stop.load(Ordering::Acquire) {
                let began = Instant::now();
                table.put(format!("key-{number}"), "value", PutOptions::default()).await?;
                let took = began.elapsed();
                if let Some(longest) = longest.lock().get_mut(number) {
                    *longest = took.max(*longest);
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Ok::<(), Error>(())
        });
    }
    until("there are writes", WITHIN, async || {
        ensure!(longest.lock().iter().all(|longest| !longest.is_zero()), "some have not begun");
        Ok(())
    })
    .await?;
    let before = std::mem::replace(&mut *longest.lock(), vec![Duration::ZERO; 8]);
    alter(&admin, USED, 16).await?;
    let began = Instant::now();
    until("it is split", SPLIT_WITHIN, async || has_partitions(&admin, USED, 16).await).await?;
    let took = began.elapsed();
    stop.store(true, Ordering::Release);
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    let shown = |pauses: &[Duration]| {
        let mut pauses: Vec<u128> = pauses.iter().map(Duration::as_millis).collect();
        pauses.sort_unstable();
        pauses
    };
    let pauses = longest.lock().clone();
    scenario.say(format_args!(
        "14 splits took {took:?}; the longest write of each key: {:?} ms, before the first split {:?} ms",
        shown(&pauses),
        shown(&before)
    ));
    let worst = pauses.into_iter().max().unwrap_or_default();
    // The goal is a tenth of a second; the rest is for machines that are busy with other things.
    ensure!(worst < Duration::from_secs(1), "a write waited for {worst:?}");
    cluster.finish()
}

fn fixed(number: u64) -> String {
    format!("fixed-{number:04}")
}

/// Scans the whole table, page by page, again and again: what is always there is found once each time.
async fn scan(table: Table, scans: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> anyhow::Result<()> {
    while !stop.load(Ordering::Acquire) {
        let reverse = scans.load(Ordering::Acquire) % 2 == 1;
        let mut options = ScanOptions { limit: Some(40), reverse, ..ScanOptions::default() };
        let (mut found, mut last) = (BTreeSet::new(), None::<String>);
        loop {
            let page = match table.scan(options.clone()).next_page().await {
                Some(Ok(page)) => page,
                Some(Err(Error::Unavailable(_) | Error::DeadlineExceeded(_))) => continue,
                Some(Err(error)) => return Err(error.into()),
                None => break,
            };
            for item in page.items {
                let key = String::from_utf8(item.key.to_vec())?;
                let in_order =
                    last.as_ref().is_none_or(|last| if reverse { key < *last } else { key > *last });
                ensure!(in_order, "{key} follows {last:?}");
                if key.starts_with("fixed-") {
                    found.insert(key.clone());
                }
                last = Some(key);
            }
            if page.cursor.is_empty() {
                break;
            }
            options.cursor = page.cursor;
        }
        let missing = (0..FIXED).map(fixed).find(|key| !found.contains(key));
        ensure!(missing.is_none(), "{missing:?} was not found, of {} that were", found.len());
        scans.fetch_add(1, Ordering::AcqRel);
    }
    Ok(())
}

async fn create(admin: &Admin, name: &str, partitions: u32) -> anyhow::Result<()> {
    let history = HistorySettings { keep: Keep::Default.into(), before: true, ..HistorySettings::default() };
    let request = CreateTableRequest {
        name: name.to_owned(),
        partitions,
        replicas: 3,
        wait: true,
        history: Some(history),
        ..CreateTableRequest::default()
    };
    admin.create_table(request).await?;
    Ok(())
}

async fn alter(admin: &Admin, name: &str, partitions: u32) -> anyhow::Result<()> {
    let request = AlterTableRequest {
        name: name.to_owned(),
        partitions: Some(partitions),
        ..AlterTableRequest::default()
    };
    admin.alter_table(request).await?;
    Ok(())
}

async fn has_partitions(admin: &Admin, name: &str, wanted: u32) -> anyhow::Result<()> {
    let described = admin.describe_table(DescribeTableRequest { name: name.to_owned() }).await?;
    let table = described.table.context("it is not described")?;
    ensure!(table.partitions == wanted, "{} of {wanted}", table.partitions);
    Ok(())
}

/// A table grows by itself as it is filled, up to what it may, and what it held is there.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_split_by_itself() -> anyhow::Result<()> {
    let scenario = Scenario::begin("split-by-itself").await?;
    let cluster = Cluster::form(Shape { nodes: 3, partitions: 0, ..Shape::default() }).await?;
    let client = cluster.client()?;
    let admin = client.admin().with_deadline(WITHIN);
    let request = CreateTableRequest {
        name: USED.to_owned(),
        partitions: 2,
        replicas: 3,
        wait: true,
        split: Some(SplitPolicy { bytes: 1 << 20, most: 5, ..SplitPolicy::default() }),
        ..CreateTableRequest::default()
    };
    admin.create_table(request).await?;
    let table = client.table(USED).with_deadline(WITHIN);
    // It is known how large it is once it is in files, and so much is written to them.
    let puts = (0..ITEMS).map(|number| {
        let table = table.clone();
        async move {
            let value: Vec<u8> = (0..16 << 10).map(|_| rand::random()).collect();
            table.put(format!("key-{number:05}"), value, PutOptions::default()).await.map(drop)
        }
    });
    stream::iter(puts).buffer_unordered(16).try_collect::<()>().await?;
    until("it has grown as far as it may", GROWN_WITHIN, async || has_partitions(&admin, USED, 5).await)
        .await?;
    let there = contents_of(&table).await?;
    ensure!(there == ITEMS, "{there} items are left");
    scenario.say("a table of two partitions has five, and all it held");
    let refused = AlterTableRequest {
        name: USED.to_owned(),
        split: Some(SplitPolicy { bytes: 7, ..SplitPolicy::default() }),
        ..AlterTableRequest::default()
    };
    ensure!(admin.alter_table(refused).await.is_err(), "a policy that makes no sense is taken");
    cluster.finish()
}

async fn contents_of(table: &Table) -> anyhow::Result<usize> {
    let mut scan = table.scan(ScanOptions { keys_only: true, ..ScanOptions::default() });
    let mut count = 0;
    while let Some(page) = scan.next_page().await {
        count += page?.items.len();
    }
    Ok(count)
}
