//! Where clients are sent.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use e2e::Cluster;

/// The doors of one server or of several.
#[derive(Debug, Clone)]
pub struct Doors {
    /// Any of these answers for every key.
    pub forwarding: Vec<SocketAddr>,
    /// These send a client on to the node that has the key.
    pub redirecting: Vec<SocketAddr>,
    /// The Unix socket of one that forwards.
    pub socket: PathBuf,
}

impl Doors {
    /// Those of a cluster of ours.
    pub fn of(cluster: &Cluster, socket: PathBuf) -> anyhow::Result<Self> {
        let forwarding = (0..cluster.size()).map(|node| cluster.redis_address(node));
        let redirecting = (0..cluster.size()).map(|node| cluster.redis_cluster_address(node));
        let forwarding = forwarding.collect::<anyhow::Result<_>>()?;
        Ok(Self { forwarding, redirecting: redirecting.collect::<anyhow::Result<_>>()?, socket })
    }

    /// The first that answers for every key.
    pub fn plain(&self) -> anyhow::Result<SocketAddr> {
        self.forwarding.first().copied().context("no door forwards")
    }

    /// The first that redirects.
    pub fn cluster(&self) -> anyhow::Result<SocketAddr> {
        self.redirecting.first().copied().context("no door redirects")
    }
}
