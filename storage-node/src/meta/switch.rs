//! How a group gets from the voters that it has to those that it should have.
//!
//! Used for partitions and for the meta group alike. The rules, in their order:
//!
//! 1. A leader that is to go hands leadership to a voter that stays, and only then goes:
//!    a removed leader would go on leading.
//! 2. Where no voter stays (one replica is replaced by another), the group first grows to
//!    both, hands over, and then shrinks.
//! 3. Voters that are new have caught up and are alive, and so is a majority of the voters
//!    that there will be. Else the switch waits: a group never becomes weaker by it.
//! 4. A replica that is to vote and that Raft does not know yet is added as a learner.
//! 5. Promoting and demoting is one joint change. A joint configuration that somebody left
//!    behind is finished by asking for the same voters again.

use std::collections::{BTreeMap, BTreeSet};

use placement::{NodeId, Partition, ReplicaId};
use proto::v1::change_replicas_request::Step as RequestStep;
use proto::v1::{ChangeReplicasRequest, GroupReport, ReplicaEntry, ReplicaRole, VoterSet};

/// A group as its leader reports it.
///
/// The voters and learners must be those of the configuration that Raft has *committed*
/// (all voters of both halves of a joint one), and `joint` must be set while any
/// configuration beyond it is still under way. Else a map could follow a switch that a
/// change of leader takes back.
#[derive(Debug, Clone)]
pub struct GroupView<'a> {
    report: &'a GroupReport,
    /// Where each replica is, by the map.
    places: BTreeMap<ReplicaId, NodeId>,
    alive: &'a BTreeSet<NodeId>,
    max_lag: u64,
}

/// What a group's leader is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaderStep {
    /// Replicate to this replica, without giving it a vote.
    AddLearner {
        /// The replica.
        replica: ReplicaId,
        /// Where it is.
        node: NodeId,
    },
    /// Make these the voters, in one joint change, and drop learners that are not named.
    SetVoters(BTreeSet<ReplicaId>),
    /// Hand leadership to this voter.
    TransferTo(ReplicaId),
}

/// The next thing on the way to the voters that there should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Switch {
    /// They are the voters, and nothing is left of the change.
    Reached,
    /// The leader is asked.
    Ask(LeaderStep),
    /// Nothing can be done now.
    Wait(String),
}

impl LeaderStep {
    /// The step as a request to the leader of that group.
    pub fn to_request(&self, group: placement::PartitionId) -> ChangeReplicasRequest {
        let step = match self {
            Self::AddLearner { replica, node } => RequestStep::AddLearner(ReplicaEntry {
                replica: replica.0,
                node: proto::convert::node_bytes(*node),
                role: ReplicaRole::Learner.into(),
            }),
            Self::SetVoters(voters) => {
                RequestStep::Voters(VoterSet { replicas: voters.iter().map(|voter| voter.0).collect() })
            }
            Self::TransferTo(replica) => RequestStep::TransferTo(replica.0),
        };
        ChangeReplicasRequest { group: group.0, step: Some(step) }
    }
}

impl<'a> GroupView<'a> {
    /// The group of a partition as its leader reports it. A follower that is further
    /// behind than `max_lag` entries has not caught up.
    pub fn new(
        partition: &Partition,
        report: &'a GroupReport,
        alive: &'a BTreeSet<NodeId>,
        max_lag: u64,
    ) -> Self {
        let places = partition.replicas.iter().map(|replica| (replica.id, replica.node)).collect();
        Self { report, places, alive, max_lag }
    }

    /// Who leads.
    pub fn leader(&self) -> ReplicaId {
        ReplicaId(self.report.replica)
    }

    /// Who votes, in either half of a joint configuration.
    pub fn voters(&self) -> BTreeSet<ReplicaId> {
        self.report.voters.iter().map(|replica| ReplicaId(*replica)).collect()
    }

    /// Who is being caught up.
    pub fn learners(&self) -> BTreeSet<ReplicaId> {
        self.report.learners.iter().map(|replica| ReplicaId(*replica)).collect()
    }

    /// Whether a change of the configuration is under way.
    pub fn joint(&self) -> bool {
        self.report.joint
    }

    /// Whether a replica is alive and has caught up. Of the leader that is taken as given.
    pub fn healthy(&self, replica: ReplicaId) -> bool {
        if replica == self.leader() {
            return true;
        }
        let alive = self.places.get(&replica).is_some_and(|node| self.alive.contains(node));
        alive && self.lag(replica).is_some_and(|lag| lag <= self.max_lag)
    }

    /// How many entries a follower is behind; none: the leader has not heard of it yet.
    pub fn lag(&self, replica: ReplicaId) -> Option<u64> {
        let follower = self.report.followers.iter().find(|follower| follower.replica == replica.0)?;
        let heard = follower.matched_index > 0 || self.report.last_index == 0;
        heard.then(|| self.report.last_index.saturating_sub(follower.matched_index))
    }

    /// Whether a majority of these replicas is healthy.
    pub fn has_quorum(&self, voters: &BTreeSet<ReplicaId>) -> bool {
        let healthy = voters.iter().filter(|voter| self.healthy(**voter)).count();
        healthy > voters.len() / 2
    }

    /// The next thing on the way to these voters.
    pub fn switch_to(&self, target: &BTreeSet<ReplicaId>) -> Switch {
        let voters = self.voters();
        if target.is_empty() {
            return Switch::Wait("a group cannot be without voters".to_owned());
        }
        if !self.joint() && voters == *target {
            return Switch::Reached;
        }
        let learners = self.learners();
        let unknown = target.iter().find(|replica| !voters.contains(replica) && !learners.contains(replica));
        if let Some(replica) = unknown.copied() {
            return match self.places.get(&replica).copied() {
                Some(node) => Switch::Ask(LeaderStep::AddLearner { replica, node }),
                None => Switch::Wait(format!("replica {replica} is not in the map")),
            };
        }
        if let Some(late) = target.difference(&voters).find(|voter| !self.healthy(**voter)) {
            return Switch::Wait(format!("replica {late} has not caught up, or its node is not heard of"));
        }
        if !self.has_quorum(target) {
            return Switch::Wait("a majority of the voters that there will be is not healthy".to_owned());
        }
        if target.contains(&self.leader()) {
            return Switch::Ask(LeaderStep::SetVoters(target.clone()));
        }
        let staying: BTreeSet<_> = target.intersection(&voters).copied().collect();
        if staying.is_empty() {
            return Switch::Ask(LeaderStep::SetVoters(voters.union(target).copied().collect()));
        }
        match self.most_caught_up(&staying) {
            Some(heir) => Switch::Ask(LeaderStep::TransferTo(heir)),
            None => Switch::Wait("no voter that stays is healthy enough to lead".to_owned()),
        }
    }

    /// The healthy replica that is least behind.
    fn most_caught_up(&self, among: &BTreeSet<ReplicaId>) -> Option<ReplicaId> {
        let healthy = among.iter().copied().filter(|replica| self.healthy(*replica));
        healthy.min_by_key(|replica| (self.lag(*replica), *replica))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::testing::{group, node, partition, replicas};

    fn next(voters: &[u64], joint: bool, leader: u64, behind: &[u64], target: &[u64]) -> Switch {
        let partition = partition(7, &[1, 2, 3, 4]);
        let mut report = group(7, leader, voters, &[4]);
        report.joint = joint;
        for follower in &mut report.followers {
            if behind.contains(&follower.replica) {
                follower.matched_index = 1;
            }
        }
        let alive = (1..=4).map(node).collect();
        GroupView::new(&partition, &report, &alive, 10).switch_to(&replicas(target))
    }

    fn set(voters: &[u64]) -> Switch {
        Switch::Ask(LeaderStep::SetVoters(replicas(voters)))
    }

    #[test]
    fn each_rule_decides_in_its_order() {
        let transfer = |to| Switch::Ask(LeaderStep::TransferTo(ReplicaId(to)));
        assert_eq!(next(&[1, 2, 3], false, 1, &[], &[1, 2, 3]), Switch::Reached);
        assert_eq!(next(&[1, 2, 3], false, 2, &[], &[2, 3, 4]), set(&[2, 3, 4]));
        // The leader that goes hands over first, to the voter that is least behind.
        assert_eq!(next(&[1, 2, 3], false, 1, &[], &[2, 3, 4]), transfer(2));
        assert_eq!(next(&[1, 2, 3], false, 1, &[2], &[2, 3, 4]), transfer(3));
        // A leftover joint configuration is finished, by a leader that stays.
        assert_eq!(next(&[1, 2, 3, 4], true, 2, &[], &[2, 3, 4]), set(&[2, 3, 4]));
        assert_eq!(next(&[1, 2, 3, 4], true, 1, &[], &[2, 3, 4]), transfer(2));
        assert_eq!(next(&[1, 2, 3], true, 1, &[], &[1, 2, 3]), set(&[1, 2, 3]));
        // One replica replaced by another: grow, hand over, shrink.
        assert_eq!(next(&[1], false, 1, &[], &[4]), set(&[1, 4]));
        assert_eq!(next(&[1, 4], false, 1, &[], &[4]), transfer(4));
        assert_eq!(next(&[1, 4], false, 4, &[], &[4]), set(&[4]));
    }

    #[test]
    fn a_switch_that_would_weaken_the_group_waits() {
        for (voters, leader, behind, target) in [
            (&[1, 2, 3][..], 2, &[4][..], &[2, 3, 4][..]),
            (&[1, 2, 3], 1, &[2, 3], &[2, 3, 4]),
            (&[1, 2, 3], 1, &[2], &[1, 2]),
            (&[1, 2, 3], 1, &[], &[]),
        ] {
            assert!(matches!(next(voters, false, leader, behind, target), Switch::Wait(_)), "{target:?}");
        }
    }
}
