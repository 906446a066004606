//! Scenario 4. Four machines, four nodes; a machine dies. Writes go on, replicas are rebuilt elsewhere after
//! the delay, and the machine is used again when it returns.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::kubernetes::machines::{self, Verb};
use e2e::kubernetes::witness::Witness;
use e2e::kubernetes::{Stage, pods, samples};
use e2e::until::until_every;
use e2e::witness::report::NodeReport;
use kube::ResourceExt as _;

const WITHIN: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Finding out, voting, and retrying.
const ELECTED_WITHIN_MS: u64 = 5_000;

pub async fn run(stage: &mut Stage) -> anyhow::Result<()> {
    let orders = samples::repairing_after(samples::cluster("orders", 4), "10s");
    let witness = stage.serving(&orders, &samples::table("default", "orders"), WITHIN).await?;
    witness.await_more_writes(300, WITHIN).await?;

    let (lost, machine) = victim(stage, &witness).await?;
    witness.mark().await?;
    ensure!(machines::kill(&machine).await? == Verb::Done, "machines of this cluster cannot be killed");
    stage.say(format_args!(
        "{machine} is dead, and with it {}, which led {} partitions",
        lost.name, lost.leaders
    ));
    await_rebuilt(&witness, &lost).await?;
    let report = witness.mark().await?;
    stage.figure("longest gap of a dead machine", format!("{} ms", report.longest_gap_ms));
    stage.figure("slowest write meanwhile", format!("{} ms", report.slowest_write_ms));
    stage.say("its copies are rebuilt on the others, and its node is removed");

    ensure!(machines::start(&machine).await? == Verb::Done, "{machine} cannot be started");
    stage.kube.await_machine(&machine, true, WITHIN).await?;
    stage.await_settled("orders", WITHIN).await?;
    let cluster = witness.cluster().await?;
    let back = cluster.node(&lost.name).context("it did not come back")?;
    let held = cluster.partitions.iter().filter(|partition| partition.nodes.contains(&back.id)).count();
    ensure!(back.alive && back.state == "SERVING" && held > 0, "it is not used again: {back:?}");
    ensure!(back.id != lost.id, "a removed identity came back");
    stage.say(format_args!("{} is back with {held} copies", lost.name));
    let verdict = witness.end().await?;
    stage.figure("failed requests", verdict.report.failed_requests);
    // The slowest write was to a partition that the dead machine led; others went on all the while.
    let slowest = report.slowest_write_ms;
    ensure!(slowest <= ELECTED_WITHIN_MS, "a write took {slowest} ms when a machine died");
    Ok(())
}

/// The node that is lost, and its machine: one on a machine of its own, and a leader of some partitions.
async fn victim(stage: &Stage, witness: &Witness) -> anyhow::Result<(NodeReport, String)> {
    let quiet = stage.kube.quiet_machine()?.to_owned();
    let pods = stage.pods("orders").await?;
    let mut places = Vec::new();
    for pod in &pods {
        places.push((pod.name_any(), pods::machine(pod)?));
    }
    let alone = |machine: &str| places.iter().filter(|(_, other)| other == machine).count() == 1;
    let cluster = witness.cluster().await?;
    let mut fitting: Vec<(NodeReport, String)> = places
        .iter()
        .filter(|(_, machine)| *machine != quiet && alone(machine))
        .filter_map(|(name, machine)| Some((cluster.node(name)?.clone(), machine.clone())))
        .collect();
    fitting.sort_by_key(|(node, _)| node.leaders);
    let (node, machine) = fitting.pop().with_context(|| format!("the nodes are not spread: {places:?}"))?;
    ensure!(node.leaders > 0, "{} leads nothing", node.name);
    Ok((node, machine))
}

async fn await_rebuilt(witness: &Witness, lost: &NodeReport) -> anyhow::Result<()> {
    until_every("nothing is on the dead machine any more", WITHIN, LOOK_EVERY, async || {
        let cluster = witness.cluster().await?;
        let left = cluster.partitions.iter().filter(|partition| partition.nodes.contains(&lost.id)).count();
        ensure!(
            left == 0 && cluster.under_replicated == 0,
            "{left} are; {} lack copies",
            cluster.under_replicated
        );
        let listed = cluster.nodes.iter().find(|node| node.id == lost.id && node.state != "REMOVED");
        ensure!(listed.is_none(), "its node is {listed:?}");
        Ok(())
    })
    .await
}
