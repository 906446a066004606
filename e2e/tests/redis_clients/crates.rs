//! What programs in Rust use.

use std::collections::{BTreeSet, HashMap};

use anyhow::ensure;
use fred::interfaces::{ClientLike as _, KeysInterface as _, TransactionInterface as _};
use fred::types::config::Config;
use fred::types::scan::Scanner as _;
use fred::types::{Builder, Expiration, SetOptions};
use futures::{StreamExt as _, TryStreamExt as _};
use redis::AsyncCommands;

use crate::doors::Doors;

const KEYS: usize = 100;

/// The crate redis with one server.
pub async fn redis_plain(doors: &Doors) -> anyhow::Result<()> {
    for protocol in ["resp2", "resp3"] {
        let name = format!("redis-rs-{protocol}");
        let client = redis::Client::open(format!("redis://{}/?protocol={protocol}", doors.plain()?))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis_round(&mut connection, &name).await?;
        let keys = pairs(&name);
        let () = connection.mset(&keys).await?;
        let names: Vec<_> = keys.iter().map(|(key, _)| key.clone()).collect();
        let values: Vec<String> = connection.mget(&names).await?;
        ensure!(values.iter().eq(keys.iter().map(|(_, value)| value)), "MGET gives {values:?}");
        let found: Vec<_> =
            connection.scan_match::<_, String>(format!("{name}-many-*")).await?.collect().await;
        let found: BTreeSet<_> = found.into_iter().collect::<Result<_, _>>()?;
        ensure!(found.iter().eq(&names.iter().cloned().collect::<BTreeSet<_>>()), "SCAN gives {found:?}");
        let deleted: usize = connection.del(&names).await?;
        ensure!(deleted == KEYS, "DEL takes {deleted}");
    }
    let client = redis::Client::open(format!("redis+unix://{}", doors.socket.display()))?;
    let mut connection = client.get_multiplexed_async_connection().await;
    if let Ok(connection) = &mut connection {
        redis_round(connection, "redis-rs-unix").await?;
    }
    Ok(connection.map(|_| ())?)
}

/// The crate redis with a cluster.
pub async fn redis_in_a_cluster(doors: &Doors) -> anyhow::Result<()> {
    let nodes = doors.redirecting.iter().map(|node| format!("redis://{node}/"));
    let client = redis::cluster::ClusterClient::new(nodes.collect::<Vec<_>>())?;
    let mut connection = client.get_async_connection().await?;
    redis_round(&mut connection, "redis-rs-cluster").await?;
    // It sends each node its part, and puts the answers together.
    let keys = pairs("redis-rs-cluster");
    let () = connection.mset(&keys).await?;
    let names: Vec<_> = keys.iter().map(|(key, _)| key.clone()).collect();
    let values: Vec<String> = connection.mget(&names).await?;
    ensure!(values.iter().eq(keys.iter().map(|(_, value)| value)), "MGET over nodes gives {values:?}");
    Ok(())
}

async fn redis_round(connection: &mut impl AsyncCommands, name: &str) -> anyhow::Result<()> {
    let (key, counter) = (format!("{{{name}}}-a"), format!("{{{name}}}-n"));
    let _: usize = connection.del(&[&key, &counter]).await?;
    let () = connection.set_ex(&key, "value", 100).await?;
    let value: String = connection.get(&key).await?;
    ensure!(value == "value", "GET gives {value:?}");
    let left: i64 = connection.ttl(&key).await?;
    ensure!((90..=100).contains(&left), "TTL gives {left}");
    let persisted: bool = connection.persist(&key).await?;
    ensure!(persisted, "PERSIST does nothing");
    let sum: i64 = connection.incr(&counter, 7).await?;
    ensure!(sum == 7, "INCRBY gives {sum}");
    let nothing: Option<String> = connection.get(format!("{name}-nothing")).await?;
    ensure!(nothing.is_none(), "GET of nothing gives {nothing:?}");
    let (first, second): (i64, String) = redis::pipe()
        .atomic()
        .incr(&counter, 1)
        .set(&key, "changed")
        .ignore()
        .get(&key)
        .query_async(connection)
        .await?;
    ensure!((first, second.as_str()) == (8, "changed"), "a transaction gives {first} and {second:?}");
    let mut pipeline = redis::pipe();
    for _ in 0..KEYS {
        pipeline.incr(&counter, 1);
    }
    let sums: Vec<i64> = pipeline.query_async(connection).await?;
    ensure!(sums.iter().copied().eq(9..9 + KEYS as i64), "a pipeline gives {sums:?}");
    let wrong: redis::RedisResult<i64> = connection.incr(&key, 1).await;
    let wrong = wrong.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(wrong.contains("not an integer"), "INCR of no number: {wrong:?}");
    Ok(())
}

/// The crate fred with one server.
pub async fn fred_plain(doors: &Doors) -> anyhow::Result<()> {
    for version in [fred::types::RespVersion::RESP2, fred::types::RespVersion::RESP3] {
        let mut config = Config::from_url(&format!("redis://{}", doors.plain()?))?;
        config.version = version.clone();
        let client = Builder::from_config(config).build()?;
        client.init().await?;
        let name = format!("fred-{version:?}");
        fred_round(&client, &name).await?;
        let keys = pairs(&name);
        let names: Vec<_> = keys.iter().map(|(key, _)| key.clone()).collect();
        client.mset(keys.iter().cloned().collect::<HashMap<_, _>>()).await?;
        let values: Vec<String> = client.mget(names.clone()).await?;
        ensure!(values.iter().eq(keys.iter().map(|(_, value)| value)), "MGET gives {values:?}");
        let pages = client.scan(format!("{name}-many-*"), Some(9), None);
        let pages: Vec<_> =
            pages.map_ok(|mut page| page.take_results().unwrap_or_default()).try_collect().await?;
        let found: BTreeSet<_> = pages.concat().into_iter().filter_map(|key| key.into_string()).collect();
        ensure!(found == names.into_iter().collect(), "SCAN gives {found:?}");
        client.quit().await?;
    }
    Ok(())
}

/// The crate fred with a cluster.
pub async fn fred_in_a_cluster(doors: &Doors) -> anyhow::Result<()> {
    let first = doors.cluster()?;
    let rest = doors.redirecting.iter().skip(1).map(|node| format!("node={node}"));
    let rest = rest.collect::<Vec<_>>().join("&");
    let config = Config::from_url(&format!("redis-cluster://{first}?{rest}"))?;
    let client = Builder::from_config(config).build()?;
    client.init().await?;
    fred_round(&client, "fred-cluster").await?;
    for (key, value) in pairs("fred-cluster") {
        let () = client.set(&key, &value, None, None, false).await?;
        let found: String = client.get(&key).await?;
        ensure!(found == value, "GET {key} gives {found:?}");
    }
    client.quit().await?;
    Ok(())
}

async fn fred_round(client: &fred::clients::Client, name: &str) -> anyhow::Result<()> {
    let (key, counter) = (format!("{{{name}}}-a"), format!("{{{name}}}-n"));
    let _: i64 = client.del(vec![key.clone(), counter.clone()]).await?;
    let () = client.set(&key, "value", Some(Expiration::EX(100)), None, false).await?;
    let value: String = client.get(&key).await?;
    ensure!(value == "value", "GET gives {value:?}");
    let left: i64 = client.ttl(&key).await?;
    ensure!((90..=100).contains(&left), "TTL gives {left}");
    let refused: Option<String> = client.set(&key, "no", None, Some(SetOptions::NX), false).await?;
    ensure!(refused.is_none(), "SET NX over a key gives {refused:?}");
    let sum: i64 = client.incr(&counter).await?;
    ensure!(sum == 1, "INCR gives {sum}");
    let transaction = client.multi();
    let _: fred::types::Value = transaction.incr(&counter).await?;
    let _: fred::types::Value = transaction.set(&key, "changed", None, None, false).await?;
    let _: fred::types::Value = transaction.get(&key).await?;
    let (sum, done, value): (i64, String, String) = transaction.exec(true).await?;
    ensure!((sum, &*done, &*value) == (2, "OK", "changed"), "a transaction gives {sum} {done} {value}");
    let pipeline = client.pipeline();
    for _ in 0..KEYS {
        let () = pipeline.incr(&counter).await?;
    }
    let sums: Vec<i64> = pipeline.all().await?;
    ensure!(sums.iter().copied().eq(3..3 + KEYS as i64), "a pipeline gives {sums:?}");
    Ok(())
}

/// Of many slots.
fn pairs(name: &str) -> Vec<(String, String)> {
    (0..KEYS).map(|number| (format!("{name}-many-{number}"), format!("value {number}"))).collect()
}
