//! Compares what two servers hold, where the order or the choice is each server's own: KEYS,
//! SCAN, RANDOMKEY and DBSIZE are right by their properties.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::connection::{Connection, encode};
use super::reply::{Reply, shown};
use crate::until;

/// How long keys that have expired may be counted.
const COUNTED_WITHIN: Duration = Duration::from_secs(5);
/// How long a key may be there after its time, and how much of its time it may lose.
const EXPIRED_WITHIN: Duration = Duration::from_secs(3);
const TOLERANCE_MILLISECONDS: u64 = 5_000;
/// More rounds of SCAN than this for so few keys are rounds without end.
const MOST_ROUNDS: usize = 20_000;
const PATTERNS: &[&str] = &[
    "*",
    "*key-?",
    "*key-1*",
    "*[0-3]",
    "*[^0-3]",
    "*[3-0]",
    "*\\[a\\]\\*\\?*",
    "*[*",
    "*{*",
    "",
    "?",
    "*ü*",
    "*\\",
    "*key-[24]",
    "*key-[",
    "**-*-**",
    "{tag}key-5",
];

type Keys = BTreeSet<Vec<u8>>;

/// That both hold the same keys, with the same values and times, and that ours lists them
/// rightly in every way that there is.
pub async fn same_keys(redis: SocketAddr, ours: SocketAddr) -> anyhow::Result<usize> {
    let (mut redis, mut ours) = (Connection::open(redis).await?, Connection::open(ours).await?);
    let all = keys(&mut redis, "*").await?;
    for pattern in PATTERNS {
        let (wanted, found) = (keys(&mut redis, pattern).await?, keys(&mut ours, pattern).await?);
        ensure!(wanted == found, "KEYS {pattern:?}: {}", difference(&wanted, &found));
        for more in [&["COUNT", "3"][..], &["TYPE", "string", "COUNT", "1000"], &["TYPE", "STRING"]] {
            let line = [&["MATCH", pattern], more].concat();
            let found = scan(&mut ours, &line).await?;
            ensure!(wanted == found, "SCAN 0 {line:?}: {}", difference(&wanted, &found));
        }
    }
    for nothing in [&["TYPE", "hash"][..], &["TYPE", "list", "COUNT", "5"]] {
        ensure!(scan(&mut ours, nothing).await?.is_empty(), "SCAN 0 {nothing:?} finds something");
    }
    let found = scan(&mut ours, &[]).await?;
    ensure!(all == found, "SCAN 0: {}", difference(&all, &found));
    until("DBSIZE is the number of keys", COUNTED_WITHIN, async || {
        let size = ours.ask(&["DBSIZE"]).await?.integer()?;
        ensure!(usize::try_from(size)? == all.len(), "DBSIZE is {size}, and there are {} keys", all.len());
        Ok(())
    })
    .await?;
    for _ in 0..5 {
        match ours.ask(&["RANDOMKEY"]).await? {
            Reply::Bulk(Some(key)) => ensure!(all.contains(&key), "RANDOMKEY gives {}", shown(&key)),
            nothing => ensure!(nothing == Reply::Bulk(None) && all.is_empty(), "RANDOMKEY gives {nothing}"),
        }
    }
    for key in &all {
        let get = encode(&[b"GET".to_vec(), key.clone()]);
        let (wanted, found) = tokio::join!(redis.pipeline(&get, 1), ours.pipeline(&get, 1));
        ensure!(wanted? == found?, "the values of {} differ", shown(key));
        let time = [b"PEXPIRETIME".to_vec(), key.clone()];
        let (wanted, found) = tokio::join!(redis.ask_words(&time), ours.ask_words(&time));
        let (wanted, found) = (wanted?.integer()?, found?.integer()?);
        ensure!(
            wanted == found || (wanted > 0 && found > 0 && wanted.abs_diff(found) <= TOLERANCE_MILLISECONDS),
            "{} expires at {wanted} and at {found}",
            shown(key)
        );
    }
    Ok(all.len())
}

/// That SCAN keeps its promise: what is there throughout is returned, whatever else comes and
/// goes meanwhile, and nothing that never was.
pub async fn scan_keeps_its_promise(server: SocketAddr) -> anyhow::Result<()> {
    const STAY: usize = 500;
    const GO: usize = 500;
    let (mut scans, mut writes) = (Connection::open(server).await?, Connection::open(server).await?);
    writes.ask(&["FLUSHDB"]).await?;
    let name = |kind: &str, number: usize| format!("{kind}-{number}");
    for number in 0..STAY {
        writes.ask(&["SET", &name("stays", number), "1"]).await?;
        writes.ask(&["SET", &name("goes", number % GO), "1"]).await?;
    }
    let (mut found, mut cursor, mut round) = (Keys::new(), "0".to_owned(), 0);
    loop {
        let page;
        (cursor, page) = next_page(&mut scans, &cursor, &["COUNT", "10"]).await?;
        found.extend(page);
        writes.ask(&["DEL", &name("goes", round * 7 % GO), &name("goes", round * 11 % GO)]).await?;
        writes.ask(&["SET", &name("comes", round), "1"]).await?;
        round += 1;
        if cursor == "0" {
            break;
        }
        ensure!(round < MOST_ROUNDS, "SCAN does not end: {} keys found in {round} rounds", found.len());
    }
    for number in 0..STAY {
        let key = name("stays", number);
        ensure!(found.contains(key.as_bytes()), "{key} was there all the while and is not found");
    }
    let known = |key: &[u8]| [&b"stays-"[..], b"goes-", b"comes-"].iter().any(|kind| key.starts_with(kind));
    let strange = found.iter().find(|key| !known(key));
    ensure!(strange.is_none(), "a key that nobody wrote: {strange:?}");
    ensure!(round > STAY / 100, "{round} rounds for {STAY} keys: COUNT is not heeded");
    writes.ask(&["FLUSHDB"]).await?;
    Ok(())
}

/// That keys go when their time is over, and not before.
pub async fn keys_expire(server: SocketAddr) -> anyhow::Result<()> {
    const MILLISECONDS: &str = "400";
    let mut connection = Connection::open(server).await?;
    let ways: &[&[&str]] = &[
        &["SET", "{e}set", "v", "PX", MILLISECONDS],
        &["PSETEX", "{e}psetex", MILLISECONDS, "v"],
        &["SETEX", "{e}setex", "1", "v"],
        &["MSET", "{e}pexpire", "v", "{e}getex", "v"],
        &["PEXPIRE", "{e}pexpire", MILLISECONDS],
        &["GETEX", "{e}getex", "PX", MILLISECONDS],
    ];
    let before = tokio::time::Instant::now();
    for way in ways {
        let reply = connection.ask(way).await?;
        ensure!(!matches!(reply, Reply::Error(_)), "{way:?}: {reply}");
    }
    let names = ["{e}set", "{e}psetex", "{e}setex", "{e}pexpire", "{e}getex"];
    let exists = [&["EXISTS"][..], &names].concat();
    let there = connection.ask(&exists).await?.integer()?;
    // A machine that stood still meanwhile proves nothing.
    if before.elapsed() < Duration::from_millis(350) {
        ensure!(there == 5, "{there} of five keys are there before their time is over");
    }
    until("keys whose time is over are gone", EXPIRED_WITHIN, async || {
        let there = connection.ask(&exists).await?.integer()?;
        ensure!(there == 0, "{there} of five are there");
        Ok(())
    })
    .await?;
    ensure!(before.elapsed() >= Duration::from_millis(900), "SETEX 1 was over in {:?}", before.elapsed());
    for name in names {
        let told = connection.ask(&["PTTL", name]).await?;
        ensure!(told == Reply::Integer(-2), "PTTL of a key that is gone: {told}");
        let told = connection.ask(&["GET", name]).await?;
        ensure!(told == Reply::Bulk(None), "GET of a key that is gone: {told}");
    }
    Ok(())
}

async fn keys(connection: &mut Connection, pattern: &str) -> anyhow::Result<Keys> {
    let found = connection.ask(&["KEYS", pattern]).await?.array_items()?;
    found.iter().map(|key| Ok(key.bytes()?.to_vec())).collect()
}

async fn scan(connection: &mut Connection, options: &[&str]) -> anyhow::Result<Keys> {
    let (mut found, mut cursor) = (Keys::new(), "0".to_owned());
    for _ in 0..MOST_ROUNDS {
        let page;
        (cursor, page) = next_page(connection, &cursor, options).await?;
        found.extend(page);
        if cursor == "0" {
            return Ok(found);
        }
    }
    anyhow::bail!("SCAN {options:?} does not end")
}

async fn next_page(
    connection: &mut Connection,
    cursor: &str,
    options: &[&str],
) -> anyhow::Result<(String, Vec<Vec<u8>>)> {
    let line = [&["SCAN", cursor], options].concat();
    let told = connection.ask(&line).await?;
    let mut parts = told.array_items().with_context(|| format!("{line:?}"))?.into_iter();
    let cursor = parts.next().context("no cursor")?;
    let cursor = String::from_utf8(cursor.bytes()?.to_vec()).context("a cursor is digits")?;
    ensure!(cursor.parse::<u64>().is_ok(), "clients take a cursor for 64 bits, and not {cursor:?}");
    let page = parts.next().context("no page")?.array_items()?;
    let page = page.iter().map(|key| Ok(key.bytes()?.to_vec())).collect::<anyhow::Result<_>>()?;
    Ok((cursor, page))
}

fn difference(wanted: &Keys, found: &Keys) -> String {
    let list = |keys: Vec<&Vec<u8>>| keys.iter().map(|key| shown(key)).collect::<Vec<_>>().join(" ");
    let (missing, more) = (wanted.difference(found).collect(), found.difference(wanted).collect());
    format!("missing [{}], too many [{}]", list(missing), list(more))
}
