//! Where nodes listen: ports of this machine, or a network namespace for each node, which
//! can be cut off from the others while it runs on.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Mutex;

use anyhow::Context as _;

/// Below the ports that the kernel gives to outgoing connections: such a one could take the
/// port of a node that is down for a moment.
const PORTS: std::ops::Range<u16> = 15_000..32_000;
/// Ports that were given out by this process already.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Where one node listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// For applications.
    pub grpc: SocketAddr,
    /// For other nodes.
    pub peer: SocketAddr,
    /// For probes.
    pub http: SocketAddr,
    /// For Redis clients.
    pub redis: SocketAddr,
    /// For Redis clients in cluster mode.
    pub redis_cluster: SocketAddr,
    /// For lines of text.
    pub text: SocketAddr,
    /// What a command line begins with that runs there.
    pub prefix: Vec<String>,
}

/// What connects the nodes of a cluster.
#[derive(Debug)]
pub enum Network {
    /// The machine's own loopback.
    Loopback,
    /// A bridge, and a namespace for each node.
    Namespaces(Bridge),
}

/// A bridge of the machine with the namespaces behind it. All of it is taken down when this
/// is dropped.
#[derive(Debug)]
pub struct Bridge {
    /// Names must be unique on the machine and at most fifteen characters long.
    name: String,
    subnet: u8,
    nodes: usize,
}

impl Network {
    /// A network of namespaces; an error where that is not permitted.
    pub fn namespaces() -> anyhow::Result<Self> {
        let id = std::process::id() % 0xffff;
        let subnet = u8::try_from(id % 250).unwrap_or(0);
        let bridge = Bridge { name: format!("tl{id:x}"), subnet, nodes: 0 };
        ip(&["link", "add", &bridge.name, "type", "bridge"])?;
        ip(&["addr", "add", &format!("{}/24", bridge.address(254)), "dev", &bridge.name])?;
        ip(&["link", "set", &bridge.name, "up"])?;
        Ok(Self::Namespaces(bridge))
    }

    /// A place for one more node.
    pub fn place(&mut self) -> anyhow::Result<Place> {
        match self {
            Self::Loopback => {
                let free = || Ok::<_, anyhow::Error>(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)));
                Ok(Place {
                    grpc: free()?,
                    peer: free()?,
                    http: free()?,
                    redis: free()?,
                    redis_cluster: free()?,
                    text: free()?,
                    prefix: Vec::new(),
                })
            }
            Self::Namespaces(bridge) => bridge.place(),
        }
    }

    /// Cuts a node off from all other nodes. Clients still reach it.
    pub fn cut(&self, node: usize) -> anyhow::Result<()> {
        self.bridge()?.routes(node, "add")
    }

    /// Undoes [`Network::cut`].
    pub fn heal(&self, node: usize) -> anyhow::Result<()> {
        self.bridge()?.routes(node, "del")
    }

    fn bridge(&self) -> anyhow::Result<&Bridge> {
        match self {
            Self::Loopback => anyhow::bail!("only nodes in namespaces can be cut off"),
            Self::Namespaces(bridge) => Ok(bridge),
        }
    }
}

impl Bridge {
    fn address(&self, host: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.subnet, u8::try_from(host).unwrap_or(u8::MAX))
    }

    fn namespace(&self, node: usize) -> String {
        format!("{}-{node}", self.name)
    }

    fn place(&mut self) -> anyhow::Result<Place> {
        let node = self.nodes;
        self.nodes += 1;
        let (space, outside, inside) =
            (self.namespace(node), format!("{}h{node}", self.name), format!("{}n{node}", self.name));
        let address = self.address(node + 1);
        ip(&["netns", "add", &space])?;
        ip(&["link", "add", &outside, "type", "veth", "peer", "name", &inside, "netns", &space])?;
        ip(&["link", "set", &outside, "master", &self.name, "up"])?;
        ip(&["-n", &space, "addr", "add", &format!("{address}/24"), "dev", &inside])?;
        ip(&["-n", &space, "link", "set", &inside, "up"])?;
        ip(&["-n", &space, "link", "set", "lo", "up"])?;
        let at = |port: u16| SocketAddr::from((address, port));
        let prefix = ["ip", "netns", "exec", &space].map(str::to_owned).to_vec();
        Ok(Place {
            grpc: at(7400),
            peer: at(7401),
            http: at(7402),
            redis: at(6379),
            redis_cluster: at(6380),
            text: at(7403),
            prefix,
        })
    }

    fn routes(&self, node: usize, verb: &str) -> anyhow::Result<()> {
        let space = self.namespace(node);
        for other in (0..self.nodes).filter(|other| *other != node) {
            let address = format!("{}/32", self.address(other + 1));
            ip(&["-n", &space, "route", verb, "blackhole", &address])?;
        }
        Ok(())
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // A namespace lives on, with its pair of links, until the last connection in it is
        // given up; so the links go first.
        for node in 0..self.nodes {
            let _ = ip(&["link", "del", &format!("{}h{node}", self.name)]);
            let _ = ip(&["netns", "del", &self.namespace(node)]);
        }
        let _ = ip(&["link", "del", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let line = || format!("ip {}", arguments.join(" "));
    let done = Command::new("ip").args(arguments).output().with_context(line)?;
    let said = String::from_utf8_lossy(&done.stderr);
    anyhow::ensure!(done.status.success(), "{}: {}", line(), said.trim());
    Ok(())
}

/// A port that nobody listens on, and that this process gives to nobody else.
pub fn free_port() -> anyhow::Result<u16> {
    for _ in 0..1_000 {
        let port = rand::random_range(PORTS);
        let mut given =
            GIVEN.lock().map_err(|_| anyhow::anyhow!("a scenario failed while it took a port"))?;
        if !given.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            given.insert(port);
            return Ok(port);
        }
    }
    anyhow::bail!("no port from {} to {} is free", PORTS.start, PORTS.end)
}
