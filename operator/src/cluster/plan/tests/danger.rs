//! What hurts people with other operators.

use insta::assert_snapshot;
use placement::{ClusterId, Move, NodeState, PartitionId};
use uuid::Uuid;

use super::world::{World, id, intent, pool};
use crate::cluster::intent::{Intent, Retention};
use crate::cluster::observed::Identity;
use crate::cluster::plan::Step;
use crate::dataplane::DataPlane;

/// What somebody declares anew.
type Change<'a> = &'a dyn Fn(&mut World);

#[test]
fn unknown_is_never_drained() {
    let mut world = World::settled(4);
    world.intent.pools[0].replicas = 3;
    // The node is not listed, and nothing says that it was removed.
    world.view_mut().nodes.remove(&id(4));
    assert_snapshot!(world.plan().to_string());
    // Nobody answers at all.
    world.observed.data = DataPlane::Unknown;
    assert!(world.plan().is_empty());
}

#[test]
fn a_stale_label_skips_no_drain() {
    let mut world = World::settled(4);
    world.intent.pools[0].replicas = 3;
    // The claim's label names a node that was removed long ago; who lives there now is another.
    let old = id(99);
    world.view_mut().tombstones.insert(old);
    world.observed.claims.iter_mut().find(|claim| claim.name == "data-kv-a-3").unwrap().node = Some(old);
    assert_snapshot!(world.run(50));
}

#[test]
fn a_broken_change_costs_one_pod_and_a_corrected_one_goes_on() {
    let mut world = World::settled(3);
    world.broken = vec!["bad".to_owned()];
    world.intent.pools[0].inputs = "bad".to_owned();
    let broken = world.run(80);
    let kept = world.observed.pods.iter().find(|pod| !pod.ready).unwrap().name.clone();
    // A healthy pod that is evicted meanwhile comes back on what ran before.
    world.observed.pods.retain(|pod| pod.name != "kv-a-2");
    world.run(50);
    assert_eq!(world.pod_mut("kv-a-2").inputs, "one");
    assert!(world.pod_mut("kv-a-2").ready);
    assert_eq!(world.pod_mut(&kept).inputs, "bad");
    world.intent.pools[0].inputs = "three".to_owned();
    let corrected = world.run(80);
    assert_snapshot!(format!("{broken}---\n{corrected}"));
    assert!(world.observed.pods.iter().all(|pod| pod.ready && pod.inputs == "three"));
}

#[test]
fn a_broken_first_spec_is_corrected_at_once() {
    let mut world = World::new(intent(3));
    world.broken = vec!["one".to_owned()];
    let broken = world.run(50);
    world.intent.pools[0].inputs = "two".to_owned();
    let corrected = world.run(80);
    assert_snapshot!(format!("{broken}---\n{corrected}"));
    assert!(world.observed.pods.iter().all(|pod| pod.ready));
}

#[test]
fn a_pod_whose_claim_was_deleted_becomes_a_new_node() {
    let mut world = World::settled(4);
    world.delete_claim_and_pod("kv-a-2");
    assert_snapshot!(world.run(50));
    assert!(world.view().tombstones.contains(&id(3)));
    assert_eq!(world.view().nodes.len(), 4);
}

#[test]
fn so_it_does_when_there_is_no_spare_node() {
    let mut world = World::settled(3);
    world.delete_claim_and_pod("kv-a-2");
    assert_snapshot!(world.run(50));
}

/// What cannot be emptied for want of a node is not what keeps that node from being added.
#[test]
fn a_node_can_be_added_while_another_one_cannot_be_emptied() {
    let mut world = World::settled(4);
    world.drains_end = false;
    world.lose("kv-a-3", 400);
    world.run(50);
    world.intent.pools[0].replicas = 5;
    let healing = world.run(50);
    world.drains_end = true;
    assert_snapshot!(format!("{healing}---\n{}", world.run(50)));

    let mut world = World::settled(4);
    world.drains_end = false;
    world.intent.pools[0].replicas = 3;
    world.run(50);
    world.intent.pools.push(pool("b", 1));
    world.run(50);
    assert!(world.view().named("kv-b-0").is_some(), "it joins while kv-a-3 is being emptied");
}

#[test]
fn a_lost_node_is_replaced_after_the_delay_and_used_again_when_it_returns() {
    let mut world = World::settled(4);
    world.lose("kv-a-3", 200);
    assert!(world.plan().is_empty());
    assert_eq!(world.plan().requeue, Some(3), "it may be back at any time");
    world.node_mut("kv-a-3").silent_for = 300;
    let replaced = world.run(50);
    // Kubernetes has given the pod up; the machine is still away.
    world.pod_mut("kv-a-3").deleting = true;
    let forgotten = world.plan().to_string();
    // The machine returns, and its pod finds that it was removed.
    world.observed.machines.get_mut("m4").unwrap().ready = true;
    let pod = world.pod_mut("kv-a-3");
    (pod.deleting, pod.identity) = (false, Identity::Nobody);
    let returned = world.run(50);
    assert_snapshot!(format!("{replaced}---\n{forgotten}---\n{returned}"));
}

#[test]
fn the_youth_of_a_pod_explains_nothing_once_its_machine_is_gone() {
    let mut world = World::settled(4);
    world.lose("kv-a-3", 400);
    world.pod_mut("kv-a-3").created = world.observed.now - 10;
    assert!(world.plan().to_string().contains("drain kv-a-3"), "{}", world.plan());
    world.observed.machines.get_mut("m4").unwrap().ready = true;
    assert!(world.plan().is_empty(), "it may just be starting");
}

#[test]
fn a_lost_node_that_nobody_can_stand_in_for_is_left() {
    let mut world = World::settled(3);
    world.lose("kv-a-2", 400);
    assert_snapshot!(world.plan().to_string());
}

#[test]
fn nothing_is_repaired_while_two_failures_are_unexplained() {
    let mut world = World::settled(5);
    world.lose("kv-a-2", 400);
    world.lose("kv-a-3", 400);
    world.intent.pools[0].inputs = "two".to_owned();
    world.intent.pools[0].replicas = 4;
    assert_snapshot!(world.plan().to_string());
}

#[test]
fn a_node_that_comes_back_while_it_is_replaced_stays() {
    let mut world = World::settled(4);
    world.drains_end = false;
    world.lose("kv-a-3", 400);
    world.run(50);
    assert_eq!(world.node_mut("kv-a-3").state, NodeState::Draining);
    let pod = world.pod_mut("kv-a-3");
    (pod.ready, pod.identity) = (true, Identity::Node(id(4)));
    world.observed.machines.get_mut("m4").unwrap().ready = true;
    assert_snapshot!(world.run(50));
}

#[test]
fn existing_claims_are_never_created_over() {
    let mut world = World::settled(3);
    // The object was deleted with its claims retained, and is declared again.
    world.observed.sets.clear();
    world.observed.pods.clear();
    world.observed.data = DataPlane::Unknown;
    world.intent.uid = ClusterId(Uuid::from_u128(0xc2));
    let all = world.plan().to_string();
    world.observed.claims.truncate(1);
    world.observed.claims[0].seat.ordinal = 2;
    let few = world.plan().to_string();
    world.observed.claims[0].node = None;
    world.observed.claims[0].seat.ordinal = 0;
    world.observed.claims[0].first = false;
    world.intent.pools[0].replicas = 1;
    world.observed.sets.insert(
        "a".to_owned(),
        crate::cluster::observed::Set { replicas: 1, inputs: "one".to_owned(), ..Default::default() },
    );
    let unknown = world.plan().to_string();
    assert_snapshot!(format!("all are there\n{all}one of three\n{few}unlabelled\n{unknown}"));
}

#[test]
fn no_pool_is_lost_when_waking_is_interrupted() {
    let two_pools = |intent: &mut Intent| intent.pools = vec![pool("a", 3), pool("b", 2)];
    // Pool b is taken out of the spec while the cluster sleeps: its nodes come back, and are emptied first.
    let only_a = |intent: &mut Intent| intent.pools = vec![pool("a", 3)];
    let changes: [&dyn Fn(&mut Intent); 2] = [&two_pools, &only_a];
    for (after, change) in [(0, changes[0]), (1, changes[0]), (0, changes[1]), (1, changes[1])] {
        let mut first = intent(3);
        two_pools(&mut first);
        let mut world = World::new(first);
        world.run(80);
        world.intent.hibernate = true;
        world.run(50);
        world.lose_quorum();
        world.intent.hibernate = false;
        change(&mut world.intent);
        let mut started = 0;
        world.run_until(50, |step| {
            started += usize::from(matches!(step, Step::ScaleSet { .. }));
            started > after
        });
        world.run(100);
        let wanted = world.intent.nodes() as usize;
        assert_eq!(world.observed.pods.iter().filter(|pod| pod.ready).count(), wanted);
        assert_eq!(world.view().nodes.len(), wanted, "every node is who it was, or was emptied");
        assert!(world.plan().is_empty());
    }
}

#[test]
fn a_set_that_somebody_made_smaller_is_made_whole_and_nothing_is_repaired() {
    let mut world = World::settled(5);
    world.observed.sets.get_mut("a").unwrap().replicas = 2;
    world.observed.pods.retain(|pod| pod.seat.ordinal < 2);
    for node in world.view_mut().nodes.values_mut().filter(|node| node.name.as_str() > "kv-a-1") {
        (node.alive, node.silent_for) = (false, 1_000);
    }
    assert_snapshot!(world.run(50));
    assert!(world.view().tombstones.is_empty());
}

#[test]
fn a_bad_template_is_put_back_although_the_cluster_is_growing() {
    let mut world = World::settled(3);
    world.broken = vec!["bad".to_owned()];
    world.intent.pools[0].inputs = "bad".to_owned();
    world.run_until(50, |step| step.name() == "restart-pod");
    world.intent.pools[0].replicas = 4;
    assert_snapshot!(world.run(80));
    assert_eq!(world.observed.sets["a"].inputs, "one");
}

#[test]
fn a_machine_that_is_gone_for_good_keeps_nobody_from_changing_the_rest() {
    let mut world = World::settled(4);
    world.lose("kv-a-3", 400);
    world.run(50);
    world.pod_mut("kv-a-3").deleting = true;
    world.observed.claims.iter_mut().find(|claim| claim.name == "data-kv-a-3").unwrap().node = None;
    world.intent.pools[0].inputs = "two".to_owned();
    assert_snapshot!(world.run(80));
    let changed = world.observed.pods.iter().filter(|pod| pod.ready && pod.inputs == "two").count();
    assert_eq!((changed, world.observed.sets["a"].good_inputs.as_deref()), (3, Some("two")));
}

#[test]
fn a_changed_pod_that_was_ready_before_gets_its_time_anew() {
    let mut world = World::settled(3);
    world.intent.pools[0].inputs = "two".to_owned();
    let mut restarted = 0;
    world.run_until(50, |step| {
        restarted += usize::from(step.name() == "restart-pod");
        restarted == 2
    });
    let now = world.observed.now + 5_000;
    world.observed.now = now;
    let pod = world.observed.pods.iter_mut().find(|pod| pod.inputs == "two").unwrap();
    (pod.ready, pod.unready_since) = (false, now - 10);
    assert!(!world.plan().to_string().contains("give up"), "{}", world.plan());
    let pod = world.observed.pods.iter_mut().find(|pod| pod.inputs == "two").unwrap();
    pod.unready_since = now - 700;
    assert!(world.plan().to_string().contains("give up"), "{}", world.plan());
}

#[test]
fn leaders_that_never_come_back_hold_nobody_up_for_ever() {
    let mut world = World::settled(3);
    let transfer = |to| Move::TransferLeader { partition: PartitionId(1), from: id(1), to };
    world.intent.pools[0].inputs = "two".to_owned();
    world.observed.sets.get_mut("a").unwrap().inputs = "two".to_owned();
    let now = world.observed.now;
    let pod = world.pod_mut("kv-a-1");
    (pod.inputs, pod.created) = ("two".to_owned(), now - 100);
    world.node_mut("kv-a-1").leaders = 0;
    world.propose(transfer(id(2)), "partition 1 of orders: leader from kv-a-0 to kv-a-1");
    assert!(world.plan().to_string().contains("start 1 moves"), "{}", world.plan());
    world.pod_mut("kv-a-1").created = now - 700;
    assert!(world.plan().to_string().contains("restart kv-a-2"), "{}", world.plan());
}

#[test]
fn a_claim_of_another_cluster_is_not_deleted() {
    let mut world = World::settled(4);
    world.intent.pools[0].replicas = 3;
    let claim = world.observed.claims.iter_mut().find(|claim| claim.name == "data-kv-a-3").unwrap();
    claim.cluster = Some(ClusterId(Uuid::from_u128(0xdead)));
    world.run(50);
    assert_eq!(world.observed.claims.len(), 4);
}

#[test]
fn an_operator_that_ends_at_any_step_goes_on_where_it_stopped() {
    let shrink = |world: &mut World| {
        world.intent.pools[0].replicas = 3;
        world.intent.claims_when_scaled = Retention::Delete;
    };
    let roll = |world: &mut World| world.intent.pools[0].inputs = "two".to_owned();
    let shrink: Change<'_> = &shrink;
    for (name, change) in [("shrink", shrink), ("roll", &roll)] {
        let mut whole = World::settled(4);
        change(&mut whole);
        whole.run(100);
        let steps = [
            "drain",
            "remove",
            "scale-set",
            "delete-claim",
            "switch-template",
            "transfer-leaders",
            "restart-pod",
            "record-good-template",
        ];
        for at in steps {
            let mut world = World::settled(4);
            change(&mut world);
            world.run_until(100, |step: &Step| step.name() == at);
            world.run(100);
            let summary = |world: &World| {
                let pods: Vec<_> = world
                    .observed
                    .pods
                    .iter()
                    .map(|pod| (pod.name.clone(), pod.inputs.clone(), pod.ready))
                    .collect();
                (
                    pods.len(),
                    world.observed.claims.len(),
                    world.observed.sets.clone(),
                    world.view().nodes.len(),
                )
            };
            assert_eq!(summary(&world), summary(&whole), "{name} after {at}");
        }
    }
}
