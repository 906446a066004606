//! A read that begins after a write was acknowledged shows it, whatever becomes of the leader:
//! restarted inside its old lease, stopped for longer than that, or cut off from the others.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use client::{PutOptions, Table};
use e2e::network::Network;
use e2e::{Cluster, Scenario, Shape, until};
use proto::v1::GetRequest;
use proto::v1::kv_client::KvClient;
use tokio::task::JoinSet;
use tonic::transport::Channel;

const TABLE: &str = "one";
const KEY: &str = "counter";
/// How long writes may stand still while a leader is replaced.
const WRITES_WITHIN: Duration = Duration::from_secs(15);
/// What a read may wait for its answer; one that fails is not stale.
const READ_WITHIN: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_restarts_inside_its_lease_serves_nothing_old() -> anyhow::Result<()> {
    let scenario = Scenario::begin("restarted leader").await?;
    let (mut cluster, partition) = cluster_of(Network::Loopback).await?;
    let counter = Counter::begin(&cluster).await?;
    for round in 0..4 {
        let leader = cluster.leader_of(partition).await?;
        cluster.kill9(leader)?;
        cluster.start(leader).await?;
        let next = counter.await_writes(10).await?;
        scenario.say(format_args!("round {round}: leader {leader} was killed and restarted; at {next}"));
    }
    // The followers forget what they promised to a leader that lives on.
    let leader = cluster.leader_of(partition).await?;
    for follower in (0..cluster.size()).filter(|node| *node != leader) {
        cluster.kill9(follower)?;
    }
    for follower in (0..cluster.size()).filter(|node| *node != leader) {
        cluster.start(follower).await?;
    }
    let next = counter.await_writes(10).await?;
    scenario.say(format_args!("both followers of {leader} were killed and restarted; at {next}"));
    counter.end(&scenario).await?;
    cluster.finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_slept_through_its_lease_serves_nothing_old() -> anyhow::Result<()> {
    let scenario = Scenario::begin("paused leader").await?;
    let (mut cluster, partition) = cluster_of(Network::Loopback).await?;
    let counter = Counter::begin(&cluster).await?;
    for round in 0..3 {
        let leader = cluster.leader_of(partition).await?;
        let door = Door::open(&cluster, leader).await?;
        counter.await_writes(10).await?;
        cluster.pause(leader)?;
        let others = cluster.leader_of(partition).await?;
        counter.await_writes(20).await?;
        // These lie in its sockets when it wakes, and it meets them before anything tells it
        // that it leads no more.
        let reads = door.read_many(&counter.value, 200);
        // The requests are written by then: one round trip of another connection later.
        until("another node is heard", READ_WITHIN, async || cluster.answers(others).await).await?;
        cluster.resume(leader)?;
        let (answers, refusals) = judge(reads).await?;
        scenario.say(format_args!(
            "round {round}: leader {leader} slept while {others} took over; {answers} reads it answered right, \
             {refusals} it refused"
        ));
        cluster.await_healthy().await?;
    }
    counter.end(&scenario).await?;
    cluster.finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_serves_nothing_old() -> anyhow::Result<()> {
    let scenario = Scenario::begin("cut-off leader").await?;
    let network = match Network::namespaces() {
        Ok(network) => network,
        Err(error) => {
            scenario.say(format_args!("skipped: network namespaces are not permitted here: {error:#}"));
            return Ok(());
        }
    };
    let (cluster, partition) = cluster_of(network).await?;
    let counter = Counter::begin(&cluster).await?;
    for round in 0..2 {
        let leader = cluster.leader_of(partition).await?;
        let door = Door::open(&cluster, leader).await?;
        counter.await_writes(10).await?;
        cluster.cut(leader)?;
        // Read all the while: on its lease, after it, and when others lead.
        let reading = AtomicBool::new(true);
        let reads = async {
            let mut sums = (0, 0);
            while reading.load(Ordering::Acquire) {
                let (answers, refusals) = judge(door.read_many(&counter.value, 20)).await?;
                sums = (sums.0 + answers, sums.1 + refusals);
            }
            anyhow::Ok(sums)
        };
        let writes = async {
            let moved = until("another node leads", WRITES_WITHIN, async || {
                let next = cluster.leader_of(partition).await?;
                ensure!(next != leader, "{leader} still thinks that it leads");
                Ok(next)
            });
            let moved = moved.await;
            let written = counter.await_writes(20).await;
            reading.store(false, Ordering::Release);
            written.and(moved)
        };
        let (sums, next) = tokio::join!(reads, writes);
        let ((answers, refusals), next) = (sums?, next?);
        cluster.heal(leader)?;
        scenario.say(format_args!(
            "round {round}: leader {leader} was cut off and {next} took over; {answers} reads it answered right, \
             {refusals} it refused"
        ));
        cluster.await_healthy().await?;
    }
    counter.end(&scenario).await?;
    cluster.finish()
}

async fn cluster_of(network: Network) -> anyhow::Result<(Cluster, u64)> {
    let cluster = Cluster::form(Shape { partitions: 0, network, ..Shape::default() }).await?;
    cluster.create_table(TABLE, 1).await?;
    let partition = *cluster.partitions(TABLE).await?.first().context("the table has no partition")?;
    Ok((cluster, partition))
}

/// One writer that counts up, and readers at the door of every node that check that they
/// never see less than what was acknowledged before they asked.
struct Counter {
    /// The last value that was acknowledged.
    value: Arc<AtomicU64>,
    /// Why the last write that failed was not acknowledged.
    trouble: Arc<Mutex<Option<String>>>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<anyhow::Result<u64>>,
}

impl Counter {
    async fn begin(cluster: &Cluster) -> anyhow::Result<Self> {
        let (value, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let trouble = Arc::default();
        let mut tasks = JoinSet::new();
        let table = cluster.client()?.table(TABLE).with_deadline(Duration::from_secs(4));
        tasks.spawn(count(table, Arc::clone(&value), Arc::clone(&trouble), Arc::clone(&stop)));
        for node in 0..cluster.size() {
            for _ in 0..2 {
                let (door, value, stop) = (cluster.kv_at(node)?, Arc::clone(&value), Arc::clone(&stop));
                tasks.spawn(async move {
                    let mut answers = 0;
                    while !stop.load(Ordering::Acquire) {
                        let floor = value.load(Ordering::Acquire);
                        match read(door.clone(), floor).await? {
                            true => answers += 1,
                            // The node may be down; it is not asked in a tight loop.
                            false => tokio::time::sleep(Duration::from_millis(5)).await,
                        }
                    }
                    Ok(answers)
                });
            }
        }
        let counter = Self { value, trouble, stop, tasks };
        counter.await_writes(1).await?;
        Ok(counter)
    }

    /// Waits until that many more writes were acknowledged; gives the last.
    async fn await_writes(&self, more: u64) -> anyhow::Result<u64> {
        let goal = self.value.load(Ordering::Acquire) + more;
        until("writes are acknowledged", WRITES_WITHIN, async || {
            let value = self.value.load(Ordering::Acquire);
            let trouble = || self.trouble.lock().ok().and_then(|trouble| trouble.clone()).unwrap_or_default();
            ensure!(value >= goal, "{value} of {goal}; the last trouble: {}", trouble());
            Ok(value)
        })
        .await
    }

    async fn end(mut self, scenario: &Scenario) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Release);
        let mut done = 0;
        while let Some(task) = self.tasks.join_next().await {
            done += task.context("a task failed")??;
        }
        let value = self.value.load(Ordering::Acquire);
        scenario.say(format_args!("counted to {value}; {done} writes and reads, no read was stale"));
        ensure!(done > value, "nobody read");
        Ok(())
    }
}

async fn count(
    table: Table,
    value: Arc<AtomicU64>,
    trouble: Arc<Mutex<Option<String>>>,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<u64> {
    let mut next = 1_u64;
    while !stop.load(Ordering::Acquire) {
        // A write in doubt is simply followed by the next one: values only grow.
        match table.put(KEY, next.to_string(), PutOptions::default()).await {
            Ok(_) => value.store(next, Ordering::Release),
            Err(error) => {
                if let Ok(mut trouble) = trouble.lock() {
                    *trouble = Some(format!("put {next}: {error}"));
                }
            }
        }
        next += 1;
    }
    Ok(next - 1)
}

/// Whether a read was answered. An answer below the floor, which was acknowledged before the
/// read was sent, is an error.
async fn read(mut door: KvClient<Channel>, floor: u64) -> anyhow::Result<bool> {
    let mut request =
        tonic::Request::new(GetRequest { table: TABLE.to_owned(), key: KEY.into(), ..GetRequest::default() });
    request.set_timeout(READ_WITHIN);
    let Ok(Ok(answer)) = tokio::time::timeout(READ_WITHIN * 2, door.get(request)).await else {
        return Ok(false);
    };
    let item = answer.into_inner().item;
    let seen = match &item {
        Some(item) => std::str::from_utf8(&item.value)?.parse()?,
        None => 0,
    };
    if seen < floor {
        bail!("a read that began after {floor} was acknowledged saw {seen}");
    }
    Ok(true)
}

/// A connection to one node that is open before anything happens to it.
struct Door(KvClient<Channel>);

impl Door {
    async fn open(cluster: &Cluster, node: usize) -> anyhow::Result<Self> {
        let door = cluster.kv_at(node)?;
        ensure!(read(door.clone(), 0).await?, "node {node} leads and does not answer");
        Ok(Self(door))
    }

    /// Begins so many reads, none of which may see less than what is acknowledged by now.
    fn read_many(&self, value: &AtomicU64, reads: usize) -> JoinSet<anyhow::Result<bool>> {
        let floor = value.load(Ordering::Acquire);
        (0..reads).map(|_| read(self.0.clone(), floor)).collect()
    }
}

/// How many reads were answered, and how many not.
async fn judge(mut reads: JoinSet<anyhow::Result<bool>>) -> anyhow::Result<(usize, usize)> {
    let (mut answers, mut refusals) = (0, 0);
    while let Some(read) = reads.join_next().await {
        if read.context("a read failed")?? { answers += 1 } else { refusals += 1 }
    }
    Ok((answers, refusals))
}
