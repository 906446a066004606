//! A real redis-server: what ours is compared with, and what every test of a client is tried
//! on first.

use std::iter;
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
    cluster_port: u16,
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
        let port = network::free_port()?;
        // Ten thousand above, where Redis would take it, an outgoing connection may have it.
        let cluster_port = network::free_port()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let place = folder.path().display().to_string();
        let [said_port, said_cluster_port] = [port, cluster_port].map(|port| port.to_string());
        let listening = ["--bind", "127.0.0.1", "--port", &said_port, "--cluster-port", &said_cluster_port];
        let settings = ["--save", "", "--appendonly", "no", "--proto-max-bulk-len", "8mb", "--dir", &place];
        let words = listening.iter().chain(&settings).chain(more).copied();
        let command: Vec<_> = iter::once("redis-server").chain(words).map(str::to_owned).collect();
        let log = folder.path().join("log");
        let process = Process::start("redis-server", &command, &log)
            .context("a real Redis is compared with: `make test-prerequisites` installs it")?;
        let mut server = Self { process, address, cluster_port, _folder: folder };
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
        line.extend(servers.iter().map(|server| format!("{}@{}", server.address, server.cluster_port)));
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
