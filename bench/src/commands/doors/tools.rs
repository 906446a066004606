//! redis-benchmark and wrk, run to their end, and what they print.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, ensure};
use bench::{cluster::find_program, load::latency::LatencySummary, report::figure::Sample};
use tokio::{process::Command, time::timeout};

const VALUE_SIZE: usize = 256;
const CONNECTIONS: usize = 64;
/// Longer than any turn takes by far.
const PATIENCE: Duration = Duration::from_mins(5);

/// What redis-benchmark is to do.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// `SET` or `GET`.
    pub test: &'static str,
    /// Connections, each with one pipeline under way.
    pub clients: usize,
    /// Commands in each pipeline.
    pub pipeline: usize,
    /// Different keys.
    pub keys: u64,
    /// The number to SELECT: that of a database to Redis, the name of a table to us.
    pub table: u8,
}

impl Load {
    /// So few commands that they take a moment, and enough to tell about how fast it goes.
    pub fn few(&self) -> u64 {
        (self.clients * self.pipeline * 50).max(500) as u64
    }

    /// Measures so many commands at `HOST:PORT`.
    pub async fn run(&self, address: &str, cluster: bool, requests: u64) -> anyhow::Result<Sample> {
        let (host, port) = address.split_once(':').context("an address is HOST:PORT")?;
        let mut command = Command::new("redis-benchmark");
        command.args(["-h", host, "-p", port, "-t", &self.test.to_lowercase(), "--csv"]);
        let numbers = [
            ("-c", self.clients as u64),
            ("-P", self.pipeline as u64),
            ("-n", requests),
            ("-r", self.keys),
            ("-d", VALUE_SIZE as u64),
            ("--dbnum", u64::from(self.table)),
        ];
        for (flag, number) in numbers {
            command.args([flag, &number.to_string()]);
        }
        if cluster {
            command.arg("--cluster");
        }
        let out = output(command).await?;
        measured(&out, self.test).with_context(|| format!("redis-benchmark prints:\n{out}"))
    }
}

/// The program wrk.
#[derive(Debug)]
pub struct Wrk {
    program: PathBuf,
}

impl Wrk {
    /// None where it is not installed.
    pub fn find() -> Option<Self> {
        let program = find_program("wrk", None, None, "").ok()?;
        Some(Self { program })
    }

    /// Measures reads, over REST, of the keys that redis-benchmark has written.
    pub async fn get(&self, address: &str, keys: u64, seconds: u64) -> anyhow::Result<Sample> {
        let folder = tempfile::tempdir()?;
        let script = folder.path().join("random-keys.lua");
        let path = "/api/v1/kv/key:%012d";
        let text = format!(
            "request = function()\n  return wrk.format(\"GET\", string.format(\"{path}\", math.random(0, {})))\nend\n",
            keys - 1
        );
        std::fs::write(&script, text)?;
        let mut command = Command::new(&self.program);
        command.args(["-t", "1", "-c", &CONNECTIONS.to_string(), "-d", &format!("{seconds}s"), "--latency"]);
        command.arg("-s").arg(&script).arg(format!("http://{address}/"));
        let out = output(command).await?;
        ensure!(!out.contains("Non-2xx"), "some reads were answered with an error:\n{out}");
        wrk_measured(&out).with_context(|| format!("wrk prints:\n{out}"))
    }
}

async fn output(mut command: Command) -> anyhow::Result<String> {
    let shown = format!("{:?}", command.as_std());
    command.stdin(Stdio::null()).kill_on_drop(true);
    let done = timeout(PATIENCE, command.output()).await.with_context(|| format!("{shown} hangs"))?;
    let done = done.with_context(|| format!("cannot run {shown}: `make test-prerequisites` installs it"))?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    ensure!(done.status.success(), "{shown} ended with {}: {said}", done.status);
    // What servers answer with an error it says there, and ends well.
    ensure!(!said.contains("Error"), "{shown}: {said}");
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// The line of a test: its rate, and latencies in milliseconds.
fn measured(csv: &str, test: &str) -> Option<Sample> {
    let line = csv.lines().find_map(|line| line.strip_prefix(&format!("\"{test}\",")))?;
    let cells: Vec<f64> = line.split(',').filter_map(|cell| cell.trim_matches('"').parse().ok()).collect();
    let [rate, _mean, _least, p50, _p95, p99, most] = cells[..] else { return None };
    let microseconds = |milliseconds: f64| (milliseconds * 1_000.0).round() as u64;
    let latency = LatencySummary {
        p50_us: microseconds(p50),
        p99_us: microseconds(p99),
        max_us: microseconds(most),
        ..LatencySummary::default()
    };
    Some(Sample { value: rate, latency: Some(latency) })
}

/// The rate and two latencies, which wrk gives in the unit that suits them.
fn wrk_measured(out: &str) -> Option<Sample> {
    let after = |name: &str| out.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
    let latency = LatencySummary {
        p50_us: microseconds(after("50%")?)?,
        p99_us: microseconds(after("99%")?)?,
        ..LatencySummary::default()
    };
    Some(Sample { value: after("Requests/sec:")?.parse().ok()?, latency: Some(latency) })
}

fn microseconds(text: &str) -> Option<u64> {
    let (number, scale) = [("us", 1.0), ("ms", 1e3), ("s", 1e6)]
        .into_iter()
        .find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, scale)))?;
    Some((number.parse::<f64>().ok()? * scale).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_redis_benchmark_are_read() {
        let csv = "Cluster has 3 master nodes:\n\n\"test\",\"rps\",\"avg_latency_ms\"\n\
                   \"SET\",\"77821.02\",\"0.726\",\"0.064\",\"0.351\",\"3.759\",\"5.207\",\"15.119\"\n";
        let sample = measured(csv, "SET").unwrap();
        let latency = sample.latency.unwrap();
        assert_eq!((sample.value, latency.p50_us, latency.p99_us), (77_821.02, 351, 5_207));
        assert_eq!(measured(csv, "GET"), None);
        assert_eq!(measured("\"SET\",\"fast\"\n", "SET"), None);
    }

    #[test]
    fn what_wrk_prints_is_read() {
        let out = "  Latency Distribution\n     50%  815.00us\n     75%    1.20ms\n     99%    0.02s \n\
                   Requests/sec:  25012.50\nTransfer/sec:      7.00MB\n";
        let sample = wrk_measured(out).unwrap();
        let latency = sample.latency.unwrap();
        assert_eq!((sample.value, latency.p50_us, latency.p99_us), (25_012.5, 815, 20_000));
        assert_eq!(wrk_measured("unable to connect"), None);
    }
}
