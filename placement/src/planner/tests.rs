//! What plans look like, kept as text beside this file, and how long a big one takes.

use std::time::{Duration, Instant};

use super::sketch::{Sketch, even, node};
use super::{NotEnoughNodes, Policy, place_table};
use crate::map::{NodeState, PartitionMap, Role};
use crate::moves::{Move, after};

fn three_nodes() -> Sketch {
    let mut sketch = Sketch::with_zones(&["", "", ""]);
    sketch.add_table("orders", 8, 3);
    sketch
}

fn three_zones() -> Sketch {
    let mut sketch = Sketch::with_zones(&["a", "a", "b", "b", "c", "c"]);
    sketch.add_table("orders", 6, 3);
    sketch.add_table("users", 3, 3);
    sketch
}

#[test]
fn balanced() {
    insta::assert_snapshot!(three_nodes().story());
}

#[test]
fn fourth_node_added() {
    let mut sketch = three_nodes();
    sketch.add_node("", "");
    insta::assert_snapshot!(sketch.story());
}

#[test]
fn node_drained() {
    let mut sketch = Sketch::with_zones(&["", "", "", ""]);
    sketch.add_table("orders", 8, 3);
    sketch.set_state(2, NodeState::Draining);
    insta::assert_snapshot!(sketch.story());
}

#[test]
fn drain_without_room() {
    let mut sketch = three_nodes();
    sketch.set_state(2, NodeState::Draining);
    insta::assert_snapshot!(sketch.story());
}

#[test]
fn node_removed() {
    let mut sketch = three_zones();
    sketch.set_state(6, NodeState::Removed);
    insta::assert_snapshot!(sketch.story());
}

#[test]
fn three_zones_of_two() {
    insta::assert_snapshot!(three_zones().story());
}

#[test]
fn zones_became_known() {
    let mut sketch = Sketch::with_zones(&[""; 6]);
    sketch.add_table("orders", 6, 3);
    for (known, zone) in sketch.map.nodes.values_mut().zip(["a", "a", "b", "b", "c", "c"]) {
        zone.clone_into(&mut known.zone);
    }
    insta::assert_snapshot!(sketch.story());
}

#[test]
fn zone_lost() {
    let mut sketch = three_zones();
    sketch.set_state(5, NodeState::Draining);
    sketch.set_state(6, NodeState::Draining);
    insta::assert_snapshot!(sketch.story());
}

#[test]
fn zones_uneven() {
    let mut sketch = Sketch::with_zones(&["a", "b", "c"]);
    sketch.add_table("orders", 8, 3);
    for zone in ["a", "a", "b"] {
        sketch.add_node(zone, "");
    }
    insta::assert_snapshot!(sketch.story());
}

#[test]
fn leaders_skewed() {
    let mut sketch = three_nodes();
    sketch.leaders.values_mut().for_each(|leader| *leader = node(1));
    insta::assert_snapshot!(sketch.story());
}

#[test]
fn replicas_raised() {
    let mut sketch = Sketch::with_zones(&["a", "b", "c", "c"]);
    sketch.add_table("orders", 4, 1);
    sketch.set_replicas(3);
    insta::assert_snapshot!(sketch.story());
}

#[test]
fn replicas_lowered() {
    let mut sketch = three_nodes();
    sketch.set_replicas(1);
    insta::assert_snapshot!(sketch.story());
}

#[test]
fn hosts_shared() {
    let mut sketch = Sketch::default();
    for host in ["x", "x", "x", "y", "z"] {
        sketch.add_node("", host);
    }
    let places: Vec<_> = (0..4).map(|_| vec![node(1), node(2), node(4)]).collect();
    sketch.add_table_at("orders", 3, &places);
    insta::assert_snapshot!(sketch.story());
}

#[test]
fn a_partition_that_is_being_moved_is_left_alone() {
    let mut sketch = three_nodes();
    sketch.add_node("", "");
    for partition in sketch.map.partitions.values_mut() {
        partition.replicas[0].role = Role::Learner;
    }
    sketch.set_state(3, NodeState::Draining);
    assert_eq!(sketch.plan(), []);
}

#[test]
fn what_cannot_be_reached_is_given_nothing() {
    let mut sketch = three_nodes();
    sketch.add_node("", "");
    sketch.policy.unreachable.insert(node(4));
    assert_eq!(sketch.plan(), []);
}

#[test]
fn without_balancing_only_duties_are_done() {
    let mut sketch = three_nodes();
    sketch.add_node("", "");
    sketch.leaders.values_mut().for_each(|leader| *leader = node(1));
    sketch.policy = Policy { balance_replicas: false, balance_leaders: false, ..Policy::default() };
    assert_eq!(sketch.plan(), []);
    sketch.set_state(1, NodeState::Draining);
    let moves = sketch.plan();
    assert_eq!(moves.len(), 8);
    assert!(moves.iter().all(|mv| matches!(mv, Move::Replace { from, .. } if *from == node(1))), "{moves:?}");
}

#[test]
fn a_leader_leaves_a_draining_node_even_where_its_copy_cannot() {
    let mut sketch = three_nodes();
    sketch.set_state(1, NodeState::Draining);
    sketch.settle();
    assert!(sketch.leaders.values().all(|leader| *leader != node(1)));
    assert!(even(&sketch.leads()));
}

#[test]
fn each_table_is_spread_for_itself() {
    let mut sketch = Sketch::with_zones(&["", "", ""]);
    sketch.add_table("orders", 12, 3);
    sketch.add_table("users", 12, 3);
    sketch.add_node("", "");
    sketch.settle();
    for table in sketch.map.tables.keys() {
        let on_new =
            sketch.map.partitions_of(*table).iter().filter(|p| p.replica_on(node(4)).is_some()).count();
        assert_eq!(on_new, 9);
    }
}

#[test]
fn small_tables_are_led_by_different_nodes() {
    let mut sketch = Sketch::with_zones(&["", "", ""]);
    (0..6).for_each(|number| sketch.add_table(&format!("t{number}"), 1, 3));
    assert_eq!(sketch.leads(), [2, 2, 2]);
}

#[test]
fn a_table_needs_a_node_for_each_replica() {
    let mut sketch = three_nodes();
    assert_eq!(place_table(&sketch.map, 4, 5), Err(NotEnoughNodes { replicas: 5, serving: 3 }));
    sketch.set_state(1, NodeState::Draining);
    let refused = place_table(&sketch.map, 4, 3).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "3 replicas need 3 serving nodes, and there are 2: add nodes, or ask for fewer replicas"
    );
    assert_eq!(place_table(&PartitionMap::default(), 0, 0), Ok(vec![]));
}

#[test]
fn moves_that_do_not_fit_change_nothing() {
    let sketch = three_nodes();
    let partition = *sketch.map.partitions.keys().next().unwrap();
    let there = Move::Add { partition, to: node(1) };
    assert_eq!(after(&sketch.map, &[there]), sketch.map);
}

/// Each plan takes 0.7 to 1 s on two cores without much optimisation, and that of a balanced
/// cluster 20 ms; the bound leaves room for a busy machine.
#[test]
fn a_big_cluster_is_planned_quickly() {
    let zones: Vec<&str> = (0..90).map(|number| ["a", "b", "c"][number % 3]).collect();
    let mut sketch = Sketch::with_zones(&zones);
    let timed = |what: &str, work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        let took = start.elapsed();
        eprintln!("{what}: {took:?}");
        assert!(took < Duration::from_secs(10), "{what}: {took:?}");
    };
    timed("placing 10,000 partitions", &mut || sketch.add_table("orders", 10_000, 3));
    timed("the plan of a balanced cluster", &mut || assert_eq!(sketch.plan(), []));
    for number in 0..10 {
        sketch.add_node(["a", "b", "c"][number % 3], "");
    }
    timed("ten nodes more", &mut || assert!(sketch.plan().len() <= 3_000));
    sketch.set_state(1, NodeState::Draining);
    timed("and one drained", &mut || assert!(sketch.plan().len() > 3_000));
    sketch.map.nodes.values_mut().for_each(|known| known.zone.clear());
    timed("without zones", &mut || assert!(!sketch.plan().is_empty()));
    sketch.leaders.values_mut().for_each(|leader| *leader = node(2));
    timed("leaders lost", &mut || assert!(!sketch.plan().is_empty()));
}
