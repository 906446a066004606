//! What holds for every cluster, whatever it looks like.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::place_table;
use super::sketch::{Sketch, even, node};
use crate::check::check;
use crate::id::{NodeId, ReplicaId};
use crate::map::{NodeState, Partition, Role};
use crate::moves::Move;

/// A cluster in any state: copies and leaders anywhere, too many or too few, nodes that
/// leave or cannot be reached, moves under way.
fn messy() -> impl Strategy<Value = Sketch> {
    let state = prop_oneof![
        6 => Just(NodeState::Serving),
        1 => Just(NodeState::Draining),
        1 => Just(NodeState::Drained),
        1 => Just(NodeState::Removed),
    ];
    let known = (0..4_usize, 0..3_usize, state, prop::bool::weighted(0.1));
    let places = prop::collection::vec((prop::collection::vec(any::<Index>(), 1..6), any::<Index>()), 0..16);
    let table = (select(vec![1_u8, 3, 5]), places);
    let nodes = prop::collection::vec(known, 1..10);
    (nodes, prop::collection::vec(table, 1..3), prop::bool::weighted(0.3), any::<Index>()).prop_map(
        |(nodes, tables, under_way, which)| {
            let mut sketch = Sketch::default();
            let zones = ["", "a", "b", "c"];
            for (number, (zone, host, state, unreachable)) in nodes.iter().enumerate() {
                // A host lies in one zone, or is not known.
                let host = if *host == 0 { String::new() } else { format!("{}{host}", zones[*zone]) };
                sketch.add_node(zones[*zone], &host);
                sketch.set_state(number + 1, *state);
                if *unreachable {
                    sketch.policy.unreachable.insert(node(number + 1));
                }
            }
            for (number, (replicas, partitions)) in tables.iter().enumerate() {
                let place = |index: &Index| node(index.index(nodes.len()) + 1);
                let places: Vec<Vec<NodeId>> = partitions
                    .iter()
                    .map(|(places, _)| places.iter().map(place).collect::<BTreeSet<_>>())
                    .map(|places| places.into_iter().collect())
                    .collect();
                sketch.add_table_at(&format!("t{number}"), *replicas, &places);
            }
            let leaders = tables.iter().flat_map(|(_, partitions)| partitions);
            for (partition, (_, leader)) in sketch.map.partitions.values().zip(leaders) {
                let leader = leader.get(&partition.replicas).node;
                sketch.leaders.insert(partition.id, leader);
            }
            let count = sketch.map.partitions.len();
            if under_way && count > 0 {
                let moved = sketch.map.partitions.values_mut().nth(which.index(count)).unwrap();
                moved.replicas[0].role = Role::Learner;
            }
            sketch
        },
    )
}

/// Tables placed on nodes that all serve: zones `a`, `b`, `c` as often as it says, or none.
fn placed(zones: &'static [usize]) -> impl Strategy<Value = Sketch> {
    let table = (1..20_u16, select(vec![1_u8, 3]));
    (prop::collection::vec(table, 1..4), 3..9_usize).prop_map(move |(tables, nodes)| {
        let mut sketch = Sketch::default();
        for (zone, count) in ["a", "b", "c", "d"].iter().zip(zones) {
            (0..*count).for_each(|_| sketch.add_node(zone, ""));
        }
        if zones.is_empty() {
            (0..nodes).for_each(|_| sketch.add_node("", ""));
        }
        for (number, (partitions, replicas)) in tables.into_iter().enumerate() {
            sketch.add_table(&format!("t{number}"), partitions, replicas);
        }
        sketch
    })
}

/// How many moves change copies, and how many change leaders only.
fn count(plans: &[Vec<Move>]) -> (usize, usize) {
    let replicas = plans.iter().flatten().filter(|mv| mv.moves_replica()).count();
    (replicas, plans.iter().flatten().count() - replicas)
}

/// Whether leaders differ by one at most, or cannot: where tables ask for different numbers
/// of copies, a node may hold as many as the others and yet have little to lead.
fn leads_evenly(sketch: &Sketch) -> bool {
    !uniform(sketch) || even(&sketch.leads())
}

/// Whether all tables ask for the same number of copies.
fn uniform(sketch: &Sketch) -> bool {
    sketch.map.tables.values().map(|table| table.replicas).collect::<BTreeSet<_>>().len() == 1
}

fn zone_of(sketch: &Sketch, node: NodeId) -> &str {
    &sketch.map.nodes[&node].zone
}

/// Of the zones, and of the hosts, with nodes that can be given something: how many.
fn domains(sketch: &Sketch) -> (usize, usize) {
    let usable = sketch.serving().filter(|id| !sketch.policy.unreachable.contains(id));
    let nodes: Vec<_> = usable.map(|id| &sketch.map.nodes[&id]).collect();
    let zones: BTreeSet<_> = nodes.iter().map(|known| &known.zone).collect();
    let hosts: BTreeSet<_> = nodes
        .iter()
        .map(|known| if known.host.is_empty() { known.name.clone() } else { known.host.clone() })
        .collect();
    (zones.len(), hosts.len())
}

/// What one copy shares with the others: hosts and zones.
fn shared(sketch: &Sketch, node: NodeId, rest: &[NodeId]) -> (usize, usize) {
    let known = &sketch.map.nodes[&node];
    let others = || rest.iter().map(|other| &sketch.map.nodes[other]);
    let hosts = others().filter(|other| !known.host.is_empty() && other.host == known.host).count();
    (hosts, others().filter(|other| other.zone == known.zone).count())
}

fn places(partition: &Partition) -> Vec<NodeId> {
    partition.replicas.iter().map(|replica| replica.node).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_cluster_comes_to_rest_where_it_should_be(mut sketch in messy()) {
        // The checker judges each plan on the way.
        let plans = sketch.settle();
        prop_assert!(plans.len() <= 10, "{} plans", plans.len());
        let (zones, hosts) = domains(&sketch);
        let usable: Vec<_> = sketch.serving().filter(|id| !sketch.policy.unreachable.contains(id)).collect();
        let load = |id: NodeId| {
            sketch.map.partitions.values().filter(|part| part.replica_on(id).is_some()).count()
        };
        for partition in sketch.map.partitions.values() {
            if partition.voters().count() < partition.replicas.len() {
                continue;
            }
            let wanted = usize::from(sketch.map.tables[&partition.table].replicas);
            let places = places(partition);
            let distinct = |of: &dyn Fn(NodeId) -> String| places.iter().map(|id| of(*id)).collect::<BTreeSet<_>>();
            prop_assert_eq!(distinct(&|id| id.to_string()).len(), places.len());
            prop_assert!(places.len() <= wanted);
            if places.iter().all(|place| usable.contains(place)) {
                prop_assert_eq!(places.len(), wanted.min(usable.len()));
                if zones >= wanted {
                    prop_assert_eq!(distinct(&|id| zone_of(&sketch, id).to_owned()).len(), wanted);
                }
                if hosts >= wanted {
                    let host = |id| {
                        let known = &sketch.map.nodes[&id];
                        if known.host.is_empty() { known.name.clone() } else { known.host.clone() }
                    };
                    prop_assert_eq!(distinct(&host).len(), wanted);
                }
            }
            for from in &places {
                let leaves = sketch.map.nodes[from].state != NodeState::Serving;
                let rest: Vec<_> = places.iter().copied().filter(|place| place != from).collect();
                for to in usable.iter().filter(|to| !places.contains(to)) {
                    prop_assert!(!leaves, "{} holds a copy that {} could take", from, to);
                    if !usable.contains(from) {
                        continue;
                    }
                    let (there, here) = (shared(&sketch, *to, &rest), shared(&sketch, *from, &rest));
                    prop_assert!(there >= here, "copies could be kept further apart");
                    prop_assert!(there > here || load(*to) + 2 > load(*from), "loads could be more even");
                }
            }
        }
    }

    #[test]
    fn the_order_in_which_copies_are_listed_changes_nothing(sketch in messy()) {
        let mut turned = sketch.clone();
        turned.map.partitions.values_mut().for_each(|partition| partition.replicas.reverse());
        prop_assert_eq!(sketch.plan(), sketch.plan());
        prop_assert_eq!(sketch.plan(), turned.plan());
    }

    #[test]
    fn any_beginning_of_a_plan_is_safe_to_make(sketch in messy(), cut in any::<Index>()) {
        let moves = sketch.plan();
        let beginning = &moves[..cut.index(moves.len() + 1)];
        let faults = check(&sketch.map, &sketch.leaders, beginning, &sketch.policy).err().unwrap_or_default();
        // Evenness is what the plan as a whole gives; safety is what each move gives.
        let unsafe_ones: Vec<_> =
            faults.iter().filter(|found| !matches!(found.fault, crate::check::Fault::Vain { .. })).collect();
        prop_assert!(unsafe_ones.is_empty(), "{:?}", unsafe_ones);
    }

    #[test]
    fn new_tables_are_balanced(sketch in placed(&[])) {
        prop_assert_eq!(count(&[sketch.plan()]).0, 0);
        prop_assert!(even(&sketch.loads()));
        prop_assert!(sketch.map.tables.len() > 1 || sketch.plan().is_empty());
    }

    #[test]
    fn equal_zones_hold_equally_much(mut sketch in placed(&[2, 2, 2])) {
        sketch.settle();
        prop_assert!(even(&sketch.loads()), "{}", sketch.picture());
    }

    #[test]
    fn a_new_node_is_given_its_share_and_no_more(mut sketch in placed(&[])) {
        let share = sketch.replicas().div_ceil(sketch.map.nodes.len() + 1);
        sketch.add_node("", "");
        let (replicas, _) = count(&sketch.settle());
        prop_assert!(replicas <= share, "{replicas} moves, and the share is {share}");
        prop_assert!(even(&sketch.loads()), "{}", sketch.picture());
        prop_assert!(leads_evenly(&sketch), "{}", sketch.picture());
    }

    #[test]
    fn a_new_node_in_a_zone_is_given_no_more_than_its_share(
        mut sketch in placed(&[2, 2, 2]),
        zone in select(vec!["a", "b", "c", "d"]),
    ) {
        sketch.settle();
        let share = sketch.replicas().div_ceil(sketch.map.nodes.len() + 1);
        sketch.add_node(zone, "");
        let (replicas, _) = count(&sketch.settle());
        // Copies of which few may go to the new zone can make others go round about.
        let share = if uniform(&sketch) { share } else { 2 * share };
        prop_assert!(replicas <= share, "{replicas} moves, and the share is {share}\n{}", sketch.picture());
    }

    #[test]
    fn a_drained_node_is_emptied_with_few_moves_more_than_it_held_copies(mut sketch in placed(&[]), which in any::<Index>()) {
        sketch.add_node("", "");
        sketch.settle();
        let drained = which.index(sketch.map.nodes.len()) + 1;
        let held = sketch.loads()[drained - 1];
        sketch.set_state(drained, NodeState::Draining);
        let (replicas, _) = count(&sketch.settle());
        // Where all that leaves has a copy on a certain node already, that node can get its
        // share only by a move of something else.
        let nodes = sketch.map.nodes.len();
        prop_assert!((held..=held + nodes).contains(&replicas), "{replicas} moves for {held}");
        let left = sketch.map.partitions.values().any(|part| part.replica_on(node(drained)).is_some());
        prop_assert!(!left && sketch.leaders.values().all(|leader| *leader != node(drained)));
        prop_assert!(even(&sketch.loads()), "{}", sketch.picture());
        prop_assert!(leads_evenly(&sketch), "{}", sketch.picture());
    }

    #[test]
    fn leaders_are_spread_with_the_fewest_transfers(
        mut sketch in placed(&[]),
        choices in prop::collection::vec(any::<Index>(), 60),
    ) {
        for (partition, choice) in sketch.map.partitions.values().zip(choices) {
            sketch.leaders.insert(partition.id, choice.get(&partition.replicas).node);
        }
        let before = sketch.leads();
        let plans = sketch.settle();
        prop_assert!(leads_evenly(&sketch), "{}", sketch.picture());
        prop_assert!(plans.len() <= 1 && count(&plans).0 == 0);
        // Nobody can do with fewer than what lies above or below the even share.
        let total: usize = before.iter().sum();
        let (floor, ceil) = (total / before.len(), total.div_ceil(before.len()));
        let above: usize = before.iter().map(|led| led.saturating_sub(ceil)).sum();
        let below: usize = before.iter().map(|led| floor.saturating_sub(*led)).sum();
        let all_anywhere = sketch.map.partitions.values().all(|part| part.replicas.len() == before.len());
        prop_assert!(!all_anywhere || count(&plans).1 == above.max(below));
    }

    #[test]
    fn raising_and_lowering_the_number_of_copies_leaves_loads_even(mut sketch in placed(&[])) {
        sketch.set_replicas(3);
        // A copy is chosen before the next one is: now and then that costs a move more, to
        // make loads even in the end.
        let nodes = sketch.map.nodes.len();
        let least = sketch.map.partitions.len() * 3 - sketch.replicas();
        let (replicas, _) = count(&sketch.settle());
        prop_assert!((least..=least + nodes).contains(&replicas), "{replicas} for {least}");
        sketch.set_replicas(1);
        let (replicas, _) = count(&sketch.settle());
        let least = sketch.map.partitions.len() * 2;
        prop_assert!((least..=least + nodes).contains(&replicas), "{replicas} for {least}");
        prop_assert!(even(&sketch.loads()) && even(&sketch.leads()), "{}", sketch.picture());
    }

    #[test]
    fn a_spoilt_plan_is_refused(sketch in messy(), which in any::<Index>(), how in 0..6_u8, other in any::<Index>()) {
        let mut moves = sketch.plan();
        if moves.is_empty() {
            return Ok(());
        }
        let at = which.index(moves.len());
        let (partition, nodes) = (moves[at].partition(), &sketch.map.nodes);
        let idle: Vec<_> = nodes.values().filter(|known| known.state != NodeState::Serving).collect();
        let held = sketch.map.partitions[&partition].replicas.clone();
        let holder = other.get(&held).node;
        match (how, &mut moves[at]) {
            (0, mv) => {
                let again = *mv;
                moves.push(again);
            }
            (1, Move::Replace { to, .. } | Move::Add { to, .. } | Move::TransferLeader { to, .. }) if !idle.is_empty() => {
                *to = other.get(&idle).id;
            }
            (2, Move::Replace { to, .. } | Move::Add { to, .. }) => *to = holder,
            (3, Move::Replace { replica, .. } | Move::Remove { replica, .. }) => *replica = ReplicaId(7),
            (4, Move::Replace { from, .. } | Move::Remove { from, .. } | Move::TransferLeader { from, .. }) => {
                *from = node(77);
            }
            (_, mv) => *mv = Move::TransferLeader { partition, from: holder, to: holder },
        }
        prop_assert!(check(&sketch.map, &sketch.leaders, &moves, &sketch.policy).is_err());
    }

    #[test]
    fn tables_are_placed_apart_and_evenly(
        zones in prop::collection::vec(0..4_usize, 5..10),
        partitions in 1..40_u16,
        replicas in select(vec![1_u8, 3, 5]),
    ) {
        let names: Vec<&str> = zones.iter().map(|zone| ["a", "b", "c", "d"][*zone]).collect();
        let sketch = Sketch::with_zones(&names);
        let placed = place_table(&sketch.map, partitions, replicas).unwrap();
        prop_assert_eq!(placed.len(), usize::from(partitions));
        let used = names.iter().collect::<BTreeSet<_>>().len();
        for places in &placed {
            prop_assert_eq!(places.iter().collect::<BTreeSet<_>>().len(), usize::from(replicas));
            let zones = places.iter().map(|place| zone_of(&sketch, *place)).collect::<BTreeSet<_>>();
            prop_assert_eq!(zones.len(), usize::from(replicas).min(used));
        }
        let mut sketch = sketch;
        sketch.add_table_at("orders", replicas, &placed);
        prop_assert_eq!(sketch.plan(), vec![]);
    }
}
