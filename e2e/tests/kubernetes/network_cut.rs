//! Scenario 6. A machine is cut from the network while its node leads. Nobody there gets to see anything
//! stale, no write is lost, and when it is joined again it follows.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::kubernetes::machines::{self, Verb};
use e2e::kubernetes::witness::Witness;
use e2e::kubernetes::{Stage, pods, samples};
use e2e::until::until_every;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

const WITHIN: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(300);

pub async fn run(stage: &mut Stage) -> anyhow::Result<()> {
    // Nothing is to be repaired here: the machine comes back.
    let orders = samples::repairing_after(samples::cluster("orders", 3), "10m");
    let mut table = samples::table("default", "orders");
    // One partition, so that the node that is cut off leads all of it.
    table.spec.partitions = 1;
    let witness = stage.serving(&orders, &table, WITHIN).await?;

    distant_leader(stage, &witness).await?;
    stage.await_settled("orders", WITHIN).await?;
    // Whoever leads now, after all has settled.
    let leader = distant_leader(stage, &witness).await?;
    let (name, machine) = (leader.name_any(), pods::machine(&leader)?);
    let lonely = stage.lonely_reader(&machine, &pods::address(&leader)?, "default").await?;
    until_every("the lonely reader reads", WITHIN, LOOK_EVERY, async || {
        ensure!(lonely.sights().await?.sights.len() > 50, "it does not yet");
        Ok(())
    })
    .await?;
    let refused = lonely.sights().await?.refused;

    witness.mark().await?;
    ensure!(machines::cut(&machine).await? == Verb::Done, "machines of this cluster cannot be cut");
    stage.say(format_args!("{machine} is cut off, and {name} with it, which leads"));
    // There is one partition, so these are written where another node was elected.
    witness.await_more_writes(500, WITHIN).await?;
    let report = witness.mark().await?;
    stage.figure("longest gap of a cut leader", format!("{} ms", report.longest_gap_ms));
    ensure!(machines::join(&machine).await? == Verb::Done, "{machine} cannot be joined again");
    stage.kube.await_machine(&machine, true, WITHIN).await?;
    stage.await_settled("orders", WITHIN).await?;
    until_every("the node that was cut off follows", WITHIN, LOOK_EVERY, async || {
        let cluster = witness.cluster().await?;
        let back = cluster.node(&name).context("it is gone")?;
        ensure!(
            back.alive && back.state == "SERVING" && cluster.under_replicated == 0,
            "it does not: {back:?}"
        );
        Ok(())
    })
    .await?;

    let seen = lonely.sights().await?;
    // Its node is asked all the while, and can know nothing once its lease has run out.
    ensure!(seen.refused > refused, "the node that was cut off went on answering");
    let (stale, all) = (witness.stale(&seen.sights).await?, seen.sights.len());
    ensure!(stale.is_empty(), "{} of {all} reads were stale: {:?}", stale.len(), stale.first());
    stage.figure("reads on the cut machine, none stale", all);
    stage.figure("reads refused there", seen.refused);
    let verdict = witness.end().await?;
    stage.figure("failed requests", verdict.report.failed_requests);
    Ok(())
}

/// The pod that leads. It has to be on another machine than the witness, and is made to be.
async fn distant_leader(stage: &Stage, witness: &Witness) -> anyhow::Result<Pod> {
    let quiet = stage.kube.quiet_machine()?;
    until_every("a node on another machine leads", WITHIN, LOOK_EVERY, async || {
        let cluster = witness.cluster().await?;
        let id = cluster.partitions.first().and_then(|partition| partition.leader.as_ref());
        let leader = cluster.nodes.iter().find(|node| Some(&node.id) == id).context("nobody leads")?;
        let pod = stage.pod(&leader.name).await?;
        if pods::machine(&pod)? == quiet {
            // Its leaders go elsewhere when it ends.
            pods::delete(&stage.kube.client, &stage.namespace, &leader.name).await?;
            anyhow::bail!("{} leads, on the machine of the witness", leader.name);
        }
        Ok(pod)
    })
    .await
}
