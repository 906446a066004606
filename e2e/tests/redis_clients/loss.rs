//! A node is killed while clients write: they find their way, and nothing is lost that was
//! acknowledged.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::redis::{Connection, Reply};
use e2e::{Cluster, Scenario, Shape};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::doors::Doors;
use crate::scripts::Language;

/// Long enough for a client that looks for the cluster's shape again, and far less than
/// anybody would wait.
const GOES_ON_WITHIN: Duration = Duration::from_secs(60);
/// So many writes after the kill show that a client is back.
const GOES_ON: u64 = 200;
/// Keys of many slots, so that each node leads some of them.
const BEFORE_THE_KILL: u64 = 200;

#[tokio::test(flavor = "multi_thread")]
async fn clients_survive_the_loss_of_a_node() -> anyhow::Result<()> {
    let scenario = Scenario::begin("clients lose a node").await?;
    let mut cluster = Cluster::form(Shape::default()).await?;
    let doors = Doors::of(&cluster, "none".into())?;
    // The plain clients know one node, which lives; those of a cluster know all three.
    let (python, java) = (Language::python().await?, Language::java().await?);
    let plain: Vec<_> = doors.forwarding.iter().take(1).map(ToString::to_string).collect();
    let all: Vec<_> = doors.redirecting.iter().map(ToString::to_string).collect();
    let mut writers = vec![
        Writer::script("redis-py", &python, "plain", &plain)?,
        Writer::script("redis-py, RedisCluster", &python, "cluster", &all)?,
        Writer::script("Jedis", &java, "plain", &plain)?,
        Writer::script("JedisCluster", &java, "cluster", &all)?,
    ];
    let (stop, stopped) = oneshot::channel();
    let of_crate = tokio::spawn(crate_survives(doors, "survive-crate".to_owned(), stopped));
    for writer in &mut writers {
        writer.await_writes(BEFORE_THE_KILL).await?;
    }
    let partition = *cluster.partitions("default").await?.first().context("there is no partition")?;
    let leader = cluster.leader_of(partition).await?;
    // The first node is the one that the plain clients know.
    let killed = if leader == 0 { 1 } else { leader };
    cluster.kill9(killed)?;
    scenario.say(format_args!("node {killed} is killed"));
    for writer in &mut writers {
        let wanted = writer.writes + GOES_ON;
        writer.await_writes(wanted).await?;
        scenario.say(format_args!("{} goes on", writer.name));
    }
    for writer in writers {
        let name = writer.name;
        let said = writer.end().await?;
        scenario.say(format_args!("{name}: {}", said.trim_end()));
    }
    // Where it has ended by itself, it tells why.
    let _ = stop.send(());
    let said = of_crate.await.context("the crate's client failed")??;
    ensure!(!said.starts_with("0 "), "the crate redis has written nothing");
    scenario.say(format_args!("the crate redis: {said}"));
    cluster.start(killed).await?;
    cluster.await_healthy().await?;
    let mut connection = Connection::open(cluster.redis_address(killed)?).await?;
    let first = connection.ask(&["GET", "survive-plain-0"]).await?;
    ensure!(first == Reply::Bulk(Some(b"1".to_vec())), "the killed node is back, and answers {first}");
    cluster.finish()
}

/// The crate redis in a cluster, until it is told to stop.
async fn crate_survives(
    doors: Doors,
    name: String,
    mut stop: oneshot::Receiver<()>,
) -> anyhow::Result<String> {
    use redis::AsyncCommands as _;
    let nodes = doors.redirecting.iter().map(|node| format!("redis://{node}/"));
    let client = redis::cluster::ClusterClient::new(nodes.collect::<Vec<_>>())?;
    let mut connection = client.get_async_connection().await?;
    let (mut acknowledged, mut errors, mut since) = (Vec::new(), 0, None);
    let mut number = 0_u64;
    while stop.try_recv().is_err() {
        number += 1;
        let key = format!("{name}-{number}");
        match connection.set::<_, _, ()>(&key, number).await {
            Ok(()) => {
                acknowledged.push((key, number));
                since = None;
            }
            Err(error) => {
                errors += 1;
                let began = *since.get_or_insert_with(tokio::time::Instant::now);
                ensure!(began.elapsed() < GOES_ON_WITHIN, "no write since the node was killed: {error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    for (key, value) in &acknowledged {
        let found: Option<u64> = connection.get(key).await?;
        ensure!(found == Some(*value), "{key} was acknowledged with {value}, and holds {found:?}");
    }
    Ok(format!("{} acknowledged and there, {errors} errors", acknowledged.len()))
}

/// A program that writes until its input ends.
struct Writer {
    name: &'static str,
    child: Child,
    input: ChildStdin,
    lines: tokio::io::Lines<BufReader<ChildStdout>>,
    complaints: JoinHandle<String>,
    writes: u64,
}

impl Writer {
    fn script(
        name: &'static str,
        language: &Language,
        kind: &str,
        addresses: &[String],
    ) -> anyhow::Result<Self> {
        let mut child = Command::new(&language.program)
            .args(&language.arguments)
            .arg(kind)
            .args(addresses)
            .arg("--survive")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", language.program))?;
        let input = child.stdin.take().context("no input")?;
        let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let mut errors = child.stderr.take().context("no standard error")?;
        let complaints = tokio::spawn(async move {
            let mut said = String::new();
            // What cannot be read is not shown.
            let _ = errors.read_to_string(&mut said).await;
            said
        });
        Ok(Self { name, child, input, lines, complaints, writes: 0 })
    }

    /// Waits until that many are acknowledged.
    async fn await_writes(&mut self, wanted: u64) -> anyhow::Result<()> {
        let Self { lines, writes, .. } = self;
        let told = async {
            while *writes < wanted {
                let line = lines.next_line().await?.context("it ended by itself")?;
                let number = line.strip_prefix("acknowledged ").and_then(|number| number.parse().ok());
                *writes = number.with_context(|| format!("it says {line:?}"))?;
            }
            anyhow::Ok(())
        };
        let told = timeout(GOES_ON_WITHIN, told).await.context("it does not go on").and_then(|told| told);
        if let Err(error) = told {
            self.child.kill().await?;
            let said = (&mut self.complaints).await.unwrap_or_default();
            return Err(error.context(format!("{} after {} writes: {said}", self.name, self.writes)));
        }
        Ok(())
    }

    /// Ends its writing, and gives what it found when it looked at all of it again.
    async fn end(mut self) -> anyhow::Result<String> {
        drop(self.input);
        let mut last = String::new();
        let read = async {
            while let Some(line) = self.lines.next_line().await? {
                if !line.starts_with("acknowledged ") && line != "done" {
                    last = line;
                }
            }
            self.child.wait().await
        };
        let status =
            timeout(GOES_ON_WITHIN, read).await.with_context(|| format!("{} hangs", self.name))??;
        let said = self.complaints.await.unwrap_or_default();
        ensure!(status.success(), "{} ended with {status}: {said}", self.name);
        Ok(last)
    }
}
