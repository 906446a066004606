//! Values that are JSON on a real cluster: patches side by side and through the deaths of leaders,
//! filters beside a model, tables that demand JSON, reads that keep items alive, and what is refused.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use client::{Condition, Error, GetOptions, Operation, Patch, PutOptions, ScanOptions, Table};
use e2e::commands::trilith;
use e2e::curl::{Answered, curl};
use e2e::{Cluster, Scenario, Shape, until};
use proto::v1::value_settings::Demand;
use proto::v1::{AlterTableRequest, CreateTableRequest, ValueSettings};
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;

const WITHIN: Duration = Duration::from_secs(120);
const CLIENTS: u64 = 4;
const EACH: u64 = 80;
const ITEMS: u64 = 3_000;
const PAGES: u64 = 200_000;

#[tokio::test(flavor = "multi_thread")]
async fn json_is_read_and_changed_by_path() -> anyhow::Result<()> {
    let scenario = Scenario::begin("json").await?;
    let mut cluster = Cluster::form(Shape::default()).await?;

    bytes_stay(&cluster).await?;
    scenario.say("what a patch does not touch keeps its bytes, by every door");
    refusals(&cluster).await?;
    scenario.say("what does not fit, or makes no sense, is refused for what it is, and changes nothing");
    counting_together(&scenario, &mut cluster).await?;
    scenario.say("patches side by side and through the death of a leader lost nothing");
    filters_agree_with_a_model(&scenario, &cluster).await?;
    scenario.say("filters and projections gave what a model gives");
    few_among_many(&cluster).await?;
    scenario.say("a filter that few items meet went on through empty pages");
    demands(&cluster).await?;
    scenario.say("a table takes only what it demands");
    touches(&cluster).await?;
    scenario.say("reads kept an item alive, and moved its end seldom");
    cluster.finish()
}

/// A table by itself.
async fn table(cluster: &Cluster, name: &str) -> anyhow::Result<Table> {
    cluster.create_table(name, 4).await?;
    Ok(cluster.client()?.table(name).with_deadline(WITHIN))
}

async fn write(table: &Table, operations: Vec<Operation>) -> anyhow::Result<()> {
    for result in table.batch(operations).await.results {
        result?;
    }
    Ok(())
}

fn merge(patch: &str) -> Patch {
    Patch::Merge(patch.to_owned().into())
}

fn operations(patch: &str) -> Patch {
    Patch::Json(patch.to_owned().into())
}

async fn text(table: &Table, key: &str) -> anyhow::Result<String> {
    let item = table.get(key.to_owned()).await?.with_context(|| format!("{key} is not there"))?;
    Ok(String::from_utf8(item.value.to_vec())?)
}

async fn patch_by_rest(
    cluster: &Cluster,
    key: &str,
    media: &str,
    patch: &str,
    more: &[&str],
) -> anyhow::Result<Answered> {
    let address = format!("http://{}/api/v1/kv/{key}", cluster.http_address(1)?);
    let media = format!("Content-Type: {media}");
    curl(&[&["-X", "PATCH", &address, "-d", patch, "-H", &media], more].concat()).await
}

async fn bytes_stay(cluster: &Cluster) -> anyhow::Result<()> {
    let (table, endpoints) = (cluster.client()?.table("default"), cluster.endpoints());
    let value =
        r#"{ "price" : 1.10, "big":[ 12345678901234567890, 1e400 ], "u":"\u00e9", "home": {"city":"Bern"} }"#;
    table.put("doc", value, PutOptions::default()).await?;
    let done = table.patch("doc", merge(r#"{"home":{"zip":3000}}"#), None).await?;
    ensure!(done.applied, "{done:?}");
    let big = r#""big":[ 12345678901234567890, 1e400 ],"u":"\u00e9""#;
    let expected = format!(r#"{{"price":1.10,{big},"home":{{"city":"Bern","zip":3000}}}}"#);
    ensure!(text(&table, "doc").await? == expected, "{}", text(&table, "doc").await?);

    let patch = r#"[{"op":"test","path":"/home/zip","value":3000.0},{"op":"move","from":"/home/city","path":"/city"}]"#;
    let media = "application/json-patch+json";
    let version = format!("If-Match: \"{}\"", done.version);
    let answered = patch_by_rest(cluster, "doc", media, patch, &["-H", &version]).await?;
    ensure!(answered.header("etag").is_some(), "{:?}", answered.headers);
    answered.with_status(200)?;
    patch_by_rest(cluster, "doc", media, "[]", &["-H", &version]).await?.problem(412, "condition-not-met")?;
    trilith(&endpoints, &["patch", "doc", r#"{"price":null}"#]).await?.ended_with(0)?;
    let expected = format!(r#"{{{big},"home":{{"zip":3000}},"city":"Bern"}}"#);
    ensure!(text(&table, "doc").await? == expected, "{}", text(&table, "doc").await?);

    // By path: through the client, the command line and REST the same bytes.
    let paths = |paths: &[&str]| GetOptions {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        ..GetOptions::default()
    };
    let part = table.get_with("doc", paths(&["$.big"])).await?.context("gone")?;
    ensure!(part.value == "[ 12345678901234567890, 1e400 ]", "{:?}", part.value);
    let several = table.get_with("doc", paths(&["$.home.zip", "$.no", "$.city"])).await?.context("gone")?;
    ensure!(several.value == r#"{"$.home.zip":3000,"$.city":"Bern"}"#, "{:?}", several.value);
    let printed = trilith(&endpoints, &["get", "doc", "--path", "$.u"]).await?.output()?;
    ensure!(printed == "\"\\u00e9\"\n", "{printed}");
    trilith(&endpoints, &["get", "doc", "--path", "$.no"]).await?.refused(3, "leads nowhere")?;
    let address = format!("http://{}/api/v1/kv/doc?path=$.home&path=$.city", cluster.http_address(2)?);
    let shown = curl(&["--globoff", &address]).await?.json(200)?;
    ensure!(shown.get("value") == Some(&json!({"$.home": {"zip": 3000}, "$.city": "Bern"})), "{shown}");
    let address = format!("http://{}/api/v1/kv/doc?path=$.no", cluster.http_address(2)?);
    let shown = curl(&["--globoff", &address]).await?.json(200)?;
    ensure!(shown.get("value").is_none() && shown.get("version").is_some(), "{shown}");
    Ok(())
}

async fn refusals(cluster: &Cluster) -> anyhow::Result<()> {
    let (table, endpoints) = (cluster.client()?.table("default"), cluster.endpoints());
    table.put("text", "hello", PutOptions::default()).await?;
    table.put("json", r#"{"a":1}"#, PutOptions::default()).await?;
    let (merging, listed) = ("application/merge-patch+json", "application/json-patch+json");
    for (key, media, patch, status, kind) in [
        ("text", merging, "{}", 409, "value-not-json"),
        ("absent", listed, "[]", 404, "no-such-key"),
        ("json", listed, r#"[{"op":"test","path":"/a","value":2}]"#, 409, "patch-failed"),
        (
            "json",
            listed,
            r#"[{"op":"add","path":"/b","value":1},{"op":"remove","path":"/c"}]"#,
            409,
            "patch-failed",
        ),
        ("json", listed, r#"[{"op":"add","path":"a","value":1}]"#, 400, "invalid-request"),
        ("json", listed, "{}", 400, "invalid-request"),
        ("json", merging, "{", 400, "invalid-request"),
        ("json", "application/json", "{}", 415, "unsupported-media-type"),
    ] {
        patch_by_rest(cluster, key, media, patch, &[]).await?.problem(status, kind).context(patch)?;
    }
    ensure!(text(&table, "json").await? == r#"{"a":1}"#, "a refusal changed something");
    ensure!(table.get("absent").await?.is_none(), "a refusal made something");
    for (arguments, status, says) in [
        (vec!["patch", "json", "[{}]", "--json-patch"], 1, "operation 0 of the patch: missing field `op`"),
        (vec!["patch", "text", "{}"], 1, "the value is not JSON: expected a value at byte 0"),
        (vec!["patch", "json", "{}", "--if-version", "999999"], 3, "not patched"),
        (vec!["get", "json", "--path", "$.a["], 1, "at character 5 of the path"),
        (vec!["get", "text", "--path", "$"], 1, "not JSON"),
        (vec!["scan", "--filter", "$.a = 1"], 1, "at character 5 of the filter"),
        (vec!["scan", "--path", "a"], 1, "`$`, with which a path begins"),
        (
            vec!["table", "create", "bad", "--values", "any", "--schema", "/dev/null"],
            2,
            "goes with --values json",
        ),
    ] {
        trilith(&endpoints, &arguments).await?.refused(status, says)?;
    }
    let door = cluster.http_address(0)?;
    for query in ["filter=%24.a+%3D%3D", "path=%24..a"] {
        let address = format!("http://{door}/api/v1/kv/range?{query}");
        curl(&[&address]).await?.problem(400, "invalid-request").context(query)?;
    }
    Ok(())
}

/// Each client adds to one number by comparing it and setting it, over and over.
async fn counting_together(scenario: &Scenario, cluster: &mut Cluster) -> anyhow::Result<()> {
    let table = cluster.client()?.table("default").with_deadline(WITHIN);
    let key = "counter";
    table.put(key, r#"{"n":0,"by":{}}"#, PutOptions::default()).await?;
    let counted = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        // Each is a client of its own, whose writes are told apart.
        let table = cluster.client()?.table("default").with_deadline(WITHIN);
        clients.spawn(count(table, key, client, Arc::clone(&counted)));
    }
    let half = CLIENTS * EACH / 2;
    until("half is counted", WITHIN, async || {
        ensure!(counted.load(Ordering::Acquire) >= half, "{} counted", counted.load(Ordering::Acquire));
        Ok(())
    })
    .await?;
    let leader = cluster.leader_of(cluster.partition_of("default", key.as_bytes()).await?).await?;
    cluster.kill9(leader)?;
    scenario.say(format_args!("node {leader} was killed, which led"));
    let mut unknown = BTreeMap::new();
    while let Some(client) = clients.join_next().await {
        let (client, doubtful) = client??;
        unknown.insert(client, doubtful);
    }
    cluster.start(leader).await?;
    cluster.await_healthy().await?;
    let found: Value = serde_json::from_str(&text(&table, key).await?)?;
    let number = |value: Option<&Value>| value.and_then(Value::as_u64).unwrap_or(0);
    let mut sum = 0;
    for client in 0..CLIENTS {
        let of_client = number(found.get("by").and_then(|by| by.get(client.to_string())));
        let most = EACH + unknown.get(&client).copied().unwrap_or(0);
        ensure!(
            (EACH..=most).contains(&of_client),
            "client {client} counted {EACH} (at most {most}): {found}"
        );
        sum += of_client;
    }
    ensure!(number(found.get("n")) == sum, "the sum is not what was counted: {found}");
    scenario
        .say(format_args!("{sum} counted by {CLIENTS} clients, {} in doubt", unknown.values().sum::<u64>()));
    Ok(())
}

/// Adds one so many times; says how many more it may have added without being told.
async fn count(table: Table, key: &str, client: u64, counted: Arc<AtomicU64>) -> anyhow::Result<(u64, u64)> {
    let (mut done, mut doubtful) = (0, 0);
    while done < EACH {
        let read: Value = match table.get(key.to_owned()).await {
            Ok(item) => serde_json::from_slice(&item.context("the counter is gone")?.value)?,
            Err(Error::Unavailable(_) | Error::DeadlineExceeded(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        let number = read.get("n").and_then(Value::as_u64).context("no number")?;
        let mine =
            read.get("by").and_then(|by| by.get(client.to_string())).and_then(Value::as_u64).unwrap_or(0);
        let (next, mine) = (number + 1, mine + 1);
        let patch = json!([
            {"op": "test", "path": "/n", "value": number},
            {"op": "replace", "path": "/n", "value": next},
            {"op": "add", "path": format!("/by/{client}"), "value": mine},
        ]);
        match table.patch(key.to_owned(), operations(&patch.to_string()), None).await {
            Ok(_) => {
                done += 1;
                counted.fetch_add(1, Ordering::AcqRel);
            }
            // Somebody else was faster.
            Err(Error::FailedPrecondition(why)) if why.contains("does not hold") => {}
            Err(Error::Unavailable(_)) => {}
            Err(Error::OutcomeUnknown(_) | Error::DeadlineExceeded(_)) => doubtful += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok((client, doubtful))
}

/// A filter as a function.
type Holds = fn(&Person) -> bool;

#[derive(Debug, Clone)]
struct Person {
    age: i64,
    city: &'static str,
    tags: Vec<&'static str>,
    left: bool,
}

async fn filters_agree_with_a_model(scenario: &Scenario, cluster: &Cluster) -> anyhow::Result<()> {
    let table = table(cluster, "people").await?;
    let mut random = scenario.random(1);
    let (cities, tags) = (["Bern", "Genf", "Basel"], ["a", "b", "c", "d"]);
    let mut model = BTreeMap::new();
    let mut puts = Vec::new();
    for n in 0..ITEMS {
        let key = format!("p{n:05}");
        if n % 10 == 9 {
            puts.push(Operation::put(key, "no JSON", PutOptions::default()));
            continue;
        }
        let person = Person {
            age: random.random_range(-5..90),
            city: cities[random.random_range(0..cities.len())],
            tags: tags.into_iter().filter(|_| random.random_bool(0.4)).collect(),
            left: random.random_bool(0.2),
        };
        let mut value = json!({"age": person.age, "home": {"city": person.city}, "tags": person.tags});
        if person.left {
            value["left"] = Value::Null;
        }
        puts.push(Operation::put(key.clone(), value.to_string(), PutOptions::default()));
        model.insert(key, person);
    }
    write(&table, puts).await?;
    let filters: [(&str, Holds); 8] = [
        ("$.age >= 18", |person| person.age >= 18),
        ("$.age < 1.85e1 and $.home.city == 'Bern'", |person| person.age < 19 && person.city == "Bern"),
        ("not exists($.left)", |person| !person.left),
        ("$.left == null or $.tags[*] == 'd'", |person| person.left || person.tags.contains(&"d")),
        ("$.home.city in ['Genf', \"Basel\"]", |person| person.city != "Bern"),
        ("starts_with($.home.city, 'B') and not contains($.tags, 'a')", |person| {
            person.city.starts_with('B') && !person.tags.contains(&"a")
        }),
        ("$.tags[*] != 'a'", |person| !person.tags.contains(&"a")),
        ("$.age == 1000", |_| false),
    ];
    for (filter, holds) in filters {
        for reverse in [false, true] {
            let limit = random.random_bool(0.5).then(|| random.random_range(1..500));
            let options = ScanOptions {
                filter: filter.to_owned(),
                paths: vec!["$.age".to_owned()],
                reverse,
                limit,
                ..ScanOptions::default()
            };
            let mut expected: Vec<_> = model
                .iter()
                .filter(|(_, person)| holds(person))
                .map(|(key, person)| format!("{key} {}", person.age))
                .collect();
            if reverse {
                expected.reverse();
            }
            expected.truncate(limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)));
            let mut found = Vec::new();
            let mut scan = table.scan(options);
            while let Some(page) = scan.next_page().await {
                for item in page?.items {
                    let (key, value) =
                        (String::from_utf8_lossy(&item.key), String::from_utf8_lossy(&item.value));
                    found.push(format!("{key} {value}"));
                }
            }
            ensure!(
                found == expected,
                "{filter}, reverse {reverse}, limit {limit:?}: {found:?}, not {expected:?}"
            );
        }
    }
    Ok(())
}

/// So many items that no page looks at all of them, and two that are wanted.
async fn few_among_many(cluster: &Cluster) -> anyhow::Result<()> {
    let table = table(cluster, "many").await?;
    let (low, high) = (PAGES / 3, PAGES - 1);
    for from in (0..PAGES).step_by(10_000) {
        let put = |n: u64| {
            let wanted = n == low || n == high;
            Operation::put(format!("k{n:07}"), format!(r#"{{"wanted":{wanted}}}"#), PutOptions::default())
        };
        write(&table, (from..from + 10_000).map(put).collect()).await?;
    }
    let keys = [format!("k{low:07}"), format!("k{high:07}")];
    let scan = ["scan", "-t", "many", "--keys-only", "--filter", "$.wanted == true"];
    let printed = trilith(&cluster.endpoints(), &scan).await?.output()?;
    ensure!(printed == format!("{}\n{}\n", keys[0], keys[1]), "not both");
    let (mut cursor, mut found, mut pages, mut empty) = (String::new(), Vec::new(), 0, 0);
    loop {
        let query = "filter=%24.wanted+%3D%3D+true&keysOnly=true";
        let address = format!(
            "http://{}/api/v1/tables/many/kv/range?{query}{cursor}",
            cluster.http_address(pages % 3)?
        );
        let page = curl(&[&address]).await?.json(200)?;
        let items = page.get("items").and_then(Value::as_array).context("no items")?.clone();
        empty += usize::from(items.is_empty());
        found.extend(items.iter().filter_map(|item| item.get("key")?.as_str().map(str::to_owned)));
        pages += 1;
        match page.get("cursor").and_then(Value::as_str) {
            Some(next) => {
                cursor.clear();
                write!(cursor, "&cursor={next}")?;
            }
            None => break,
        }
        ensure!(pages < 1_000, "the scan does not get on");
    }
    ensure!(found == keys, "{found:?}");
    ensure!(pages >= 2, "the work of one page is not bounded: {pages} pages, {empty} empty");
    Ok(())
}

async fn demands(cluster: &Cluster) -> anyhow::Result<()> {
    let (admin, endpoints) = (cluster.client()?.admin(), cluster.endpoints());
    let folder = tempfile::tempdir()?;
    let schema = folder.path().join("person.json");
    let file = schema.display().to_string();
    for (bad, says) in [
        ("{", "the schema is not JSON"),
        (r#"{"type":"strin"}"#, "the schema is none"),
        (r#"{"$ref":"https://example.com/person"}"#, "not a place in the schema itself"),
        (r##"{"items":{"$ref":"#"}}"##, "in a circle"),
        (r#"{"pattern":"(?<=a)b"}"#, "the schema is none"),
    ] {
        fs::write(&schema, bad)?;
        let create = ["table", "create", "persons", "--values", "json", "--schema", &file];
        trilith(&endpoints, &create).await?.refused(1, says)?;
    }
    let person =
        r#"{"type":"object","required":["name"],"properties":{"age":{"type":"integer","minimum":0}}}"#;
    fs::write(&schema, person)?;
    trilith(&endpoints, &["table", "create", "persons", "--values", "json", "--schema", &file])
        .await?
        .ended_with(0)?;
    let table = cluster.client()?.table("persons").with_deadline(WITHIN);
    // The partitions learn it through their logs, in a moment.
    until("the table refuses what is not JSON", WITHIN, async || {
        match table.put("probe", "text", PutOptions::default()).await {
            Err(Error::FailedPrecondition(why)) if why.contains("the value is not JSON") => Ok(()),
            other => anyhow::bail!("{other:?}"),
        }
    })
    .await?;
    let put = async |value: &str| table.put("ann", value.to_owned(), PutOptions::default()).await;
    put(r#"{"name":"Ann","age":42}"#).await?;
    for (value, says) in [
        ("[]", "is not of type"),
        ("{}", "\"name\" is a required property"),
        (r#"{"name":"Ann","age":-1}"#, "at /age"),
    ] {
        match put(value).await {
            Err(Error::FailedPrecondition(why)) if why.contains(says) => {}
            other => anyhow::bail!("{value}: {other:?}, not {says}"),
        }
    }
    match table.patch("ann", merge(r#"{"name":null}"#), Some(Condition::Exists)).await {
        Err(Error::FailedPrecondition(why)) if why.contains("required") => {}
        other => anyhow::bail!("{other:?}"),
    }
    ensure!(text(&table, "ann").await? == r#"{"name":"Ann","age":42}"#, "a refusal changed something");
    let address = format!("http://{}/api/v1/tables/persons/kv/bob", cluster.http_address(2)?);
    let json = ["-H", "Content-Type: application/json"];
    curl(&[&["-X", "PUT", &address, "-d", r#"{"value":{}}"#], &json[..]].concat())
        .await?
        .problem(422, "value-not-as-demanded")?;

    // What is there when a demand comes stays.
    let old = self::table(cluster, "older").await?;
    old.put("old", "text", PutOptions::default()).await?;
    let values = ValueSettings { demand: Demand::JsonOnly.into(), ..ValueSettings::default() };
    let alter =
        AlterTableRequest { name: "older".to_owned(), values: Some(values), ..AlterTableRequest::default() };
    admin.alter_table(alter).await?;
    until("the altered table refuses", WITHIN, async || {
        ensure!(old.put("new", "text", PutOptions::default()).await.is_err(), "it takes text still");
        Ok(())
    })
    .await?;
    ensure!(text(&old, "old").await? == "text", "what was there is gone");
    let shown = trilith(&endpoints, &["table", "list"]).await?.output()?;
    ensure!(shown.contains("json, schema"), "{shown}");
    Ok(())
}

async fn touches(cluster: &Cluster) -> anyhow::Result<()> {
    const TOUCH: Duration = Duration::from_secs(600);
    let request = CreateTableRequest {
        name: "sessions".to_owned(),
        partitions: 2,
        touch_on_read_ms: u64::try_from(TOUCH.as_millis())?,
        wait: true,
        ..CreateTableRequest::default()
    };
    cluster.client()?.admin().create_table(request).await?;
    let table = cluster.client()?.table("sessions").with_deadline(WITHIN);
    let options = PutOptions { ttl: Some(Duration::from_secs(60)), ..PutOptions::default() };
    let put = table.put("session", "abc", options).await?;
    until("a read moves the end", WITHIN, async || {
        let item = table.get("session").await?.context("it is gone")?;
        ensure!(item.ttl_ms > Some(500_000), "{:?} ms are left", item.ttl_ms);
        ensure!(item.version == put.version, "the version is another");
        Ok(())
    })
    .await?;
    let deadline = async || anyhow::Ok(table.get("session").await?.context("it is gone")?.deadline_ms);
    let first = deadline().await?;
    for _ in 0..50 {
        ensure!(deadline().await? == first, "a tenth has not passed, and the end was moved");
    }
    table.put("endless", "abc", PutOptions::default()).await?;
    ensure!(table.get("endless").await?.context("it is gone")?.deadline_ms.is_none(), "it has an end");
    // By one read alone, without the table's saying so.
    let plain = cluster.client()?.table("default").with_deadline(WITHIN);
    plain.put("brief", "abc", options).await?;
    let asked = GetOptions { touch: Some(TOUCH), ..GetOptions::default() };
    let item = plain.get_with("brief", asked).await?.context("it is gone")?;
    ensure!(item.ttl_ms > Some(500_000), "{:?} ms are left", item.ttl_ms);
    ensure!(plain.get("brief").await?.context("it is gone")?.ttl_ms > Some(500_000), "it was not written");
    Ok(())
}
