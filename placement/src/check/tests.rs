//! One broken move for each rule.

use super::*;
use crate::planner::sketch::{Sketch, node};

/// Three copies in zones a, b and c on nodes 1, 3 and 5; node 1 leads.
fn sketch() -> Sketch {
    let mut sketch = Sketch::with_zones(&["a", "a", "b", "b", "c", "c"]);
    sketch.add_table_at("orders", 3, &[vec![node(1), node(3), node(5)]]);
    sketch
}

const PARTITION: PartitionId = PartitionId(1);

fn replica(sketch: &Sketch, number: usize) -> ReplicaId {
    sketch.map.partitions[&PARTITION].replica_on(node(number)).map_or(ReplicaId(0), |replica| replica.id)
}

fn replace(sketch: &Sketch, from: usize, to: usize) -> Move {
    let replica = replica(sketch, from);
    Move::Replace { partition: PARTITION, replica, from: node(from), to: node(to) }
}

fn remove(sketch: &Sketch, from: usize) -> Move {
    Move::Remove { partition: PARTITION, replica: replica(sketch, from), from: node(from) }
}

fn faults(sketch: &Sketch, moves: &[Move]) -> Vec<Fault> {
    let violations = check(&sketch.map, &sketch.leaders, moves, &sketch.policy).err().unwrap_or_default();
    violations.iter().map(|violation| violation.fault).collect()
}

#[test]
fn a_drain_within_the_zone_is_right() {
    let mut sketch = sketch();
    sketch.set_state(1, NodeState::Draining);
    assert_eq!(faults(&sketch, &[replace(&sketch, 1, 2)]), []);
}

#[test]
fn zones_and_hosts_are_kept_apart() {
    let mut sketch = sketch();
    sketch.set_state(1, NodeState::Draining);
    assert_eq!(faults(&sketch, &[replace(&sketch, 1, 4)]), [Fault::SharesZone { rather: node(2) }]);
    for number in [2, 3] {
        sketch.map.nodes.get_mut(&node(number)).unwrap().host = "x".to_owned();
    }
    sketch.add_node("a", "");
    assert_eq!(faults(&sketch, &[replace(&sketch, 1, 2)]), [Fault::SharesHost { rather: node(4) }]);
    assert_eq!(faults(&sketch, &[replace(&sketch, 1, 7)]), []);
}

#[test]
fn a_node_holds_one_copy_and_only_while_it_serves() {
    let mut sketch = sketch();
    assert_eq!(faults(&sketch, &[replace(&sketch, 1, 3)]), [Fault::SharesNode(node(3))]);
    sketch.policy.unreachable.insert(node(2));
    assert_eq!(faults(&sketch, &[replace(&sketch, 1, 2)]), [Fault::Unreachable(node(2))]);
    sketch.set_state(2, NodeState::Drained);
    assert_eq!(faults(&sketch, &[replace(&sketch, 1, 2)]), [Fault::NotServing(node(2))]);
    assert_eq!(faults(&sketch, &[replace(&sketch, 1, 99)]), [Fault::NotServing(node(99))]);
}

#[test]
fn the_number_of_copies_comes_nearer_to_what_is_wanted() {
    let mut sketch = sketch();
    let add = Move::Add { partition: PARTITION, to: node(2) };
    assert_eq!(faults(&sketch, &[add]), [Fault::TooMany { have: 3, wanted: 3 }]);
    assert_eq!(faults(&sketch, &[remove(&sketch, 1)]), [Fault::TooFew { have: 3, wanted: 3 }]);
    sketch.set_replicas(5);
    assert_eq!(faults(&sketch, &[add]), []);
    sketch.set_replicas(1);
    assert_eq!(faults(&sketch, &[remove(&sketch, 1)]), []);
    sketch.set_state(5, NodeState::Draining);
    assert_eq!(faults(&sketch, &[remove(&sketch, 1)]), [Fault::SparesWorse { rather: node(5) }]);
}

#[test]
fn a_partition_is_changed_once_and_not_while_a_move_is_under_way() {
    let mut sketch = sketch();
    sketch.set_state(1, NodeState::Draining);
    let twice =
        [replace(&sketch, 1, 2), Move::TransferLeader { partition: PARTITION, from: node(1), to: node(3) }];
    assert_eq!(faults(&sketch, &twice), [Fault::SecondMove]);
    let learner = sketch.map.partitions.get_mut(&PARTITION).unwrap().replicas.last_mut().unwrap();
    learner.role = Role::Learner;
    let learner = learner.id;
    assert_eq!(faults(&sketch, &[replace(&sketch, 1, 2)]), [Fault::UnderWay(learner)]);
}

#[test]
fn a_move_for_nothing_is_refused() {
    let sketch = sketch();
    let vain = Fault::Vain { from: node(1), left: 0, to: node(2), given: 1 };
    assert_eq!(faults(&sketch, &[replace(&sketch, 1, 2)]), [vain]);
    let transfer = Move::TransferLeader { partition: PARTITION, from: node(1), to: node(3) };
    let vain = Fault::Vain { from: node(1), left: 0, to: node(3), given: 1 };
    assert_eq!(faults(&sketch, &[transfer]), [vain]);
}

#[test]
fn only_the_leader_hands_over_and_only_to_a_voter() {
    let mut sketch = sketch();
    let transfer = |from, to| Move::TransferLeader { partition: PARTITION, from: node(from), to: node(to) };
    assert_eq!(faults(&sketch, &[transfer(3, 1)]), [Fault::NotLeader(node(3))]);
    assert_eq!(faults(&sketch, &[transfer(1, 1)]), [Fault::LeadsAlready(node(1))]);
    assert_eq!(faults(&sketch, &[transfer(1, 2)]), [Fault::NotVoter(node(2))]);
    sketch.set_state(3, NodeState::Draining);
    assert_eq!(faults(&sketch, &[transfer(1, 3)]), [Fault::NotServing(node(3))]);
    sketch.set_state(1, NodeState::Draining);
    assert_eq!(faults(&sketch, &[transfer(1, 5)]), []);
}

#[test]
fn what_does_not_exist_is_not_moved() {
    let mut sketch = sketch();
    let gone = Move::Add { partition: PartitionId(9), to: node(2) };
    assert_eq!(faults(&sketch, &[gone]), [Fault::NoSuchPartition]);
    let wrong = remove(&sketch, 2);
    assert_eq!(faults(&sketch, &[wrong]), [Fault::NoSuchReplica(ReplicaId(0), node(2))]);
    sketch.map.tables.clear();
    assert_eq!(faults(&sketch, &[remove(&sketch, 1)]), [Fault::NoSuchTable(TableId(1))]);
}

#[test]
fn a_violation_says_what_is_wrong_with_which_move() {
    let sketch = sketch();
    let moves = [Move::Add { partition: PARTITION, to: node(2) }];
    let violations = check(&sketch.map, &sketch.leaders, &moves, &sketch.policy).unwrap_err();
    assert_eq!(
        violations.first().map(ToString::to_string).as_deref(),
        Some(
            "partition 1: add a replica on 00000000-0000-0000-0000-000000000002: \
             3 of 3 replicas are there: one more is too many"
        )
    );
}
