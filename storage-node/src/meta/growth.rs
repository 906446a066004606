//! Which change the meta group's own voters make next.
//!
//! One voter while fewer than three nodes serve, three from three on, five from nine on;
//! in zones and on hosts of their own as far as that goes. A voter on a node that is being
//! drained, or that was not heard of for too long, is replaced. The group grows before it
//! shrinks, by one step at a time, each taken from what is recorded and what Raft reports:
//!
//! ```text
//!   AddLearner(node) ─▶ Ask(AddLearner) ─▶ … caught up ─▶ Ask(SetVoters) ─▶ RecordVoters
//!     recorded            by Raft                          one joint change      recorded
//!   RemoveLearner(replica)   a learner that is no longer wanted and that Raft does not have
//! ```
//!
//! How many voters there should be follows the nodes that the map says serve, alive or
//! not: a cluster does not shrink its meta group because nodes fail.

use std::collections::{BTreeMap, BTreeSet};

use placement::{NodeId, NodeState, ReplicaId, Role};
use proto::v1::change_meta::Change;
use proto::v1::meta_command::Command;
use proto::v1::{ChangeMeta, ChangeReplicasRequest, GroupReport, MetaCommand, MetaVoters};

use super::state::MetaState;
use super::switch::{GroupView, LeaderStep, Switch};

/// What is known from outside the records.
#[derive(Debug, Clone, Copy)]
pub struct MetaObserved<'a> {
    /// What the meta group's leader, who decides this, sees of its own group (see
    /// [`GroupView`]).
    pub group: &'a GroupReport,
    /// The nodes that were heard of just now.
    pub alive: &'a BTreeSet<NodeId>,
    /// The nodes that were not heard of for longer than the policy allows.
    pub gone: &'a BTreeSet<NodeId>,
    /// A replica that is further behind than this has not caught up.
    pub max_lag: u64,
}

/// The next change of the meta group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetaChange {
    /// Recorded: this node gets a replica, a learner.
    AddLearner(NodeId),
    /// The meta group's own Raft is asked: to replicate to a learner, to make replicas the
    /// voters, or to hand leadership to one that stays.
    Ask(LeaderStep),
    /// Recorded: Raft has these voters.
    RecordVoters(BTreeSet<ReplicaId>),
    /// Recorded: this learner goes, and its node destroys it.
    RemoveLearner(ReplicaId),
}

impl MetaChange {
    /// The command that records the change, where it is one that is recorded.
    pub fn to_command(&self, state: &MetaState) -> Option<MetaCommand> {
        let change = match self {
            Self::AddLearner(node) => Change::AddLearner(proto::convert::node_bytes(*node)),
            Self::RecordVoters(voters) => {
                Change::RecordVoters(MetaVoters { replicas: voters.iter().map(|voter| voter.0).collect() })
            }
            Self::RemoveLearner(replica) => Change::RemoveLearner(replica.0),
            Self::Ask(_) => return None,
        };
        let change = ChangeMeta { expected_epoch: state.meta().epoch.0, change: Some(change) };
        Some(MetaCommand { command: Some(Command::ChangeMeta(change)) })
    }

    /// What the meta group's Raft is asked, where it is.
    pub fn to_request(&self) -> Option<ChangeReplicasRequest> {
        match self {
            Self::Ask(step) => Some(step.to_request(placement::PartitionId::META)),
            _ => None,
        }
    }
}

/// How many voters the meta group of a cluster of that many serving nodes should have.
pub fn wanted_voters(serving: usize) -> usize {
    match serving {
        0..3 => 1,
        3..9 => 3,
        _ => 5,
    }
}

/// The next change; none: the meta group is as it should be, or nothing can be done now.
pub fn next_change(state: &MetaState, observed: &MetaObserved<'_>) -> Option<MetaChange> {
    let meta = state.meta();
    let view = GroupView::new(meta, observed.group, observed.alive, observed.max_lag);
    let voters = view.voters();
    let recorded = state_voters(state);
    // What Raft has committed is recorded first: everything else starts from there. Raft's
    // voters are all in the record, because a replica is recorded before Raft hears of it.
    if !view.joint() && voters != recorded {
        let known = voters.iter().all(|voter| meta.replicas.iter().any(|replica| replica.id == *voter));
        return (known && !voters.is_empty()).then_some(MetaChange::RecordVoters(voters));
    }
    let wanted = wanted_nodes(state, observed);
    let on: BTreeMap<NodeId, ReplicaId> =
        meta.replicas.iter().map(|replica| (replica.node, replica.id)).collect();

    // Learners that are not wanted go first: a joint change that drops them would also drop
    // one that is wanted.
    let stray = meta.replicas.iter().find(|replica| {
        replica.role == Role::Learner && !wanted.contains(&replica.node) && !voters.contains(&replica.id)
    });
    if let Some(stray) = stray {
        return Some(if view.learners().contains(&stray.id) {
            MetaChange::Ask(LeaderStep::SetVoters(recorded))
        } else {
            MetaChange::RemoveLearner(stray.id)
        });
    }
    if let Some(node) = wanted.iter().find(|node| !on.contains_key(node)) {
        return Some(MetaChange::AddLearner(*node));
    }
    let target: BTreeSet<ReplicaId> = wanted.iter().filter_map(|node| on.get(node).copied()).collect();
    match view.switch_to(&target) {
        Switch::Ask(step) => Some(MetaChange::Ask(step)),
        Switch::Wait(_) => None,
        Switch::Reached => view.learners().first().map(|_| MetaChange::Ask(LeaderStep::SetVoters(target))),
    }
}

fn state_voters(state: &MetaState) -> BTreeSet<ReplicaId> {
    state.meta().voters().map(|voter| voter.id).collect()
}

/// The nodes that should hold the voters. When there are too few to choose from, those that
/// vote stay, also where they should not: the group never shrinks before it has grown.
fn wanted_nodes(state: &MetaState, observed: &MetaObserved<'_>) -> BTreeSet<NodeId> {
    let nodes = &state.map().nodes;
    let size = wanted_voters(state.serving_nodes().count());
    let voting: BTreeSet<NodeId> = state.meta().voters().map(|voter| voter.node).collect();
    let learning = |node: &NodeId| state.meta().replica_on(*node).is_some();
    let usable = |node: &NodeId| state.serves(*node) && !observed.gone.contains(node);
    let leader = ReplicaId(observed.group.replica);
    let leads = |node: &NodeId| state.meta().replica_on(*node).is_some_and(|replica| replica.id == leader);

    // A node that votes or learns already may be silent for a while; a new one must be alive.
    let candidates: Vec<NodeId> = nodes
        .values()
        .filter(|node| node.state == NodeState::Serving)
        .map(|node| node.id)
        .filter(|node| usable(node) && (learning(node) || observed.alive.contains(node)))
        .collect();
    let mut chosen: BTreeSet<NodeId> = BTreeSet::new();
    let keep: Vec<NodeId> = candidates.iter().copied().filter(|node| voting.contains(node)).collect();
    pick(state, &mut chosen, &keep, size, |node| (!leads(node), false));
    pick(state, &mut chosen, &candidates, size, |node| (!learning(node), !observed.alive.contains(node)));
    if chosen.len() < size {
        // Not enough to reach the size: 2 voters would be weaker than 1, and 4 no better
        // than 3, so what votes now stays as it is until more nodes are there.
        return voting;
    }
    spread(state, &mut chosen, &candidates, leads, |node| observed.alive.contains(node));
    chosen
}

/// Adds candidates until there are `size`, each time the one that adds a zone, then a host,
/// then by preference, then by id.
fn pick(
    state: &MetaState,
    chosen: &mut BTreeSet<NodeId>,
    candidates: &[NodeId],
    size: usize,
    prefer: impl Fn(&NodeId) -> (bool, bool),
) {
    while chosen.len() < size {
        let before = places(state, chosen);
        let rank = |node: &NodeId| {
            let mut with = chosen.clone();
            with.insert(*node);
            let after = places(state, &with);
            let gain = (before.0 >= after.0, before.1 >= after.1);
            let (first, second) = prefer(node);
            (gain, first, second, *node)
        };
        let best = candidates.iter().filter(|node| !chosen.contains(node)).min_by_key(|node| rank(node));
        let Some(best) = best else { break };
        chosen.insert(*best);
    }
}

/// Exchanges one chosen node for another, when that brings the voters into more zones or
/// onto more hosts. The leader is exchanged last.
fn spread(
    state: &MetaState,
    chosen: &mut BTreeSet<NodeId>,
    candidates: &[NodeId],
    leads: impl Fn(&NodeId) -> bool,
    alive: impl Fn(&NodeId) -> bool,
) {
    let before = places(state, chosen);
    let mut best: Option<((usize, usize), bool, NodeId, NodeId)> = None;
    for out in chosen.iter() {
        for new in candidates.iter().filter(|node| !chosen.contains(node) && alive(node)) {
            let mut with = chosen.clone();
            with.remove(out);
            with.insert(*new);
            let after = places(state, &with);
            let found = (after, !leads(out), *out, *new);
            if after > before && best.as_ref().is_none_or(|best| (found.0, found.1) > (best.0, best.1)) {
                best = Some(found);
            }
        }
    }
    if let Some((_, _, out, new)) = best {
        chosen.remove(&out);
        chosen.insert(new);
    }
}

/// How many zones and hosts these nodes are spread over. An unknown zone is one zone; an
/// unknown host is a host of its own.
fn places(state: &MetaState, chosen: &BTreeSet<NodeId>) -> (usize, usize) {
    let known = || chosen.iter().filter_map(|node| state.map().nodes.get(node));
    let zones: BTreeSet<&str> = known().map(|node| node.zone.as_str()).collect();
    let hosts: BTreeSet<(&str, Option<NodeId>)> =
        known().map(|node| (node.host.as_str(), node.host.is_empty().then_some(node.id))).collect();
    (zones.len(), hosts.len())
}

#[cfg(test)]
mod tests;
