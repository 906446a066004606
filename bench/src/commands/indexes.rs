//! What indexes cost and give: puts into a table with two beside one without, and an index query of a
//! hundred items beside a scan of a hundred.
//!
//! Both tables are in one cluster and are used in turns, so a ratio compares what was measured within
//! seconds on one machine; who goes first alternates by round.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bench::{
    cluster::{TrilithCluster, process::until_quiet},
    report::{Figure, Goal, Unit, figure::Sample, table},
};
use client::{Client, Options, PutOptions, QueryOptions, ScanOptions, Table, Wanted};
use proto::v1::{CreateTableRequest, IndexSettings, IndexType};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::time::Instant;

use super::{Place, print, progress};

const PLAIN: &str = "plain";
const INDEXED: &str = "indexed";
const PARTITIONS: u32 = 8;
/// Of each city there are about as many items as a query is to give.
const KEYS: u64 = 20_000;
const CITIES: u64 = 100;
const ITEMS: u64 = 100;
const QUIET_PATIENCE: Duration = Duration::from_secs(15);
const CALL_PATIENCE: Duration = Duration::from_secs(30);

/// Flags of `indexes`.
#[derive(Debug, clap::Args)]
pub struct IndexesArguments {
    #[command(flatten)]
    place: Place,
    /// How often everything is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measured seconds of each turn.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Clients that make one call at a time.
    #[arg(long, default_value_t = 64)]
    clients: u64,
}

/// Runs `indexes`.
pub async fn run(arguments: IndexesArguments) -> anyhow::Result<()> {
    let figures = measure(&arguments).await?;
    let head = ["measurement", "with the index", "without", "ratio", "goal"].map(str::to_owned).to_vec();
    let row = |figure: &Figure| {
        let mut cells: Vec<_> = figure.cells().into_iter().take(4).collect();
        cells.push(figure.judged());
        cells
    };
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(figures.iter().map(row)).collect();
    print(&(table::aligned(&rows).join("\n") + "\n"))
}

/// All figures; of each the indexed one stands first.
async fn measure(arguments: &IndexesArguments) -> anyhow::Result<Vec<Figure>> {
    let started = arguments.place.start_trilith(PARTITIONS, false).await?;
    let cluster = started.cluster;
    let client = Client::connect(cluster.endpoints(), Options::default()).await?;
    for (name, indexes) in [(PLAIN, Vec::new()), (INDEXED, vec![by_city(), by_age()])] {
        let request = CreateTableRequest {
            name: name.to_owned(),
            partitions: PARTITIONS,
            indexes,
            wait: true,
            ..CreateTableRequest::default()
        };
        client.admin().with_deadline(CALL_PATIENCE).create_table(request).await?;
    }
    let (plain, indexed) = (client.table(PLAIN), client.table(INDEXED));
    progress("writing every key once");
    for table in [&plain, &indexed] {
        load(table, arguments.clients, Until::Keys(KEYS)).await?;
    }
    // A put takes 1.8 times as long at most where there are that many fewer of them.
    let mut puts = Figure::new("put of 256 bytes of JSON, two indexes", Unit::PerSecond)
        .with_goal(Goal::AtLeast(1.0 / 1.8));
    let mut pages = Figure::new("a page of 100 items", Unit::Milliseconds).with_goal(Goal::AtMost(3.0));
    let mut keys = Figure::new("a page of 100 keys", Unit::Milliseconds);
    for round in 0..arguments.rounds {
        progress(&format!("round {} of {}", round + 1, arguments.rounds));
        let seconds = Until::Time(Duration::from_secs(arguments.seconds));
        for turn in 0..2 {
            until_quiet(&cluster.process_ids()?, QUIET_PATIENCE).await?;
            if (turn + round) % 2 == 0 {
                puts.trilith.push(Sample::from(load(&indexed, arguments.clients, seconds).await?));
            } else {
                puts.other.push(Sample::from(load(&plain, arguments.clients, seconds).await?));
            }
        }
        until_quiet(&cluster.process_ids()?, QUIET_PATIENCE).await?;
        for (figure, keys_only) in [(&mut pages, false), (&mut keys, true)] {
            figure.trilith.push(Sample::from(query(&indexed, keys_only, arguments.seconds).await?));
            figure.other.push(Sample::from(scan(&indexed, keys_only, arguments.seconds).await?));
        }
    }
    stop(cluster).await?;
    Ok(vec![puts, pages, keys])
}

async fn stop(cluster: TrilithCluster) -> anyhow::Result<()> {
    Ok(cluster.stop().await?)
}

fn by_city() -> IndexSettings {
    let (name, path) = ("city".to_owned(), "$.address.city".to_owned());
    IndexSettings { name, path, r#type: IndexType::String.into(), ..IndexSettings::default() }
}

fn by_age() -> IndexSettings {
    let (name, path) = ("age".to_owned(), "$.age".to_owned());
    IndexSettings { name, path, r#type: IndexType::Number.into(), ..IndexSettings::default() }
}

/// When a load ends.
#[derive(Debug, Clone, Copy)]
enum Until {
    /// Every key is written once.
    Keys(u64),
    /// So much time has passed.
    Time(Duration),
}

/// Puts by clients that make one call at a time; gives how many there were in a second.
async fn load(table: &Table, clients: u64, until: Until) -> anyhow::Result<f64> {
    let (begin, next) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let mut running = tokio::task::JoinSet::new();
    for client in 0..clients {
        let (table, next) = (table.clone().with_deadline(CALL_PATIENCE), Arc::clone(&next));
        let mut random = SmallRng::seed_from_u64(client);
        running.spawn(async move {
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                let number = match until {
                    Until::Keys(keys) if turn >= keys => return Ok::<_, client::Error>(()),
                    Until::Keys(_) => turn,
                    Until::Time(time) if begin.elapsed() >= time => return Ok(()),
                    Until::Time(_) => random.random_range(0..KEYS),
                };
                let key = format!("person{number:010}");
                table.put(key, person(&mut random), PutOptions::default()).await?;
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    let done = next.load(Ordering::Relaxed).saturating_sub(clients);
    Ok(done as f64 / begin.elapsed().as_secs_f64())
}

/// About 256 bytes of JSON.
fn person(random: &mut SmallRng) -> String {
    let (city, age) = (random.random_range(0..CITIES), random.random_range(0..100));
    let note: String = (0..150).map(|_| char::from(random.random_range(b'a'..=b'z'))).collect();
    format!(
        r#"{{"name":"Somebody","age":{age},"address":{{"street":"Long road 7","city":"city {city:03}","zip":"3011"}},"note":"{note}"}}"#
    )
}

/// The median time of a query that gives a hundred items, in milliseconds.
async fn query(table: &Table, keys_only: bool, seconds: u64) -> anyhow::Result<f64> {
    let mut random = SmallRng::seed_from_u64(1);
    median_of(seconds, async || {
        let wanted = Wanted::Equals(format!("city {:03}", random.random_range(0..CITIES)));
        let options = QueryOptions { wanted, limit: Some(ITEMS), keys_only, ..QueryOptions::default() };
        let page = table.query("city", &options).next_page().await;
        Ok(page.transpose()?.map_or(0, |page| page.items.len()))
    })
    .await
}

/// The median time of a scan that does, from anywhere.
async fn scan(table: &Table, keys_only: bool, seconds: u64) -> anyhow::Result<f64> {
    let mut random = SmallRng::seed_from_u64(1);
    median_of(seconds, async || {
        let start = format!("person{:010}", random.random_range(0..KEYS - ITEMS)).into();
        let options = ScanOptions { start, limit: Some(ITEMS), keys_only, ..ScanOptions::default() };
        let page = table.scan(options).next_page().await;
        Ok(page.transpose()?.map_or(0, |page| page.items.len()))
    })
    .await
}

async fn median_of(seconds: u64, mut ask: impl AsyncFnMut() -> anyhow::Result<usize>) -> anyhow::Result<f64> {
    let (begin, mut times) = (Instant::now(), Vec::new());
    while begin.elapsed() < Duration::from_secs(seconds) {
        let asked = Instant::now();
        let items = ask().await?;
        times.push(asked.elapsed().as_secs_f64() * 1_000.0);
        anyhow::ensure!(items > 50, "{items} items are no page of about a hundred");
    }
    bench::report::median(&times).ok_or_else(|| anyhow::anyhow!("nothing was measured"))
}
