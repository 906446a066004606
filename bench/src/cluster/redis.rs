//! One Redis, as durable as we are: it syncs its log before it answers.

use std::{net::TcpListener, path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{ClusterError, find_program, process::Process, until};

const START_PATIENCE: Duration = Duration::from_secs(20);

/// A running redis-server with a single copy of its data.
#[derive(Debug)]
pub struct RedisServer {
    process: Process,
    port: u16,
}

impl RedisServer {
    /// Starts it on a free port of loopback, with its log under `folder`.
    pub async fn start(folder: &Path) -> Result<Self, ClusterError> {
        let advice = "`make test-prerequisites` installs it";
        let program = find_program("redis-server", None, None, advice)?;
        let port = TcpListener::bind(("127.0.0.1", 0))
            .and_then(|listener| listener.local_addr())
            .map_err(ClusterError::io("cannot find a free port"))?
            .port();
        let (place, at) = (folder.display().to_string(), port.to_string());
        // Every write is on the disk before it is answered; no snapshots run beside.
        let arguments = [
            ["--bind", "127.0.0.1"],
            ["--port", &at],
            ["--dir", &place],
            ["--appendonly", "yes"],
            ["--appendfsync", "always"],
            ["--save", ""],
        ];
        let log = folder.join("redis.log");
        let process = Process::start("redis-server", &program, arguments.concat(), log, false)?;
        let mut server = Self { process, port };
        let answers = || server.told("PING");
        let waited = until("redis-server to answer", START_PATIENCE, async || answers().await.ok()).await;
        server.process.check()?;
        waited.map(|_| server)
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The process that runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.id()
    }

    /// The version that it reports.
    pub async fn version(&self) -> Result<String, ClusterError> {
        let told = self.told("INFO server").await?;
        let version = told.lines().find_map(|line| line.strip_prefix("redis_version:"));
        let unreadable = || ClusterError::Unreadable(format!("redis-server has no version: {told}"));
        Ok(version.ok_or_else(unreadable)?.trim().to_owned())
    }

    /// Ends it.
    pub async fn stop(mut self) -> Result<(), ClusterError> {
        self.process.stop().await
    }

    /// What it answers to a line, all of it.
    async fn told(&self, line: &str) -> Result<String, ClusterError> {
        let exchange = async {
            let mut connection = TcpStream::connect(self.address()).await?;
            connection.write_all(format!("{line}\r\nQUIT\r\n").as_bytes()).await?;
            let mut answer = String::new();
            connection.read_to_string(&mut answer).await.map(|_| answer)
        };
        exchange.await.map_err(ClusterError::io(format!("cannot ask redis-server {line}")))
    }
}
