//! The meta group as tables: nodes and what is seen of them, and what is done next; and
//! whole stories, from one voter to five and back.

use super::*;
use crate::meta::testing::{cluster, entry, group, must, node, node_state};
use proto::v1::{NodeState as StateMessage, RegisterNode};

const MAX_LAG: u64 = 10;

/// The state, what Raft has, and which nodes are there.
struct Story {
    state: MetaState,
    group: GroupReport,
    alive: BTreeSet<NodeId>,
    gone: BTreeSet<NodeId>,
}

impl Story {
    fn new(nodes: u8) -> Self {
        let alive = (1..=nodes).map(node).collect();
        Self { state: cluster(nodes), group: group(0, 1, &[1], &[]), alive, gone: BTreeSet::new() }
    }

    fn next(&self) -> Option<MetaChange> {
        let observed =
            MetaObserved { group: &self.group, alive: &self.alive, gone: &self.gone, max_lag: MAX_LAG };
        next_change(&self.state, &observed)
    }

    fn raft(&mut self, leader: u64, voters: &[u64], learners: &[u64]) {
        self.group = group(0, leader, voters, learners);
    }

    /// Carries out what is decided until nothing is left to do, and tells the steps.
    fn play(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(change) = self.next() {
            assert!(told.len() < 40, "it never ends: {told:?}");
            told.push(self.tell(&change));
            self.carry_out(&change);
        }
        told
    }

    fn tell(&self, change: &MetaChange) -> String {
        let ids = |set: &BTreeSet<ReplicaId>| {
            set.iter().map(|replica| self.place(replica.0)).collect::<Vec<_>>().join(" ")
        };
        match change {
            MetaChange::AddLearner(node) => format!("record a learner on {}", self.state.name_of(*node)),
            MetaChange::Ask(LeaderStep::AddLearner { node, .. }) => {
                format!("add {}", self.state.name_of(*node))
            }
            MetaChange::Ask(LeaderStep::SetVoters(voters)) => format!("make voters: {}", ids(voters)),
            MetaChange::Ask(LeaderStep::TransferTo(heir)) => format!("hand over to {}", self.place(heir.0)),
            MetaChange::RecordVoters(voters) => format!("record voters: {}", ids(voters)),
            MetaChange::RemoveLearner(replica) => format!("forget {}", self.place(replica.0)),
        }
    }

    /// The node that holds a replica.
    fn place(&self, replica: u64) -> String {
        let held = self.state.meta().replicas.iter().find(|held| held.id.0 == replica);
        held.map_or_else(|| format!("replica {replica}"), |held| self.state.name_of(held.node))
    }

    fn carry_out(&mut self, change: &MetaChange) {
        if let Some(command) = change.to_command(&self.state) {
            must(&mut self.state, command.command.unwrap());
        }
        let MetaChange::Ask(step) = change else { return };
        let leader = self.group.replica;
        let voters = self.group.voters.clone();
        match step {
            LeaderStep::AddLearner { replica, .. } => {
                let mut learners = self.group.learners.clone();
                learners.push(replica.0);
                self.raft(leader, &voters, &learners);
            }
            LeaderStep::SetVoters(next) => {
                assert!(next.contains(&ReplicaId(leader)), "a leader never demotes itself");
                let next: Vec<u64> = next.iter().map(|voter| voter.0).collect();
                self.raft(leader, &next, &[]);
            }
            LeaderStep::TransferTo(heir) => {
                let learners = self.group.learners.clone();
                self.raft(heir.0, &voters, &learners);
            }
        }
    }

    fn voters(&self) -> Vec<String> {
        self.state.meta().voters().map(|voter| self.state.name_of(voter.node)).collect()
    }
}

#[test]
fn the_size_follows_the_number_of_serving_nodes() {
    let sizes = [(0, 1), (1, 1), (2, 1), (3, 3), (8, 3), (9, 5), (100, 5)];
    for (serving, voters) in sizes {
        assert_eq!(wanted_voters(serving), voters, "{serving}");
    }
}

#[test]
fn it_grows_from_one_voter_to_three_in_one_change() {
    assert_eq!(Story::new(2).play(), Vec::<String>::new(), "two voters would be weaker than one");
    let mut story = Story::new(3);
    assert_eq!(
        story.play(),
        [
            "record a learner on node-2",
            "record a learner on node-3",
            "add node-2",
            "add node-3",
            "make voters: node-1 node-2 node-3",
            "record voters: node-1 node-2 node-3",
        ]
    );
    for number in 4..=9 {
        let node = Some(entry(number, &format!("zone-{number}")));
        must(&mut story.state, proto::v1::meta_command::Command::RegisterNode(RegisterNode { node }));
        story.alive.insert(crate::meta::testing::node(number));
    }
    story.play();
    assert_eq!(story.voters(), ["node-1", "node-2", "node-3", "node-4", "node-5"]);
    assert_eq!(story.next(), None);
}

#[test]
fn a_draining_voter_is_replaced_and_the_leader_hands_over_first() {
    let mut story = Story::new(4);
    story.play();
    must(&mut story.state, node_state(1, StateMessage::Draining));
    assert_eq!(
        story.play(),
        [
            "record a learner on node-4",
            "add node-4",
            "hand over to node-2",
            "make voters: node-2 node-3 node-4",
            "record voters: node-2 node-3 node-4",
        ]
    );
    // Three nodes of which one leaves are two: one voter, which is the leader if it may be.
    must(&mut story.state, node_state(4, StateMessage::Draining));
    assert_eq!(story.play(), ["make voters: node-2", "record voters: node-2"]);
}

#[test]
fn the_only_voter_moves_by_growing_to_two_first() {
    let mut story = Story::new(2);
    must(&mut story.state, node_state(1, StateMessage::Draining));
    assert_eq!(
        story.play(),
        [
            "record a learner on node-2",
            "add node-2",
            "make voters: node-1 node-2",
            "record voters: node-1 node-2",
            "hand over to node-2",
            "make voters: node-2",
            "record voters: node-2",
        ]
    );
}

#[test]
fn a_node_that_is_gone_for_long_is_replaced_where_there_is_another_and_kept_where_not() {
    let mut story = Story::new(4);
    story.play();
    story.alive.remove(&node(3));
    assert_eq!(story.next(), None, "silent is not gone");
    story.gone.insert(node(3));
    assert_eq!(
        story.play(),
        [
            "record a learner on node-4",
            "add node-4",
            "make voters: node-1 node-2 node-4",
            "record voters: node-1 node-2 node-4",
        ]
    );
    story.alive.remove(&node(4));
    story.gone.insert(node(4));
    assert_eq!(story.next(), None, "nobody is there to replace it, and it does not shrink");
}

#[test]
fn voters_go_where_zones_and_hosts_differ() {
    let mut state = MetaState::default();
    must(&mut state, crate::meta::testing::init());
    let join = |state: &mut MetaState, number: u8, zone: &str| {
        let node = Some(entry(number, zone));
        must(state, proto::v1::meta_command::Command::RegisterNode(RegisterNode { node }));
    };
    for (number, zone) in [(2, "zone-1"), (3, "zone-1")] {
        join(&mut state, number, zone);
    }
    let mut story = Story { state, ..Story::new(3) };
    story.play();
    assert_eq!(story.voters(), ["node-1", "node-2", "node-3"]);
    // Two more zones come: two voters move there, one after the other, and the leader stays.
    for (number, zone) in [(4, "zone-2"), (5, "zone-3"), (6, "zone-3")] {
        join(&mut story.state, number, zone);
        story.alive.insert(node(number));
    }
    let told = story.play();
    assert_eq!(told.iter().filter(|step| step.starts_with("make voters")).count(), 2, "{told:?}");
    let mut voters = story.voters();
    voters.sort();
    assert!(voters.contains(&"node-1".to_owned()) && voters.contains(&"node-4".to_owned()), "{voters:?}");
    assert!(voters.contains(&"node-5".to_owned()) || voters.contains(&"node-6".to_owned()), "{voters:?}");
}

/// What Raft has (voters, learners, joint), under a name, and what is done then.
type Case = (&'static str, &'static [u64], &'static [u64], bool, Option<&'static str>);

#[test]
fn it_goes_on_from_wherever_it_was_interrupted() {
    let mut story = Story::new(3);
    for _ in 0..2 {
        let change = story.next().unwrap();
        story.carry_out(&change);
    }
    // The learners are replicas 2 and 3; what Raft and the nodes may look like meanwhile.
    let cases: [Case; 5] = [
        ("Raft knows neither", &[1], &[], false, Some("add node-2")),
        ("Raft knows one", &[1], &[2], false, Some("add node-3")),
        ("both caught up", &[1], &[2, 3], false, Some("make voters: node-1 node-2 node-3")),
        ("a joint configuration", &[1, 2, 3], &[], true, Some("make voters: node-1 node-2 node-3")),
        ("switched, not recorded", &[1, 2, 3], &[], false, Some("record voters: node-1 node-2 node-3")),
    ];
    for (name, voters, learners, joint, told) in cases {
        story.raft(1, voters, learners);
        story.group.joint = joint;
        assert_eq!(story.next().map(|change| story.tell(&change)).as_deref(), told, "{name}");
    }
    // A learner that does not catch up is waited for.
    story.raft(1, &[1], &[2, 3]);
    story.group.followers[1].matched_index = 3;
    assert_eq!(story.next(), None);
    // One whose node is drained meanwhile goes, from Raft and then from the record.
    must(&mut story.state, node_state(3, StateMessage::Draining));
    assert_eq!(story.play(), ["make voters: node-1", "forget node-2", "forget node-3"]);
}
