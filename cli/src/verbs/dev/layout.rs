//! Which node is where: its folder and its ports.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use crate::exit::Usage;

/// The default ports, to which a node adds ten times its place in the row.
const GRPC: u16 = 7400;
const PEER: u16 = 7401;
const HTTP: u16 = 7402;
const REDIS: u16 = 6379;
const REDIS_CLUSTER: u16 = 6380;
const TEXT: u16 = 7403;

/// All nodes of a local cluster.
#[derive(Debug, Clone)]
pub struct Layout {
    folder: PathBuf,
    nodes: Vec<NodePlace>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePlace {
    /// `node-1` and so on.
    pub name: String,
    /// Its data, its `log` and its `pid`.
    pub folder: PathBuf,
    /// Where clients ask it.
    pub grpc: SocketAddr,
    /// Where other nodes ask it.
    pub peer: SocketAddr,
    /// Where browsers and scrapers ask it.
    pub http: SocketAddr,
    /// Where Redis clients ask it.
    pub redis: SocketAddr,
    /// Where Redis clients in cluster mode ask it.
    pub redis_cluster: SocketAddr,
    /// Where lines of text are understood.
    pub text: SocketAddr,
}

impl Layout {
    /// Lays out that many nodes.
    pub fn new(folder: &Path, nodes: u16, port_offset: u16) -> Result<Self, Usage> {
        let place = |index: u16| {
            let port = |default: u16| {
                let port = default.checked_add(10 * index).and_then(|port| port.checked_add(port_offset));
                let port = port.ok_or_else(|| {
                    Usage(format!("--port-offset {port_offset} leads beyond port 65535: give a smaller one"))
                })?;
                Ok::<_, Usage>(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            };
            let name = format!("node-{}", index + 1);
            let folder = folder.join(&name);
            Ok(NodePlace {
                name,
                folder,
                grpc: port(GRPC)?,
                peer: port(PEER)?,
                http: port(HTTP)?,
                redis: port(REDIS)?,
                redis_cluster: port(REDIS_CLUSTER)?,
                text: port(TEXT)?,
            })
        };
        let nodes = (0..nodes).map(place).collect::<Result<_, Usage>>()?;
        Ok(Self { folder: folder.to_owned(), nodes })
    }

    /// Where all of it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The nodes, in their order.
    pub fn nodes(&self) -> &[NodePlace] {
        &self.nodes
    }

    /// Makes sure that every port is free now, so that a taken one is named here and not
    /// somewhere in a node's log.
    pub fn check_ports(&self) -> anyhow::Result<()> {
        for node in &self.nodes {
            for address in [node.grpc, node.peer, node.http, node.redis, node.redis_cluster, node.text] {
                TcpListener::bind(address).map_err(|error| {
                    anyhow::anyhow!(
                        "port {} of {} cannot be used: {error}; stop what listens there, or give --port-offset",
                        address.port(),
                        node.name
                    )
                })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_adds_ten_to_each_port() {
        let layout = Layout::new(Path::new("/d"), 3, 100).unwrap();
        let third = &layout.nodes()[2];
        assert_eq!(third.name, "node-3");
        assert_eq!(third.folder, Path::new("/d/node-3"));
        assert_eq!([third.grpc, third.peer, third.http].map(|a| a.port()), [7520, 7521, 7522]);
        assert!(Layout::new(Path::new("/d"), 3, 60_000).is_err());
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let mut layout = Layout::new(Path::new("/d"), 1, 0).unwrap();
        layout.nodes[0].grpc = taken.local_addr().unwrap();
        let why = layout.check_ports().unwrap_err().to_string();
        assert!(why.contains(&format!("port {port} of node-1")), "{why}");
    }
}
