//! What callers see when a leader dies: the longest time in which no write succeeded.
//!
//! Writes start at a steady rate (open loop) at the two nodes that will survive, whatever
//! becomes of earlier ones, and each is given up after half a second. So the gap is the
//! cluster's own: it does not depend on how long a client sits on a lost request, nor on how
//! it finds out that a node is gone. One table of one partition stands beside etcd's one group.

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use bench::{
    load::{self, Distribution, Keys, Load, Measured, Pace, Workload},
    report::{Figure, Unit, figure::Sample, table},
    target::{Etcd, Routing, Target, Trilith},
};
use tokio::time::sleep;

use super::{Place, print, progress};

const WRITES_PER_SECOND: f64 = 500.0;
const PATIENCE: Duration = Duration::from_millis(500);
/// More than start in the time after which they are given up, so none waits for a free client.
const CLIENTS: usize = 300;
const CONNECTIONS: usize = 8;
const BEFORE_THE_KILL: Duration = Duration::from_secs(2);
const AFTER_THE_KILL: Duration = Duration::from_secs(6);
const TABLE: &str = "failover";

/// Flags of `failover`.
#[derive(Debug, clap::Args)]
pub struct FailoverArguments {
    #[command(flatten)]
    place: Place,
    /// How often a leader is killed, each time in a fresh cluster.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Runs `failover`.
pub async fn run(arguments: FailoverArguments) -> anyhow::Result<()> {
    let figure = measure(&arguments.place, arguments.rounds).await?;
    let mut rows = vec![["round", "Trilith", "etcd"].map(str::to_owned).to_vec()];
    for (round, (trilith, etcd)) in figure.trilith.iter().zip(&figure.other).enumerate() {
        let milliseconds = |sample: &Sample| format!("{:.0} ms", sample.value);
        rows.push(vec![(round + 1).to_string(), milliseconds(trilith), milliseconds(etcd)]);
    }
    print(&(table::aligned(&rows).join("\n") + "\n"))
}

/// The gap in both systems, round by round.
pub async fn measure(place: &Place, rounds: usize) -> anyhow::Result<Figure> {
    let mut figure = Figure::new("leader killed: longest time without a write", Unit::Milliseconds);
    for round in 0..rounds {
        progress(&format!("round {} of {rounds}: killing a leader", round + 1));
        figure.trilith.push(Sample::from(trilith(place).await?));
        figure.other.push(Sample::from(etcd(place).await?));
    }
    Ok(figure)
}

async fn trilith(place: &Place) -> anyhow::Result<f64> {
    let started = place.start_trilith(1, false).await?;
    let cluster = started.cluster;
    cluster.create_table(TABLE, 1).await?;
    let leader = cluster.leader_of(TABLE).await?;
    let survivors = without(cluster.endpoints(), leader);
    let target = Arc::new(Trilith::open(&survivors, CONNECTIONS, TABLE, Routing::Any).await?);
    let kill = async {
        sleep(BEFORE_THE_KILL).await;
        cluster.end_node(leader, true)
    };
    let (measured, killed) = tokio::join!(write(&target), kill);
    killed?;
    cluster.stop().await?;
    gap(&measured?)
}

async fn etcd(place: &Place) -> anyhow::Result<f64> {
    let started = place.start_etcd().await?;
    let mut cluster = started.cluster;
    let leader = cluster.leader().await?;
    let survivors = without(cluster.endpoints(), leader);
    let target = Arc::new(Etcd::open(&survivors, CONNECTIONS).await?);
    let kill = async {
        sleep(BEFORE_THE_KILL).await;
        cluster.kill(leader).await
    };
    let (measured, killed) = tokio::join!(write(&target), kill);
    killed?;
    cluster.stop().await?;
    gap(&measured?)
}

async fn write<T: Target>(target: &Arc<T>) -> anyhow::Result<Measured> {
    let workload = Workload::new(Keys::new(1_000, 16, Distribution::Uniform), (256, 256), 0.0, 1);
    let load = Load {
        pace: Pace::Open { per_second: WRITES_PER_SECOND },
        patience: PATIENCE,
        ..Load::closed(CLIENTS, BEFORE_THE_KILL + AFTER_THE_KILL, workload)
    };
    Ok(load::run(target, &load).await?)
}

fn gap(measured: &Measured) -> anyhow::Result<f64> {
    if measured.silence_at_end_ms > measured.longest_gap_ms {
        let why = measured.last_failure.as_deref().unwrap_or("no answer");
        bail!("no write succeeded in the last {} ms: {why}", measured.silence_at_end_ms);
    }
    Ok(measured.longest_gap_ms as f64)
}

fn without(mut endpoints: Vec<String>, gone: usize) -> Vec<String> {
    if gone < endpoints.len() {
        endpoints.remove(gone);
    }
    endpoints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[ignore = "needs etcd (bench/etcd.sh) and eight quiet seconds"]
    async fn etcd_comes_back_after_its_leader_was_killed() {
        let work = tempfile::tempdir().unwrap();
        let place =
            Place { trilith: None, etcd: None, work_dir: work.path().to_owned(), port_offset: 20_000 };
        let gap = etcd(&place).await.unwrap();
        // Nobody elects a leader in less than an election timeout, which is a second in etcd.
        assert!((300.0..6_000.0).contains(&gap), "{gap}");
    }
}
