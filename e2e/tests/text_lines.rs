//! The text door as people use it: with netcat.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::programs::run_to_end;
use e2e::{Cluster, Scenario, Shape, until};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

const WITHIN: Duration = Duration::from_secs(40);
const IDLE: usize = 1000;
/// Writes of the client that goes on while a node is killed.
const WRITES: usize = 600;
/// What a node may grow by, whatever its clients do. It may hold 64 MiB for them here, and has
/// values in hand meanwhile that are on their way from disk or into a socket.
const GROWTH: u64 = 192 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn netcat_is_a_client() -> anyhow::Result<()> {
    let scenario = Scenario::begin("text lines").await?;
    let arguments = ["--max-connection-bytes", "64MiB"].map(str::to_owned).to_vec();
    let mut cluster = Cluster::form(Shape { arguments, ..Shape::default() }).await?;

    speak(cluster.text_address(0)?, cluster.text_address(1)?).await?;
    scenario.say("every command, pipelined, with escapes, at two nodes");
    be_clumsy(cluster.text_address(1)?).await?;
    scenario.say("a line over the limits is refused, junk ends the connection, half a line is not done");
    cut_a_large_range(cluster.text_address(2)?).await?;
    scenario.say("a range that is too large says where to cut it");
    never_listen(&scenario, &cluster).await?;
    stay_idle(&scenario, &cluster).await?;
    lose_a_node(&scenario, &mut cluster).await?;
    stop_in_the_middle(&mut cluster).await?;
    scenario.say("a node that is told to end answers what it has begun");
    cluster.finish()
}

/// The commands of the door's page, and what was written by one node read at another.
async fn speak(one: SocketAddr, other: SocketAddr) -> anyhow::Result<()> {
    let said = "PING\nPUT|greeting|hello\nget|greeting\r\nGET|nobody\n\
                PUT|a\\|b|two\\nlines and a \\\\\nBATCH|x1|1|x2|2|x3|3\nRANGE|x1|x3\nDELETE|x1\nDELETE|x1\n";
    let heard = netcat(one, said.as_bytes()).await?;
    let wanted = "PONG\nOK\nOK|hello\nNOT_FOUND\nOK\nOK\nOK|2\nx1|1\nx2|2\nOK\nNOT_FOUND\n";
    ensure!(heard == wanted, "{heard}");
    let heard = netcat(other, b"GET|a\\|b\nRANGE||b\nPUT|\\x00\\xff|\xff\\r\nGET|\\x00\\xff\n").await?;
    ensure!(heard.starts_with("OK|two\\nlines and a \\\\\nOK|1\na\\|b|two\\nlines"), "{heard}");
    ensure!(heard.ends_with("\nOK\nOK|\u{fffd}\\r\n"), "{heard}");

    let flood: Vec<_> = (0..5000).map(|key| format!("PUT|flood{key}|{key}\n")).collect();
    let heard = netcat(other, flood.concat().as_bytes()).await?;
    ensure!(heard == "OK\n".repeat(5000), "5000 lines at once: {} answers", heard.lines().count());
    let heard = netcat(one, b"RANGE|flood|flooe\n").await?;
    ensure!(heard.starts_with("OK|5000\n") && heard.lines().count() == 5001, "not all of them are there");

    let heard = netcat(other, b"CLUSTER_STATUS\nCLUSTER_NODES\nCLUSTER_LEADER\n").await?;
    let lines: Vec<_> = heard.lines().collect();
    ensure!(lines.contains(&"nodes_alive|3") && lines.contains(&"OK|3"), "{heard}");
    let nodes = lines.iter().filter(|line| line.contains("|alive|serving|"));
    ensure!(nodes.count() == 3 && heard.contains(&one.to_string()), "{heard}");
    ensure!(lines.last().is_some_and(|leader| leader.starts_with("OK|node-")), "{heard}");
    Ok(())
}

async fn be_clumsy(address: SocketAddr) -> anyhow::Result<()> {
    let heard = netcat(address, b"FLY|a\nPUT|a\nGET|\\q\nGET|\n\nPING\n").await?;
    let lines: Vec<_> = heard.lines().collect();
    ensure!(lines.iter().filter(|line| line.starts_with("ERROR|BAD_REQUEST|")).count() == 5, "{heard}");
    ensure!(lines.last() == Some(&"PONG"), "{heard}");

    let long = [b"PUT|long|", vec![b'x'; 40 << 20].as_slice(), b"\nPUT|long|short\nGET|long\n"].concat();
    let heard = netcat(address, &long).await?;
    ensure!(heard.starts_with("ERROR|TOO_LARGE|") && heard.ends_with("\nOK\nOK|short\n"), "{heard}");
    let value = [b"PUT|long|", vec![b'x'; 9 << 20].as_slice(), b"\nPING\n"].concat();
    let heard = netcat(address, &value).await?;
    ensure!(heard.starts_with("ERROR|TOO_LARGE|the length of the value"), "{heard}");
    ensure!(heard.ends_with("PONG\n"), "{heard}");

    let heard = netcat(address, b"PUT|before|1\nPUT|junk|\0\x01\x02\nPUT|after|1\n").await?;
    ensure!(heard.starts_with("OK\nERROR|BAD_BYTES|") && heard.lines().count() == 2, "{heard}");
    let heard = netcat(address, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03").await?;
    ensure!(heard.starts_with("ERROR|BAD_BYTES|"), "what greets with TLS hears {heard}");
    let heard = netcat(address, b"GET|after\nPUT|half|of it").await?;
    ensure!(heard.starts_with("NOT_FOUND\nERROR|BAD_REQUEST|"), "{heard}");
    ensure!(netcat(address, b"GET|half\n").await? == "NOT_FOUND\n", "half a line was done");
    Ok(())
}

async fn cut_a_large_range(address: SocketAddr) -> anyhow::Result<()> {
    let value = "v".repeat(3 << 20);
    let said: Vec<_> = (0..8).map(|key| format!("PUT|large{key}|{value}\n")).collect();
    ensure!(
        netcat(address, said.concat().as_bytes()).await? == "OK\n".repeat(8),
        "large values are not taken"
    );
    let heard = netcat(address, b"RANGE|large|largf\n").await?;
    let cut = heard.trim_end().rsplit_once(' ').context("no key")?.1;
    ensure!(heard.starts_with("ERROR|RANGE_TOO_LARGE|") && cut == "large5", "{heard}");
    let heard = netcat(address, format!("RANGE|large|{cut}\nRANGE|{cut}|largf\n").as_bytes()).await?;
    let counts: Vec<_> = heard.lines().filter(|line| line.starts_with("OK")).collect();
    ensure!(counts == ["OK|5", "OK|3"] && heard.lines().count() == 10, "{counts:?}");
    Ok(())
}

/// Clients that ask for much and take nothing: their answers are not piled up, and nobody else
/// notices.
async fn never_listen(scenario: &Scenario, cluster: &Cluster) -> anyhow::Result<()> {
    let address = cluster.text_address(0)?;
    let before = cluster.memory_of(0)?;
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let mut child = start_netcat(address)?;
        let mut input = child.stdin.take().context("no input")?;
        let asking = tokio::spawn(async move {
            loop {
                if input.write_all(&b"GET|large1\n".repeat(1000)).await.is_err() {
                    return;
                }
            }
        });
        deaf.push((child, asking));
    }
    let mut most = 0;
    // While they all begin at once, others may be told to try again.
    until("others are served as ever", WITHIN, async || {
        for _ in 0..50 {
            most = most.max(cluster.memory_of(0)?);
            let heard = netcat(address, b"PING\nPUT|meanwhile|1\nGET|meanwhile\n").await?;
            ensure!(heard == "PONG\nOK\nOK|1\n", "others hear {heard}");
        }
        Ok(())
    })
    .await?;
    ensure!(deaf.iter().all(|(_, asking)| !asking.is_finished()), "somebody asks no more");
    let grown = most.saturating_sub(before);
    scenario.say(format_args!("20 clients that take no answers: {} MiB more at most", grown >> 20));
    ensure!(grown < GROWTH, "the node has grown by {} MiB", grown >> 20);
    for (mut child, asking) in deaf {
        asking.abort();
        child.kill().await?;
    }
    until("what they held is free again", WITHIN, async || {
        ensure!(netcat(address, b"GET|large1\n").await?.len() > 3 << 20, "there is no room");
        Ok(())
    })
    .await
}

async fn stay_idle(scenario: &Scenario, cluster: &Cluster) -> anyhow::Result<()> {
    let address = cluster.text_address(0)?;
    let before = cluster.memory_of(0)?;
    let mut idle = Vec::with_capacity(IDLE);
    for _ in 0..IDLE {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"PING\n").await?;
        idle.push(stream);
    }
    for stream in &mut idle {
        let mut heard = [0; 5];
        tokio::time::timeout(WITHIN, stream.read_exact(&mut heard)).await??;
        ensure!(&heard == b"PONG\n", "it hears {heard:?}");
    }
    let heard = netcat(address, b"GET|greeting\n").await?;
    ensure!(heard == "OK|hello\n", "beside them netcat hears {heard}");
    let grown = cluster.memory_of(0)?.saturating_sub(before);
    scenario.say(format_args!("{IDLE} idle connections take {} KiB each", (grown >> 10) / IDLE as u64));
    ensure!(grown < 16 << 20, "{IDLE} idle connections take {grown} bytes");
    Ok(())
}

/// `kill -9` of a node while a client writes at another: each line has its answer, and what was
/// answered with OK is there.
async fn lose_a_node(scenario: &Scenario, cluster: &mut Cluster) -> anyhow::Result<()> {
    let address = cluster.text_address(0)?;
    let mut child = start_netcat(address)?;
    let mut input = child.stdin.take().context("no input")?;
    let mut output = BufReader::new(child.stdout.take().context("no output")?).lines();
    let writing = tokio::spawn(async move {
        for key in 0..WRITES {
            input.write_all(format!("PUT|kill{key}|{key}\n").as_bytes()).await?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        anyhow::Ok(())
    });
    let mut answers = Vec::new();
    while let Some(line) = tokio::time::timeout(WITHIN, output.next_line()).await?? {
        answers.push(line);
        if answers.len() == WRITES / 4 {
            cluster.kill9(1)?;
        }
    }
    writing.await??;
    ensure!(answers.len() == WRITES, "{} of {WRITES} lines are answered", answers.len());
    let done: Vec<_> = (0..WRITES).filter(|key| answers.get(*key).is_some_and(|line| line == "OK")).collect();
    let others: Vec<_> = answers.iter().filter(|line| *line != "OK").collect();
    ensure!(
        others.iter().all(|line| ["TRY_AGAIN", "OUTCOME_UNKNOWN"].iter().any(|code| line.contains(code))),
        "{others:?}"
    );
    let said = done.iter().map(|key| format!("GET|kill{key}\n")).collect::<Vec<_>>().concat();
    let wanted = done.iter().map(|key| format!("OK|{key}\n")).collect::<Vec<_>>().concat();
    until("what was acknowledged is there", WITHIN, async || {
        let heard = netcat(address, said.as_bytes()).await?;
        let lost: Vec<_> = heard.lines().filter(|line| *line == "NOT_FOUND").collect();
        ensure!(heard == wanted, "{} are lost", lost.len());
        Ok(())
    })
    .await?;
    scenario.say(format_args!(
        "a node was killed: {} of {WRITES} writes are done and found, {} were in doubt or refused",
        done.len(),
        others.len()
    ));
    cluster.start(1).await?;
    cluster.await_healthy().await
}

async fn stop_in_the_middle(cluster: &mut Cluster) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(cluster.text_address(2)?).await?;
    stream.write_all(b"PUT|last|1\n").await?;
    let mut first = [0; 3];
    tokio::time::timeout(WITHIN, stream.read_exact(&mut first)).await??;
    let status = cluster.stop(2).await?;
    ensure!(status.success(), "it ended with {status}");
    let mut rest = Vec::new();
    tokio::time::timeout(WITHIN, stream.read_to_end(&mut rest)).await??;
    ensure!(&first == b"OK\n" && rest.is_empty(), "{:?}", rest.escape_ascii().to_string());
    let heard = netcat(cluster.text_address(0)?, b"GET|last\n").await?;
    ensure!(heard == "OK|1\n", "{heard}");
    Ok(())
}

fn netcat_to(address: SocketAddr) -> Command {
    let mut command = Command::new("nc");
    command.args(["-N", &address.ip().to_string(), &address.port().to_string()]);
    command
}

fn start_netcat(address: SocketAddr) -> anyhow::Result<Child> {
    netcat_to(address)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("netcat is missing: scripts/prerequisites.sh tests installs it")
}

/// Says all of it, ends, and gives what was heard.
async fn netcat(address: SocketAddr, said: &[u8]) -> anyhow::Result<String> {
    let ended = run_to_end("nc -N", &mut netcat_to(address), said, WITHIN).await?;
    Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
}
