//! How long a node with many keys takes from its start to serving.
//!
//! `trilith dev` starts a node again that died. The clock runs from the moment at which the
//! new process has its `pid` file to the first answer of `/readyz` that says yes: the node has
//! joined and caught up. Once the node was asked to end, once it was killed, which leaves it
//! the end of its log to replay.

use std::{sync::Arc, time::Duration};

use bench::{
    cluster::{TrilithCluster, process::until_quiet, trilith::is_ready, until},
    load::{self, Distribution, Keys, Load, Workload},
    report::{
        Figure, Unit,
        figure::{Sample, thousands},
        table,
    },
    target::{Routing, TrilithStream},
};
use tokio::time::Instant;

use super::{Place, print, progress};

const VALUE_SIZE: usize = 100;
const PATIENCE: Duration = Duration::from_mins(10);
/// The node that is ended. Any would do; it leads a share of the partitions like the others.
const NODE: usize = 1;

/// Flags of `restart`.
#[derive(Debug, clap::Args)]
pub struct RestartArguments {
    #[command(flatten)]
    place: Place,
    /// Keys that the node holds.
    #[arg(long, default_value_t = 5_000_000)]
    keys: u64,
    /// How often it is ended in each way.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Runs `restart`.
pub async fn run(arguments: RestartArguments) -> anyhow::Result<()> {
    let figures = measure(&arguments.place, arguments.keys, arguments.rounds).await?;
    let head = ["measurement", "Trilith"].map(str::to_owned).to_vec();
    let rows = figures.iter().map(|figure| figure.cells().into_iter().take(2).collect());
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    print(&(table::aligned(&rows).join("\n") + "\n"))
}

/// The time to serving after an orderly end and after a kill.
pub async fn measure(place: &Place, keys: u64, rounds: usize) -> anyhow::Result<Vec<Figure>> {
    let started = place.start_trilith(8, true).await?;
    let cluster = started.cluster;
    progress(&format!("writing {} keys", thousands(keys as f64)));
    fill(&cluster, keys).await?;
    let name = |how: &str| format!("node with {} keys, {how}: start to serving", thousands(keys as f64));
    let mut orderly = Figure::new(name("asked to end"), Unit::Seconds);
    let mut killed = Figure::new(name("killed"), Unit::Seconds);
    for round in 0..rounds {
        progress(&format!("round {} of {rounds}: restarting a node", round + 1));
        orderly.trilith.push(Sample::from(restart(&cluster, false).await?));
        killed.trilith.push(Sample::from(restart(&cluster, true).await?));
    }
    cluster.stop().await?;
    Ok(vec![orderly, killed])
}

async fn fill(cluster: &TrilithCluster, keys: u64) -> anyhow::Result<()> {
    let workload =
        Workload::new(Keys::new(keys, 16, Distribution::Sequential), (VALUE_SIZE, VALUE_SIZE), 0.0, 1);
    let mut load = Load::closed(4, Duration::from_hours(1), workload).with_window(256);
    load.operations = Some(keys);
    let target = TrilithStream::open(&cluster.endpoints(), 4, "", Routing::Leader).await?;
    let measured = load::run(&Arc::new(target), &load).await?;
    anyhow::ensure!(
        measured.failed == 0,
        "{} of {keys} keys were not written: {}",
        measured.failed,
        measured.last_failure.unwrap_or_default()
    );
    Ok(())
}

async fn restart(cluster: &TrilithCluster, kill: bool) -> anyhow::Result<f64> {
    until_quiet(&cluster.process_ids()?, Duration::from_mins(1)).await?;
    let old = cluster.process_id(NODE)?;
    cluster.end_node(NODE, kill)?;
    let another = || async { cluster.process_id(NODE).ok().filter(|id| *id != old) };
    until("the node to be started again", PATIENCE, another).await?;
    let begin = Instant::now();
    let address = cluster.http_address(NODE);
    let ready = || async { is_ready(&address).await.then_some(()) };
    until("the node to be ready", PATIENCE, ready).await?;
    let seconds = begin.elapsed().as_secs_f64();
    cluster.wait_for_leaders("default").await?;
    Ok(seconds)
}
