//! The doors of a node, and the ports that they have everywhere.

use crds::cluster::Doors;

/// A door of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// What it is called in pods and Services; at most 15 characters.
    pub name: &'static str,
    /// Its number.
    pub number: i32,
    /// The variable that tells the node where to listen.
    pub variable: &'static str,
    /// How service meshes and load balancers should treat it.
    pub protocol: &'static str,
}

/// Applications, and the operator.
pub const GRPC: Port =
    Port { name: "grpc", number: 7400, variable: "TRILITH_LISTEN_GRPC", protocol: "kubernetes.io/h2c" };
/// Other nodes.
pub const PEER: Port =
    Port { name: "peer", number: 7401, variable: "TRILITH_LISTEN_PEER", protocol: "kubernetes.io/h2c" };
/// REST, metrics and probes.
pub const HTTP: Port = Port { name: "http", number: 7402, variable: "TRILITH_LISTEN_HTTP", protocol: "http" };
/// Redis clients that are answered by any node.
pub const REDIS: Port =
    Port { name: "redis", number: 6379, variable: "TRILITH_LISTEN_REDIS", protocol: "redis" };
/// Redis clients that know of a cluster.
pub const REDIS_CLUSTER: Port =
    Port { name: "redis-cluster", number: 6380, variable: "TRILITH_LISTEN_REDIS_CLUSTER", protocol: "redis" };
/// Lines of text.
pub const TEXT: Port = Port { name: "text", number: 7403, variable: "TRILITH_LISTEN_TEXT", protocol: "tcp" };

/// The doors that are open because somebody wants them.
pub fn optional(doors: &Doors) -> impl Iterator<Item = Port> {
    choices(doors).into_iter().filter(|(_, wanted)| *wanted).map(|(port, _)| port)
}

/// The doors that nobody wants; a node would open them on its loopback.
pub fn closed(doors: &Doors) -> impl Iterator<Item = Port> {
    choices(doors).into_iter().filter(|(_, wanted)| !*wanted).map(|(port, _)| port)
}

fn choices(doors: &Doors) -> [(Port, bool); 3] {
    let choices = [(REDIS, doors.redis), (REDIS_CLUSTER, doors.redis_cluster), (TEXT, doors.text)];
    choices.map(|(port, switch)| (port, switch.is_on()))
}

/// The doors that applications use.
pub fn for_clients(doors: &Doors) -> Vec<Port> {
    [GRPC, HTTP].into_iter().chain(optional(doors)).collect()
}

/// All doors that a node opens.
pub fn all(doors: &Doors) -> Vec<Port> {
    let mut ports = for_clients(doors);
    ports.insert(1, PEER);
    ports
}
