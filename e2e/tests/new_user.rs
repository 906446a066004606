//! What the README tells a new user to type, typed.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::commands::trilith;
use e2e::{Scenario, network, programs, until};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const NODES: u16 = 3;
const READY_WITHIN: Duration = Duration::from_secs(60);
const ENDED_WITHIN: Duration = Duration::from_secs(30);
const HEALTHY_WITHIN: Duration = Duration::from_secs(10);
const BACK_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_works() -> anyhow::Result<()> {
    let scenario = Scenario::begin("new user").await?;
    let folder = tempfile::tempdir()?;
    let offset = free_offset()?;
    let endpoints: Vec<_> =
        (0..NODES).map(|node| format!("127.0.0.1:{}", 7400 + offset + 10 * node)).collect();
    let endpoints = endpoints.join(",");

    let (dev, printed) = start_dev(folder.path(), offset).await?;
    scenario.say(format_args!("`trilith dev` is ready:\n{printed}"));
    ensure!(printed.contains("node-3"), "it does not list its nodes:\n{printed}");
    use_it(&endpoints).await?;
    scenario.say("put, get, scan, batch, conditions, time to live, tables and status work");

    come_back_from_a_kill(&scenario, folder.path(), &endpoints).await?;
    let again = std::process::Command::new(programs::find("trilith")?)
        .args(["dev", "--port-offset", &offset.to_string(), "--data"])
        .arg(folder.path())
        .output()?;
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    ensure!(!again.status.success() && said.contains("another `trilith dev`"), "a second one: {said}");

    interrupt(dev).await?;
    ensure!(
        (1..=NODES).all(|node| !folder.path().join(format!("node-{node}/pid")).exists()),
        "nodes are left after Ctrl-C"
    );
    let gone = trilith(&endpoints, &["get", "a", "--timeout", "2s"]).await?;
    gone.refused(1, "is a cluster running?")?;
    scenario.say("Ctrl-C stopped it");

    let (dev, _) = start_dev(folder.path(), offset).await?;
    let found = trilith(&endpoints, &["get", "a"]).await?.output()?;
    ensure!(found == "2\n", "after a restart a is {found:?}");
    let tables = trilith(&endpoints, &["table", "list"]).await?.output()?;
    ensure!(tables.contains("orders"), "the table is gone: {tables}");
    scenario.say("started again, it found its data");
    interrupt(dev).await
}

/// The commands of the README, in its order, and some more.
async fn use_it(endpoints: &str) -> anyhow::Result<()> {
    let run = async |line: &str| trilith(endpoints, &line.split(' ').collect::<Vec<_>>()).await;
    let prints = async |line: &str, wanted: &str| {
        let out = run(line).await?.output()?;
        ensure!(out == wanted, "`trilith {line}` prints {out:?}, not {wanted:?}");
        anyhow::Ok(())
    };
    run("put a 1").await?.output()?;
    prints("get a", "1\n").await?;
    run("put greeting hello --ttl 3s").await?.output()?;
    prints("get greeting", "hello\n").await?;

    let item = run("get a -o json").await?.output()?;
    let item: serde_json::Value = serde_json::from_str(&item)?;
    let version = item.get("version").and_then(serde_json::Value::as_u64).context("no version")?;
    run(&format!("put a 2 --if-version {version}")).await?.ended_with(0)?;
    run(&format!("put a 3 --if-version {version}")).await?.ended_with(3)?;
    run("put a 3 --if-absent").await?.ended_with(3)?;
    prints("get a", "2\n").await?;
    run("get nobody").await?.ended_with(3)?;

    for key in ["b", "apple", "avocado"] {
        run(&format!("put {key} x")).await?.output()?;
    }
    prints("scan --prefix a --keys-only", "a\napple\navocado\n").await?;
    run("delete b").await?.ended_with(0)?;
    run("exists b").await?.ended_with(3)?;

    run("table create orders --partitions 4").await?.output()?;
    run("-t orders put o1 paid").await?.output()?;
    prints("get o1 -t orders", "paid\n").await?;
    run("get o1").await?.ended_with(3)?;

    // The new table's followers are heard of within a second.
    until("the status says that all is well", HEALTHY_WITHIN, async || {
        let status = run("cluster status").await?.output()?;
        ensure!(status.contains("all healthy") && status.contains("node-3"), "{status}");
        Ok(())
    })
    .await?;
    run("--help").await?.ended_with(0)?;
    until("the greeting is gone ten seconds later, or sooner", Duration::from_secs(10), async || {
        run("get greeting").await?.ended_with(3)
    })
    .await
}

/// `kill -9` of a node: it goes on without, and the node comes back.
async fn come_back_from_a_kill(scenario: &Scenario, folder: &Path, endpoints: &str) -> anyhow::Result<()> {
    let pid = || {
        let text = std::fs::read_to_string(folder.join("node-2/pid"))?;
        text.trim().parse::<i32>().ok().and_then(Pid::from_raw).context("node-2/pid is no number")
    };
    let killed = pid()?;
    kill_process(killed, Signal::KILL)?;
    trilith(endpoints, &["put", "while-away", "1"]).await?.output()?;
    until("node-2 runs again", BACK_WITHIN, async || {
        ensure!(pid()? != killed, "it has the same process");
        Ok(())
    })
    .await?;
    until("node-2 is back", BACK_WITHIN, async || {
        let status = trilith(endpoints, &["cluster", "status", "-o", "json"]).await?.output()?;
        let status: serde_json::Value = serde_json::from_str(&status)?;
        let nodes = status.get("nodes").and_then(serde_json::Value::as_array).context("no nodes")?;
        let alive = nodes.iter().filter(|node| node.get("alive") == Some(&true.into())).count();
        ensure!(alive == usize::from(NODES), "{alive} are alive");
        Ok(())
    })
    .await?;
    scenario.say("a node was killed: writes went on, and `trilith dev` started it again");
    Ok(())
}

/// Starts `trilith dev`; returns it when it has printed `ready`, with what it printed before.
async fn start_dev(folder: &Path, offset: u16) -> anyhow::Result<(Child, String)> {
    let mut dev = Command::new(programs::find("trilith")?)
        .args(["dev", "--nodes", &NODES.to_string(), "--port-offset", &offset.to_string(), "--data"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(dev.stdout.take().context("no output")?).lines();
    let mut printed = String::new();
    let ready = async {
        while let Some(line) = lines.next_line().await? {
            if line == "ready" {
                return Ok(());
            }
            printed += &line;
            printed.push('\n');
        }
        anyhow::bail!("it ended before it was ready")
    };
    tokio::time::timeout(READY_WITHIN, ready).await.context("`trilith dev` is never ready")??;
    Ok((dev, printed))
}

/// Ctrl-C, and the end of everything.
async fn interrupt(mut dev: Child) -> anyhow::Result<()> {
    let pid = dev.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    kill_process(pid.context("`trilith dev` has ended by itself")?, Signal::INT)?;
    let status = tokio::time::timeout(ENDED_WITHIN, dev.wait()).await.context("Ctrl-C does not end it")??;
    ensure!(status.success(), "after Ctrl-C it ends with {status}");
    Ok(())
}

/// An offset at which all ports of the cluster are free.
fn free_offset() -> anyhow::Result<u16> {
    for _ in 0..100 {
        let base = network::free_port()?;
        let offset = base - 7400;
        let ports = (0..NODES).flat_map(|node| (0..3).map(move |door| base + 10 * node + door));
        if ports.skip(1).all(|port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return Ok(offset);
        }
    }
    anyhow::bail!("there are no {NODES} times three free ports")
}
