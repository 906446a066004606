//! What was found of a cluster: Kubernetes' objects and the data plane's own view, reduced to
//! what deciding needs. Nothing here is kept from one reconcile to the next.

use std::collections::BTreeMap;

use placement::{ClusterId, NodeId};

use crate::dataplane::DataPlane;

/// Everything that a plan is made from, besides what is wanted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observed {
    /// The time, in seconds since 1970.
    pub now: i64,
    /// The pods of all pools.
    pub pods: Vec<Pod>,
    /// The claims that belong to the cluster, those that an earlier object of the same name
    /// left behind included.
    pub claims: Vec<Claim>,
    /// The pools' `StatefulSets`, by pool.
    pub sets: BTreeMap<String, Set>,
    /// The machines, by name; empty where they cannot be read.
    pub machines: BTreeMap<String, Machine>,
    /// The data plane's own view.
    pub data: DataPlane,
}

/// Where a pod stands: its pool and its ordinal there. The order is the pools' names', then
/// the ordinals' as numbers, so that ten comes after two.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seat {
    /// The pool.
    pub pool: String,
    /// The ordinal in the pool's `StatefulSet`.
    pub ordinal: u32,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pod {
    /// Its name, which is also the node's name.
    pub name: String,
    /// Its UID: whoever deletes it names it.
    pub uid: String,
    /// Where it stands.
    pub seat: Seat,
    /// The machine that it is on.
    pub machine: Option<String>,
    /// The hash of the declared inputs that it was made from.
    pub inputs: String,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Whether it is ready: joined, and caught up once.
    pub ready: bool,
    /// Since when it is not ready, in seconds since 1970; 0 where Kubernetes does not say.
    pub unready_since: i64,
    /// Whether its container has never run, or does nothing but crash: nobody can be asked
    /// about it, and nobody is hurt when it goes.
    pub never_ran: bool,
    /// What Kubernetes says is wrong with it; empty: nothing.
    pub trouble: String,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Who lives in it.
    pub identity: Identity,
}

/// Who lives in a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Identity {
    /// It did not answer. It may be anybody.
    #[default]
    Unknown,
    /// It answered that it belongs to no cluster.
    Nobody,
    /// A node of this cluster.
    Node(NodeId),
    /// A node of another cluster.
    Stranger(ClusterId),
}

/// A claim.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Whose it is.
    pub seat: Seat,
    /// The cluster that its label names.
    pub cluster: Option<ClusterId>,
    /// The node whose data it holds, as labelled when that node joined.
    pub node: Option<NodeId>,
    /// Whether this is the claim on which the cluster is created.
    pub first: bool,
    /// What was asked for, in bytes.
    pub requested: u64,
    /// Whether its class lets it grow; none: not known.
    pub growable: Option<bool>,
    /// Why its volume does not grow; empty: nothing is wrong.
    pub resize_trouble: String,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// A pool's `StatefulSet`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Set {
    /// How many pods it is told to have.
    pub replicas: u32,
    /// The hash of the inputs of its template.
    pub inputs: String,
    /// The hash of the last template with which every pod of the pool was ready.
    pub good_inputs: Option<String>,
    /// The hash of a template with which a pod did not become ready in time.
    pub failed_inputs: Option<String>,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Machine {
    /// Its zone; empty: it says none.
    pub zone: String,
    /// Whether Kubernetes hears of it.
    pub ready: bool,
}

impl Pod {
    /// Whether it has not been ready for longer than that many seconds.
    pub fn is_late(&self, now: i64, within: i64) -> bool {
        !self.ready && now - self.created.max(self.unready_since) >= within
    }
}

impl Observed {
    /// The pod at a seat.
    pub fn pod(&self, seat: &Seat) -> Option<&Pod> {
        self.pods.iter().find(|pod| pod.seat == *seat)
    }

    /// The claim of a seat.
    pub fn claim(&self, seat: &Seat) -> Option<&Claim> {
        self.claims.iter().find(|claim| claim.seat == *seat)
    }

    /// How many pods a pool's `StatefulSet` has now.
    pub fn replicas(&self, pool: &str) -> u32 {
        self.sets.get(pool).map_or(0, |set| set.replicas)
    }

    /// The zone that a pod is in, by its machine.
    pub fn zone(&self, pod: &Pod) -> &str {
        let machine = pod.machine.as_ref().and_then(|name| self.machines.get(name));
        machine.map_or("", |machine| machine.zone.as_str())
    }

    /// Whether the cluster was ever created: some claim holds a node's data, or some pod is a
    /// node.
    pub fn was_created(&self) -> bool {
        self.claims.iter().any(|claim| claim.node.is_some())
            || self.pods.iter().any(|pod| matches!(pod.identity, Identity::Node(_)))
    }
}
