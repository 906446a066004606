//! `trilith export` and `trilith import`: what goes out comes in again, and what is interrupted,
//! broken or cut short is gone on with.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use client::{Client, ContentKind, Item, Operation, PutOptions, ScanOptions};
use e2e::commands::{Done, trilith};
use e2e::files::replace_text;
use e2e::process::Process;
use e2e::until::until_every;
use e2e::{Cluster, Scenario, Shape, programs, until};
use rand::RngExt as _;
use rustix::process::Signal;
use tokio::process::Command;

const FORMATS: [&str; 3] = ["jsonl", "csv", "trilith"];
const LIFETIME: Duration = Duration::from_secs(600);
/// How much of a lifetime may pass while an item is exported and imported.
const TOLERANCE_MS: u64 = 60_000;
const LINES: u64 = 5_000;
const BROKEN: u64 = 3_001;
/// So many that a node can be killed while they are imported.
const MANY: u64 = 200_000;
const WITHIN: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn tables_go_through_files() -> anyhow::Result<()> {
    let scenario = Scenario::begin("bulk").await?;
    let mut cluster = Cluster::form(Shape::default()).await?;
    let folder = tempfile::tempdir()?;

    every_format_gives_the_same(&scenario, &cluster, folder.path()).await?;
    scenario.say("exported and imported, a table is the same in every format, and through a pipe");
    what_is_broken_is_named(&cluster, folder.path()).await?;
    scenario.say("a broken line is named, and the import goes on behind it once it is right");
    what_is_cut_short_is_refused(&cluster, folder.path()).await?;
    scenario.say("a binary file that is cut short is not taken for a whole one");
    an_import_outlives_a_leader(&scenario, &mut cluster, folder.path()).await?;
    scenario.say("an import outlived a leader, and another was interrupted and went on");
    an_export_goes_on(&cluster, folder.path()).await?;
    scenario.say("an export was interrupted and went on");
    cluster.finish()
}

async fn every_format_gives_the_same(
    scenario: &Scenario,
    cluster: &Cluster,
    folder: &Path,
) -> anyhow::Result<()> {
    let (client, endpoints) = (cluster.client()?, cluster.endpoints());
    cluster.create_table("source", 4).await?;
    let mut random = scenario.random(1);
    let mut operations = Vec::new();
    for n in 0..2_000_u32 {
        let mut key = format!("{{{}}}, \"{n}\"\r\n", n % 50).into_bytes();
        let mut value: Vec<u8> = b"\"quoted\", and\non two lines".to_vec();
        if n.is_multiple_of(3) {
            key.extend([0xff, 0]);
            value = (0..random.random_range(0..300)).map(|_| random.random()).collect();
        }
        let ttl = n.is_multiple_of(2).then_some(LIFETIME);
        let content = [ContentKind::Bytes, ContentKind::Text, ContentKind::Json][n as usize % 3];
        operations.push(Operation::put(key, value, PutOptions { ttl, content, ..PutOptions::default() }));
    }
    write(&client, "source", operations).await?;
    let source = items_of(&client, "source").await?;

    for format in FORMATS {
        let (file, table) = (path(folder, &format!("all.{format}")), format!("from-{format}"));
        cluster.create_table(&table, 3).await?;
        trilith(&endpoints, &["export", &file, "-t", "source"]).await?.refused(0, "2,000 exported")?;
        ensure!(!Path::new(&format!("{file}.partial")).exists(), "its partial file is left");
        trilith(&endpoints, &["import", &file, "-t", &table]).await?.refused(0, "2,000 imported")?;
        ensure!(!Path::new(&format!("{file}.import")).exists(), "its record is left");
        ensure_same(&source, &items_of(&client, &table).await?).context(format)?;
    }

    cluster.create_table("piped", 3).await?;
    let out = trilith(&endpoints, &["export", "-", "--format", "csv", "-t", "source"]).await?.output()?;
    let mut import = Command::new(programs::find("trilith")?);
    import.args(["-e", &endpoints, "import", "-", "--format", "csv", "-t", "piped"]);
    let ended = programs::run_to_end("trilith import -", &mut import, out.as_bytes(), WITHIN).await?;
    Done::of("trilith import -".to_owned(), &ended).ended_with(0)?;
    ensure_same(&source, &items_of(&client, "piped").await?).context("through a pipe")?;
    // A part of it.
    let part = trilith(&endpoints, &["export", "-", "--format", "jsonl", "-t", "source", "--prefix", "{7}"]);
    ensure!(part.await?.output()?.lines().count() == 40, "the prefix has 40 items");
    Ok(())
}

async fn what_is_broken_is_named(cluster: &Cluster, folder: &Path) -> anyhow::Result<()> {
    let (client, endpoints) = (cluster.client()?, cluster.endpoints());
    let file = path(folder, "orders.jsonl");
    let import = async |more: &[&str]| {
        let arguments = [&["import", file.as_str(), "-t", "orders"], more].concat();
        trilith(&endpoints, &arguments).await
    };
    cluster.create_table("orders", 4).await?;
    fs::write(&file, lines(LINES).replace(&format!("order-{BROKEN:07}\","), "order-?,"))?;
    let stopped = import(&[]).await?;
    stopped.refused(1, &format!("line {BROKEN}: not an item"))?;
    stopped.refused(1, "3,000 imported")?;
    stopped.refused(1, "--resume")?;
    ensure!(items_of(&client, "orders").await?.len() as u64 == BROKEN - 1, "not all before it are there");
    import(&["--resume"]).await?.refused(1, &format!("line {BROKEN}: not an item"))?;
    replace_text(Path::new(&file), "order-?,", &format!("order-{BROKEN:07}\","))?;
    import(&["--resume"]).await?.refused(0, "2,000 imported")?;
    ensure!(items_of(&client, "orders").await?.len() as u64 == LINES, "not all are there");
    import(&["--resume"]).await?.refused(2, "without --resume")?;

    // What the nodes refuse is named as well, and what travels with it is not.
    let long = "k".repeat(5_000);
    fs::write(
        &file,
        format!("{}{{\"key\":\"{long}\",\"value\":\"\"}}\n{{\"key\":\"z\",\"value\":\"z\"}}\n{{", lines(99)),
    )?;
    import(&[]).await?.refused(1, "line 100: length of the key")?;
    let skipped = import(&["--skip-bad"]).await?;
    skipped.refused(0, "line 102: not an item")?;
    skipped.refused(0, "100 imported, 2 left out")?;
    import(&["--from-line", "101", "--skip-bad"]).await?.refused(0, "1 imported, 1 left out")?;
    import(&["--if-absent", "--skip-bad"]).await?.refused(0, "0 imported, 100 were there already")?;
    import(&["--format", "csv"]).await?.refused(1, "line 1")?;
    trilith(&endpoints, &["import", &file, "-t", "nowhere"]).await?.refused(1, "no table")?;
    trilith(&endpoints, &["import", "-"]).await?.refused(2, "--format")
}

async fn what_is_cut_short_is_refused(cluster: &Cluster, folder: &Path) -> anyhow::Result<()> {
    let (client, endpoints) = (cluster.client()?, cluster.endpoints());
    let file = path(folder, "short.trilith");
    trilith(&endpoints, &["export", &file, "-t", "orders"]).await?.output()?;
    let whole = fs::read(&file)?;
    let expected = items_of(&client, "orders").await?;
    fs::write(&file, &whole[..whole.len() - 30])?;
    cluster.create_table("short", 2).await?;
    let import = async |more: &[&str]| {
        let arguments = [&["import", file.as_str(), "-t", "short"], more].concat();
        trilith(&endpoints, &arguments).await
    };
    import(&[]).await?.refused(1, "cut short")?;
    let mut damaged = whole.clone();
    damaged[whole.len() - 100] ^= 1;
    fs::write(&file, &damaged)?;
    import(&[]).await?.refused(1, "checksum")?;
    fs::write(&file, &whole)?;
    import(&["--resume"]).await?.ended_with(0)?;
    ensure_same(&expected, &items_of(&client, "short").await?)
}

async fn an_import_outlives_a_leader(
    scenario: &Scenario,
    cluster: &mut Cluster,
    folder: &Path,
) -> anyhow::Result<()> {
    let file = path(folder, "many.jsonl");
    fs::write(&file, lines(MANY))?;
    let partition = cluster.partition_of("default", b"order-0000001").await?;
    let leader = cluster.leader_of(partition).await?;
    let mut import = start(cluster, folder, &["import", &file])?;
    await_record(&file).await?;
    cluster.kill9(leader)?;
    let status = import.await_end(WITHIN).await?;
    ensure!(status.success(), "it ended with {status}\n{}", import.log_tail());
    let found = items_of(&cluster.client()?, "default").await?;
    ensure!(found.len() as u64 == MANY, "{} items are there", found.len());
    scenario.say("a leader was killed meanwhile, and all items are there");
    cluster.start(leader).await?;
    cluster.await_healthy().await?;

    cluster.create_table("again", 4).await?;
    let mut import = start(cluster, folder, &["import", &file, "-t", "again"])?;
    await_record(&file).await?;
    import.signal(Signal::INT)?;
    let status = import.await_end(WITHIN).await?;
    let said = fs::read_to_string(path(folder, "said"))?;
    ensure!(status.code() == Some(1) && said.contains("interrupted"), "{status}: {said}");
    let before = said.split_once("every item before line ").context("it names no line")?.1;
    let before: u64 = before.split(' ').next().context("no number")?.parse()?;
    let client = cluster.client()?;
    let found = items_of(&client, "again").await?;
    ensure!((1..MANY).contains(&(before - 1)), "it was not interrupted in the middle: {before}");
    ensure!(
        (1..before).all(|line| found.contains_key(&key(line))),
        "something before line {before} is missing"
    );
    let done = trilith(&cluster.endpoints(), &["import", &file, "-t", "again", "--resume"]).await?;
    done.ended_with(0)?;
    ensure!(items_of(&client, "again").await?.len() as u64 == MANY, "not all are there after --resume");
    Ok(())
}

async fn an_export_goes_on(cluster: &Cluster, folder: &Path) -> anyhow::Result<()> {
    let (client, endpoints) = (cluster.client()?, cluster.endpoints());
    cluster.create_table("large", 4).await?;
    let value = vec![b'v'; 16 << 10];
    for round in 0..10 {
        let put = |n| Operation::put(format!("{round}-{n}"), value.clone(), PutOptions::default());
        write(&client, "large", (0..500).map(put).collect()).await?;
    }
    let file = path(folder, "large.csv");
    let partial = format!("{file}.partial");
    let mut export = start(cluster, folder, &["export", &file, "-t", "large"])?;
    until_every("the first page is written", WITHIN, Duration::from_millis(2), async || {
        ensure!(fs::metadata(&partial)?.len() > 1 << 20, "not yet");
        Ok(())
    })
    .await?;
    export.signal(Signal::INT)?;
    let status = export.await_end(WITHIN).await?;
    ensure!(status.code() == Some(1) && !Path::new(&file).exists(), "{status}\n{}", export.log_tail());
    trilith(&endpoints, &["export", &file, "-t", "orders", "--resume"])
        .await?
        .refused(2, "another export")?;
    trilith(&endpoints, &["export", &file, "-t", "large", "--resume"]).await?.refused(0, "5,000 exported")?;
    cluster.create_table("large-again", 4).await?;
    trilith(&endpoints, &["import", &file, "-t", "large-again"]).await?.refused(0, "5,000 imported")?;
    ensure_same(&items_of(&client, "large").await?, &items_of(&client, "large-again").await?)
}

/// Waits until an import has recorded some of a file.
async fn await_record(file: &str) -> anyhow::Result<()> {
    let record = format!("{file}.import");
    until("the import has recorded something", WITHIN, async || {
        let text = fs::read_to_string(&record)?;
        ensure!(!text.contains("\"offset\":0,"), "nothing yet: {text}");
        Ok(())
    })
    .await
}

/// Starts `trilith`, which is to be interrupted or outlive something.
fn start(cluster: &Cluster, folder: &Path, arguments: &[&str]) -> anyhow::Result<Process> {
    let program = programs::find("trilith")?.display().to_string();
    let endpoints = cluster.endpoints();
    let said = folder.join("said");
    if said.exists() {
        fs::remove_file(&said)?;
    }
    let command = [&[program.as_str(), "-e", &endpoints, "--timeout", "30s"], arguments].concat();
    let command: Vec<_> = command.into_iter().map(str::to_owned).collect();
    Process::start("trilith", &command, &said)
}

async fn write(client: &Client, table: &str, operations: Vec<Operation>) -> anyhow::Result<()> {
    for result in client.table(table).batch(operations).await.results {
        result.with_context(|| format!("writing to {table}"))?;
    }
    Ok(())
}

async fn items_of(client: &Client, table: &str) -> anyhow::Result<BTreeMap<Vec<u8>, Item>> {
    let mut found = BTreeMap::new();
    let mut scan = client.table(table).scan(ScanOptions::default());
    while let Some(page) = scan.next_page().await {
        found.extend(page?.items.into_iter().map(|item| (item.key.to_vec(), item)));
    }
    Ok(found)
}

fn ensure_same(source: &BTreeMap<Vec<u8>, Item>, found: &BTreeMap<Vec<u8>, Item>) -> anyhow::Result<()> {
    ensure!(source.keys().eq(found.keys()), "{} items became {}", source.len(), found.len());
    for (one, other) in source.values().zip(found.values()) {
        let passed = match (one.ttl_ms, other.ttl_ms) {
            (Some(before), Some(after)) => before.abs_diff(after) < TOLERANCE_MS,
            (None, None) => true,
            _ => false,
        };
        ensure!(
            passed && one.value == other.value && one.content == other.content,
            "{one:?} became {other:?}"
        );
    }
    Ok(())
}

fn lines(count: u64) -> String {
    let mut text = String::new();
    for line in 1..=count {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{{\"key\":\"order-{line:07}\",\"value\":\"{line:0100}\"}}");
    }
    text
}

fn key(line: u64) -> Vec<u8> {
    format!("order-{line:07}").into_bytes()
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}
