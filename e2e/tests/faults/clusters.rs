//! Clusters that are mixed up.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use client::{Client, Options, PutOptions};
use e2e::{Cluster, Scenario, Shape};
use proto::v1::{InitRequest, JoinRequest};
use tonic::Code;

use crate::refusal::refused;

#[tokio::test(flavor = "multi_thread")]
async fn clusters_are_not_mixed_up() -> anyhow::Result<()> {
    let scenario = Scenario::begin("mixed-up clusters").await?;
    let mut ours = Cluster::form(Shape::default()).await?;
    let mut theirs = Cluster::form(Shape { nodes: 1, ..Shape::default() }).await?;
    theirs.client()?.table("default").put("theirs", "1", PutOptions::default()).await?;

    let cluster = ours.status_of(0).await?.cluster;
    let again = async |request| ours.admin_at(0)?.init(request).await.map_err(anyhow::Error::from);
    let same = again(InitRequest { cluster: cluster.clone() }).await?.into_inner();
    ensure!(same.already && same.cluster == cluster, "the same init again is not the same: {same:?}");
    let mut door = ours.admin_at(0)?;
    let what = "a second init";
    refused(what, door.init(InitRequest::default()), Code::AlreadyExists, "a cluster is created once")
        .await?;
    let alone = ours.add_process(None, &[]).await?;
    let mut door = ours.admin_at(alone)?;
    let id = InitRequest { cluster: "short".into() };
    refused("an id of five bytes", door.init(id), Code::InvalidArgument, "16 bytes").await?;
    scenario.say("a cluster is created once");

    let join = |address: &str| JoinRequest { address: address.to_owned() };
    refused("joining no address", door.join(join("")), Code::InvalidArgument, "whom to join?").await?;
    let nobody = door.join(join("127.0.0.1:1"));
    refused("joining nobody", nobody, Code::Unavailable, "no node answers at 127.0.0.1:1").await?;
    refused("joining nonsense", door.join(join("not an address")), Code::Unavailable, "not an address")
        .await?;
    let itself = join(&ours.endpoint(alone)?);
    refused("joining itself", door.join(itself), Code::FailedPrecondition, "belongs to no cluster yet")
        .await?;
    ensure!(ours.status_of(alone).await?.cluster.is_empty(), "it joined nevertheless");
    scenario.say("joining nobody says who does not answer");

    let what = "joining a second cluster";
    let second = join(&theirs.endpoint(0)?);
    refused(what, ours.admin_at(1)?.join(second), Code::FailedPrecondition, "belongs to cluster").await?;

    // Their node, at the place of one of ours: each keeps to its own.
    ours.stop(alone).await?;
    theirs.stop(0).await?;
    ours.stop(2).await?;
    theirs.take_place_of(0, &ours, 2)?;
    theirs.start(0).await?;
    ours.await_health(2).await.context("with a stranger at the place of node 2")?;
    theirs.await_healthy().await.context("at the place of another cluster's node")?;
    let deadline = Duration::from_secs(10);
    let ask = async |cluster: &Cluster, node: usize| {
        let client = Client::connect_lazy(vec![cluster.endpoint(node)?], Options::default())?;
        anyhow::Ok(client.table("default").with_deadline(deadline))
    };
    let (our_table, their_table) = (ask(&ours, 0).await?, ask(&theirs, 0).await?);
    for key in 0..20 {
        our_table.put(format!("ours-{key}"), "1", PutOptions::default()).await?;
    }
    ensure!(our_table.get("theirs").await?.is_none(), "a key of the other cluster was read");
    ensure!(their_table.get("theirs").await?.is_some(), "the stranger lost its own key");
    for key in 0..20 {
        ensure!(
            their_table.get(format!("ours-{key}")).await?.is_none(),
            "the stranger took key {key} of ours"
        );
    }
    let status = theirs.status_of(0).await?;
    ensure!(status.cluster != cluster && status.nodes.len() == 1, "the stranger was drawn in: {status:?}");
    theirs.stop(0).await?;
    ours.start(2).await?;
    ours.await_health(3).await?;
    scenario.say("a node of another cluster at the same address is not taken for one of ours");
    theirs.finish()?;
    ours.finish()
}
