//! What a killed leader costs: the longest time in which no write succeeds, at the timings
//! that a node has by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use client::{PutOptions, Table};
use e2e::{Cluster, Scenario, Shape, until};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

const ROUNDS: usize = 5;
const MOST: Duration = Duration::from_secs(2);
/// Writes begin at this pace whatever becomes of earlier ones.
const EVERY: Duration = Duration::from_millis(10);
const TABLE: &str = "one";

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_costs_two_seconds_at_most() -> anyhow::Result<()> {
    let scenario = Scenario::begin("failover").await?;
    let mut cluster = Cluster::form(Shape { partitions: 0, ..Shape::default() }).await?;
    cluster.create_table(TABLE, 1).await?;
    let partition = *cluster.partitions(TABLE).await?.first().context("the table has no partition")?;
    let table = cluster.client()?.table(TABLE).with_deadline(Duration::from_secs(5));
    let mut gaps = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        cluster.await_healthy().await?;
        let leader = cluster.leader_of(partition).await?;
        let mut writes = Writes::begin(table.clone(), round);
        writes.gap_until(Instant::now() + Duration::from_secs(1)).await?;
        cluster.kill9(leader)?;
        let killed = Instant::now();
        let gap = writes.gap_until(killed + Duration::from_secs(4)).await?;
        let errors = writes.end().await?;
        scenario.say(format_args!(
            "round {round}: node {leader} led and was killed; {} ms without a write, {errors} errors",
            gap.as_millis()
        ));
        gaps.push(gap);
        cluster.start(leader).await?;
        until("the killed node has caught up", Duration::from_secs(20), async || cluster.ready(leader).await)
            .await?;
    }
    gaps.sort_unstable();
    let [median, longest] = [ROUNDS / 2, ROUNDS - 1].map(|at| gaps.get(at).copied().unwrap_or_default());
    scenario.say(format_args!(
        "{ROUNDS} kills: {} ms without a write in the median, {} ms at most",
        median.as_millis(),
        longest.as_millis()
    ));
    ensure!(longest <= MOST, "no write succeeded for {} ms", longest.as_millis());
    cluster.finish()
}

/// An open loop of writes, each to a key of its own.
struct Writes {
    stop: Arc<AtomicBool>,
    pace: JoinHandle<u64>,
    done: mpsc::UnboundedReceiver<Instant>,
    last: Instant,
}

impl Writes {
    fn begin(table: Table, round: usize) -> Self {
        let (told, done) = mpsc::unbounded_channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let pace = tokio::spawn(async move {
            let mut ticks = interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut writes = tokio::task::JoinSet::new();
            let (mut number, mut errors) = (0_u64, 0);
            while !stopped.load(Ordering::Acquire) {
                ticks.tick().await;
                let (table, told, key) = (table.clone(), told.clone(), format!("{round}-{number}"));
                number += 1;
                writes.spawn(async move {
                    let done = table.put(key, "value", PutOptions::default()).await.is_ok();
                    if done {
                        // Nobody listens any more once the round is over.
                        let _ = told.send(Instant::now());
                    }
                    done
                });
                while let Some(ended) = writes.try_join_next() {
                    errors += u64::from(!ended.unwrap_or(false));
                }
            }
            while let Some(ended) = writes.join_next().await {
                errors += u64::from(!ended.unwrap_or(false));
            }
            errors
        });
        Self { stop, pace, done, last: Instant::now() }
    }

    /// The longest time without a success until then, the time at the end included.
    async fn gap_until(&mut self, end: Instant) -> anyhow::Result<Duration> {
        let mut longest = Duration::ZERO;
        loop {
            match tokio::time::timeout_at(end, self.done.recv()).await {
                Ok(Some(success)) => {
                    longest = longest.max(success.saturating_duration_since(self.last));
                    self.last = self.last.max(success);
                }
                Ok(None) => anyhow::bail!("the writes ended by themselves"),
                Err(_) => return Ok(longest.max(end.saturating_duration_since(self.last))),
            }
        }
    }

    async fn end(self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Release);
        self.pace.await.context("the writes failed")
    }
}
