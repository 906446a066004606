//! Following changes by what people have at hand: curl for server-sent events, a Redis client that
//! subscribes to what happens to keys, and the command line.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::commands::trilith;
use e2e::curl::curl;
use e2e::redis::{Connection, Reply};
use e2e::{Cluster, Scenario, Shape};
use proto::v1::{CreateTableRequest, HistorySettings, history_settings::Keep};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// How long an event may take. A leader's loss is the longest that one waits for.
const WITHIN: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn changes_come_through_every_door() -> anyhow::Result<()> {
    let scenario = Scenario::begin("watch-doors").await?;
    let cluster = Cluster::form(Shape::default()).await?;
    let off = HistorySettings { keep: Keep::Off.into(), ..HistorySettings::default() };
    let request =
        CreateTableRequest { name: "silent".into(), wait: true, history: Some(off), ..Default::default() };
    cluster.client()?.admin().create_table(request).await?;

    server_sent_events(&cluster).await?;
    scenario.say("server-sent events go on by the id of the last one");
    refused_events(&cluster).await?;
    scenario.say("what makes no sense to a watch is refused for what it is");
    notifications(&cluster).await?;
    scenario.say("Redis clients are told what happens to keys");
    command_line(&cluster).await?;
    scenario.say("`trilith watch` prints changes and goes on");
    cluster.finish()
}

/// A `curl` that reads events, which ends with it.
struct Events {
    _curl: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

#[derive(Debug, PartialEq)]
struct Event {
    name: String,
    id: String,
    data: Value,
}

impl Events {
    fn open(address: &str, last: Option<&str>) -> anyhow::Result<Self> {
        let mut command = Command::new("curl");
        command.args(["--disable", "--silent", "--no-buffer", "--noproxy", "*", "--max-time", "60"]);
        if let Some(last) = last {
            command.args(["-H", &format!("Last-Event-ID: {last}")]);
        }
        let mut curl = command.arg(address).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let lines = BufReader::new(curl.stdout.take().context("curl has no output")?).lines();
        Ok(Self { _curl: curl, lines })
    }

    async fn next(&mut self) -> anyhow::Result<Event> {
        tokio::time::timeout(WITHIN, self.read()).await.context("no event came")?
    }

    async fn read(&mut self) -> anyhow::Result<Event> {
        let (mut name, mut id, mut data) = (String::new(), String::new(), String::new());
        loop {
            let line = self.lines.next_line().await?.context("the events have ended")?;
            match line.split_once(": ").or_else(|| line.split_once(':')) {
                Some(("event", what)) => what.clone_into(&mut name),
                Some(("id", what)) => what.clone_into(&mut id),
                Some(("data", what)) => data.push_str(what),
                _ if line.is_empty() => {
                    return Ok(Event { name, id, data: serde_json::from_str(&data).context(data)? });
                }
                _ => {}
            }
        }
    }

    /// The next that is about a key.
    async fn change(&mut self) -> anyhow::Result<Event> {
        loop {
            let event = self.next().await?;
            if event.name != "mark" {
                return Ok(event);
            }
        }
    }

    /// That the next are these: what happened, the key and the value.
    async fn are(&mut self, wanted: &[(&str, &str, Option<&str>)]) -> anyhow::Result<Vec<String>> {
        let mut ids = Vec::new();
        for (name, key, value) in wanted {
            let event = self.change().await?;
            let found = event.data.pointer("/item/value").and_then(Value::as_str);
            ensure!(
                event.name == *name && event.data["key"] == *key && found == *value,
                "{event:?} is not {name} of {key} with {value:?}"
            );
            ids.push(event.id);
        }
        Ok(ids)
    }
}

async fn server_sent_events(cluster: &Cluster) -> anyhow::Result<()> {
    let at = |node: usize, rest: &str| -> anyhow::Result<String> {
        Ok(format!("http://{}/api/v1/tables/default/watch{rest}", cluster.http_address(node)?))
    };
    let table = cluster.client()?.table("default");
    table.put("sse-0", "there before", client::PutOptions::default()).await?;

    let mut with_items = Events::open(&at(0, "?prefix=sse-&items=true")?, None)?;
    with_items.are(&[("item", "sse-0", Some("there before"))]).await?;
    let sent = with_items.next().await?;
    ensure!(sent.name == "items-sent" && !sent.id.is_empty(), "{sent:?}");
    let mut first = Events::open(&at(1, "?prefix=sse-")?, Some(&sent.id))?;
    let mut one_key = Events::open(&at(1, "?key=sse-2&keysOnly=true")?, Some(&sent.id))?;

    // One after another they come in this order, also from several partitions.
    let mut ids = Vec::new();
    table.put("elsewhere", "not asked for", client::PutOptions::default()).await?;
    for (key, value) in [("sse-1", "one"), ("sse-2", "two"), ("sse-1", "one more")] {
        table.put(key, value, client::PutOptions::default()).await?;
        ids.extend(first.are(&[("put", key, Some(value))]).await?);
        with_items.are(&[("put", key, Some(value))]).await?;
    }
    one_key.are(&[("put", "sse-2", None)]).await?;
    drop(first);
    table.delete("sse-2", None).await?;
    with_items.are(&[("delete", "sse-2", None)]).await?;
    let brief = client::PutOptions { ttl: Some(Duration::from_millis(50)), ..Default::default() };
    table.put("sse-3", "brief", brief).await?;
    with_items.are(&[("put", "sse-3", Some("brief")), ("expire", "sse-3", None)]).await?;

    // By any node, and from the middle: nothing twice, nothing missed.
    let mut second = Events::open(&at(2, "?prefix=sse-")?, ids.first().map(String::as_str))?;
    let mut found = Vec::new();
    while found.len() < 5 {
        let event = second.change().await?;
        found.push(format!("{} {}", event.name, event.data["key"].as_str().unwrap_or_default()));
    }
    found.sort();
    let wanted = ["delete sse-2", "expire sse-3", "put sse-1", "put sse-2", "put sse-3"];
    ensure!(found == wanted, "after the first came {found:?}");

    table.put("sse-4", "at last", client::PutOptions::default()).await?;
    second.are(&[("put", "sse-4", Some("at last"))]).await?;
    one_key.are(&[("delete", "sse-2", None)]).await.map(drop)
}

async fn refused_events(cluster: &Cluster) -> anyhow::Result<()> {
    let http = cluster.http_address(0)?;
    let ask = async |table: &str, rest: &str| {
        curl(&[&format!("http://{http}/api/v1/tables/{table}/watch{rest}")]).await
    };
    ask("default", "?key=a&prefix=b").await?.problem(400, "invalid-request")?;
    ask("default", "?token=bm9uc2Vuc2U").await?.problem(400, "bad-token")?;
    ask("default", "?token=%25").await?.problem(400, "invalid-request")?;
    ask("default", "?before=true").await?.problem(409, "not-possible-now")?;
    ask("default", "?prefxi=a").await?.problem(400, "invalid-request")?;
    ask("nowhere", "").await?.problem(404, "no-such-table")?;
    let silent = ask("silent", "").await?.problem(409, "not-possible-now")?;
    ensure!(silent.to_string().contains("history"), "{silent}");
    Ok(())
}

fn words(reply: &Reply) -> Vec<String> {
    match reply {
        Reply::Array(Some(parts)) => parts.iter().flat_map(words).collect(),
        Reply::Bulk(Some(bytes)) => vec![String::from_utf8_lossy(bytes).into_owned()],
        Reply::Integer(number) => vec![number.to_string()],
        other => vec![format!("{other:?}")],
    }
}

async fn told(connection: &mut Connection, wanted: &[&str]) -> anyhow::Result<()> {
    let found = words(&connection.reply().await?.0);
    ensure!(found == wanted, "told {found:?}, not {wanted:?}");
    Ok(())
}

async fn notifications(cluster: &Cluster) -> anyhow::Result<()> {
    let mut listener = Connection::open(cluster.redis_address(0)?).await?;
    let mut writer = Connection::open(cluster.redis_address(1)?).await?;
    let found = listener.ask(&["PSUBSCRIBE", "__keyspace@0__:resp-*"]).await?;
    ensure!(words(&found) == ["psubscribe", "__keyspace@0__:resp-*", "1"], "{found:?}");
    let found = listener.ask(&["SUBSCRIBE", "__keyevent@0__:expired"]).await?;
    ensure!(words(&found) == ["subscribe", "__keyevent@0__:expired", "2"], "{found:?}");

    writer.ask(&["SET", "other", "1"]).await?;
    writer.ask(&["SET", "resp-1", "1"]).await?;
    let space = |key: &str| format!("__keyspace@0__:{key}");
    told(&mut listener, &["pmessage", &space("resp-*"), &space("resp-1"), "set"]).await?;
    writer.ask(&["DEL", "resp-1"]).await?;
    told(&mut listener, &["pmessage", &space("resp-*"), &space("resp-1"), "del"]).await?;
    writer.ask(&["SET", "resp-2", "1", "PX", "20"]).await?;
    told(&mut listener, &["pmessage", &space("resp-*"), &space("resp-2"), "set"]).await?;
    told(&mut listener, &["pmessage", &space("resp-*"), &space("resp-2"), "expired"]).await?;
    told(&mut listener, &["message", "__keyevent@0__:expired", "resp-2"]).await?;

    let refused = listener.ask(&["GET", "other"]).await?;
    ensure!(matches!(&refused, Reply::Error(why) if why.contains("SUBSCRIBE")), "{refused:?}");
    ensure!(words(&listener.ask(&["PING", "still there"]).await?) == ["pong", "still there"]);
    let refused = listener.ask(&["SUBSCRIBE", "news"]).await?;
    ensure!(matches!(&refused, Reply::Error(why) if why.contains("'news'")), "{refused:?}");
    ensure!(words(&listener.ask(&["PUNSUBSCRIBE"]).await?) == ["punsubscribe", &space("resp-*"), "1"]);
    let found = listener.ask(&["UNSUBSCRIBE", "__keyevent@0__:expired"]).await?;
    ensure!(words(&found) == ["unsubscribe", "__keyevent@0__:expired", "0"], "{found:?}");
    ensure!(listener.ask(&["GET", "other"]).await?.bytes()? == b"1");

    // In RESP3 messages come beside replies, and everything may be asked.
    listener.send(b"HELLO 3\r\n").await?;
    listener.stream().readable().await?;
    let mut third = Connection::open(cluster.redis_address(2)?).await?;
    third.ask(&["SUBSCRIBE", &space("resp-3")]).await?;
    writer.ask(&["SETEX", "resp-3", "100", "x"]).await?;
    told(&mut third, &["message", &space("resp-3"), "set"]).await
}

async fn command_line(cluster: &Cluster) -> anyhow::Result<()> {
    let endpoints = cluster.endpoints();
    let run = async |line: &[&str]| trilith(&endpoints, line).await;
    run(&["put", "cli-1", "one"]).await?.output()?;
    let out = run(&["watch", "cli-", "--items", "-o", "json", "--limit", "1"]).await?.output()?;
    let item: Value = serde_json::from_str(out.lines().next().context("nothing is printed")?)?;
    ensure!(item["event"] == "item" && item["key"] == "cli-1", "{out}");
    let watching = {
        let endpoints = endpoints.clone();
        let line = ["watch", "cli-", "--limit", "1", "-o", "json"];
        tokio::spawn(async move { trilith(&endpoints, &line).await })
    };
    // It begins at some moment, and sees the next one.
    while !watching.is_finished() {
        run(&["put", "cli-2", "again"]).await?.output()?;
    }
    let watched = watching.await??;
    let err = watched.err.clone();
    let out = watched.output()?;
    let put: Value = serde_json::from_str(out.lines().next().context("nothing is printed")?)?;
    ensure!(put["event"] == "put", "{out}");
    let token = err.rsplit("--from ").next().map(str::trim).context("no token is said")?;
    run(&["put", "cli-3", "three"]).await?.output()?;
    let out = run(&["watch", "--key", "cli-3", "--from", token, "--limit", "1"]).await?.output()?;
    ensure!(out == "put\tcli-3\tthree\n", "{out:?}");
    run(&["watch", "--from", "nonsense!"]).await?.refused(2, "is not a token")?;
    run(&["watch", "--from", "bm9uc2Vuc2U"]).await?.refused(2, "token")?;
    run(&["watch", "-t", "silent"]).await?.refused(1, "history")?;
    run(&["watch", "-t", "nowhere"]).await?.refused(1, "nowhere")
}
