//! A cluster of `trilith-node` processes, and what can be done to it.
//!
//! Nodes are named by their place in the row, from 0; their names are `node-1` and so on.
//! What can be *asked* of a cluster is in [`ask`].

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::Context as _;
use proto::v1::{CreateTableRequest, InitRequest, JoinRequest};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::network::{Network, Place};
use crate::process::{Process, log_tail};
use crate::programs;
use crate::until;

pub mod ask;

/// How long a node may take to start, to join, or to end.
const NODE_WITHIN: Duration = Duration::from_secs(30);
/// How long a cluster may take until everything in it serves.
pub const HEALTHY_WITHIN: Duration = Duration::from_secs(40);
/// How often a node is given other ports because somebody took one of its own meanwhile.
const PORT_CLASHES: usize = 5;

/// What a cluster is to be like.
#[derive(Debug)]
pub struct Shape {
    /// How many nodes.
    pub nodes: usize,
    /// How many partitions its table `default` has; 0: there is no such table.
    pub partitions: u32,
    /// More arguments for each node.
    pub arguments: Vec<String>,
    /// What connects its nodes.
    pub network: Network,
}

/// A cluster whose processes are killed, and whose folders are deleted, when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    program: PathBuf,
    folder: TempDir,
    arguments: Vec<String>,
    network: Network,
    nodes: Vec<Node>,
    finished: bool,
}

#[derive(Debug)]
struct Node {
    name: String,
    place: Place,
    data: PathBuf,
    log: PathBuf,
    process: Option<Process>,
    paused: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self { nodes: 3, partitions: 8, arguments: Vec::new(), network: Network::Loopback }
    }
}

impl Cluster {
    /// Nodes that run, joined to one cluster, with a table `default` that serves.
    pub async fn form(shape: Shape) -> anyhow::Result<Self> {
        let (nodes, partitions) = (shape.nodes, shape.partitions);
        let mut cluster = Self::processes(shape).await?;
        cluster.init(0).await?;
        for node in 1..nodes {
            cluster.join(node, 0).await?;
        }
        cluster.await_healthy().await?;
        if partitions > 0 {
            cluster.create_table("default", partitions).await?;
            cluster.await_healthy().await?;
        }
        Ok(cluster)
    }

    /// Nodes that run and belong to no cluster yet.
    pub async fn processes(shape: Shape) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("trilith-e2e-").tempdir()?;
        let mut cluster = Self {
            program: programs::find("trilith-node")?,
            folder,
            arguments: shape.arguments,
            network: shape.network,
            nodes: Vec::new(),
            finished: false,
        };
        for _ in 0..shape.nodes {
            cluster.add_process(None, &[]).await?;
        }
        Ok(cluster)
    }

    /// Starts one more node, which belongs to no cluster yet; its folder is made unless one
    /// is given. Returns its place in the row.
    pub async fn add_process(&mut self, data: Option<PathBuf>, more: &[&str]) -> anyhow::Result<usize> {
        let node = self.add_place(data)?;
        for clash in 1.. {
            self.spawn(node, more)?;
            let Err(error) = self.await_answer(node).await else { break };
            let said = self.log_of(node)?;
            anyhow::ensure!(said.contains("cannot listen on") && clash < PORT_CLASHES, error);
            let place = self.network.place()?;
            self.node_mut(node)?.place = place;
        }
        Ok(node)
    }

    /// A place in the row for a node that is not started yet.
    pub fn add_place(&mut self, data: Option<PathBuf>) -> anyhow::Result<usize> {
        let name = format!("node-{}", self.nodes.len() + 1);
        let place = self.network.place()?;
        let data = data.unwrap_or_else(|| self.folder.path().join(&name));
        let log = self.folder.path().join(format!("{name}.log"));
        self.nodes.push(Node { name, place, data, log, process: None, paused: false });
        Ok(self.nodes.len() - 1)
    }

    /// Gives a node that does not run the place of another cluster's node, which must not run
    /// either when this one is started next.
    pub fn take_place_of(&mut self, node: usize, other: &Self, place: usize) -> anyhow::Result<()> {
        let place = other.node(place)?.place.clone();
        let node = self.node_mut(node)?;
        anyhow::ensure!(node.process.is_none(), "{} runs", node.name);
        node.place = place;
        Ok(())
    }

    /// Creates a cluster with this node as its first.
    pub async fn init(&mut self, node: usize) -> anyhow::Result<()> {
        let admin = self.client()?.admin_at(&self.endpoint(node)?).with_deadline(NODE_WITHIN);
        let done = admin.init(InitRequest::default()).await;
        done.map(|_| ()).with_context(|| format!("creating a cluster with node {node}\n{}", self.tail(node)))
    }

    /// Makes a node join the cluster that another belongs to.
    pub async fn join(&mut self, node: usize, member: usize) -> anyhow::Result<()> {
        let admin = self.client()?.admin_at(&self.endpoint(node)?).with_deadline(NODE_WITHIN);
        let done = admin.join(JoinRequest { address: self.endpoint(member)? }).await;
        done.map(|_| ()).with_context(|| format!("node {node} joins node {member}\n{}", self.tail(node)))
    }

    /// Starts one more node and makes it join.
    pub async fn add_node(&mut self) -> anyhow::Result<usize> {
        let node = self.add_process(None, &[]).await?;
        self.join(node, 0).await?;
        Ok(node)
    }

    /// Creates a table of as many replicas as there are nodes for, at most three.
    pub async fn create_table(&self, name: &str, partitions: u32) -> anyhow::Result<()> {
        let admin = self.client()?.admin().with_deadline(NODE_WITHIN);
        let request =
            CreateTableRequest { name: name.to_owned(), partitions, wait: true, ..Default::default() };
        admin.create_table(request).await.with_context(|| format!("creating the table {name}"))?;
        Ok(())
    }

    /// Starts a node that does not run, and returns when it answers.
    pub async fn start(&mut self, node: usize) -> anyhow::Result<()> {
        self.start_with(node, &[]).await
    }

    /// The same with more arguments.
    pub async fn start_with(&mut self, node: usize, more: &[&str]) -> anyhow::Result<()> {
        self.spawn(node, more)?;
        self.await_answer(node).await
    }

    /// Starts a node that does not run, and returns at once.
    pub fn spawn(&mut self, node: usize, more: &[&str]) -> anyhow::Result<()> {
        let (program, common) = (self.program.display().to_string(), self.arguments.clone());
        let node = self.node_mut(node)?;
        let mut command = node.place.prefix.clone();
        command.push(program);
        let pairs = [
            ("--data", node.data.display().to_string()),
            ("--name", node.name.clone()),
            ("--listen-grpc", node.place.grpc.to_string()),
            ("--listen-peer", node.place.peer.to_string()),
            ("--listen-http", node.place.http.to_string()),
            ("--listen-redis", node.place.redis.to_string()),
            ("--listen-redis-cluster", node.place.redis_cluster.to_string()),
            ("--listen-text", node.place.text.to_string()),
            ("--log-format", "human".to_owned()),
        ];
        command.extend(pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
        command.push("--exit-with-parent".to_owned());
        command.extend(common);
        command.extend(more.iter().map(|argument| (*argument).to_owned()));
        node.process = Some(Process::start(&node.name, &command, &node.log)?);
        node.paused = false;
        Ok(())
    }

    /// Kills a node as `kill -9` does.
    pub fn kill9(&mut self, node: usize) -> anyhow::Result<()> {
        let mut process = self.node_mut(node)?.process.take().context("it does not run")?;
        process.kill9()
    }

    /// Kills every node that runs, before any of them is waited for.
    pub fn kill9_all(&mut self) -> anyhow::Result<()> {
        for node in &self.nodes {
            if let Some(process) = &node.process {
                process.signal(Signal::KILL)?;
            }
        }
        self.nodes.iter_mut().for_each(|node| node.process = None);
        Ok(())
    }

    /// Asks a node to end, as Kubernetes does, and returns when it has.
    pub async fn stop(&mut self, node: usize) -> anyhow::Result<ExitStatus> {
        let entry = self.node_mut(node)?;
        let mut process = entry.process.take().context("it does not run")?;
        process.signal(Signal::TERM)?;
        process.await_end(NODE_WITHIN).await
    }

    /// Waits until a node has ended by itself.
    pub async fn await_end(&mut self, node: usize, within: Duration) -> anyhow::Result<ExitStatus> {
        let mut process = self.node_mut(node)?.process.take().context("it does not run")?;
        process.await_end(within).await
    }

    /// Stops a node in the middle of whatever it does, with all its connections open.
    pub fn pause(&mut self, node: usize) -> anyhow::Result<()> {
        self.set_paused(node, true)
    }

    /// Lets a paused node go on.
    pub fn resume(&mut self, node: usize) -> anyhow::Result<()> {
        self.set_paused(node, false)
    }

    /// Cuts a node off from the others, where each has a namespace. Clients still reach it.
    pub fn cut(&self, node: usize) -> anyhow::Result<()> {
        self.network.cut(node)
    }

    /// Undoes [`Cluster::cut`].
    pub fn heal(&self, node: usize) -> anyhow::Result<()> {
        self.network.heal(node)
    }

    /// The data folder of a node.
    pub fn data(&self, node: usize) -> anyhow::Result<&Path> {
        Ok(&self.node(node)?.data)
    }

    /// All that a node has said.
    pub fn log_of(&self, node: usize) -> anyhow::Result<String> {
        let log = std::fs::read(&self.node(node)?.log)?;
        Ok(String::from_utf8_lossy(&log).into_owned())
    }

    /// That no node has panicked, ever; then ends them all. To be called when a scenario has
    /// succeeded: a cluster that is dropped without it shows its logs.
    pub fn finish(mut self) -> anyhow::Result<()> {
        for node in 0..self.nodes.len() {
            let log = self.log_of(node)?;
            anyhow::ensure!(!log.contains("panicked"), "node {node} panicked\n{}", self.tail(node));
        }
        self.finished = true;
        Ok(())
    }

    fn set_paused(&mut self, node: usize, paused: bool) -> anyhow::Result<()> {
        let node = self.node_mut(node)?;
        let process = node.process.as_ref().context("it does not run")?;
        process.signal(if paused { Signal::STOP } else { Signal::CONT })?;
        node.paused = paused;
        Ok(())
    }

    async fn await_answer(&mut self, node: usize) -> anyhow::Result<()> {
        let answers = until("the node answers", NODE_WITHIN, async || {
            let process = self.node_mut(node)?.process.as_mut().context("it does not run")?;
            if let Some(status) = process.ended()? {
                // There is nothing to wait for: told apart below.
                return Ok(Err(anyhow::anyhow!("it ended with {status}")));
            }
            self.answers(node).await.map(Ok)
        });
        let answers = answers.await.and_then(|ended| ended);
        answers.with_context(|| format!("starting node {node}\n{}", self.tail(node)))
    }

    fn tail(&self, node: usize) -> String {
        self.node(node).map(|node| log_tail(&node.name, &node.log)).unwrap_or_default()
    }

    fn node(&self, node: usize) -> anyhow::Result<&Node> {
        self.nodes.get(node).with_context(|| format!("there is no node {node}"))
    }

    fn node_mut(&mut self, node: usize) -> anyhow::Result<&mut Node> {
        self.nodes.get_mut(node).with_context(|| format!("there is no node {node}"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.finished {
            for node in &self.nodes {
                eprintln!("{}", log_tail(&node.name, &node.log));
            }
        }
    }
}
