//! A file per subcommand, and the flags that several of them share.

mod compare;
mod doors;
mod failover;
mod idle;
mod indexes;
mod load;
mod restart;
mod speed;
mod tables;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use bench::{
    cluster::{
        ClusterError, EtcdCluster, RedisServer, TrilithCluster, fresh_folder, trilith::TrilithOptions,
    },
    report::Report,
};
use tempfile::TempDir;

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Put load on a running cluster and print what it measured.
    Load(load::LoadArguments),
    /// Start both systems side by side and print one table with ratios.
    Compare(compare::CompareArguments),
    /// Measure the Redis door and REST beside one Redis, with the tools of their users.
    Doors(doors::DoorsArguments),
    /// Measure what partitions cost that nobody uses.
    Idle(idle::IdleArguments),
    /// Measure how long a node with many keys takes from its start to serving.
    Restart(restart::RestartArguments),
    /// Measure what watches cost those who write, and how late they are told.
    Tables(tables::TablesArguments),
    /// Measure what two indexes cost a put, and a query beside a scan.
    Indexes(indexes::IndexesArguments),
    /// Kill a leader and measure the longest time without a write, in both systems.
    Failover(failover::FailoverArguments),
}

impl Command {
    /// Does it.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Load(arguments) => load::run(arguments).await,
            Self::Compare(arguments) => compare::run(arguments).await,
            Self::Doors(arguments) => doors::run(arguments).await,
            Self::Idle(arguments) => idle::run(arguments).await,
            Self::Restart(arguments) => restart::run(arguments).await,
            Self::Tables(arguments) => tables::run(arguments).await,
            Self::Indexes(arguments) => indexes::run(arguments).await,
            Self::Failover(arguments) => failover::run(arguments).await,
        }
    }
}

/// Where programs are and where data goes.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// The `trilith` program; by default the one beside this program, or on the PATH.
    #[arg(long, value_name = "FILE")]
    pub trilith: Option<PathBuf>,
    /// The etcd program; by default the one that bench/etcd.sh built, or on the PATH.
    #[arg(long, value_name = "FILE")]
    pub etcd: Option<PathBuf>,
    /// Both systems keep their data in here while they run. It should be on a real disk.
    #[arg(long, value_name = "DIR", default_value = ".trilith/bench")]
    pub work_dir: PathBuf,
    /// Added to every port of Trilith, so that a cluster of yours may go on running.
    #[arg(long, default_value_t = 20_000)]
    pub port_offset: u16,
}

impl Place {
    /// Starts Trilith with a fresh folder.
    pub async fn start_trilith(
        &self,
        partitions: u32,
        restart: bool,
    ) -> Result<Started<TrilithCluster>, ClusterError> {
        let program = TrilithCluster::program(self.trilith.clone())?;
        let folder = fresh_folder(&self.work_dir, "trilith-")?;
        let options = TrilithOptions {
            program,
            folder: folder.path().to_owned(),
            partitions,
            port_offset: self.port_offset,
            restart,
        };
        Ok(Started { cluster: TrilithCluster::start(options).await?, folder })
    }

    /// Starts etcd with a fresh folder.
    pub async fn start_etcd(&self) -> Result<Started<EtcdCluster>, ClusterError> {
        let program = EtcdCluster::program(self.etcd.clone())?;
        let folder = fresh_folder(&self.work_dir, "etcd-")?;
        Ok(Started { cluster: EtcdCluster::start(&program, folder.path()).await?, folder })
    }

    /// Starts one Redis with a fresh folder.
    pub async fn start_redis(&self) -> Result<Started<RedisServer>, ClusterError> {
        let folder = fresh_folder(&self.work_dir, "redis-")?;
        Ok(Started { cluster: RedisServer::start(folder.path()).await?, folder })
    }
}

/// A cluster with the folder of its data. The cluster comes first, so that it ends before its
/// folder goes.
pub struct Started<C> {
    /// The cluster.
    pub cluster: C,
    /// Its data, removed when this is dropped.
    #[expect(dead_code, reason = "held so that the data goes with the cluster")]
    folder: TempDir,
}

/// Where a report goes besides standard output.
#[derive(Debug, clap::Args)]
pub struct ReportFiles {
    /// Write the report as JSON here as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as Markdown here as well.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

impl ReportFiles {
    /// Writes a report into the files that are wanted, and prints it.
    pub fn write(&self, report: &Report) -> anyhow::Result<()> {
        if let Some(file) = &self.json {
            write(file, &(serde_json::to_string_pretty(report)? + "\n"))?;
        }
        if let Some(file) = &self.markdown {
            write(file, &report.markdown())?;
        }
        print(&report.text())
    }
}

/// Writes to standard output. A reader who has gone, such as `head`, is no error.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Writes a file, whose folder is made.
fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// Says on standard error what is going on, since a measurement takes its time.
pub fn progress(text: &str) {
    eprintln!("· {text}");
}
