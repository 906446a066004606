//! Nodes: how they join, and how their lives go.
//!
//! ```text
//!   Serving ──▶ Draining ──▶ Drained ──▶ Removed
//!      ▲            │            │
//!      └────────────┴────────────┘   cancellable until removed
//! ```
//!
//! A node becomes Drained only when it holds nothing, and Removed only from there; or
//! from anywhere when it is presumed dead and holds nothing. What was removed is kept, so
//! that its identity never comes back.

use placement::{Move, Node, NodeId, NodeState};
use proto::convert;
use proto::v1::meta_answer::Outcome;
use proto::v1::{NodeEntry, NodeState as NodeStateMessage, RegisterNode, SetNodeState};

use super::records::RecordKey;
use super::refusal::Refusal;
use super::state::{Answer, MetaState, NodeDetails};

/// The longest name, zone, host or address.
const LONGEST_TEXT: usize = 253;

impl MetaState {
    pub(super) fn register_node(&mut self, register: RegisterNode) -> Result<Answer, Refusal> {
        let entry = register.node.unwrap_or_default();
        let node = self.check_registration(&entry)?;
        let same = self.map.nodes.get(&node.id) == Some(&node)
            && self.nodes.get(&node.id) == Some(&NodeDetails::of(&entry));
        let id = node.id;
        if !same {
            self.free_name(&node);
            self.put_node(node, &entry);
        }
        let known = self.node_entry(id).ok_or(Refusal::UnknownNode(id))?;
        Ok(Answer { outcome: Outcome::Node(known), already: same })
    }

    /// Whoever is on the way out gives up the name that another one comes with: a pod whose data is lost comes
    /// back as another node of the same name, and what the old one held can go nowhere before that.
    fn free_name(&mut self, newcomer: &Node) {
        let Some(holder) = self.holder_of(&newcomer.name, newcomer.id) else { return };
        if let Some(node) = self.map.nodes.get_mut(&holder) {
            node.name = name_left(&newcomer.name, holder);
        }
        self.touch(RecordKey::Node(holder));
    }

    /// Another node that has a name.
    fn holder_of(&self, name: &str, but: NodeId) -> Option<NodeId> {
        let mut others = self.map.nodes.values().filter(|node| node.id != but);
        others.find(|node| node.state != NodeState::Removed && node.name == name).map(|node| node.id)
    }

    /// The node that an entry describes, in the state that it has or starts in.
    pub(super) fn check_registration(&self, entry: &NodeEntry) -> Result<Node, Refusal> {
        let id = convert::node_id(&entry.node)?;
        let known = self.map.nodes.get(&id);
        let state = known.map_or(NodeState::Serving, |node| node.state);
        if state == NodeState::Removed {
            return Err(Refusal::NodeRemoved(id));
        }
        let addresses = entry.addresses.clone().unwrap_or_default();
        let texts =
            [&entry.name, &entry.zone, &entry.host, &addresses.grpc, &addresses.peer, &addresses.http];
        if texts.iter().any(|text| text.len() > LONGEST_TEXT) {
            return Err(Refusal::Invalid(format!(
                "a node's name, zone, host and addresses have at most {LONGEST_TEXT} bytes each"
            )));
        }
        if entry.name.is_empty() || entry.name.parse::<NodeId>().is_ok() {
            return Err(Refusal::Invalid("a node needs a name, and a UUID cannot be one".to_owned()));
        }
        if addresses.grpc.is_empty() || addresses.peer.is_empty() {
            return Err(Refusal::Invalid(format!("{} says no address for clients or for peers", entry.name)));
        }
        let holder = self.holder_of(&entry.name, id).and_then(|holder| self.map.nodes.get(&holder));
        let name = match (holder, known) {
            // It gave the name up when another one came with it.
            (Some(_), Some(known)) if known.name == name_left(&entry.name, id) => known.name.clone(),
            (Some(holder), _) if !holder.state.is_leaving() => {
                return Err(Refusal::NodeNameTaken { name: entry.name.clone(), holder: holder.id });
            }
            _ => entry.name.clone(),
        };
        if entry.supports_version < self.cluster_version {
            return Err(Refusal::VersionRefused(format!(
                "{} supports cluster version {} and the active one is {}: run a newer program",
                entry.name, entry.supports_version, self.cluster_version
            )));
        }
        Ok(Node { id, name, state, zone: entry.zone.clone(), host: entry.host.clone() })
    }

    pub(super) fn put_node(&mut self, node: Node, entry: &NodeEntry) {
        self.touch(RecordKey::Node(node.id));
        self.nodes.insert(node.id, NodeDetails::of(entry));
        self.map.nodes.insert(node.id, node);
    }

    pub(super) fn set_node_state(&mut self, set: &SetNodeState) -> Result<Answer, Refusal> {
        let id = convert::node_id(&set.node)?;
        let wanted = NodeStateMessage::try_from(set.state)
            .map_err(|_| Refusal::Invalid(format!("{} is no state of a node", set.state)))?;
        let wanted = NodeState::from(wanted);
        let node = self.map.nodes.get(&id).ok_or(Refusal::UnknownNode(id))?;
        // A node that is already drained need not be drained again.
        let same =
            node.state == wanted || (node.state == NodeState::Drained && wanted == NodeState::Draining);
        if !same {
            self.check_state_change(node, wanted, set.presumed_dead)?;
            if let Some(node) = self.map.nodes.get_mut(&id) {
                node.state = wanted;
            }
            self.touch(RecordKey::Node(id));
        }
        let known = self.node_entry(id).ok_or(Refusal::UnknownNode(id))?;
        Ok(Answer { outcome: Outcome::Node(known), already: same })
    }

    fn check_state_change(&self, node: &Node, wanted: NodeState, presumed_dead: bool) -> Result<(), Refusal> {
        let refuse = |why: &str| Err(Refusal::NodeState(format!("{} {why}", node.name)));
        match (node.state, wanted) {
            (NodeState::Removed, _) => Err(Refusal::NodeRemoved(node.id)),
            (_, NodeState::Serving) => Ok(()),
            (_, NodeState::Draining) => {
                if self.serving_nodes().any(|other| other != node.id) || self.holds(node.id).is_none() {
                    Ok(())
                } else {
                    refuse(
                        "is the only node that serves, so nothing could take over what it holds: add a node first",
                    )
                }
            }
            (NodeState::Serving, NodeState::Drained) => refuse("serves: drain it first"),
            (NodeState::Serving, NodeState::Removed) if !presumed_dead => {
                refuse("serves and is alive: drain it first")
            }
            (NodeState::Draining, NodeState::Removed) if !presumed_dead => {
                refuse("is still being drained: wait until it is drained")
            }
            (_, NodeState::Drained | NodeState::Removed) => self.check_empty(node),
        }
    }

    fn check_empty(&self, node: &Node) -> Result<(), Refusal> {
        match self.holds(node.id) {
            None => Ok(()),
            Some(what) => Err(Refusal::NodeNotEmpty { name: node.name.clone(), what }),
        }
    }

    /// What a node holds or is about to be given, for a person; none: nothing.
    pub(super) fn holds(&self, node: NodeId) -> Option<String> {
        let replicas = self.map.partitions.values().filter(|part| part.replica_on(node).is_some()).count();
        if replicas > 0 {
            return Some(format!("{replicas} replica{}", if replicas == 1 { "" } else { "s" }));
        }
        if self.meta.replica_on(node).is_some() {
            return Some("a replica of the meta group".to_owned());
        }
        let gives = |order: &Move| match order {
            Move::Replace { to, .. } | Move::Add { to, .. } => *to == node,
            Move::Remove { .. } | Move::TransferLeader { .. } => false,
        };
        let coming = self.moves_under_way().find(|record| gives(&record.order));
        coming.map(|record| format!("the place that move {} is about to fill", record.id))
    }

    /// The nodes that may be given something.
    pub(super) fn serving_nodes(&self) -> impl Iterator<Item = NodeId> {
        self.map.nodes.values().filter(|node| node.state == NodeState::Serving).map(|node| node.id)
    }

    /// Whether a node may be given something.
    pub(super) fn serves(&self, node: NodeId) -> bool {
        self.map.nodes.get(&node).is_some_and(|node| node.state == NodeState::Serving)
    }
}

/// What a node is called that gave its name up.
fn name_left(name: &str, node: NodeId) -> String {
    let [a, b, c, d, ..] = node.to_bytes();
    format!("{name}~{a:02x}{b:02x}{c:02x}{d:02x}")
}
