//! The Redis door and REST beside one Redis, by the tools that their users measure with.
//!
//! redis-benchmark and wrk ask, and not our own generator: their figures are the ones that
//! readers can repeat. Redis keeps a single copy and syncs its log before it answers; we keep
//! three, and sync two of them. Both run all the time, and one of them is under load; who goes
//! first alternates by round.

mod tools;

use std::{collections::HashMap, time::Duration};

use anyhow::{Context as _, bail};
use bench::{
    cluster::{RedisServer, TrilithCluster, process::until_quiet},
    report::{Figure, Goal, Machine, Report, Unit, figure::Sample},
};

use super::{Place, ReportFiles, progress};
use tools::{Load, Wrk};

/// How long to wait for compaction and the like to end.
const QUIET_PATIENCE: Duration = Duration::from_secs(10);
/// Written before anything is measured, so that every read finds one.
const KEYS: u64 = 10_000;
/// The table of one partition: a client that says SELECT 1 is in it.
const ONE_PARTITION: (u8, &str) = (1, "1");
/// What a REST read may cost: 25,000 a second where Redis answers 79,000 GETs.
const REST_GOAL: f64 = 25_000.0 / 79_000.0;

/// Flags of `doors`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  trilith-bench doors --markdown docs/benchmarks/doors.md --json docs/benchmarks/doors.json
  trilith-bench doors --quick
  trilith-bench doors --redis-only")]
pub struct DoorsArguments {
    #[command(flatten)]
    place: Place,
    /// One round of short turns. Good for finding out whether everything works, not for
    /// quoting.
    #[arg(long)]
    quick: bool,
    /// Rounds; the table shows medians over them.
    #[arg(long)]
    rounds: Option<usize>,
    /// Measure Redis alone, to see what this machine gives.
    #[arg(long)]
    redis_only: bool,
    #[command(flatten)]
    files: ReportFiles,
}

/// How thorough to be.
#[derive(Debug, Clone, Copy)]
struct Thoroughness {
    rounds: usize,
    /// How long each turn takes, about.
    seconds: u64,
}

const FULL: Thoroughness = Thoroughness { rounds: 5, seconds: 4 };
const QUICK: Thoroughness = Thoroughness { rounds: 1, seconds: 1 };

/// One row, as redis-benchmark is told to measure it.
struct Step {
    name: &'static str,
    load: Load,
    /// By the median latency, and not by the rate.
    by_latency: bool,
    goal: Goal,
}

fn steps() -> Vec<Step> {
    let load = |test, clients, pipeline| Load { test, clients, pipeline, keys: KEYS, table: 0 };
    let many = Goal::AtLeast;
    let step = |name, load, goal| Step { name, load, by_latency: false, goal };
    vec![
        step("SET, 64 clients", load("SET", 64, 1), many(0.4)),
        step("GET, 64 clients", load("GET", 64, 1), many(0.7)),
        step("SET, 64 clients, 16 in a pipeline", load("SET", 64, 16), many(0.25)),
        step("GET, 64 clients, 16 in a pipeline", load("GET", 64, 16), many(0.3)),
        Step {
            by_latency: true,
            ..step("SET, 1 client: median latency", load("SET", 1, 1), Goal::AtMost(2.5))
        },
    ]
}

/// Both systems; ours is missing where Redis is measured alone.
struct Rig<'a> {
    trilith: Option<&'a TrilithCluster>,
    redis: &'a RedisServer,
    processes: Vec<u32>,
    /// How fast each step went at each address the last time: that says how many requests its
    /// next turn takes, since redis-benchmark counts requests and no time.
    rates: HashMap<(&'static str, u8, String), f64>,
    /// How long a turn takes, about.
    seconds: u64,
}

/// Runs `doors`.
pub async fn run(arguments: DoorsArguments) -> anyhow::Result<()> {
    let place = &arguments.place;
    let how = if arguments.quick { QUICK } else { FULL };
    let how = Thoroughness { rounds: arguments.rounds.unwrap_or(how.rounds).max(1), ..how };
    let wrk = Wrk::find();
    let mut report = Report {
        beside: "Redis".to_owned(),
        machine: Machine::look(&place.work_dir),
        figures: Vec::new(),
        notes: vec![
            format!(
                "Medians over {} rounds; a ratio is Trilith divided by Redis within a round, then the median. \
                 Who goes first alternates, and each turn takes about {} s.",
                how.rounds, how.seconds
            ),
            "Redis: one process, one copy, `appendonly yes`, `appendfsync always`. Trilith: three nodes on this \
             machine, three copies, asked at one node, which forwards what another leads."
                .to_owned(),
            format!("redis-benchmark: values of 256 bytes, {KEYS} random keys. wrk: one thread."),
        ],
        failures: Vec::new(),
    };
    if wrk.is_none() {
        report.failures.push("REST: wrk is not installed (`make test-prerequisites`)".to_owned());
    }

    progress("starting Redis, and three nodes of Trilith");
    let redis = place.start_redis().await?;
    let trilith = if arguments.redis_only { None } else { Some(place.start_trilith(8, false).await?) };
    let mut processes: Vec<u32> = redis.cluster.process_id().into_iter().collect();
    if let Some(trilith) = &trilith {
        trilith.cluster.create_table(ONE_PARTITION.1, 1).await?;
        for table in ["default", ONE_PARTITION.1] {
            trilith.cluster.wait_for_leaders(table).await?;
        }
        processes.extend(trilith.cluster.process_ids()?);
        report.machine.versions.push(format!("trilith {}", trilith.cluster.version().await?));
    }
    report.machine.versions.push(format!("redis {}", redis.cluster.version().await?));
    let mut rig = Rig {
        trilith: trilith.as_ref().map(|started| &started.cluster),
        redis: &redis.cluster,
        processes,
        rates: HashMap::new(),
        seconds: how.seconds,
    };
    match rig.rounds(how, wrk.as_ref()).await {
        Ok((figures, failures)) => {
            report.figures = figures;
            report.failures.extend(failures);
        }
        Err(error) => report.failures.push(format!("{error:#}")),
    }
    if let Some(trilith) = trilith {
        trilith.cluster.stop().await?;
    }
    redis.cluster.stop().await?;

    arguments.files.write(&report)?;
    if !report.failures.is_empty() {
        bail!("not everything could be measured");
    }
    Ok(())
}

impl Rig<'_> {
    /// The figures, and why REST could not be measured where it could not: that takes nothing
    /// from the others.
    async fn rounds(
        &mut self,
        how: Thoroughness,
        wrk: Option<&Wrk>,
    ) -> anyhow::Result<(Vec<Figure>, Vec<String>)> {
        self.preload().await?;
        let mut failures = Vec::new();
        let steps = steps();
        let mut figures: Vec<Figure> = steps
            .iter()
            .map(|step| {
                let unit = if step.by_latency { Unit::Milliseconds } else { Unit::PerSecond };
                Figure::new(step.name, unit).with_goal(step.goal)
            })
            .collect();
        let mut redirected = Figure::new("SET, 64 clients, sent to the leaders (--cluster)", Unit::PerSecond);
        // Asked at its leader: what eight partitions cost, each of which commits for itself.
        let mut gathered = [
            (0, Figure::new("SET, 64 clients, one partition", Unit::PerSecond)),
            (2, Figure::new("SET, 64 clients, 16 in a pipeline, one partition", Unit::PerSecond)),
        ];
        let mut rest = Figure::new("REST GET, 64 connections, beside Redis' GET", Unit::PerSecond)
            .with_goal(Goal::AtLeast(REST_GOAL));
        // Whoever stops a long run has seen what it found by then.
        let tell = |round: usize, figure: &Figure| {
            let newest = figure.newest("Redis");
            progress(&format!("round {} of {}: {}: {newest}", round + 1, how.rounds, figure.name));
        };
        for round in 0..how.rounds {
            for (step, figure) in steps.iter().zip(&mut figures) {
                for turn in 0..2 {
                    if (turn + round) % 2 == 0 {
                        figure.other.push(self.turn(step, &self.redis.address(), false).await?);
                    } else if let Some(trilith) = self.trilith {
                        figure.trilith.push(self.turn(step, &trilith.redis_address(0, false), false).await?);
                    }
                }
                tell(round, figure);
            }
            let Some(trilith) = self.trilith else { continue };
            // Redis' own answers of this round, which it gave a moment ago.
            let of_redis = |place: usize| figures.get(place).and_then(|figure| figure.other.last()).copied();
            let first = steps.first().context("there are no steps")?;
            let address = trilith.redis_address(0, true);
            redirected.trilith.push(self.turn(first, &address, true).await?);
            redirected.other.extend(of_redis(0));
            tell(round, &redirected);
            let leader = trilith.leader_of(ONE_PARTITION.1).await?;
            let address = trilith.redis_address(leader, false);
            for (place, figure) in &mut gathered {
                let step = steps.get(*place).context("there is no such step")?;
                let step = Step { load: Load { table: ONE_PARTITION.0, ..step.load }, ..*step };
                figure.trilith.push(self.turn(&step, &address, false).await?);
                figure.other.extend(of_redis(*place));
                tell(round, figure);
            }
            if let Some(wrk) = wrk {
                until_quiet(&self.processes, QUIET_PATIENCE).await?;
                match wrk.get(&trilith.http_address(0), KEYS, self.seconds).await {
                    Ok(measured) => {
                        rest.trilith.push(measured);
                        rest.other.extend(of_redis(1));
                        tell(round, &rest);
                    }
                    Err(error) => failures.push(format!("REST: {error:#}")),
                }
            }
        }
        figures.push(redirected);
        figures.extend(gathered.map(|(_, figure)| figure));
        figures.extend(wrk.map(|_| rest));
        Ok((figures, failures))
    }

    async fn turn(&mut self, step: &Step, address: &str, cluster: bool) -> anyhow::Result<Sample> {
        let failed = || format!("{} at {address}", step.name);
        let place = (step.name, step.load.table, address.to_owned());
        let rate = match self.rates.get(&place) {
            Some(rate) => *rate,
            None => step.load.run(address, cluster, step.load.few()).await.with_context(failed)?.value,
        };
        let requests = ((rate * self.seconds as f64) as u64).max(step.load.few());
        until_quiet(&self.processes, QUIET_PATIENCE).await?;
        let measured = step.load.run(address, cluster, requests).await.with_context(failed)?;
        self.rates.insert(place, measured.value);
        let value = if step.by_latency {
            measured.latency.map_or(0.0, |latency| latency.p50_us as f64 / 1_000.0)
        } else {
            measured.value
        };
        Ok(Sample { value, ..measured })
    }

    /// Writes so often that every key is written but by a chance of less than one in a
    /// million, and so that the first round measures no emptier a store than the last.
    async fn preload(&self) -> anyhow::Result<()> {
        progress("writing every key");
        let load = Load { test: "SET", clients: 64, pipeline: 16, keys: KEYS, table: 0 };
        load.run(&self.redis.address(), false, 25 * KEYS).await?;
        if let Some(trilith) = self.trilith {
            load.run(&trilith.redis_address(0, false), false, 25 * KEYS).await?;
        }
        Ok(())
    }
}
