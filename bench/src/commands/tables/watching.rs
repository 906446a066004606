//! What those who follow a table cost those who write to it, and how late they are told.
//!
//! The watchers run in this process, beside the writers: what they take of the machine's cores counts
//! too.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};
use bench::{
    load::{Latencies, Load, Pace},
    report::{Figure, Goal, Unit, figure::Sample},
    target::channel,
};
use bytes::Bytes;
use proto::v1::{
    BeginWatch, CreateTableRequest, HistorySettings, Interest, PutRequest, WatchRequest, WatchResponse,
    history_settings::Keep, interest::Which, kv_client::KvClient, watch_request::Request,
};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tonic::{Streaming, transport::Channel};

use super::{KEY_SIZE, KEYS, PARTITIONS, Rig, workload};

const KEPT: &str = "kept";
const OFF: &str = "off";
const PREFIXES: u64 = 1_000;
/// What a leader may be told late at half load, at the 99th percentile.
const LAG_GOAL: Duration = Duration::from_millis(20);

pub(super) async fn measure(rig: &mut Rig<'_>) -> anyhow::Result<Vec<Figure>> {
    for (name, keep) in [(KEPT, Keep::Default), (OFF, Keep::Off)] {
        let request = CreateTableRequest {
            name: name.to_owned(),
            partitions: PARTITIONS,
            replicas: 3,
            wait: true,
            history: Some(HistorySettings { keep: keep.into(), ..HistorySettings::default() }),
            ..CreateTableRequest::default()
        };
        rig.cluster.create(request).await?;
        rig.put(name).await?;
    }
    let mut history = Figure::new("put, a history is kept", Unit::PerSecond);
    let mut one = Figure::new("put, one watcher", Unit::PerSecond).with_goal(Goal::AtLeast(0.95));
    let name = format!("put, {PREFIXES} watchers of as many prefixes");
    let mut many = Figure::new(name, Unit::PerSecond).with_goal(Goal::AtLeast(0.85));
    let name = format!("event lag at half load, p99 (goal {} ms)", LAG_GOAL.as_millis());
    let mut lag = Figure::new(name, Unit::Milliseconds);
    for round in 0..rig.rounds {
        let plain = match round % 2 {
            0 => {
                history.other.push(put(rig, OFF, None).await?);
                put(rig, KEPT, None).await?
            }
            _ => {
                let plain = put(rig, KEPT, None).await?;
                history.other.push(put(rig, OFF, None).await?);
                plain
            }
        };
        history.trilith.push(plain);
        rig.tell(round, &history);
        one.other.push(plain);
        one.trilith.push(put(rig, KEPT, Some(vec![all()])).await?);
        rig.tell(round, &one);
        many.other.push(plain);
        let prefixes = (0..PREFIXES).map(prefix).collect();
        many.trilith.push(put(rig, KEPT, Some(prefixes)).await?);
        rig.tell(round, &many);
        lag.trilith.push(told_late(rig, plain.value / 2.0).await?);
        rig.tell(round, &lag);
    }
    Ok(vec![history, one, many, lag])
}

fn all() -> Interest {
    Interest::default()
}

/// One of so many that together they are all keys.
fn prefix(number: u64) -> Interest {
    let digits = (KEYS / PREFIXES).ilog10() as usize;
    let width = KEY_SIZE - digits;
    Interest { which: Some(Which::Prefix(Bytes::from(format!("{number:0width$}")))), ..Interest::default() }
}

async fn put(rig: &mut Rig<'_>, table: &str, watched: Option<Vec<Interest>>) -> anyhow::Result<Sample> {
    let (told, mut watchers) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
    let watched = watched.unwrap_or_default();
    let any = !watched.is_empty();
    let nodes = nodes(rig).await?;
    for (node, interest) in nodes.iter().cycle().zip(watched) {
        let mut watch = begin(node, table, interest).await?;
        let told = Arc::clone(&told);
        watchers.spawn(async move {
            while let Some(Ok(response)) = watch.next().await {
                told.fetch_add(response.events.len() as u64, Ordering::Relaxed);
            }
        });
    }
    let measured = rig.put(table).await?;
    if any {
        let told = told.load(Ordering::Relaxed);
        // Those of the warm-up are told too, and the last are still on their way.
        let least = measured.operations / 10 * 9;
        ensure!(told >= least, "watchers were told {told} of {} changes", measured.operations);
        ensure!(watchers.try_join_next().is_none(), "a watch has ended");
    }
    Ok(Sample { value: measured.per_second, latency: Some(measured.corrected) })
}

/// At that many puts per second, the time between a change's clock, which its leader reads before it
/// commits, and the event at a watcher of the first node.
async fn told_late(rig: &mut Rig<'_>, per_second: f64) -> anyhow::Result<Sample> {
    let mut node = nodes(rig).await?.into_iter().next().context("there is no node")?;
    let mut watch = begin(&node, KEPT, all()).await?;
    let follow = tokio::spawn(async move {
        let mut late = Latencies::new()?;
        while let Some(response) = watch.next().await {
            let response: WatchResponse = response?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
            for event in &response.events {
                late.record(now.saturating_sub(Duration::from_millis(event.clock_ms)));
            }
            if response.events.iter().any(|event| event.key == END) {
                break;
            }
        }
        anyhow::Ok(late)
    });
    let load = Load {
        pace: Pace::Open { per_second },
        ..Load::closed(super::CLIENTS, rig.turn, workload()).with_warm_up(Duration::from_millis(500))
    };
    rig.load(KEPT, &load).await?;
    node.put(PutRequest { table: KEPT.into(), key: END.into(), ..PutRequest::default() }).await?;
    let late = follow.await??;
    let summary = late.summary();
    Ok(Sample { value: summary.p99_us as f64 / 1_000.0, latency: Some(summary) })
}

/// No key of the load.
const END: &str = "the end";

/// A connection to each node.
async fn nodes(rig: &Rig<'_>) -> anyhow::Result<Vec<KvClient<Channel>>> {
    let mut nodes = Vec::new();
    for endpoint in rig.cluster.endpoints() {
        nodes.push(KvClient::new(channel::connect(&endpoint).await?));
    }
    Ok(nodes)
}

/// A watch that has begun: its first response has come.
async fn begin(
    node: &KvClient<Channel>,
    table: &str,
    interest: Interest,
) -> anyhow::Result<Streaming<WatchResponse>> {
    let begin = BeginWatch { table: table.to_owned(), interests: vec![interest], ..BeginWatch::default() };
    let request = WatchRequest { request: Some(Request::Begin(begin)) };
    let asked = tokio_stream::once(request).chain(tokio_stream::pending());
    let mut watch = node.clone().watch(asked).await?.into_inner();
    watch.next().await.context("the watch has ended")??;
    Ok(watch)
}
