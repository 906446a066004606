//! A fourth node is added under load, the first is drained and removed. No request fails, no
//! more is moved than must be, and who was removed never comes back as who it was.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use client::Admin;
use e2e::workload::Load;
use e2e::{Cluster, Scenario, Shape, until};
use proto::v1::{
    ListMovesRequest, Move, MoveStage, NodeRequest, PlanRebalanceRequest, PlanRebalanceResponse,
    StartMovesRequest, StatusRequest,
};
use rand::RngExt as _;

const PARTITIONS: u32 = 8;
const REPLICAS: usize = 3;
const TABLE: &str = "default";
/// How long a plan, or a drain, may take to be carried out.
const MOVED_WITHIN: Duration = Duration::from_secs(60);
const ENDED_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn nodes_come_and_go_under_load() -> anyhow::Result<()> {
    let scenario = Scenario::begin("rebalance").await?;
    let mut cluster = Cluster::form(Shape { partitions: PARTITIONS, ..Shape::default() }).await?;
    let client = cluster.client()?;
    let admin = client.admin().with_deadline(Duration::from_secs(20));
    let deadline = Duration::from_secs(10);
    let seed = scenario.random(1).random();
    let load = Load { table: TABLE.to_owned(), keys: 500, writers: 4, readers: 4, deadline, seed };
    let running = load.begin(&client);

    let fourth = cluster.add_node().await?;
    cluster.await_healthy().await?;
    let moved = rebalance(&scenario, &admin).await?;
    // A quarter of all copies belongs on a fourth node, and nothing else need move.
    let quarter = PARTITIONS as usize * REPLICAS / 4;
    ensure!(moved == quarter, "{moved} replicas were moved; a quarter is {quarter}");
    let held = replicas_on(&admin, "node-4").await?;
    ensure!(held == quarter as u64, "the fourth node holds {held} replicas of {quarter}");
    scenario.say(format_args!("the fourth node holds {held} replicas after {moved} moves"));

    let first = cluster.id_of(0).await?.context("node 0 is in no cluster")?;
    cluster.drain("node-1", MOVED_WITHIN).await?;
    for partition in cluster.partitions(TABLE).await? {
        let group = cluster.group_at(0, partition).await?;
        ensure!(group.is_none(), "the drained node still has a replica of partition {partition}");
    }
    ensure!(cluster.group_at(0, 0).await?.is_none(), "the drained node still votes in the meta group");
    scenario.say("the first node is drained: it holds nothing");
    cluster.stop(0).await?;
    let removed = admin.remove_node(NodeRequest { node: "node-1".to_owned() }).await?;
    ensure!(removed.replicas_left == 0 && removed.leaders_left == 0, "{removed:?}");
    // Who leads what was nobody's plan; a leader may be left to move, but no copy.
    let moved = rebalance(&scenario, &admin).await?;
    ensure!(moved == 0, "a drain leaves the copies balanced, and {moved} had to be moved");

    let (history, errors) = running.end().await?;
    scenario.say(format_args!("the load ended: {:?}", history.counts()));
    ensure!(errors.is_empty(), "{} requests failed, first {:?}", errors.len(), errors.first());
    let violations: Vec<_> = history.violations().iter().map(ToString::to_string).collect();
    ensure!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));

    come_back(&scenario, &mut cluster, &admin, first.to_string(), fourth).await?;
    cluster.finish()
}

/// A removed node starts again: first as who it was, then as a new node.
async fn come_back(
    scenario: &Scenario,
    cluster: &mut Cluster,
    admin: &Admin,
    old: String,
    member: usize,
) -> anyhow::Result<()> {
    cluster.spawn(0, &[])?;
    let status = cluster.await_end(0, ENDED_WITHIN).await?;
    ensure!(status.success(), "a removed node ends in order, not with {status}");
    let data = cluster.data(0)?.to_owned();
    let is_retired = |identity: &str| {
        data.join("retired").join(identity).join("identity.yaml").is_file()
            && !data.join("identity.yaml").exists()
    };
    ensure!(is_retired(&old), "its folder is not retired: {}", listing(&data));
    scenario.say("the removed node was started again: it put its data aside and ended");

    cluster.start(0).await?;
    ensure!(cluster.status_of(0).await?.cluster.is_empty(), "it came back without being asked to join");
    cluster.stop(0).await?;
    let join = ["--join", &cluster.endpoint(member)?];
    cluster.start_with(0, &join).await?;
    let new = until("it has joined", ENDED_WITHIN, async || {
        cluster.id_of(0).await?.context("it is in no cluster yet")
    })
    .await?
    .to_string();
    ensure!(new != old, "it joined under its old identity");
    cluster.await_healthy().await?;
    scenario.say(format_args!("with --join it is a new node, {new}"));

    // The same while it runs: it need not be restarted to notice.
    cluster.drain(&new, MOVED_WITHIN).await?;
    admin.remove_node(NodeRequest { node: new.clone() }).await?;
    let status = cluster.await_end(0, ENDED_WITHIN).await?;
    ensure!(status.success(), "a removed node ends in order, not with {status}");
    ensure!(is_retired(&new), "its folder is not retired: {}", listing(&data));
    ensure!(!data.join("retired").join(&old).exists(), "only the last identity is kept");
    scenario.say("removed while it ran, it put its data aside and ended");
    Ok(())
}

/// Plans and carries out until nothing is left to do. Gives how many replicas were moved.
async fn rebalance(scenario: &Scenario, admin: &Admin) -> anyhow::Result<usize> {
    let mut replicas = 0;
    // Which leaders to move is known once the replicas are there: a few plans, not many.
    for _ in 0..6 {
        let plan = until("nothing is under way", MOVED_WITHIN, async || {
            let status = admin.status(StatusRequest {}).await?;
            ensure!(status.moves_under_way == 0, "{} moves are under way", status.moves_under_way);
            plan(admin).await
        })
        .await?;
        if plan.moves.is_empty() {
            return Ok(replicas);
        }
        scenario.say(format_args!("plan:\n  {}", plan.lines.join("\n  ")));
        replicas += plan.moves.iter().filter(|order| moves_data(order)).count();
        let start = StartMovesRequest { moves: plan.moves, map_revision: plan.map_revision };
        let started = admin.start_moves(start).await?.moves;
        until("the moves are done", MOVED_WITHIN, async || {
            let moves = admin.list_moves(ListMovesRequest {}).await?.moves;
            for id in &started {
                let status = moves.iter().find(|status| status.id == *id).context("a move is not listed")?;
                ensure!(
                    status.stage() == MoveStage::Done,
                    "{}: {:?} {}",
                    status.line,
                    status.stage(),
                    status.detail
                );
            }
            Ok(())
        })
        .await?;
    }
    anyhow::bail!("the plan never becomes empty")
}

async fn plan(admin: &Admin) -> anyhow::Result<PlanRebalanceResponse> {
    Ok(admin.plan_rebalance(PlanRebalanceRequest {}).await?)
}

fn moves_data(order: &Move) -> bool {
    use proto::v1::r#move::Kind;
    matches!(order.kind, Some(Kind::Replace(_) | Kind::Add(_)))
}

async fn replicas_on(admin: &Admin, name: &str) -> anyhow::Result<u64> {
    let map = admin.map().await?;
    let node = map.nodes.iter().find(|node| node.name == name).context("there is no such node")?;
    let held = map.partitions.iter().filter(|partition| partition.partition != 0);
    let held = held.filter(|partition| partition.replicas.iter().any(|replica| replica.node == node.node));
    Ok(held.count() as u64)
}

fn listing(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
