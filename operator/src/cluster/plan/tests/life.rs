//! What people ask of a cluster.

use insta::assert_snapshot;
use placement::NodeState;

use super::world::{GIB, World, id, intent, pool, replace};
use crate::cluster::intent::{RebalanceMode, Retention};
use crate::cluster::plan::{plan_deletion, token};

#[test]
fn a_cluster_is_created_once_and_then_left_alone() {
    let mut world = World::new(intent(3));
    assert_snapshot!(world.run(50));
    assert!(world.plan().is_empty());
    assert_eq!(world.plan().requeue, None, "with nothing to do nobody looks again");
}

#[test]
fn a_cluster_that_is_not_well_is_looked_at_until_it_is() {
    let mut world = World::settled(3);
    assert_eq!(world.plan().requeue, None);
    world.view_mut().under_replicated = 1;
    assert!(world.plan().is_empty());
    assert_eq!(world.plan().requeue, Some(3), "nothing tells when a copy has caught up");
}

#[test]
fn a_cluster_grows() {
    let mut world = World::settled(3);
    world.intent.pools[0].replicas = 5;
    assert_snapshot!(world.run(50));
}

#[test]
fn a_cluster_shrinks_from_the_highest_and_one_pod_at_a_time() {
    let mut world = World::settled(5);
    world.intent.pools[0].replicas = 3;
    assert_snapshot!(world.run(50));
}

#[test]
fn claims_stay_where_the_policy_keeps_them() {
    let mut world = World::settled(4);
    world.intent.claims_when_scaled = Retention::Retain;
    world.intent.pools[0].replicas = 3;
    assert_snapshot!(world.run(50));
    assert_eq!(world.observed.claims.len(), 4);
}

#[test]
fn a_shrinking_is_cancelled_half_way() {
    let mut world = World::settled(5);
    world.drains_end = false;
    world.intent.pools[0].replicas = 3;
    world.run(50);
    world.intent.pools[0].replicas = 5;
    assert_snapshot!(world.run(50));
    assert!(world.view().nodes.values().all(|node| node.state == NodeState::Serving));
}

#[test]
fn a_shrinking_is_cancelled_after_any_of_its_steps() {
    for after in ["drain", "remove", "scale-set", "delete-claim"] {
        let mut world = World::settled(5);
        world.intent.pools[0].replicas = 3;
        world.run_until(50, |step| step.name() == after);
        world.intent.pools[0].replicas = 5;
        world.run(80);
        assert!(world.view().nodes.values().all(|node| node.state == NodeState::Serving && node.alive));
        let (pods, claims) = (world.observed.pods.len(), world.observed.claims.len());
        assert_eq!((world.view().nodes.len(), pods, claims), (5, 5, 5), "after {after}");
    }
}

#[test]
fn a_cluster_does_not_shrink_below_what_its_tables_need() {
    let mut world = World::settled(3);
    world.intent.pools[0].replicas = 2;
    assert_snapshot!(world.run(50));
}

#[test]
fn a_pool_that_is_no_longer_declared_is_emptied_first() {
    let mut world = World::settled(3);
    world.intent.pools = vec![pool("b", 3)];
    assert_snapshot!(world.run(80));
    assert_eq!(world.observed.sets.keys().collect::<Vec<_>>(), ["b"]);
}

#[test]
fn pods_are_replaced_a_zone_at_a_time_and_the_meta_leader_last() {
    let mut world = World::settled(4);
    world.node_mut("kv-a-1").leaders = 5;
    world.intent.pools[0].inputs = "two".to_owned();
    assert_snapshot!(world.run(80));
}

#[test]
fn claims_grow() {
    let mut world = World::settled(3);
    world.intent.pools[0].storage = 20 * GIB;
    world.observed.claims[2].growable = Some(false);
    assert_snapshot!(world.run(50));
}

#[test]
fn moves_are_made_as_the_policy_says() {
    let mut world = World::settled(4);
    let shown = |world: &World| world.plan().to_string();
    world.propose(replace(1, id(1), id(4)), "partition 1 of orders: from kv-a-0 to kv-a-3");
    let auto = shown(&world);
    world.intent.rebalance.mode = RebalanceMode::Off;
    let off = shown(&world);
    world.intent.rebalance.mode = RebalanceMode::Manual;
    let waiting = shown(&world);
    world.intent.rebalance.approved = Some("another".to_owned());
    assert!(world.plan().is_empty(), "what was approved is not this plan");
    world.intent.rebalance.approved = token(world.view());
    let approved = shown(&world);
    assert_snapshot!(format!("auto\n{auto}off\n{off}manual\n{waiting}approved\n{approved}"));
}

#[test]
fn a_cluster_sleeps_and_comes_back() {
    let mut world = World::settled(3);
    world.intent.hibernate = true;
    let asleep = world.run(50);
    world.lose_quorum();
    world.intent.hibernate = false;
    let woken = world.run(50);
    assert_snapshot!(format!("{asleep}---\n{woken}"));
    assert_eq!(world.observed.pods.iter().filter(|pod| pod.ready).count(), 3);
}

#[test]
fn a_paused_cluster_is_not_touched() {
    let mut world = World::settled(3);
    world.intent.pools[0].replicas = 5;
    world.intent.pools[0].inputs = "two".to_owned();
    world.intent.paused = true;
    assert!(world.plan().is_empty());
}

#[test]
fn a_cluster_goes_as_the_policy_says() {
    let world = World::settled(3);
    let mut observed = world.observed.clone();
    let kept = plan_deletion(&observed, false).to_string();
    let sets = plan_deletion(&observed, true).to_string();
    observed.sets.clear();
    let claims = plan_deletion(&observed, true).to_string();
    for claim in &mut observed.claims {
        claim.deleting = true;
    }
    for pod in &mut observed.pods {
        pod.deleting = true;
    }
    assert!(plan_deletion(&observed, true).is_empty(), "the object is held until the pods are gone");
    observed.machines.get_mut("m2").unwrap().ready = false;
    let forgotten = plan_deletion(&observed, true).to_string();
    observed.claims.clear();
    observed.pods.clear();
    let end = plan_deletion(&observed, true).to_string();
    assert_snapshot!(format!("retain\n{kept}delete\n{sets}{claims}a machine is gone\n{forgotten}{end}"));
}

#[test]
fn the_cluster_version_goes_up_once_every_node_is_there_and_supports_it() {
    let mut world = World::settled(3);
    for name in ["kv-a-0", "kv-a-1"] {
        world.node_mut(name).supports_version = 3;
    }
    assert!(world.plan().is_empty(), "one does not support it");
    world.node_mut("kv-a-2").supports_version = 2;
    world.node_mut("kv-a-2").alive = false;
    assert!(world.plan().is_empty(), "one is away, and may come back as something else");
    world.node_mut("kv-a-2").alive = true;
    world.intent.raises_version = false;
    assert!(world.plan().is_empty(), "the way back is to stay open");
    world.intent.raises_version = true;
    let steps: Vec<String> = world.plan().steps.iter().map(ToString::to_string).collect();
    assert_eq!(steps, ["raise the cluster version from 1 to 2"]);
    world.run(50);
    assert_eq!(world.view().cluster_version, 2);
    assert!(world.plan().is_empty());
}
