//! What `examples/` tells people to run, run: three plain processes, and nginx before them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::commands::{Done, trilith};
use e2e::process::Process;
use e2e::{Scenario, network, programs, until};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

const NODES: u16 = 3;
const WITHIN: Duration = Duration::from_secs(60);
/// The doors that nginx stands before, by their default ports.
const BALANCED: [u16; 4] = [7400, 7402, 7403, 6379];

/// Three plain processes, which are stopped however the scenario ends.
struct Processes {
    folder: tempfile::TempDir,
    offset: u16,
}

#[tokio::test(flavor = "multi_thread")]
async fn three_processes_serve_behind_nginx() -> anyhow::Result<()> {
    let scenario = Scenario::begin("examples").await?;
    let nodes = Processes { folder: tempfile::tempdir()?, offset: free_offset()? };
    let printed = nodes.script("up").await?.output()?;
    let endpoints = printed.trim_end().rsplit_once("TRILITH_ENDPOINT=").context("no endpoints")?.1.to_owned();
    trilith(&endpoints, &["put", "a", "1"]).await?.output()?;
    let again = nodes.script("up").await?.output()?;
    ensure!(again.contains("was in it already"), "a second time it says {again}");
    let status = nodes.script("status").await?.output()?;
    ensure!(status.matches("process").count() == 3 && status.contains("node-3"), "{status}");
    scenario.say("cluster.sh formed three processes, and a second time changed nothing");

    let balancer = Balancer::start(&nodes).await?;
    let door = format!("127.0.0.1:{}", balancer.port(7400)?);
    balancer.use_every_door(&door).await?;
    scenario.say("nginx balances gRPC, HTTP and lines of text");

    nodes.kill9(2)?;
    // Until it is really gone it may take a connection with it, and nginx cannot send that elsewhere.
    until("the node is gone", WITHIN, async || {
        let status = nodes.script("status").await?.output()?;
        ensure!(status.contains("does not run"), "{status}");
        Ok(())
    })
    .await?;
    for attempt in 0..12 {
        let key = format!("k{attempt}");
        trilith(&door, &["put", &key, "v"]).await?.output()?;
        let heard = balancer.say(&format!("GET|{key}\n")).await?;
        ensure!(heard == "OK|v\n", "with a node less it says {heard}");
        let answer = balancer.get("/readyz").await?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "with a node less: {answer}");
    }
    scenario.say("a node was killed, and nobody behind nginx noticed");

    nodes.script("up").await?.output()?;
    nodes.script("down").await?.output()?;
    let status = nodes.script("status").await?;
    ensure!(status.out.matches("does not run").count() == 3, "{}", status.out);
    nodes.script("up").await?.output()?;
    let found = trilith(&endpoints, &["get", "a"]).await?.output()?;
    ensure!(found == "1\n", "after a restart a is {found:?}");
    nodes.script("down").await?.output()?;
    scenario.say("down stopped them all, and up found what was written");
    Ok(())
}

impl Processes {
    async fn script(&self, verb: &str) -> anyhow::Result<Done> {
        let script = repository().join("examples/processes/cluster.sh");
        let programs = programs::find("trilith-node")?;
        let programs = programs.parent().context("no folder")?.display().to_string();
        let path = format!("{programs}:{}", std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new(&script);
        command
            .arg(verb)
            .env("PATH", path)
            .env("TRILITH_FOLDER", self.folder.path())
            .env("TRILITH_PORT_OFFSET", self.offset.to_string());
        let line = format!("cluster.sh {verb}");
        let ended = programs::run_to_end(&line, &mut command, b"", 2 * WITHIN).await?;
        Ok(Done::of(line, &ended))
    }

    fn kill9(&self, node: u16) -> anyhow::Result<()> {
        let pid = self.process_of(node).context("it does not run")?;
        Ok(kill_process(pid, Signal::KILL)?)
    }

    fn process_of(&self, node: u16) -> Option<Pid> {
        let file = self.folder.path().join(format!("node-{node}/pid"));
        fs::read_to_string(file).ok()?.trim().parse().ok().and_then(Pid::from_raw)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // Those that `down` has stopped have left no number behind.
        (1..=NODES).for_each(|node| drop(self.kill9(node)));
    }
}

/// nginx with the configuration of the compose example, before processes of this machine.
struct Balancer {
    offset: u16,
    nginx: Process,
    _folder: tempfile::TempDir,
}

impl Balancer {
    async fn start(nodes: &Processes) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let example = fs::read_to_string(repository().join("examples/compose/nginx.conf"))?;
        let offset = free_offset()?;
        let mut config = example;
        for port in BALANCED {
            for node in 1..=NODES {
                let (there, here) = (format!("node-{node}:{port}"), port + nodes.offset + 10 * (node - 1));
                config = config.replace(&there, &format!("127.0.0.1:{here}"));
            }
            config =
                config.replace(&format!("listen {port};"), &format!("listen 127.0.0.1:{};", port + offset));
        }
        let file = folder.path().join("nginx.conf");
        fs::write(&file, config)?;
        let mut command = vec![program().display().to_string()];
        let module = Path::new("/usr/lib/nginx/modules/ngx_stream_module.so");
        let own = folder.path().display();
        let load = if module.exists() { format!("load_module {};", module.display()) } else { String::new() };
        let more = format!("{load} daemon off; pid {own}/pid;");
        let arguments =
            ["-p", &own.to_string(), "-c", &file.display().to_string(), "-e", "stderr", "-g", &more];
        command.extend(arguments.map(str::to_owned));
        let check = [command.clone(), vec!["-t".to_owned()]].concat();
        let (checker, rest) = check.split_first().context("no program")?;
        let checked = Command::new(checker).args(rest).output().await;
        let checked = checked.context("nginx is missing: scripts/prerequisites.sh tests installs it")?;
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        ensure!(checked.status.success(), "nginx refuses the example:\n{said}");
        let nginx = Process::start("nginx", &command, &folder.path().join("log"))?;
        let balancer = Self { offset, nginx, _folder: folder };
        until("nginx accepts connections", WITHIN, async || balancer.connect(7403).await).await?;
        Ok(balancer)
    }

    fn port(&self, port: u16) -> anyhow::Result<u16> {
        port.checked_add(self.offset).context("no such port")
    }

    async fn connect(&self, port: u16) -> anyhow::Result<TcpStream> {
        Ok(TcpStream::connect(("127.0.0.1", self.port(port)?)).await?)
    }

    async fn use_every_door(&self, door: &str) -> anyhow::Result<()> {
        for attempt in 0..6 {
            let value = attempt.to_string();
            trilith(door, &["put", "balanced", &value]).await?.output()?;
            let heard = self.say("GET|balanced\n").await?;
            ensure!(heard == format!("OK|{value}\n"), "it says {heard}");
            let answer = self.get("/readyz").await?;
            ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        Ok(())
    }

    /// What the text door answers, by way of nginx.
    async fn say(&self, line: &str) -> anyhow::Result<String> {
        let mut stream = self.connect(7403).await?;
        stream.write_all(line.as_bytes()).await?;
        stream.shutdown().await?;
        heard(stream).await
    }

    async fn get(&self, path: &str) -> anyhow::Result<String> {
        let mut stream = self.connect(7402).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: nginx\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        heard(stream).await
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // Asked to end, it ends its workers; killed, it would leave them behind.
        let _ = self.nginx.signal(Signal::TERM);
        for _ in 0..100 {
            if matches!(self.nginx.ended(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

async fn heard(mut stream: TcpStream) -> anyhow::Result<String> {
    let mut heard = Vec::new();
    tokio::time::timeout(WITHIN, stream.read_to_end(&mut heard)).await.context("nothing is heard")??;
    Ok(String::from_utf8_lossy(&heard).into_owned())
}

/// Where Debian puts it is not in the path of everybody.
fn program() -> PathBuf {
    let usual = PathBuf::from("/usr/sbin/nginx");
    if usual.exists() { usual } else { PathBuf::from("nginx") }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// An offset at which all ports of three nodes are free.
fn free_offset() -> anyhow::Result<u16> {
    for _ in 0..100 {
        let offset = network::free_port()? - 7400;
        let ports = (0..NODES)
            .flat_map(|node| [7400, 7401, 7402, 7403, 6379, 6380].map(|port| port + offset + 10 * node));
        if ports.skip(1).all(|port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return Ok(offset);
        }
    }
    anyhow::bail!("there are no free ports for {NODES} nodes")
}
