//! `trilith-bench compare`: everything, in one table.

use std::time::Duration;

use anyhow::bail;
use bench::report::{Figure, Machine, Report};

use super::{
    Place, ReportFiles, failover, idle,
    load::DEFAULT_CONNECTIONS,
    progress, restart,
    speed::{self, SpeedOptions},
};

/// A part of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Throughput and latency.
    Speed,
    /// A killed leader.
    Failover,
    /// Unused partitions.
    Idle,
    /// The restart of a node with many keys.
    Restart,
}

/// Flags of `compare`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  trilith-bench compare --markdown docs/benchmarks/latest.md --json docs/benchmarks/latest.json
  trilith-bench compare --quick
  trilith-bench compare --only speed,failover --rounds 5")]
pub struct CompareArguments {
    #[command(flatten)]
    place: Place,
    /// About two minutes: one round, short turns, fewer keys. Good for finding out whether
    /// everything works, not for quoting.
    #[arg(long)]
    quick: bool,
    /// Rounds; the table shows medians over them.
    #[arg(long)]
    rounds: Option<usize>,
    /// Measured seconds of each turn.
    #[arg(long)]
    seconds: Option<u64>,
    /// TCP connections in all, for both systems alike.
    #[arg(long, default_value_t = DEFAULT_CONNECTIONS)]
    connections: usize,
    /// Only these parts, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    #[command(flatten)]
    files: ReportFiles,
}

/// How thorough to be.
struct Thoroughness {
    rounds: usize,
    seconds: u64,
    warm_up: u64,
    idle_seconds: u64,
    restart_keys: u64,
}

const FULL: Thoroughness =
    Thoroughness { rounds: 3, seconds: 10, warm_up: 2, idle_seconds: 20, restart_keys: 5_000_000 };
const QUICK: Thoroughness =
    Thoroughness { rounds: 1, seconds: 2, warm_up: 1, idle_seconds: 5, restart_keys: 100_000 };

/// Runs `compare`.
pub async fn run(arguments: CompareArguments) -> anyhow::Result<()> {
    let place = &arguments.place;
    let how = if arguments.quick { QUICK } else { FULL };
    let rounds = arguments.rounds.unwrap_or(how.rounds).max(1);
    let mut report = Report {
        beside: "etcd".to_owned(),
        machine: Machine::look(&place.work_dir),
        figures: Vec::new(),
        notes: vec![format!(
            "Medians over {rounds} rounds; a ratio is Trilith divided by etcd within a round, then the median. \
             Both systems run three nodes on this machine with their default durability."
        )],
        failures: Vec::new(),
    };
    let wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    if wanted(Part::Speed) {
        let options = SpeedOptions {
            rounds,
            duration: Duration::from_secs(arguments.seconds.unwrap_or(how.seconds).max(1)),
            warm_up: Duration::from_secs(how.warm_up),
            connections: arguments.connections,
        };
        match speed::measure(place, options).await {
            Ok(speed) => {
                report.figures.extend(speed.figures);
                report.notes.extend(speed.notes);
                report.machine.versions = speed.versions;
            }
            Err(error) => report.fail("speed", &error),
        }
    }
    if wanted(Part::Failover) {
        let figure = failover::measure(place, rounds).await.map(|figure| vec![figure]);
        report.add("failover", figure);
    }
    if wanted(Part::Idle) {
        let over = Duration::from_secs(how.idle_seconds);
        report.add("idle", idle::measure(place, 300, over).await);
    }
    if wanted(Part::Restart) {
        report.add("restart", restart::measure(place, how.restart_keys, rounds).await);
    }
    arguments.files.write(&report)?;
    if report.failures.is_empty() {
        return Ok(());
    }
    bail!("{} parts could not be measured", report.failures.len())
}

/// A part that fails takes nothing from the others: a long measurement is not thrown away for
/// its last minute.
trait Collect {
    fn add(&mut self, part: &str, measured: anyhow::Result<Vec<Figure>>);
    fn fail(&mut self, part: &str, error: &anyhow::Error);
}

impl Collect for Report {
    fn add(&mut self, part: &str, measured: anyhow::Result<Vec<Figure>>) {
        match measured {
            Ok(figures) => self.figures.extend(figures),
            Err(error) => self.fail(part, &error),
        }
    }

    fn fail(&mut self, part: &str, error: &anyhow::Error) {
        let failure = format!("{part}: {error:#}");
        progress(&failure);
        self.failures.push(failure);
    }
}
