//! Scenario 2. Three nodes, five, three; a scale-down that is cancelled half-way; never a move too many.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use crds::KVCluster;
use crds::cluster::RebalanceMode;
use e2e::kubernetes::witness::Witness;
use e2e::kubernetes::{Stage, samples};
use e2e::until::until_every;
use e2e::witness::report::{ClusterReport, NodeReport};

const WITHIN: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Of each partition of the table.
const REPLICAS: usize = 3;
/// The nodes that come and go.
const LATE: [&str; 2] = ["orders-main-3", "orders-main-4"];

pub async fn run(stage: &mut Stage) -> anyhow::Result<()> {
    let mut orders = samples::keeping_nothing(samples::cluster("orders", 3));
    let witness = stage.serving(&orders, &samples::table("default", "orders"), WITHIN).await?;
    let watchman = stage.watchman("orders", &witness);

    let wide = widen(stage, &mut orders, &witness).await?;
    cancel_half_way(stage, &mut orders, &witness, &wide).await?;
    narrow(stage, &mut orders, &witness).await?;
    claims_are_gone(stage).await?;
    watchman.was_content()?;
    let verdict = witness.end_without_failures().await?;
    stage.figure("writes", verdict.report.acknowledged);
    stage.figure("longest gap", format!("{} ms", verdict.report.longest_gap_ms));
    Ok(())
}

/// From three nodes to five, by as many moves as the planner makes of it, and no copy moved twice.
/// Nothing moves before both nodes are there, so that the planner can be asked just then.
async fn widen(
    stage: &mut Stage,
    orders: &mut KVCluster,
    witness: &Witness,
) -> anyhow::Result<ClusterReport> {
    let before = witness.cluster().await?;
    *orders = samples::rebalanced_by(orders.clone(), RebalanceMode::Disabled);
    scale(stage, orders, 5).await?;
    until_every("five nodes serve", WITHIN, LOOK_EVERY, async || {
        let serving = serving(&witness.cluster().await?).len();
        ensure!(serving == 5, "{serving} do");
        Ok(())
    })
    .await?;
    let needed = witness.forecast().await?;
    let moved = replica_moves(&before, &witness.cluster().await?);
    ensure!(moved == 0, "{moved} replicas were moved although nobody was to decide on moves");

    *orders = samples::rebalanced_by(orders.clone(), RebalanceMode::Auto);
    stage.declare(orders).await?;
    stage.await_settled("orders", WITHIN).await?;
    let after = witness.cluster().await?;
    let moved = replica_moves(&before, &after);
    ensure!(
        moved == needed,
        "{moved} replicas were moved from 3 to 5 nodes, and the planner's minimum was {needed}"
    );
    ensure!(moved > 0, "no replica was moved to the new nodes");
    let newly = newly_placed(&before, &after);
    ensure!(
        moved == newly,
        "{moved} replicas were moved, and {newly} are where they were not: some moved twice"
    );
    is_even(&after, 5)?;
    stage.figure("moves 3 to 5", format!("{moved} (planner's minimum {needed})"));
    Ok(after)
}

/// Both late nodes are to go, and once some of their copies have gone they are to stay.
async fn cancel_half_way(
    stage: &Stage,
    orders: &mut KVCluster,
    witness: &Witness,
    wide: &ClusterReport,
) -> anyhow::Result<()> {
    let held = copies_on(wide, &LATE);
    scale(stage, orders, 3).await?;
    let left = until_every("half of the copies have left", WITHIN, LOOK_EVERY, async || {
        let cluster = witness.cluster().await?;
        let draining = cluster.nodes.iter().filter(|node| node.state == "DRAINING").count();
        let left = copies_on(&cluster, &LATE);
        ensure!(
            draining > 0 && left < held,
            "{draining} nodes are being emptied, and hold {left} of {held} copies"
        );
        Ok(left)
    })
    .await?;
    ensure!(left > 0, "all copies had left before the scale-down could be cancelled");
    scale(stage, orders, 5).await?;
    stage.await_settled("orders", WITHIN).await?;
    let back = witness.cluster().await?;
    ensure!(names(&back) == names(wide), "after the cancelled scale-down there are {:?}", back.nodes);
    ensure!(ids(&back) == ids(wide), "a node came back as another one: {:?}", back.nodes);
    is_even(&back, 5)?;
    stage.say(format_args!(
        "the scale-down was cancelled with {left} of {held} copies left, and all five nodes serve"
    ));
    Ok(())
}

/// From five nodes to three: only what the late nodes hold is moved, and that once.
async fn narrow(stage: &mut Stage, orders: &mut KVCluster, witness: &Witness) -> anyhow::Result<()> {
    let before = witness.cluster().await?;
    let held = copies_on(&before, &LATE);
    scale(stage, orders, 3).await?;
    stage.await_settled("orders", WITHIN).await?;
    let after = witness.cluster().await?;
    let moved = replica_moves(&before, &after);
    ensure!(moved == held, "{moved} replicas were moved from 5 to 3 nodes; {held} were on those that left");
    is_even(&after, 3)?;
    stage.figure("moves 5 to 3", format!("{moved} (fewest {held})"));
    Ok(())
}

async fn scale(stage: &Stage, orders: &mut KVCluster, replicas: i32) -> anyhow::Result<()> {
    let pool = orders.spec.pools.first_mut().context("the cluster has no pool")?;
    pool.replicas = replicas;
    stage.say(format_args!("the cluster shall have {replicas} nodes"));
    stage.declare(orders).await
}

async fn claims_are_gone(stage: &Stage) -> anyhow::Result<()> {
    until_every("the claims of removed nodes are gone", WITHIN, LOOK_EVERY, async || {
        let left = stage.claims("orders").await?.len();
        ensure!(left == 3, "{left} claims are there");
        Ok(())
    })
    .await
}

/// The moves of replicas that came after a look.
fn replica_moves(before: &ClusterReport, after: &ClusterReport) -> usize {
    let newest = before.moves.iter().map(|order| order.id).max().unwrap_or_default();
    let later = after.moves.iter().filter(|order| order.id > newest && order.moves_replica);
    later.filter(|order| order.stage == "DONE").count()
}

/// How many copies are on nodes that did not hold one of the same partition before.
fn newly_placed(before: &ClusterReport, after: &ClusterReport) -> usize {
    let places = |cluster: &ClusterReport| -> BTreeSet<(u64, String)> {
        let of =
            |id: u64, nodes: &[String]| nodes.iter().map(move |node| (id, node.clone())).collect::<Vec<_>>();
        cluster.partitions.iter().flat_map(|partition| of(partition.id, &partition.nodes)).collect()
    };
    places(after).difference(&places(before)).count()
}

fn serving(cluster: &ClusterReport) -> Vec<&NodeReport> {
    cluster.nodes.iter().filter(|node| node.state == "SERVING" && node.alive).collect()
}

fn names(cluster: &ClusterReport) -> BTreeSet<&str> {
    serving(cluster).iter().map(|node| node.name.as_str()).collect()
}

fn ids(cluster: &ClusterReport) -> BTreeSet<&str> {
    serving(cluster).iter().map(|node| node.id.as_str()).collect()
}

/// How many copies of partitions some nodes hold.
fn copies_on(cluster: &ClusterReport, names: &[&str]) -> usize {
    let ids: Vec<&str> =
        names.iter().filter_map(|name| cluster.node(name)).map(|node| node.id.as_str()).collect();
    let nodes = cluster.partitions.iter().flat_map(|partition| &partition.nodes);
    nodes.filter(|node| ids.contains(&node.as_str())).count()
}

/// That copies of a partition are kept apart, and that nodes which may stand in for each other hold
/// as many copies. With three zones or more each has one copy, however many nodes are in it; so only
/// the nodes of one zone are alike.
fn is_even(cluster: &ClusterReport, nodes: usize) -> anyhow::Result<()> {
    let serving = serving(cluster);
    ensure!(serving.len() == nodes, "{serving:?} serve, and {nodes} should");
    let zone_of: BTreeMap<&str, &str> =
        serving.iter().map(|node| (node.id.as_str(), node.zone.as_str())).collect();
    let zones: BTreeSet<&str> = zone_of.values().copied().collect();
    let apart = zones.len() >= REPLICAS;
    for partition in &cluster.partitions {
        let ids: BTreeSet<&str> = partition.nodes.iter().map(String::as_str).collect();
        ensure!(ids.len() == REPLICAS, "partition {} is on {ids:?}", partition.id);
        let held: BTreeSet<Option<&&str>> = ids.iter().map(|id| zone_of.get(id)).collect();
        ensure!(!apart || held.len() == REPLICAS, "partition {} has copies in {held:?} only", partition.id);
    }
    let hosts: BTreeSet<&str> = serving.iter().map(|node| node.host.as_str()).collect();
    if !apart && hosts.len() < serving.len() {
        // Copies are kept apart by machines then, and how many nodes a machine has decides.
        return Ok(());
    }
    for zone in zones {
        let alike = serving.iter().filter(|node| !apart || node.zone == zone);
        let held: Vec<usize> = alike.map(|node| copies_on(cluster, &[node.name.as_str()])).collect();
        let (most, fewest) = (held.iter().max(), held.iter().min());
        let spread = most.zip(fewest).map(|(most, fewest)| most - fewest);
        ensure!(spread.is_some_and(|spread| spread <= 1), "the nodes of zone {zone:?} hold {held:?} copies");
    }
    Ok(())
}
