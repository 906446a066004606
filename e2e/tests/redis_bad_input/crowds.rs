//! Many connections that do little.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::redis::{Connection, Reply, encode};
use e2e::{Scenario, until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Victim;
use crate::bystander::Bystander;

const IDLE: u64 = 10_000;
/// Files of a test and of a server that are no such connection.
const OTHER_FILES: u64 = 600;
/// What a connection may cost that has said a word.
const BYTES_EACH: u64 = 64 << 10;
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(20);

/// Lets this process, and those that it starts, have as many connections as is permitted.
pub fn raise_limit(scenario: &Scenario) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let most = limit.maximum.unwrap_or(u64::MAX);
    if most < IDLE + OTHER_FILES {
        scenario.say(format_args!("only {most} files are permitted here: fewer connections than {IDLE}"));
    }
    Ok(())
}

/// Commands that are announced and never end.
pub async fn half_done(victim: Victim) -> anyhow::Result<String> {
    const CLIENTS: usize = 200;
    let bystander = Bystander::begin(victim).await?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Connection::open(victim.address).await?;
        client.send(b"*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$8000000\r\nthe first of eight million").await?;
        clients.push(client);
    }
    // What is announced is not yet there: it must not be paid for in advance.
    let told = bystander.end(64 << 20).await?;
    drop(clients);
    let mut connection = Connection::open(victim.address).await?;
    let there = connection.ask(&["EXISTS", "half"]).await?.integer()?;
    ensure!(there == 0, "half a command was carried out");
    Ok(format!("{CLIENTS} commands stopped in the middle: {told}"))
}

/// Commands that come one byte at a time, and are answered in the end.
pub async fn byte_by_byte(victim: Victim) -> anyhow::Result<String> {
    const CLIENTS: usize = 50;
    let bystander = Bystander::begin(victim).await?;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let words = ["SET", &format!("slow-{number:02}"), "and steady"].map(|word| word.as_bytes().to_vec());
        clients.push((Connection::open(victim.address).await?, encode(&words)));
    }
    let length = clients.iter().map(|(_, bytes)| bytes.len()).max().unwrap_or_default();
    for place in 0..length {
        for (client, bytes) in &mut clients {
            if let Some(byte) = bytes.get(place..=place) {
                client.send(byte).await?;
            }
        }
    }
    for (client, _) in &mut clients {
        let (reply, _) = client.reply().await.context("a slow client")?;
        ensure!(reply == Reply::Simple("OK".to_owned()), "a slow client is answered with {reply}");
    }
    let told = bystander.end(32 << 20).await?;
    Ok(format!("{CLIENTS} clients sent byte by byte: {told}"))
}

/// Connections that say one word and then nothing.
pub async fn idle(victim: Victim) -> anyhow::Result<String> {
    let permitted = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let many = IDLE.min(permitted.saturating_sub(OTHER_FILES));
    let bystander = Bystander::begin(victim).await?;
    let mut clients = Vec::new();
    for number in 0..many {
        let client = Connection::open(victim.address).await;
        clients.push(client.with_context(|| format!("the connection after {number} others"))?);
    }
    let mut served = 0;
    for client in &mut clients {
        let pong = client.ask(&["PING"]).await.with_context(|| format!("after {served} were served"))?;
        ensure!(pong == Reply::Simple("PONG".to_owned()), "after {served} were served: {pong}");
        served += 1;
    }
    let told = bystander.end(many * BYTES_EACH).await?;
    drop(clients);
    until("connections that are closed are forgotten", FORGOTTEN_WITHIN, async || {
        let mut connection = Connection::open(victim.address).await?;
        let told = connection.ask(&["INFO", "clients"]).await?;
        let told = String::from_utf8_lossy(told.bytes()?).into_owned();
        let number = told.lines().find_map(|line| line.strip_prefix("connected_clients:"));
        let number: u64 = number.context("INFO does not say connected_clients")?.trim().parse()?;
        ensure!(number < 100, "{number} are connected");
        Ok(())
    })
    .await?;
    Ok(format!("{served} idle connections: {told}"))
}
