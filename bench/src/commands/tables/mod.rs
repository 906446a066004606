//! What the abilities of tables cost: each beside the same load without it, in one run.
//!
//! One cluster runs all the time. With and without take turns, and who goes first alternates by
//! round, because the machine's speed moves between rounds more than within one.

mod watching;

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use bench::{
    cluster::{TrilithCluster, process::until_quiet},
    load::{self, Distribution, Keys, Load, Measured, Workload},
    report::{Figure, Machine, Report},
    target::{Routing, Trilith},
};

use super::{Place, ReportFiles, load::DEFAULT_CONNECTIONS, progress};

/// Different keys of each table.
const KEYS: u64 = 10_000;
const KEY_SIZE: usize = 16;
const VALUE_SIZE: usize = 256;
const CLIENTS: usize = 64;
const PARTITIONS: u32 = 8;
/// How long to wait for compaction and the like to end.
const QUIET_PATIENCE: Duration = Duration::from_secs(15);

/// Flags of `tables`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  trilith-bench tables --markdown docs/benchmarks/tables.md
  trilith-bench tables --rounds 1 --seconds 1")]
pub struct TablesArguments {
    #[command(flatten)]
    place: Place,
    /// Rounds; the table shows medians over them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each turn takes.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    #[command(flatten)]
    files: ReportFiles,
}

/// The cluster, and how it is measured.
struct Rig<'a> {
    cluster: &'a TrilithCluster,
    processes: Vec<u32>,
    rounds: usize,
    turn: Duration,
    notes: Vec<String>,
}

/// Runs `tables`.
pub async fn run(arguments: TablesArguments) -> anyhow::Result<()> {
    let place = &arguments.place;
    let mut report = Report {
        beside: "without".to_owned(),
        machine: Machine::look(&place.work_dir),
        figures: Vec::new(),
        notes: vec![format!(
            "Medians over {} rounds; a ratio is with divided by without within a round, then the median. Turns of \
             {} s. Three nodes on this machine, tables of {PARTITIONS} partitions, {KEYS} keys of {KEY_SIZE} bytes, \
             values of {VALUE_SIZE} random bytes, {CLIENTS} clients in a closed loop, sent to the leaders.",
            arguments.rounds, arguments.seconds
        )],
        failures: Vec::new(),
    };
    progress("starting three nodes");
    let started = place.start_trilith(PARTITIONS, false).await?;
    report.machine.versions.push(format!("trilith {}", started.cluster.version().await?));
    let mut rig = Rig {
        cluster: &started.cluster,
        processes: started.cluster.process_ids()?,
        rounds: arguments.rounds as usize,
        turn: Duration::from_secs(arguments.seconds),
        notes: Vec::new(),
    };
    match watching::measure(&mut rig).await {
        Ok(figures) => report.figures.extend(figures),
        Err(error) => report.failures.push(format!("watching: {error:#}")),
    }
    report.notes.append(&mut rig.notes);
    started.cluster.stop().await?;
    arguments.files.write(&report)?;
    if !report.failures.is_empty() {
        bail!("not everything could be measured");
    }
    Ok(())
}

impl Rig<'_> {
    /// Puts on a table for one turn, once all is quiet.
    async fn put(&mut self, table: &str) -> anyhow::Result<Measured> {
        let load = Load::closed(CLIENTS, self.turn, workload()).with_warm_up(Duration::from_millis(500));
        self.load(table, &load).await
    }

    async fn load(&mut self, table: &str, load: &Load) -> anyhow::Result<Measured> {
        until_quiet(&self.processes, QUIET_PATIENCE).await?;
        let endpoints = self.cluster.endpoints();
        let target = Trilith::open(&endpoints, DEFAULT_CONNECTIONS, table, Routing::Leader).await?;
        let measured = load::run(&Arc::new(target), load).await?;
        if measured.failed > 0 {
            let why = measured.last_failure.clone().unwrap_or_default();
            self.notes.push(format!("{} operations on {table} failed: {why}", measured.failed));
        }
        Ok(measured)
    }

    fn tell(&self, round: usize, figure: &Figure) {
        let newest = figure.newest("without");
        progress(&format!("round {} of {}: {}: {newest}", round + 1, self.rounds, figure.name));
    }
}

fn workload() -> Workload {
    let keys = Keys::new(KEYS, KEY_SIZE, Distribution::Uniform);
    Workload::new(keys, (VALUE_SIZE, VALUE_SIZE), 0.0, 1)
}
