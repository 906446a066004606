//! Throughput and latency of both systems, in rounds.
//!
//! Both clusters run all the time and one of them is under load. The other is left idle
//! rather than stopped with a signal: a stopped Raft cluster finds on waking that all its
//! timers have run out, holds elections and moves its leaders, and would then be measured in
//! a state that no user has. What an idle cluster costs meanwhile is measured and reported; it
//! is less than rounds differ. Before each turn both must be quiet, so that neither pays for
//! what the other still does behind its last load. Who goes first alternates by round.
//!
//! Requests of both systems go straight to the leader, because a comparison that lets only
//! one side choose its node measures the choice. Rows for any node, as of clients behind a
//! load balancer, stand beside them.

mod steps;

use std::{sync::Arc, time::Duration};

use bench::{
    cluster::{
        EtcdCluster, TrilithCluster,
        process::{cpu_share, until_quiet},
    },
    load::{self, Distribution, Keys, Load, Measured, Workload},
    report::{Figure, Unit, figure::Sample},
    target::{Etcd, Routing, Trilith, TrilithStream},
};

use super::{Place, progress};
use steps::{MANY_PARTITIONS, ONE_PARTITION, PUT_64, Shape, Step, steps};

/// Keys that are written before anything is measured, so that every read finds one.
const KEYS: u64 = 10_000;
const KEY_SIZE: usize = 16;
const VALUE_SIZE: usize = 256;
/// How long to wait for compaction and the like to end.
const QUIET_PATIENCE: Duration = Duration::from_secs(15);

/// What to vary.
#[derive(Debug, Clone, Copy)]
pub struct SpeedOptions {
    /// How often everything is measured.
    pub rounds: usize,
    /// Measured time of each turn.
    pub duration: Duration,
    /// Load before it.
    pub warm_up: Duration,
    /// TCP connections in all, for both systems alike.
    pub connections: usize,
}

/// What came out.
#[derive(Debug, Default)]
pub struct Speed {
    /// The rows.
    pub figures: Vec<Figure>,
    /// What to know about them.
    pub notes: Vec<String>,
    /// The versions that were measured.
    pub versions: Vec<String>,
}

/// Both clusters and what is asked of them.
struct Rig<'a> {
    trilith: &'a TrilithCluster,
    etcd: &'a EtcdCluster,
    options: SpeedOptions,
    processes: Vec<u32>,
    notes: Vec<String>,
}

/// Starts both systems, measures all rounds, stops them.
pub async fn measure(place: &Place, options: SpeedOptions) -> anyhow::Result<Speed> {
    progress("starting three nodes of Trilith and three of etcd");
    let trilith = place.start_trilith(8, false).await?;
    let etcd = place.start_etcd().await?;
    trilith.cluster.create_table(ONE_PARTITION, 1).await?;
    trilith.cluster.create_table(MANY_PARTITIONS, 64).await?;
    trilith.cluster.wait_for_leaders("default").await?;
    let processes = [trilith.cluster.process_ids()?, etcd.cluster.process_ids()].concat();
    let mut rig =
        Rig { trilith: &trilith.cluster, etcd: &etcd.cluster, options, processes, notes: Vec::new() };
    rig.preload().await?;
    rig.note_idle_cost().await?;
    let mut figures = rig.rounds().await?;
    figures.extend(steps::many_over_one(&figures));
    let versions = vec![
        format!("trilith {}", trilith.cluster.version().await?),
        format!("etcd {}", etcd.cluster.version().await?),
    ];
    let notes = rig.notes;
    trilith.cluster.stop().await?;
    etcd.cluster.stop().await?;
    Ok(Speed { figures, notes, versions })
}

impl Rig<'_> {
    async fn rounds(&mut self) -> anyhow::Result<Vec<Figure>> {
        let steps = steps();
        let mut figures: Vec<Figure> = steps
            .iter()
            .map(|step| {
                let unit = if step.by_latency { Unit::Milliseconds } else { Unit::PerSecond };
                Figure::new(step.name, unit)
            })
            .collect();
        let mut fsyncs = Figure::new("log fsyncs per put and node, 64 clients", Unit::FsyncsPerWrite);
        for round in 0..self.options.rounds {
            for (step, figure) in steps.iter().zip(&mut figures) {
                progress(&format!("round {} of {}: {}", round + 1, self.options.rounds, step.name));
                let with_fsyncs = step.name == PUT_64;
                for turn in 0..2 {
                    let trilith_turn = (turn + round) % 2 == 0;
                    let before = if with_fsyncs { self.fsyncs(trilith_turn).await? } else { 0.0 };
                    let Some(measured) = self.turn(step, trilith_turn).await? else { continue };
                    let (samples, syncs) = if trilith_turn {
                        (&mut figure.trilith, &mut fsyncs.trilith)
                    } else {
                        (&mut figure.other, &mut fsyncs.other)
                    };
                    samples.push(sample(step, &measured));
                    if with_fsyncs {
                        let synced = self.fsyncs(trilith_turn).await? - before;
                        let writes = measured.succeeded as f64 * bench::cluster::NODES as f64;
                        syncs.push(Sample::from(synced / writes));
                    }
                }
            }
        }
        figures.push(fsyncs);
        Ok(figures)
    }

    /// One system's part of a step; nothing when the step is not for it.
    async fn turn(&mut self, step: &Step, trilith: bool) -> anyhow::Result<Option<Measured>> {
        let shape = if trilith { Some(step.trilith) } else { step.etcd };
        let Some(shape) = shape else { return Ok(None) };
        until_quiet(&self.processes, QUIET_PATIENCE).await?;
        let workload = workload(Distribution::Uniform).with_read_share(shape.read_share);
        let load = Load::closed(shape.clients, self.options.duration, workload)
            .with_window(shape.window)
            .with_warm_up(self.options.warm_up);
        let measured = if trilith {
            self.load_trilith(shape, &load).await?
        } else {
            self.load_etcd(shape, &load).await?
        };
        let who = if trilith { "Trilith" } else { "etcd" };
        if measured.failed > 0 {
            let why = measured.last_failure.clone().unwrap_or_default();
            self.notes.push(format!("{}: {} operations of {who} failed: {why}", step.name, measured.failed));
        }
        if measured.missing > 0 {
            self.notes.push(format!("{}: {} reads of {who} found nothing", step.name, measured.missing));
        }
        Ok(Some(measured))
    }

    async fn load_trilith(&self, shape: Shape, load: &Load) -> anyhow::Result<Measured> {
        let Shape { table, routing, .. } = shape;
        let (endpoints, connections) = (self.trilith.endpoints(), self.options.connections);
        if shape.window > 1 {
            let target = TrilithStream::open(&endpoints, connections, table, routing).await?;
            return Ok(load::run(&Arc::new(target), load).await?);
        }
        let target = Trilith::open(&endpoints, connections, table, routing).await?;
        Ok(load::run(&Arc::new(target), load).await?)
    }

    async fn load_etcd(&self, shape: Shape, load: &Load) -> anyhow::Result<Measured> {
        let mut endpoints = self.etcd.endpoints();
        if shape.routing == Routing::Leader {
            endpoints = vec![endpoints.swap_remove(self.etcd.leader().await?)];
        }
        let target = Etcd::open(&endpoints, self.options.connections).await?;
        Ok(load::run(&Arc::new(target), load).await?)
    }

    /// Writes every key once, so that reads find them and the first round measures no emptier
    /// a store than the last.
    async fn preload(&self) -> anyhow::Result<()> {
        progress("writing every key once");
        let mut load = Load::closed(64, Duration::from_mins(2), workload(Distribution::Sequential));
        load.operations = Some(KEYS);
        self.load_etcd(Shape::unary(64, 0.0), &load).await?;
        for table in ["", ONE_PARTITION, MANY_PARTITIONS] {
            self.load_trilith(Shape { table, ..Shape::unary(64, 0.0) }, &load).await?;
        }
        Ok(())
    }

    async fn note_idle_cost(&mut self) -> anyhow::Result<()> {
        until_quiet(&self.processes, QUIET_PATIENCE).await?;
        let over = Duration::from_secs(3);
        let trilith = self.trilith.process_ids()?;
        let etcd = self.etcd.process_ids();
        let (trilith, etcd) = tokio::join!(cpu_share(&trilith, over), cpu_share(&etcd, over));
        self.notes.push(format!(
            "One system is under load while the other idles. Idle they take {:.1} % (Trilith) and {:.1} % \
             (etcd) of one core.",
            trilith? * 100.0,
            etcd? * 100.0
        ));
        self.notes.push(format!(
            "Keys of {KEY_SIZE} and values of {VALUE_SIZE} random bytes, {KEYS} keys, uniform; closed loop; \
             latencies corrected for coordinated omission. Both systems: the same tonic client on one thread, \
             {} connections in all, requests straight to the leader unless a row says any node.",
            self.options.connections
        ));
        Ok(())
    }

    async fn fsyncs(&self, trilith: bool) -> anyhow::Result<f64> {
        Ok(if trilith {
            self.trilith.counter("kvstore_log_fsyncs_total", &[]).await?
        } else {
            self.etcd.log_fsyncs().await?
        })
    }
}

fn workload(distribution: Distribution) -> Workload {
    Workload::new(Keys::new(KEYS, KEY_SIZE, distribution), (VALUE_SIZE, VALUE_SIZE), 0.0, 1)
}

fn sample(step: &Step, measured: &Measured) -> Sample {
    if step.by_latency {
        return Sample { value: measured.latency.p50_us as f64 / 1_000.0, latency: Some(measured.corrected) };
    }
    Sample { value: measured.per_second, latency: Some(measured.corrected) }
}
