//! Indexes beside a model: writers, kills, splits and a move on one side, an index that is added and one that is
//! dropped in the middle, and queries all the while. What an index answers is what a scan finds; a
//! value that may be had once is refused exactly where the model says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use client::{Admin, Error, PutOptions, QueryOptions, ScanOptions, Table, Wanted};
use e2e::commands::trilith;
use e2e::{Cluster, Scenario, Shape, until};
use proto::v1::index_status::State;
use proto::v1::{
    AlterTableRequest, CreateTableRequest, DescribeTableRequest, IndexSettings, IndexType, MoveStage,
    PlanRebalanceRequest, StartMovesRequest, StatusRequest,
};
use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tokio::task::JoinSet;

const TABLE: &str = "people";
const WRITERS: u64 = 4;
/// Keys of one tag are of one slot, and share what may be had once.
const TAGS: u64 = 12;
const KEYS_OF_TAG: u64 = 8;
const CITIES: u64 = 15;
const MAILS: u64 = 6;
const WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn an_index_answers_what_a_scan_finds() -> anyhow::Result<()> {
    let scenario = Scenario::begin("indexes").await?;
    let mut cluster = Cluster::form(Shape { partitions: 0, ..Shape::default() }).await?;
    let client = cluster.client()?;
    let admin = client.admin().with_deadline(Duration::from_secs(30));
    let request = CreateTableRequest {
        name: TABLE.to_owned(),
        partitions: 6,
        replicas: 3,
        wait: true,
        indexes: vec![
            index("city", "$.c", IndexType::String),
            index("tags", "$.t[*]", IndexType::String),
            IndexSettings { unique: true, sparse: true, ..index("mail", "$.m", IndexType::String) },
        ],
        ..CreateTableRequest::default()
    };
    admin.create_table(request).await?;
    let table = client.table(TABLE).with_deadline(WITHIN);
    await_ready(&admin, "city").await?;

    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
        let random = scenario.random(100 + writer);
        let writer = Writer { number: writer, table: table.clone(), random, model: BTreeMap::new() };
        writers.spawn(writer.run(stop, done));
    }
    let go_on = async |count: u64| {
        let before = done.load(Ordering::Acquire);
        until("writes go on", WITHIN, async || {
            let more = done.load(Ordering::Acquire) - before;
            ensure!(more > count, "{more} writes");
            Ok(())
        })
        .await
    };
    go_on(1_000).await?;

    // An index is added in the middle, and the leader of some of its partitions dies while it is built.
    let mut number = index("number", "$.n", IndexType::Number);
    number.sparse = true;
    let alter = AlterTableRequest {
        name: TABLE.to_owned(),
        add_indexes: vec![number],
        ..AlterTableRequest::default()
    };
    admin.alter_table(alter).await?;
    // Its partitions are split meanwhile, in both of which the build goes on.
    let more =
        AlterTableRequest { name: TABLE.to_owned(), partitions: Some(12), ..AlterTableRequest::default() };
    admin.alter_table(more).await?;
    cluster.kill9(1)?;
    go_on(200).await?;
    cluster.start(1).await?;
    until("the killed node has caught up", WITHIN, async || cluster.ready(1).await).await?;
    await_ready(&admin, "number").await?;
    until("the table is split", WITHIN, async || {
        let partitions = cluster.partitions(TABLE).await?.len();
        ensure!(partitions == 12, "{partitions} partitions");
        Ok(())
    })
    .await?;
    scenario.say("an index was added and built while partitions were split and a node was killed");
    go_on(300).await?;

    // Replicas go to another node, with their indexes.
    cluster.add_node().await?;
    cluster.await_healthy().await?;
    let moved = rebalance(&admin).await?;
    ensure!(moved > 0, "nothing was moved to the new node");
    scenario.say(format_args!("{moved} moves brought replicas to a fourth node"));
    cluster.kill9(2)?;
    go_on(200).await?;
    cluster.start(2).await?;
    until("the killed node has caught up", WITHIN, async || cluster.ready(2).await).await?;

    let drop = AlterTableRequest {
        name: TABLE.to_owned(),
        drop_indexes: vec!["tags".to_owned()],
        ..AlterTableRequest::default()
    };
    admin.alter_table(drop).await?;
    until("the dropped index is unknown", WITHIN, async || match keys(&table, "tags", Wanted::All).await {
        Err(Error::NotFound(_)) => Ok(()),
        other => bail!("{other:?}"),
    })
    .await?;
    go_on(200).await?;

    stop.store(true, Ordering::Release);
    let mut model = BTreeMap::new();
    while let Some(writer) = writers.join_next().await {
        model.extend(writer??);
    }
    scenario.say(format_args!("{} writes, {} items", done.load(Ordering::Acquire), model.len()));
    until("what had an end has ended", WITHIN, async || {
        let there = contents(&table).await?;
        ensure!(there == model, "the items are not those of the model: {} and {}", there.len(), model.len());
        Ok(())
    })
    .await?;
    agrees(&table, &model).await?;
    by_command_line(&cluster, &model).await?;
    refusals(&cluster, &admin).await?;
    cluster.finish()
}

fn index(name: &str, path: &str, kind: IndexType) -> IndexSettings {
    let (name, path) = (name.to_owned(), path.to_owned());
    IndexSettings { id: 0, name, path, r#type: kind.into(), unique: false, sparse: false }
}

/// Who alone writes some keys, so that it knows what must be there.
struct Writer {
    number: u64,
    table: Table,
    random: StdRng,
    model: BTreeMap<String, String>,
}

impl Writer {
    async fn run(
        mut self,
        stop: Arc<AtomicBool>,
        done: Arc<AtomicU64>,
    ) -> anyhow::Result<BTreeMap<String, String>> {
        while !stop.load(Ordering::Acquire) {
            for _ in 0..10 {
                self.write().await?;
                done.fetch_add(1, Ordering::AcqRel);
            }
            self.look().await?;
        }
        Ok(self.model)
    }

    async fn write(&mut self) -> anyhow::Result<()> {
        let (tag, number) = (self.random.random_range(0..TAGS), self.random.random_range(0..KEYS_OF_TAG));
        let key = format!("{{w{}-{tag}}}{number}", self.number);
        match self.random.random_range(0..10) {
            0 | 1 => match self.table.delete(key.clone(), None).await {
                Ok(_) => drop(self.model.remove(&key)),
                Err(Error::OutcomeUnknown(_)) => self.settle(key).await?,
                Err(error) => return Err(error).context(format!("deleting {key}")),
            },
            2 => {
                let key = format!("{key}-brief");
                let ttl = Some(Duration::from_millis(self.random.random_range(100..900)));
                let value = json!({"c": "brief", "t": ["brief"], "n": -1}).to_string();
                match self.table.put(key, value, PutOptions { ttl, ..PutOptions::default() }).await {
                    Ok(_) | Err(Error::OutcomeUnknown(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            3 => match self.table.put(key.clone(), "no JSON", PutOptions::default()).await {
                Ok(_) => drop(self.model.insert(key, "no JSON".to_owned())),
                Err(Error::OutcomeUnknown(_)) => self.settle(key).await?,
                Err(error) => return Err(error).context(format!("writing {key}")),
            },
            _ => {
                let value = self.person();
                let clashing = self.has_mail(&key, &value);
                match (self.table.put(key.clone(), value.clone(), PutOptions::default()).await, clashing) {
                    (Ok(_), None) => drop(self.model.insert(key, value)),
                    (Err(Error::UniqueClash { key: other, .. }), Some(clashing)) => {
                        ensure!(other == clashing.as_bytes(), "{other:?} clashes instead of {clashing}");
                    }
                    (Err(Error::OutcomeUnknown(_)), _) => self.settle(key).await?,
                    (put, clashing) => bail!("{key} = {value}: {put:?}, and the model has {clashing:?}"),
                }
            }
        }
        Ok(())
    }

    /// Nobody said whether a write was done; nobody else writes the key, so it says so itself.
    async fn settle(&mut self, key: String) -> anyhow::Result<()> {
        match self.table.get(key.clone()).await?.map(|item| String::from_utf8(item.value.to_vec())) {
            Some(value) => drop(self.model.insert(key, value?)),
            None => drop(self.model.remove(&key)),
        }
        Ok(())
    }

    fn person(&mut self) -> String {
        let tags: Vec<_> = (0..self.random.random_range(0..4))
            .map(|_| format!("t{}", self.random.random_range(0..9)))
            .collect();
        let mail = self.random.random_bool(0.5).then(|| format!("m{}", self.random.random_range(0..MAILS)));
        let city = match self.random.random_range(0..12) {
            0 => Value::Null,
            // Such are cut in the index.
            1 => ("x".repeat(300) + &self.random.random_range(0..3).to_string()).into(),
            _ => format!("city {}", self.random.random_range(0..CITIES)).into(),
        };
        json!({"c": city, "t": tags, "m": mail, "n": self.random.random_range(-500..500)}).to_string()
    }

    /// Another key of the same tag that has the value's mail.
    fn has_mail(&self, key: &str, value: &str) -> Option<String> {
        let mail = text(value, "m")?;
        let tag = key.split_inclusive('}').next()?;
        let others = self.model.range(tag.to_owned()..).take_while(|(other, _)| other.starts_with(tag));
        let mut clashing =
            others.filter(|(other, value)| *other != key && text(value, "m").as_ref() == Some(&mail));
        clashing.next().map(|(other, _)| other.clone())
    }

    /// What was acknowledged is found at once, and what was overwritten is not.
    async fn look(&mut self) -> anyhow::Result<()> {
        let city = format!("city {}", self.random.random_range(0..CITIES));
        let found = keys(&self.table, "city", Wanted::Equals(city.clone())).await?;
        let own = format!("{{w{}-", self.number);
        let found: Vec<_> = found.into_iter().filter(|key| key.starts_with(&own)).collect();
        let lives = |(key, value): (&String, &String)| {
            (text(value, "c").as_ref() == Some(&city)).then(|| key.clone())
        };
        let wanted: Vec<_> = self.model.iter().filter_map(lives).collect();
        ensure!(found == wanted, "writer {} asks for {city}: {found:?} instead of {wanted:?}", self.number);
        Ok(())
    }
}

fn text(value: &str, member: &str) -> Option<String> {
    serde_json::from_str::<Value>(value).ok()?.get(member)?.as_str().map(str::to_owned)
}

async fn keys(table: &Table, index: &str, wanted: Wanted) -> Result<Vec<String>, Error> {
    let mut query = table.query(index, &QueryOptions { wanted, keys_only: true, ..QueryOptions::default() });
    let mut keys = Vec::new();
    while let Some(page) = query.next_page().await {
        keys.extend(page?.items.into_iter().map(|item| String::from_utf8_lossy(&item.key).into_owned()));
    }
    Ok(keys)
}

/// The items that a query gives, by pages of a few, from either end.
async fn items(
    table: &Table,
    index: &str,
    wanted: Wanted,
    reverse: bool,
) -> anyhow::Result<Vec<(String, String)>> {
    let (mut cursor, mut items) = (bytes::Bytes::new(), Vec::new());
    loop {
        let (wanted, limit) = (wanted.clone(), Some(7));
        let options = QueryOptions { wanted, reverse, limit, cursor, ..QueryOptions::default() };
        let mut query = table.query(index, &options);
        let Some(page) = query.next_page().await else { break };
        let page = page?;
        for item in page.items {
            let value = String::from_utf8(item.value.to_vec())?;
            items.push((String::from_utf8(item.key.to_vec())?, value));
        }
        if page.cursor.is_empty() {
            break;
        }
        cursor = page.cursor;
    }
    if reverse {
        items.reverse();
    }
    Ok(items)
}

async fn contents(table: &Table) -> anyhow::Result<BTreeMap<String, String>> {
    let mut scan = table.scan(ScanOptions::default());
    let mut all = BTreeMap::new();
    while let Some(page) = scan.next_page().await {
        for item in page?.items {
            all.insert(String::from_utf8(item.key.to_vec())?, String::from_utf8(item.value.to_vec())?);
        }
    }
    Ok(all)
}

/// Whether an item with that city is an answer.
type Holds = Box<dyn Fn(Option<&str>) -> bool>;

/// Every kind of question, in both directions.
async fn agrees(table: &Table, model: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let cities: BTreeMap<&String, Option<String>> = model
        .iter()
        .filter(|(_, value)| serde_json::from_str::<Value>(value).is_ok())
        .map(|(key, value)| (key, text(value, "c")))
        .collect();
    let ordered = |holds: &dyn Fn(Option<&str>) -> bool| {
        let mut found: Vec<_> = cities
            .iter()
            .filter(|(_, city)| holds(city.as_deref()))
            .map(|(key, city)| {
                // Long ones are in the order of their keys.
                let shown = city.as_ref().map(|city| city.chars().take(256).collect::<String>());
                (shown, (*key).clone())
            })
            .collect();
        found.sort();
        found.into_iter().map(|(_, key)| (key.clone(), model[&key].clone())).collect::<Vec<_>>()
    };
    let long = "x".repeat(300);
    let some = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let (first, second) = (long.clone() + "1", long.clone() + "2");
    let questions: Vec<(Wanted, Holds)> = vec![
        (Wanted::All, Box::new(|_| true)),
        (Wanted::Missing, Box::new(|city| city.is_none())),
        (Wanted::Equals("city 3".into()), Box::new(|city| city == Some("city 3"))),
        (Wanted::Equals("nowhere".into()), Box::new(|_| false)),
        (
            Wanted::In(some(&["city 9", "city 1", "nowhere"])),
            Box::new(|city| matches!(city, Some("city 9" | "city 1"))),
        ),
        (
            Wanted::Prefix("city 1".into()),
            Box::new(|city| city.is_some_and(|city| city.starts_with("city 1"))),
        ),
        (
            Wanted::Range(Some("city 2".into()), Some("city 7".into())),
            Box::new(|city| city.is_some_and(|city| ("city 2".."city 7").contains(&city))),
        ),
        (Wanted::Range(Some("x".into()), None), Box::new(|city| city.is_some_and(|city| city >= "x"))),
        (Wanted::Equals(first.clone()), {
            let first = first.clone();
            Box::new(move |city| city == Some(&*first))
        }),
        (
            Wanted::Range(Some(first.clone()), Some(second.clone())),
            Box::new(move |city| city.is_some_and(|city| (&*first..&*second).contains(&city))),
        ),
    ];
    for (wanted, holds) in questions {
        let expected = ordered(&*holds);
        for reverse in [false, true] {
            let found = items(table, "city", wanted.clone(), reverse).await?;
            ensure!(found == expected, "{wanted:?}, reverse {reverse}: {found:?} instead of {expected:?}");
        }
        let options = QueryOptions { wanted: wanted.clone(), ..QueryOptions::default() };
        let (count, _) = table.query_count("city", &options).await?;
        ensure!(count == expected.len() as u64, "{wanted:?}: counted {count} instead of {}", expected.len());
    }
    let number = |value: &String| serde_json::from_str::<Value>(value).ok()?.get("n")?.as_i64();
    let mut expected: Vec<_> =
        model.iter().filter_map(|(key, value)| Some((number(value)?, key.clone()))).collect();
    expected.sort();
    let below: Vec<_> =
        expected.iter().filter(|(number, _)| *number < -100).map(|(_, key)| key.clone()).collect();
    let expected: Vec<_> = expected.into_iter().map(|(_, key)| key).collect();
    ensure!(keys(table, "number", Wanted::All).await? == expected, "the added index is not whole");
    let found = keys(table, "number", Wanted::Range(None, Some("-1e2".to_owned()))).await?;
    ensure!(found == below, "below -100: {found:?} instead of {below:?}");
    let mails: BTreeSet<_> =
        model.iter().filter(|(_, value)| text(value, "m").is_some()).map(|(key, _)| key.clone()).collect();
    let found = keys(table, "mail", Wanted::All).await?.into_iter().collect::<BTreeSet<_>>();
    ensure!(found == mails, "a sparse index has those with a value: {found:?} instead of {mails:?}");
    Ok(())
}

async fn by_command_line(cluster: &Cluster, model: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let endpoints = cluster.endpoints();
    let ask = async |arguments: &[&str]| {
        let all = [&["query", "city", "-t", TABLE], arguments].concat();
        trilith(&endpoints, &all).await?.output()
    };
    let wanted: Vec<_> = model
        .iter()
        .filter(|(_, value)| text(value, "c").as_deref() == Some("city 3"))
        .map(|(key, _)| key)
        .collect();
    let found = ask(&["--equals", "city 3", "--keys-only"]).await?;
    ensure!(found.lines().eq(wanted.iter().map(|key| key.as_str())), "{found}");
    let count = ask(&["--equals", "city 3", "--count"]).await?;
    ensure!(count.trim() == wanted.len().to_string(), "{count}");
    let plan = ask(&["--equals", "city 3", "--explain"]).await?;
    ensure!(plan.contains("city=$.c:string") && plan.contains("= \"city 3\""), "{plan}");
    let described = trilith(&endpoints, &["table", "describe", TABLE]).await?.output()?;
    ensure!(described.contains("number=$.n:number,sparse") && described.contains("ready"), "{described}");
    Ok(())
}

/// Bad input, and an index that cannot be.
async fn refusals(cluster: &Cluster, admin: &Admin) -> anyhow::Result<()> {
    let endpoints = cluster.endpoints();
    let run = async |arguments: &[&str]| trilith(&endpoints, arguments).await;
    run(&["query", "nope", "-t", TABLE]).await?.refused(3, "no index")?;
    run(&["query", "number", "-t", TABLE, "--equals", "ten"]).await?.refused(1, "not a number")?;
    run(&["query", "number", "-t", TABLE, "--prefix", "1"]).await?.refused(1, "only strings")?;
    run(&["table", "alter", TABLE, "--index", "bad=$..x:string"]).await?.refused(1, "character")?;
    run(&["table", "alter", TABLE, "--index", "city=$.town:string"]).await?.refused(1, "drop it first")?;
    run(&["table", "alter", TABLE, "--drop-index", "nope"]).await?.refused(1, "no index")?;
    // Many have one tag and the same number.
    for key in ["{same}1", "{same}2"] {
        run(&["put", key, r#"{"same":"x"}"#, "-t", TABLE]).await?.ended_with(0)?;
    }
    run(&["table", "alter", TABLE, "--index", "same=$.same:string,unique,sparse"]).await?.ended_with(0)?;
    until("the build has failed", WITHIN, async || {
        let described = admin.describe_table(DescribeTableRequest { name: TABLE.to_owned() }).await?;
        let same = described.indexes.iter().find(|status| named(status, "same")).context("it is unknown")?;
        ensure!(same.state() == State::Failed, "it is {:?}", same.state());
        ensure!(same.failure.contains("{same}1") && same.failure.contains("{same}2"), "{}", same.failure);
        Ok(())
    })
    .await?;
    run(&["query", "same", "-t", TABLE]).await?.refused(1, "could not be built")?;
    run(&["put", "{same}3", r#"{"same":"x"}"#, "-t", TABLE]).await?.ended_with(0)
}

fn named(status: &proto::v1::IndexStatus, name: &str) -> bool {
    status.index.as_ref().is_some_and(|index| index.name == name)
}

async fn await_ready(admin: &Admin, index: &str) -> anyhow::Result<()> {
    until("the index is ready", WITHIN, async || {
        let described = admin.describe_table(DescribeTableRequest { name: TABLE.to_owned() }).await?;
        let status = described.indexes.iter().find(|status| named(status, index)).context("it is unknown")?;
        ensure!(status.state() == State::Ready, "it is {:?}, {} %", status.state(), status.percent);
        Ok(())
    })
    .await
}

/// Brings the cluster into balance; gives how many moves that took.
async fn rebalance(admin: &Admin) -> anyhow::Result<usize> {
    let mut moved = 0;
    for _ in 0..6 {
        let plan = until("nothing is under way", WITHIN, async || {
            let status = admin.status(StatusRequest {}).await?;
            ensure!(status.moves_under_way == 0, "{} moves are under way", status.moves_under_way);
            Ok(admin.plan_rebalance(PlanRebalanceRequest {}).await?)
        })
        .await?;
        if plan.moves.is_empty() {
            return Ok(moved);
        }
        moved += plan.moves.len();
        let start = StartMovesRequest { moves: plan.moves, map_revision: plan.map_revision };
        let started = admin.start_moves(start).await?.moves;
        until("the moves are done", WITHIN, async || {
            let moves = admin.list_moves(proto::v1::ListMovesRequest {}).await?.moves;
            for id in &started {
                let status = moves.iter().find(|status| status.id == *id).context("a move is not listed")?;
                ensure!(status.stage() == MoveStage::Done, "{}: {:?}", status.line, status.stage());
            }
            Ok(())
        })
        .await?;
    }
    bail!("the plan never becomes empty")
}
