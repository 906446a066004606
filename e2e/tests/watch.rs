//! Watches beside a model: writers, kills and a drain on one side, and watches of every kind on the
//! other. No change is missed, none comes twice, those of a key come in their order, and what they
//! lead to is what a scan finds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::ensure;
use client::Keys;
use e2e::followers::{Follower, Kind, Told, contents, write};
use e2e::{Cluster, Scenario, Shape, until};
use parking_lot::Mutex;
use proto::v1::{CreateTableRequest, HistorySettings, NodeRequest, history_settings::Keep};
use tokio::task::JoinSet;

const TABLE: &str = "followed";
const WRITERS: u64 = 4;
const ROUNDS: usize = 4;
const WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn no_change_is_missed_or_told_twice() -> anyhow::Result<()> {
    let scenario = Scenario::begin("watch").await?;
    // Four nodes and three replicas: some partitions have none where the watch is.
    let mut cluster = Cluster::form(Shape { nodes: 4, partitions: 0, ..Shape::default() }).await?;
    let history = HistorySettings { keep: Keep::Default.into(), before: true, ..HistorySettings::default() };
    let request = CreateTableRequest {
        name: TABLE.to_owned(),
        partitions: 6,
        replicas: 3,
        wait: true,
        history: Some(history),
        ..CreateTableRequest::default()
    };
    cluster.client()?.admin().create_table(request).await?;
    let table = cluster.client()?.table(TABLE).with_deadline(WITHIN);

    let told = Arc::new(Mutex::new(Told::default()));
    let stop = Arc::new(AtomicBool::new(false));
    let mut followers = Vec::new();
    for (name, keys, kind) in [
        ("all", Keys::All, Kind::Steady),
        ("one writer's", Keys::Prefix("w1-".into()), Kind::Steady),
        ("a range", Keys::Range("w1-".into(), "w3-".into()), Kind::Steady),
        ("all, by tokens", Keys::All, Kind::ByTokens),
        ("all, slowly", Keys::All, Kind::Slow),
    ] {
        followers.push(
            Follower::begin(name, &table, keys, kind, &stop, scenario.random(followers.len() as u64)).await?,
        );
    }
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (told, stop) = (Arc::clone(&told), Arc::clone(&stop));
        let random = scenario.random(100 + writer);
        writers.spawn(write(writer, table.clone(), told, stop, random));
    }
    for round in 0..ROUNDS {
        let before = told.lock().puts.len();
        until("writes go on", WITHIN, async || {
            ensure!(told.lock().puts.len() > before + 300, "{} writes", told.lock().puts.len() - before);
            Ok(())
        })
        .await?;
        // Somebody who comes late has all items first.
        let random = scenario.random(200 + round as u64);
        followers.push(Follower::begin("late", &table, Keys::All, Kind::WithItems, &stop, random).await?);
        let node = round % cluster.size();
        cluster.kill9(node)?;
        let killed = told.lock().puts.len();
        until("writes go on without a node", WITHIN, async || {
            ensure!(told.lock().puts.len() > killed + 100, "{} writes", told.lock().puts.len() - killed);
            Ok(())
        })
        .await?;
        cluster.start(node).await?;
        until("the killed node has caught up", WITHIN, async || cluster.ready(node).await).await?;
        scenario.say(format_args!("round {round}: node {node} was killed and came back"));
    }
    // What watches read from goes elsewhere under them.
    cluster.drain("node-1", 2 * WITHIN).await?;
    cluster.client()?.admin().undrain_node(NodeRequest { node: "node-1".to_owned() }).await?;
    scenario.say("a node was drained under the watches, and is used again");
    stop.store(true, Ordering::Release);
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    let puts = told.lock().puts.len();
    let followed: u64 = followers.iter().map(|follower| follower.events.load(Ordering::Acquire)).sum();
    scenario.say(format_args!(
        "{puts} puts and {} deletes were acknowledged; {} followers were told {followed} changes so far",
        told.lock().deletes,
        followers.len()
    ));
    // What had an end has ended by then.
    until("what is followed is what is there", WITHIN, async || {
        let there = contents(&table).await?;
        ensure!(there.keys().all(|key| !key.contains("-brief-")), "some have yet to end");
        for follower in &followers {
            follower.agrees(&there)?;
        }
        Ok(())
    })
    .await?;
    let told = std::mem::take(&mut *told.lock());
    for follower in followers {
        follower.end(&told).await?;
    }
    cluster.finish()
}
