//! A real redis-server: what ours is compared with, and what every test of a client is tried
//! on first.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Pid;
use tempfile::TempDir;

use super::{Connection, Reply};
use crate::process::Process;
use crate::{network, until};

const STARTS_WITHIN: Duration = Duration::from_secs(20);
/// Of three: the fewest that Redis makes a cluster of.
const NODES: usize = 3;

/// A redis-server without persistence on a free port of loopback. It ends when this is
/// dropped.
#[derive(Debug)]
pub struct RedisServer {
    process: Process,
    address: SocketAddr,
    _folder: TempDir,
}

/// Three of them as a Redis Cluster.
#[derive(Debug)]
pub struct RedisCluster {
    servers: Vec<RedisServer>,
}

impl RedisServer {
    /// Starts one that takes values as large as ours, with more arguments.
    pub async fn start(more: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("trilith-redis-").tempdir()?;
        // The cluster's own port is ten thousand above, and still a port.
        let port = network::free_port()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let place = folder.path().display().to_string();
        let mut command = ["redis-server", "--bind", "127.0.0.1", "--port"].map(str::to_owned).to_vec();
        command.push(port.to_string());
        let settings = ["--save", "", "--appendonly", "no", "--proto-max-bulk-len", "8mb", "--dir", &place];
        command.extend(settings.into_iter().chain(more.iter().copied()).map(str::to_owned));
        let log = folder.path().join("log");
        let process = Process::start("redis-server", &command, &log)
            .context("a real Redis is compared with: `make test-prerequisites` installs it")?;
        let mut server = Self { process, address, _folder: folder };
        until("redis-server answers", STARTS_WITHIN, async || {
            // One that has ended is waited for in vain, and says why in its log.
            let said = || server.process.log_tail();
            let mut connection = Connection::open(address).await.with_context(said)?;
            let pong = connection.ask(&["PING"]).await?;
            ensure!(pong == Reply::Simple("PONG".to_owned()), "it answers {pong}");
            Ok(())
        })
        .await?;
        ensure!(server.process.ended()?.is_none(), "{}", server.process.log_tail());
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn process_id(&self) -> anyhow::Result<Pid> {
        self.process.id()
    }
}

impl RedisCluster {
    /// Starts three, and makes a cluster of them.
    pub async fn form() -> anyhow::Result<Self> {
        let mut servers = Vec::new();
        for _ in 0..NODES {
            servers.push(RedisServer::start(&["--cluster-enabled", "yes"]).await?);
        }
        let mut line = ["--cluster", "create"].map(str::to_owned).to_vec();
        line.extend(servers.iter().map(|server| server.address().to_string()));
        line.extend(["--cluster-replicas", "0", "--cluster-yes"].map(str::to_owned));
        let line: Vec<_> = line.iter().map(String::as_str).collect();
        super::programs::run("redis-cli", &line, b"").await?.output()?;
        for server in &servers {
            until("all nodes know the cluster", STARTS_WITHIN, async || {
                let mut connection = Connection::open(server.address()).await?;
                let told = connection.ask(&["CLUSTER", "INFO"]).await?;
                let told = String::from_utf8_lossy(told.bytes()?).into_owned();
                ensure!(told.contains("cluster_state:ok"), "{told}");
                Ok(())
            })
            .await?;
        }
        Ok(Self { servers })
    }

    /// Where its nodes listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(RedisServer::address).collect()
    }
}
