//! What partitions cost that nobody uses.

use std::time::Duration;

use bench::{
    cluster::{
        NODES,
        process::{Usage, cpu_share},
    },
    report::{Figure, Unit, figure::Sample, table},
};
use tokio::time::sleep;

use super::{Place, print, progress};

/// Time for elections to end and for groups to fall asleep.
const SETTLE: Duration = Duration::from_secs(15);

/// Flags of `idle`.
#[derive(Debug, clap::Args)]
pub struct IdleArguments {
    #[command(flatten)]
    place: Place,
    /// Partitions of the unused table.
    #[arg(long, default_value_t = 300)]
    partitions: u32,
    /// Seconds over which the processor time is taken.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

/// Runs `idle`.
pub async fn run(arguments: IdleArguments) -> anyhow::Result<()> {
    let over = Duration::from_secs(arguments.seconds.max(1));
    let figures = measure(&arguments.place, arguments.partitions, over).await?;
    let head = ["measurement", "Trilith", "etcd"].map(str::to_owned).to_vec();
    let rows = figures.iter().map(|figure| figure.cells().into_iter().take(3).collect());
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    print(&(table::aligned(&rows).join("\n") + "\n"))
}

/// Processor time and memory of three nodes, empty and with unused partitions; etcd's empty
/// cluster stands beside ours.
pub async fn measure(place: &Place, partitions: u32, over: Duration) -> anyhow::Result<Vec<Figure>> {
    progress(&format!("measuring {partitions} idle partitions"));
    let mut empty_cpu = Figure::new("idle, empty: CPU of all nodes", Unit::PercentOfCore);
    let mut empty_memory = Figure::new("idle, empty: memory per node", Unit::Mebibytes);
    let full = |what: &str| format!("idle, {partitions} partitions × {NODES} replicas: {what}");
    let mut full_cpu = Figure::new(full("CPU of all nodes"), Unit::PercentOfCore);
    let mut per_replica = Figure::new(full("memory per replica"), Unit::Mebibytes);

    let etcd = place.start_etcd().await?;
    let members = etcd.cluster.process_ids();
    sleep(SETTLE).await;
    let (cpu, memory) = observe(&members, over).await?;
    empty_cpu.other.push(Sample::from(cpu));
    empty_memory.other.push(Sample::from(memory / NODES as f64));
    etcd.cluster.stop().await?;

    let trilith = place.start_trilith(1, false).await?;
    let nodes = trilith.cluster.process_ids()?;
    sleep(SETTLE).await;
    let (cpu, before) = observe(&nodes, over).await?;
    empty_cpu.trilith.push(Sample::from(cpu));
    empty_memory.trilith.push(Sample::from(before / NODES as f64));
    trilith.cluster.create_table("idle", partitions).await?;
    sleep(SETTLE).await;
    let (cpu, after) = observe(&nodes, over).await?;
    full_cpu.trilith.push(Sample::from(cpu));
    let replicas = f64::from(partitions) * NODES as f64;
    per_replica.trilith.push(Sample::from((after - before).max(0.0) / replicas));
    trilith.cluster.stop().await?;

    Ok(vec![empty_cpu, empty_memory, full_cpu, per_replica])
}

/// Percent of one core over a time, and mebibytes at its end.
async fn observe(processes: &[u32], over: Duration) -> anyhow::Result<(f64, f64)> {
    let share = cpu_share(processes, over).await?;
    let resident = Usage::of(processes)?.resident_bytes;
    Ok((share * 100.0, resident as f64 / f64::from(1 << 20)))
}
