//! The REST door with what people have at hand: curl, and a browser on the page of the API.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::curl::{Answered, curl, curl_with};
use e2e::{Cluster, Scenario, Shape, browser, until};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const JSON: [&str; 2] = ["-H", "Content-Type: application/json"];

#[tokio::test(flavor = "multi_thread")]
async fn curl_and_a_browser_use_rest() -> anyhow::Result<()> {
    let scenario = Scenario::begin("rest").await?;
    let arguments = ["--cors-origins", "https://shop.example"].map(str::to_owned).to_vec();
    let cluster = Cluster::form(Shape { arguments, ..Shape::default() }).await?;
    // One is asked, another answers: each node serves any key.
    let doors = [0, 1, 2].map(|node| cluster.http_address(node).map(Door));
    let [one, two, three] = doors;
    let (one, two, three) = (one?, two?, three?);

    values(&one, &two).await?;
    scenario.say("values of every kind come back as they were given");
    keys(&one, &three).await?;
    scenario.say("keys are bytes");
    conditions(&two, &one).await?;
    scenario.say("conditions hold or are refused");
    repetitions(&one, &two).await?;
    scenario.say("what comes again is done once");
    lists(&three).await?;
    scenario.say("batches and ranges work");
    administration(&one, &two).await?;
    scenario.say("tables and the cluster are shown and changed");
    refusals(&one).await?;
    scenario.say("what makes no sense is refused for what it is");
    slow_clients(&two).await?;
    scenario.say("clients that are slow, or send junk, hold up nobody");

    let page = browser::document_of(&one.at("/api/v1/docs#putKey")).await?;
    for wanted in [
        // What there is, and of the operation that was opened what can be said and answered.
        r#"data-path="/api/v1/tables/{table}/kv/{key}""#,
        r#"data-path="/api/v1/cluster/rebalance""#,
        r#"aria-label="Idempotency-Key""#,
        "/problems/outcome-unknown",
    ] {
        ensure!(page.contains(wanted), "the page of the API does not show {wanted}:\n{page}");
    }
    scenario.say("a browser shows the page of the API");
    cluster.finish()
}

/// The HTTP door of a node.
#[derive(Debug, Clone, Copy)]
struct Door(SocketAddr);

impl Door {
    fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.0)
    }

    async fn get(&self, path: &str) -> anyhow::Result<Answered> {
        curl(&[&self.at(path)]).await
    }

    async fn send(&self, method: &str, path: &str, body: &str, more: &[&str]) -> anyhow::Result<Answered> {
        let address = self.at(path);
        curl(&[&["-X", method, &address, "-d", body], &JSON[..], more].concat()).await
    }

    async fn bare(&self, method: &str, path: &str, more: &[&str]) -> anyhow::Result<Answered> {
        let address = self.at(path);
        curl(&[&["-X", method, &address], more].concat()).await
    }

    /// Sends bytes that curl would not, and reads until the connection is closed.
    async fn raw(&self, bytes: &[u8]) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.0).await?;
        stream.write_all(bytes).await?;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
        read.context("the connection is never closed")??;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

fn member<'a>(value: &'a Value, name: &str) -> anyhow::Result<&'a Value> {
    value.get(name).with_context(|| format!("there is no {name} in {value}"))
}

fn same(found: &Value, name: &str, wanted: impl Into<Value>) -> anyhow::Result<()> {
    let wanted = wanted.into();
    ensure!(member(found, name)? == &wanted, "{name} is not {wanted} in {found}");
    Ok(())
}

async fn values(one: &Door, two: &Door) -> anyhow::Result<()> {
    let written = one.send("PUT", "/api/v1/kv/greeting", r#"{"value": "hello"}"#, &[]).await?;
    let tag = written.header("etag").context("no ETag")?.to_owned();
    let written = written.json(200)?;
    same(&written, "key", "greeting")?;
    ensure!(tag == format!("\"{}\"", member(&written, "version")?), "{tag} and {written}");

    let read = two.get("/api/v1/kv/greeting").await?;
    ensure!(read.header("etag") == Some(tag.as_str()), "{:?}", read.headers);
    ensure!(read.header("x-request-id").is_some(), "{:?}", read.headers);
    let read = read.json(200)?;
    same(&read, "value", "hello")?;
    same(&read, "ttl", Value::Null)?;

    // Not only equal: the same bytes.
    let exact = r#"{"b": 1.10,  "a": [1e3, null]}"#;
    one.send("PUT", "/api/v1/kv/exact", &format!(r#"{{"value": {exact}}}"#), &[]).await?.with_status(200)?;
    let shown = two.get("/api/v1/kv/exact").await?.with_status(200)?.text();
    ensure!(shown.contains(exact), "{shown}");

    let bytes: Vec<u8> = (0..=255).collect();
    let address = one.at("/api/v1/kv/bytes?ttl=100");
    let media = ["-H", "Content-Type: application/octet-stream"];
    curl_with(&[&["-X", "PUT", &address, "--data-binary", "@-"], &media[..]].concat(), &bytes)
        .await?
        .with_status(200)?;
    let raw = two.bare("GET", "/api/v1/kv/bytes", &["-H", "Accept: application/octet-stream"]).await?;
    ensure!(raw.body == bytes, "{:?}", raw.body);
    let shown = two.get("/api/v1/kv/bytes").await?.json(200)?;
    same(&shown, "encoding", "base64")?;
    let left = member(&shown, "ttl")?.as_f64().context("no ttl")?;
    ensure!(left > 60.0 && left <= 100.0, "{left} seconds are left");

    one.send("PUT", "/api/v1/kv/brief", r#"{"value": 1, "ttl": 0.25}"#, &[]).await?.with_status(200)?;
    until("the brief key is gone", Duration::from_secs(10), async || {
        two.get("/api/v1/kv/brief").await?.problem(404, "no-such-key")
    })
    .await?;

    // curl calls what it is given a form; that says nothing of what it is.
    let plain = curl(&["-X", "PUT", &one.at("/api/v1/kv/plain"), "-d", r#"{"value":7}"#]).await?;
    plain.with_status(200)?;
    let long = json!({ "value": "long ".repeat(1000) }).to_string();
    one.send("PUT", "/api/v1/kv/long", &long, &[]).await?.with_status(200)?;
    let zipped = one.bare("GET", "/api/v1/kv/long", &["-H", "Accept-Encoding: gzip"]).await?;
    ensure!(
        zipped.header("content-encoding") == Some("gzip") && zipped.body.len() < 500,
        "{:?}",
        zipped.headers
    );
    let unzipped = one.bare("GET", "/api/v1/kv/long", &["--compressed"]).await?.json(200)?;
    same(&unzipped, "value", "long ".repeat(1000))
}

async fn keys(one: &Door, three: &Door) -> anyhow::Result<()> {
    for (written, read) in [
        ("/api/v1/kv/a%2Fb", "/api/v1/kv?key=a%2Fb"),
        ("/api/v1/kv/%FF%00", "/api/v1/kv?key64=_wA"),
        ("/api/v1/kv?key=range", "/api/v1/kv?key64=cmFuZ2U"),
        ("/api/v1/kv?key=with+space", "/api/v1/kv/with%20space"),
        ("/api/v1/tables/default/kv/named", "/api/v1/kv/named"),
    ] {
        let value = format!(r#"{{"value": "{written}"}}"#);
        one.send("PUT", written, &value, &[]).await?.with_status(200)?;
        same(&three.get(read).await?.json(200)?, "value", written)?;
        let head = curl(&["--head", &three.at(read)]).await?.with_status(200)?;
        ensure!(head.header("etag").is_some() && head.body.is_empty(), "{head:?}");
        three.bare("DELETE", read, &[]).await?.with_status(200)?;
        one.get(written).await?.problem(404, "no-such-key")?;
        one.bare("DELETE", written, &[]).await?.problem(404, "no-such-key")?;
    }
    let bytes = one.send("PUT", "/api/v1/kv/%FF", r#"{"value": 1}"#, &[]).await?.json(200)?;
    same(&bytes, "key64", "_w")?;
    one.bare("DELETE", "/api/v1/kv/%FF", &[]).await?.with_status(200)?;
    Ok(())
}

async fn conditions(two: &Door, one: &Door) -> anyhow::Result<()> {
    let put = async |condition: &str, value: u32| {
        two.send("PUT", "/api/v1/kv/guarded", &json!({ "value": value }).to_string(), &["-H", condition])
            .await
    };
    put("If-Match: *", 1).await?.problem(412, "condition-not-met")?;
    let first = put("If-None-Match: *", 1).await?.with_status(201)?;
    let tag = first.header("etag").context("no ETag")?.to_owned();
    let refused = put("If-None-Match: *", 2).await?.problem(412, "condition-not-met")?;
    ensure!(tag == format!("\"{}\"", member(&refused, "currentVersion")?), "{refused}");
    let second = put(&format!("If-Match: {tag}"), 3).await?.with_status(200)?;
    let newer = second.header("etag").context("no ETag")?.to_owned();
    put(&format!("If-Match: {tag}"), 4).await?.problem(412, "condition-not-met")?;
    put("If-Match: \"not ours\"", 4).await?.problem(412, "condition-not-met")?;
    put("If-Match: bare", 4).await?.problem(400, "invalid-request")?;

    let header = format!("If-None-Match: {newer}");
    let unchanged = one.bare("GET", "/api/v1/kv/guarded", &["-H", &header]).await?.with_status(304)?;
    ensure!(unchanged.body.is_empty(), "{unchanged:?}");
    let header = format!("If-None-Match: {tag}");
    same(&one.bare("GET", "/api/v1/kv/guarded", &["-H", &header]).await?.json(200)?, "value", 3)?;
    let delete = async |condition: &str| one.bare("DELETE", "/api/v1/kv/guarded", &["-H", condition]).await;
    delete(&format!("If-Match: {tag}")).await?.problem(412, "condition-not-met")?;
    delete(&format!("If-Match: {newer}")).await?.with_status(200)?;
    Ok(())
}

async fn repetitions(one: &Door, two: &Door) -> anyhow::Result<()> {
    let header = ["-H", "Idempotency-Key: order-7"];
    let first = one.send("PUT", "/api/v1/kv/order", r#"{"value": "first"}"#, &header).await?.json(200)?;
    two.send("PUT", "/api/v1/kv/order", r#"{"value": "between"}"#, &[]).await?.with_status(200)?;
    for door in [one, two] {
        let again =
            door.send("PUT", "/api/v1/kv/order", r#"{"value": "first"}"#, &header).await?.json(200)?;
        ensure!(again == first, "{again} is not {first}");
    }
    same(&one.get("/api/v1/kv/order").await?.json(200)?, "value", "between")?;
    let other = one.send("PUT", "/api/v1/kv/order", r#"{"value": "other"}"#, &header).await?;
    other.problem(422, "idempotency-key-reused")?;

    let header = ["-H", "Idempotency-Key: batch-7"];
    let body = r#"{"r1": 1, "r2": 2, "r3": 3}"#;
    let first = one.send("POST", "/api/v1/kv/batch", body, &header).await?.json(200)?;
    let again = two.send("POST", "/api/v1/kv/batch", body, &header).await?.json(200)?;
    ensure!(again == first, "{again} is not {first}");
    one.bare("DELETE", "/api/v1/kv/order", &["-H", "Idempotency-Key: gone-7"]).await?.with_status(200)?;
    one.bare("DELETE", "/api/v1/kv/order", &["-H", "Idempotency-Key: gone-7"]).await?.with_status(200)?;
    Ok(())
}

async fn lists(three: &Door) -> anyhow::Result<()> {
    let body =
        json!((0..25).map(|at| (format!("list{at:02}"), json!(at))).collect::<serde_json::Map<_, _>>());
    let batch = three.send("POST", "/api/v1/kv/batch", &body.to_string(), &[]).await?.json(200)?;
    ensure!(member(&batch, "results")?.as_array().is_some_and(|all| all.len() == 25), "{batch}");
    let mixed = json!([
        {"op": "get", "key": "list03"}, {"op": "put", "key": "list04", "value": {"new": true}, "ifExists": true},
        {"op": "get", "key": "nothing"}, {"op": "delete", "key": "list05"}, {"op": "exists", "key": "list05"},
        {"op": "put", "key": "list06", "value": 0, "ifAbsent": true},
    ]);
    let mixed = three.send("POST", "/api/v1/kv/batch", &mixed.to_string(), &[]).await?.json(200)?;
    let results = member(&mixed, "results")?.as_array().context("no list")?;
    let statuses: Vec<_> =
        results.iter().map(|result| result.get("status").and_then(Value::as_u64)).collect();
    ensure!(statuses == [200, 200, 404, 200, 200, 412].map(Some), "{mixed}");

    let crossing = three.send("POST", "/api/v1/kv/batch?atomic=true", r#"{"x":1,"y":2}"#, &[]).await?;
    crossing.problem(400, "cross-slot")?;
    let held =
        three.send("POST", "/api/v1/kv/batch?atomic=true", r#"{"{t}x":1,"{t}y":2}"#, &[]).await?.json(200)?;
    ensure!(member(&held, "results")?.as_array().is_some_and(|all| all.len() == 2), "{held}");
    let stopped =
        r#"[{"op":"put","key":"{t}x","value":9},{"op":"put","key":"{t}y","value":9,"ifVersion":99999}]"#;
    let stopped = three.send("POST", "/api/v1/kv/batch?atomic=true", stopped, &[]).await?;
    let stopped = stopped.problem(412, "condition-not-met")?;
    ensure!(member(&stopped, "results")?.to_string().contains("/problems/not-applied"), "{stopped}");
    same(&three.get("/api/v1/kv/%7Bt%7Dx").await?.json(200)?, "value", 1)?;

    let (mut keys, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let path = format!("/api/v1/kv/range?prefix=list&limit=10&keysOnly=true&reverse=true{cursor}");
        let page = three.get(&path).await?.json(200)?;
        let items = member(&page, "items")?.as_array().context("no items")?.clone();
        keys.extend(items.iter().filter_map(|item| item.get("key")?.as_str().map(str::to_owned)));
        ensure!(items.iter().all(|item| item.get("value").is_none()), "{page}");
        pages += 1;
        match member(&page, "cursor")?.as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    ensure!(keys.len() == 24 && pages == 3 && keys.is_sorted_by(|a, b| a > b), "{pages} pages: {keys:?}");
    let some = three.get("/api/v1/kv/range?startKey=list07&endKey=list10").await?.json(200)?;
    same(&some, "count", 3)?;
    three.get("/api/v1/kv/range?cursor=AAAA").await?.problem(400, "bad-cursor")?;
    Ok(())
}

async fn administration(one: &Door, two: &Door) -> anyhow::Result<()> {
    let table = r#"{"name": "orders", "partitions": 4, "ttl": 3600}"#;
    let created = one.send("POST", "/api/v1/tables", table, &[]).await?.with_status(201)?;
    ensure!(created.header("location") == Some("/api/v1/tables/orders"), "{:?}", created.headers);
    let other = one.send("POST", "/api/v1/tables", r#"{"name": "orders", "partitions": 5}"#, &[]).await?;
    other.problem(409, "already-exists")?;
    one.send("PUT", "/api/v1/tables/orders/kv/o1", r#"{"value": "paid"}"#, &[]).await?.with_status(200)?;
    let paid = one.get("/api/v1/tables/orders/kv/o1").await?.json(200)?;
    ensure!(member(&paid, "ttl")?.as_f64().is_some_and(|ttl| ttl > 3000.0), "{paid}");
    one.get("/api/v1/kv/o1").await?.problem(404, "no-such-key")?;
    let stats = two.get("/api/v1/tables/orders/kv/stats").await?.json(200)?;
    let partitions = member(&stats, "partitions")?.as_array().context("no partitions")?;
    ensure!(partitions.len() == 4, "{stats}");
    let altered = two.send("PATCH", "/api/v1/tables/orders", r#"{"ttl": 0}"#, &[]).await?.json(200)?;
    same(&altered, "ttl", Value::Null)?;
    let listed = two.get("/api/v1/tables").await?.with_status(200)?.text();
    ensure!(listed.contains("orders") && listed.contains("default"), "{listed}");
    two.bare("DELETE", "/api/v1/tables/orders", &[]).await?.with_status(204)?;
    until("the table is gone everywhere", Duration::from_secs(10), async || {
        one.get("/api/v1/tables/orders/kv/o1").await?.problem(404, "no-such-table")
    })
    .await?;

    let status = one.get("/api/v1/cluster/status").await?.json(200)?;
    ensure!(member(&status, "nodes")?.as_array().is_some_and(|nodes| nodes.len() == 3), "{status}");
    let leader = one.get("/api/v1/cluster/leader").await?.json(200)?;
    let name = member(&leader, "name")?.as_str().context("no name")?.to_owned();
    one.get(&format!("/api/v1/cluster/nodes/{name}")).await?.json(200)?;
    one.get(&format!("/api/v1/cluster/nodes/{name}/can-restart")).await?.json(200)?;
    one.get("/api/v1/cluster/nodes/nobody").await?.problem(404, "not-found")?;
    one.bare("POST", "/api/v1/cluster/nodes/nobody/drain", &[]).await?.problem(404, "not-found")?;
    let listed = two.get("/api/v1/cluster/partitions?table=default").await?.json(200)?;
    ensure!(member(&listed, "partitions")?.as_array().is_some_and(|all| all.len() == 8), "{listed}");
    let plan = two.get("/api/v1/cluster/rebalance").await?.json(200)?;
    member(&plan, "balanced")?;
    two.bare("POST", "/api/v1/cluster/rebalance", &[]).await?.with_status(202)?;
    two.get("/api/v1/cluster/moves").await?.json(200)?;
    Ok(())
}

async fn refusals(one: &Door) -> anyhow::Result<()> {
    let put = async |body: &str| one.send("PUT", "/api/v1/kv/bad", body, &[]).await;
    put("{").await?.problem(400, "invalid-json")?;
    put(r#"{"value":1,"more":2}"#).await?.problem(400, "invalid-json")?;
    put(r#"{"value":1,"ttl":-1}"#).await?.problem(400, "invalid-request")?;
    let deep = format!("{{\"value\":{}}}", "[".repeat(100_000));
    let address = one.at("/api/v1/kv/bad");
    let from_input = [&["-X", "PUT", &address, "--data-binary", "@-"], &JSON[..]].concat();
    curl_with(&from_input, deep.as_bytes()).await?.problem(400, "json-too-deep")?;
    curl_with(&from_input, b"{\"value\":\"\xff\"}").await?.problem(400, "invalid-json")?;
    let huge = format!("{{\"value\":\"{}\"}}", "x".repeat((8 << 20) + 1));
    let refused = curl_with(&from_input, huge.as_bytes()).await?.problem(413, "value-too-large")?;
    same(&refused, "limit", 8 << 20)?;
    let text = ["-H", "Content-Type: text/plain"];
    one.bare("PUT", "/api/v1/kv/bad", &[&text[..], &["-d", "x"]].concat())
        .await?
        .problem(415, "unsupported-media-type")?;
    let long = format!("/api/v1/kv/{}", "k".repeat(5000));
    one.get(&long).await?.problem(413, "key-too-long")?;
    one.get("/api/v1/kv/%zz").await?.problem(400, "invalid-request")?;
    one.get("/api/v1/kv?kee=1").await?.problem(400, "invalid-request")?;
    one.get("/api/v1/tables/nope/kv/k").await?.problem(404, "no-such-table")?;
    one.get("/api/v1/nothing").await?.problem(404, "not-found")?;
    let method = one.bare("POST", "/api/v1/kv/k", &[]).await?;
    ensure!(method.header("allow").is_some_and(|allow| allow.contains("PUT")), "{:?}", method.headers);
    method.problem(405, "method-not-allowed")?;

    let evil = ["-H", "Origin: https://evil.example"];
    one.send("PUT", "/api/v1/kv/bad", r#"{"value":1}"#, &evil).await?.problem(403, "origin-not-allowed")?;
    let shop = ["-H", "Origin: https://shop.example"];
    let allowed = one.send("PUT", "/api/v1/kv/good", r#"{"value":1}"#, &shop).await?.with_status(200)?;
    ensure!(
        allowed.header("access-control-allow-origin") == Some("https://shop.example"),
        "{:?}",
        allowed.headers
    );
    let asked = ["-H", "Access-Control-Request-Method: PUT"];
    let preflight =
        one.bare("OPTIONS", "/api/v1/kv/good", &[&shop[..], &asked[..]].concat()).await?.with_status(200)?;
    ensure!(preflight.header("access-control-allow-methods").is_some(), "{:?}", preflight.headers);
    Ok(())
}

/// Each of these would cost a careless server a task and its memory for good.
async fn slow_clients(two: &Door) -> anyhow::Result<()> {
    let junk = two.raw(b"\x16\x03\x01\x00\xff\xff\r\n\r\n").await?;
    ensure!(junk.starts_with("HTTP/1.1 400"), "{junk}");
    let huge = two.raw(b"PUT /api/v1/kv/k HTTP/1.1\r\nHost: n\r\nContent-Length: 2147483648\r\n\r\n").await?;
    ensure!(huge.starts_with("HTTP/1.1 413") && huge.contains("/problems/body-too-large"), "{huge}");
    let half_a_body = b"PUT /api/v1/kv/k HTTP/1.1\r\nHost: n\r\nContent-Length: 20\r\n\r\n{\"val";
    let half_a_header = b"GET /api/v1/kv/k HTTP/1.1\r\nHost: n\r\nX-Slow: ";
    let (body, header, quick) =
        tokio::join!(two.raw(half_a_body), two.raw(half_a_header), two.get("/api/v1/kv/greeting"));
    quick?.with_status(200)?;
    let body = body?;
    ensure!(body.starts_with("HTTP/1.1 408") && body.contains("/problems/body-too-slow"), "{body}");
    // There is nobody to tell: the request never became one.
    let header = header?;
    ensure!(header.is_empty() || header.starts_with("HTTP/1.1 408"), "{header}");
    Ok(())
}
