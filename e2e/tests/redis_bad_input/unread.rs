//! A client that asks for much and never reads.

use std::time::Duration;

use anyhow::ensure;
use e2e::redis::{Connection, Reply, encode};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{sleep, timeout};

use crate::Victim;
use crate::bystander::Bystander;

const VALUE_BYTES: usize = 1 << 20;
/// Together two gigabytes of answers.
const ASKED: usize = 2_000;
/// What may wait for somebody who does not read, and what a value takes on its way.
const GROWTH: u64 = 300 << 20;
/// A server that has taken nothing for that long has stopped taking.
const STOPPED: Duration = Duration::from_secs(2);
/// How long its memory is looked at then.
const WATCHED: Duration = Duration::from_secs(3);

/// Either the server takes no more questions, or it closes: it does not keep all answers.
pub async fn answers_wait_in_bounds(victim: Victim) -> anyhow::Result<String> {
    let mut connection = Connection::open(victim.address).await?;
    let set = [b"SET".to_vec(), b"large".to_vec(), vec![b'v'; VALUE_BYTES]];
    // Once written and once read, whatever the server keeps of a value is there already.
    for _ in 0..3 {
        let done = connection.ask_words(&set).await?;
        ensure!(done == Reply::Simple("OK".to_owned()), "{done}");
        let got = connection.ask(&["GET", "large"]).await?;
        ensure!(got.bytes()?.len() == VALUE_BYTES, "GET gives something else");
    }
    let bystander = Bystander::begin(victim).await?;
    let get = encode(&[b"GET".to_vec(), b"large".to_vec()]);
    let mut silent = Connection::open(victim.address).await?;
    let mut asked = 0;
    while asked < ASKED {
        match timeout(STOPPED, silent.stream().write_all(&get)).await {
            Ok(Ok(())) => asked += 1,
            // It was closed, or nothing more is taken.
            Ok(Err(_)) | Err(_) => break,
        }
    }
    // There is no event to wait for when nothing should happen: the bystander looks at the
    // server's memory and at its own answers all the while.
    sleep(WATCHED).await;
    let told = bystander.end(GROWTH).await?;
    drop(silent);
    connection.ask(&["DEL", "large"]).await?;
    Ok(format!("{asked} answers of {} KiB were asked for and not read: {told}", VALUE_BYTES >> 10))
}
