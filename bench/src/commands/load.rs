//! `trilith-bench load`: load on a cluster that runs already.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use bench::{
    load::{self, Distribution, Keys, Load, Measured, Pace, Workload},
    report::{figure::thousands, table},
    target::{Etcd, Routing, Target, Trilith, TrilithStream},
};

use super::print;

/// One connection to each of three nodes, for every system and any number of clients.
///
/// HTTP/2 carries many calls on one connection, and with few connections both ends gather
/// what is ready into one system call; more cost wake-ups. `docs/benchmarks` says what was
/// measured with etcd.
pub const DEFAULT_CONNECTIONS: usize = 3;

/// Which system, and by which way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum System {
    /// Trilith by unary gRPC calls.
    Trilith,
    /// Trilith by its gRPC stream.
    TrilithStream,
    /// etcd's v3 API.
    Etcd,
}

/// Flags of `load`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  trilith-bench load --target trilith --endpoints 127.0.0.1:7400,127.0.0.1:7410,127.0.0.1:7420
  trilith-bench load --target trilith-stream --endpoints 127.0.0.1:7400 --clients 4 --window 64
  trilith-bench load --target etcd --endpoints 127.0.0.1:2379 --rate 2000 --read-share 0.9")]
pub struct LoadArguments {
    /// The system and the way in.
    #[arg(long)]
    target: System,
    /// gRPC addresses, separated by commas.
    #[arg(long, value_delimiter = ',', required = true)]
    endpoints: Vec<String>,
    /// Clients that run side by side.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// TCP connections in all, over which the clients spread; at least one to each endpoint.
    #[arg(long, default_value_t = DEFAULT_CONNECTIONS)]
    connections: usize,
    /// Operations that one client has in flight; more than 1 is for trilith-stream.
    #[arg(long, default_value_t = 1)]
    window: usize,
    /// Open loop: start this many operations per second. Without it the loop is closed.
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 10.0)]
    duration: f64,
    /// Seconds of load before that, which are not.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// End after this many operations.
    #[arg(long)]
    operations: Option<u64>,
    /// How many different keys there are.
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// Bytes of a key.
    #[arg(long, default_value_t = 16)]
    key_size: usize,
    /// How requests spread over the keys: uniform, zipf or sequential.
    #[arg(long, default_value = "uniform")]
    distribution: Distribution,
    /// Bytes of a value, or the smallest and the largest as MIN-MAX.
    #[arg(long, default_value = "256", value_parser = sizes)]
    value_size: (usize, usize),
    /// The share of reads, from 0 to 1. The keys have to be there: load them first with
    /// `--distribution sequential --operations KEYS`.
    #[arg(long, default_value_t = 0.0)]
    read_share: f64,
    /// Decides everything that is random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Trilith's table; empty means `default`.
    #[arg(long, default_value = "")]
    table: String,
    /// Send to any node rather than straight to the leader (Trilith).
    #[arg(long)]
    any_node: bool,
    /// Seconds after which an operation without an answer counts as failed.
    #[arg(long, default_value_t = 10.0)]
    patience: f64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `load`.
pub async fn run(arguments: LoadArguments) -> anyhow::Result<()> {
    if arguments.window > 1 && arguments.target != System::TrilithStream {
        bail!("only trilith-stream has more than one operation in flight: use --clients instead of --window");
    }
    let seconds = |value: f64, flag: &str| {
        Duration::try_from_secs_f64(value).with_context(|| format!("{flag} {value} is no time"))
    };
    if arguments.rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
        bail!("--rate has to be more than 0");
    }
    let keys = Keys::new(arguments.keys, arguments.key_size, arguments.distribution);
    let load = Load {
        clients: arguments.clients,
        window: arguments.window,
        pace: arguments.rate.map_or(Pace::Closed, |per_second| Pace::Open { per_second }),
        warm_up: seconds(arguments.warm_up, "--warm-up")?,
        duration: seconds(arguments.duration, "--duration")?,
        operations: arguments.operations,
        patience: seconds(arguments.patience, "--patience")?,
        workload: Workload::new(keys, arguments.value_size, arguments.read_share, arguments.seed),
    };
    let routing = if arguments.any_node { Routing::Any } else { Routing::Leader };
    let connections = arguments.connections;
    let (endpoints, table) = (&arguments.endpoints, arguments.table.as_str());
    let measured = match arguments.target {
        System::Trilith => {
            put_on(Trilith::open(endpoints, connections, table, routing).await?, &load).await?
        }
        System::TrilithStream => {
            put_on(TrilithStream::open(endpoints, connections, table, routing).await?, &load).await?
        }
        System::Etcd => put_on(Etcd::open(endpoints, connections).await?, &load).await?,
    };
    if arguments.json {
        return print(&(serde_json::to_string_pretty(&measured)? + "\n"));
    }
    print(&show(&measured, load.pace))
}

async fn put_on<T: Target>(target: T, load: &Load) -> anyhow::Result<Measured> {
    Ok(load::run(&Arc::new(target), load).await?)
}

fn show(measured: &Measured, pace: Pace) -> String {
    let rate = thousands(measured.per_second);
    let done = thousands(measured.operations as f64);
    let mut lines = vec![format!("{rate} operations/s ({done} in {:.2} s)", measured.seconds)];
    let mut rows = vec![["latency, ms", "p50", "p90", "p99", "p99.9", "max"].map(str::to_owned).to_vec()];
    let mut row = |name: &str, latency: &bench::load::latency::LatencySummary| {
        let figures = [latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us];
        let shown = figures.map(|microseconds| format!("{:.2}", microseconds as f64 / 1_000.0));
        rows.push(std::iter::once(name.to_owned()).chain(shown).collect());
    };
    match pace {
        Pace::Closed => {
            row("as measured", &measured.latency);
            row("corrected for coordinated omission", &measured.corrected);
        }
        Pace::Open { .. } => row("from the intended start", &measured.latency),
    }
    lines.extend(table::aligned(&rows));
    lines.push(format!("longest time without a success: {} ms", measured.longest_gap_ms));
    if measured.missing > 0 {
        lines.push(format!("{} reads found nothing: were the keys loaded?", measured.missing));
    }
    if measured.failed > 0 {
        let why = measured.last_failure.as_deref().unwrap_or("for no known reason");
        lines.push(format!("{} operations failed, the last one: {why}", measured.failed));
    }
    lines.join("\n") + "\n"
}

fn sizes(text: &str) -> Result<(usize, usize), String> {
    const LARGEST: usize = 8 << 20;
    let number =
        |part: &str| part.trim().parse::<usize>().map_err(|_| format!("{part:?} is no size in bytes"));
    let (smallest, largest) = text.split_once('-').unwrap_or((text, text));
    let (smallest, largest) = (number(smallest)?, number(largest)?);
    if smallest > largest {
        return Err(format!("{smallest} is larger than {largest}"));
    }
    if largest > LARGEST {
        return Err(format!("values have at most {LARGEST} bytes"));
    }
    Ok((smallest, largest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_one_number_or_two() {
        assert_eq!(sizes("256"), Ok((256, 256)));
        assert_eq!(sizes("16-4096"), Ok((16, 4_096)));
        assert!(sizes("9-1").is_err());
        assert!(sizes("x").is_err());
        assert!(sizes("99999999").is_err());
    }
}
