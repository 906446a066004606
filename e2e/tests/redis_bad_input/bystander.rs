//! Another client, served all the while, who also looks at how large the server becomes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::redis::{Connection, Reply};
use rustix::process::Pid;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::Victim;

/// Nobody waits longer because of what somebody else does. Two cores, shared with the client
/// that misbehaves.
const SERVED_WITHIN: Duration = Duration::from_secs(3);
/// Between two looks.
const REST: Duration = Duration::from_millis(10);

/// Somebody who uses the server as it is meant, meanwhile.
pub struct Bystander {
    victim: Victim,
    before: u64,
    stop: Arc<AtomicBool>,
    work: JoinHandle<anyhow::Result<Seen>>,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    rounds: u64,
    slowest: Duration,
    most_bytes: u64,
}

impl Bystander {
    /// Begins.
    pub async fn begin(victim: Victim) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut connection = Connection::open(victim.address).await?;
        let before = resident_bytes(victim.process)?;
        let stopped = Arc::clone(&stop);
        let work = tokio::spawn(async move {
            let mut seen = Seen::default();
            while !stopped.load(Ordering::Acquire) {
                let value = seen.rounds.to_string();
                let began = Instant::now();
                let set = connection.ask(&["SET", "bystander", &value]).await?;
                ensure!(set == Reply::Simple("OK".to_owned()), "SET is answered with {set}");
                let got = connection.ask(&["GET", "bystander"]).await?;
                ensure!(got == Reply::Bulk(Some(value.into_bytes())), "GET is answered with {got}");
                seen.slowest = seen.slowest.max(began.elapsed());
                seen.most_bytes = seen.most_bytes.max(resident_bytes(victim.process)?);
                seen.rounds += 1;
                tokio::time::sleep(REST).await;
            }
            Ok(seen)
        });
        Ok(Self { victim, before, stop, work })
    }

    /// That all was well meanwhile, and that the server has not grown by more than that.
    pub async fn end(self, growth: u64) -> anyhow::Result<String> {
        // Somebody who comes only now is served too.
        let mut late = Connection::open(self.victim.address).await?;
        let pong = late.ask(&["PING"]).await.context("a client that comes later")?;
        ensure!(pong == Reply::Simple("PONG".to_owned()), "PING is answered with {pong}");
        self.stop.store(true, Ordering::Release);
        let seen = self.work.await.context("the bystander failed")??;
        let Seen { rounds, slowest, most_bytes } = seen;
        ensure!(rounds > 0, "the bystander was not served once");
        ensure!(slowest <= SERVED_WITHIN, "the bystander waited {slowest:?}");
        let grown = most_bytes.saturating_sub(self.before);
        ensure!(grown <= growth, "the server grew by {} MiB, not by {}", grown >> 20, growth >> 20);
        Ok(format!("{rounds} rounds of others, the slowest {slowest:?}; grown by {} MiB", grown >> 20))
    }
}

/// The memory of a process that is resident now.
fn resident_bytes(process: Pid) -> anyhow::Result<u64> {
    let file = format!("/proc/{}/status", process.as_raw_nonzero());
    let status = std::fs::read_to_string(&file).with_context(|| format!("{file}: has the server died?"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no memory")?;
    let kibibytes: u64 = line.split_whitespace().next().unwrap_or_default().parse()?;
    Ok(kibibytes << 10)
}
