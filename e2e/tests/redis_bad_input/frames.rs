//! What is no frame, or larger than any may be.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::redis::{Connection, reply::shown};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::Victim;
use crate::bystander::Bystander;

/// What one bad client may cost.
const GROWTH: u64 = 64 << 20;
const CLOSED_WITHIN: Duration = Duration::from_secs(10);
const MEGABYTE: usize = 1 << 20;

/// Each is answered with the protocol's error, and the connection is closed.
pub async fn are_refused(victim: Victim) -> anyhow::Result<String> {
    let bad: Vec<(&str, Vec<u8>, &str)> = vec![
        ("a bulk of 2 GB", b"*2\r\n$3\r\nGET\r\n$2147483648\r\n".into(), "invalid bulk length"),
        ("a bulk of 2^63", b"*1\r\n$9223372036854775808\r\n".into(), "invalid bulk length"),
        ("a bulk of less than nothing", b"*2\r\n$3\r\nGET\r\n$-1\r\n".into(), "invalid bulk length"),
        ("a bulk without a number", b"*1\r\n$\r\n".into(), "invalid bulk length"),
        ("a bulk of letters", b"*1\r\n$four\r\nPING\r\n".into(), "invalid bulk length"),
        ("an array of 2^31", b"*2147483648\r\n".into(), "invalid multibulk length"),
        ("an array of letters", b"*four\r\n".into(), "invalid multibulk length"),
        ("a million nested arrays", b"*1\r\n".repeat(1_000_000), "expected '$', got '*'"),
        ("an array of numbers", b"*1\r\n:4\r\n".into(), "expected '$', got ':'"),
        ("a line of a megabyte", vec![b'a'; MEGABYTE], "too big inline request"),
        ("a count of a megabyte", [b"*", &*vec![b'1'; MEGABYTE]].concat(), "too big mbulk count string"),
        (
            "a length of a megabyte",
            [b"*1\r\n$", &*vec![b'1'; MEGABYTE]].concat(),
            "too big bulk count string",
        ),
        ("quotes that do not end", b"SET \"a\r\n".into(), "unbalanced quotes in request"),
        ("quotes in the middle", b"SET \"a\"b c\r\n".into(), "unbalanced quotes in request"),
    ];
    let many = bad.len();
    let mut wrong = Vec::new();
    let bystander = Bystander::begin(victim).await?;
    for (what, bytes, phrase) in bad {
        let wanted = format!("-ERR Protocol error: {phrase}\r\n");
        match last_words(victim, &bytes).await {
            Ok(answer) if answer == wanted.as_bytes() => {}
            Ok(answer) => wrong.push(format!("{what} is answered with {}, not {wanted:?}", shown(&answer))),
            Err(error) => wrong.push(format!("{what}: {error:#}")),
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    let mut connection = Connection::open(victim.address).await?;
    // These are nothing at all, and no errors.
    connection.send(b"\r\n*0\r\n*-5\r\n\r\n").await?;
    let pong = connection.ask(&["PING"]).await?.to_string();
    ensure!(pong == "PONG", "after empty commands PING is answered with {pong}");
    // It may be that many, and then they are waited for; or too many, and then that is said.
    let mut patient = Connection::open(victim.address).await?;
    patient.send(b"*1000000000\r\n$3\r\nSET\r\n").await?;
    let told = bystander.end(GROWTH).await?;
    drop(patient);
    Ok(format!("{many} frames that are none are refused: {told}"))
}

/// A browser that is sent here must not do what a page has put behind its head: a request of
/// HTTP ends the connection.
pub async fn requests_of_browsers_end(victim: Victim) -> anyhow::Result<String> {
    for first in ["POST / HTTP/1.1", "GET / HTTP/1.1"] {
        let smuggled = format!("{first}\r\nHost: localhost\r\n\r\nSET smuggled 1\r\n");
        last_words(victim, smuggled.as_bytes())
            .await
            .with_context(|| format!("a request of HTTP: {first}"))?;
        let mut connection = Connection::open(victim.address).await?;
        let there = connection.ask(&["EXISTS", "smuggled"]).await?.integer()?;
        ensure!(there == 0, "a command behind a request of HTTP was carried out");
    }
    Ok("requests of HTTP end their connection".to_owned())
}

/// Bytes of all kinds: whatever they mean, they harm nobody.
pub async fn noise_is_harmless(victim: Victim, seed: u64) -> anyhow::Result<String> {
    const CLIENTS: usize = 300;
    let bystander = Bystander::begin(victim).await?;
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..CLIENTS {
        let alphabet: &[u8] = if random.random() { b"*$:+-\r\n\r\n0123459 \"'\\xGETSN" } else { b"" };
        let length = random.random_range(1..2_000);
        let noise: Vec<u8> = (0..length)
            .map(|_| match alphabet.len() {
                0 => random.random(),
                many => alphabet.get(random.random_range(0..many)).copied().unwrap_or_default(),
            })
            .collect();
        let mut connection = Connection::open(victim.address).await?;
        // It may be closed before all is sent.
        let _ = connection.send(&noise).await;
    }
    let told = bystander.end(GROWTH).await.with_context(|| format!("noise of seed {seed}"))?;
    Ok(format!("{CLIENTS} clients made noise: {told}"))
}

/// All that the server says until it closes.
async fn last_words(victim: Victim, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut connection = Connection::open(victim.address).await?;
    let (mut from, mut to) = connection.stream().split();
    let mut answer = Vec::new();
    let talk = async {
        let read = tokio::io::AsyncReadExt::read_to_end(&mut from, &mut answer);
        // A server that has closed takes no more, and need not.
        let write = tokio::io::AsyncWriteExt::write_all(&mut to, bytes);
        let _ = tokio::join!(read, write);
    };
    tokio::time::timeout(CLOSED_WITHIN, talk).await.context("the connection is left open")?;
    Ok(answer)
}
