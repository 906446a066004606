//! Three Trilith nodes, started as a user would start them: by `trilith dev`.

use std::{fs, path::PathBuf, time::Duration};

use proto::v1::{
    CreateTableRequest, DescribeTableRequest, DescribeTableResponse, ListNodesRequest, StatusRequest,
    admin_client::AdminClient,
};
use rustix::process::Signal;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    time::timeout,
};
use tonic::transport::Channel;

use super::{
    ClusterError, NODES, find_program,
    http::{self, metric},
    process::{Process, send_signal},
    until,
};
use crate::target::channel;

const START_PATIENCE: Duration = Duration::from_mins(2);
const LEADER_PATIENCE: Duration = Duration::from_mins(1);

/// How a cluster is started.
#[derive(Debug, Clone)]
pub struct TrilithOptions {
    /// The `trilith` program.
    pub program: PathBuf,
    /// Where the data goes.
    pub folder: PathBuf,
    /// Partitions of the table `default`.
    pub partitions: u32,
    /// Added to every port.
    pub port_offset: u16,
    /// Whether a node that died is started again.
    pub restart: bool,
}

/// A running Trilith cluster.
#[derive(Debug)]
pub struct TrilithCluster {
    dev: Process,
    options: TrilithOptions,
}

impl TrilithCluster {
    /// Finds the program: given, else beside this one, else on the `PATH`.
    pub fn program(given: Option<PathBuf>) -> Result<PathBuf, ClusterError> {
        let advice = "build it with `cargo build -p cli -p storage-node`, or say where it is with --trilith";
        find_program("trilith", given, None, advice)
    }

    /// Starts the cluster and waits for the line `ready`.
    pub async fn start(options: TrilithOptions) -> Result<Self, ClusterError> {
        let folder = &options.folder;
        fs::create_dir_all(folder).map_err(ClusterError::io(format!("cannot make {}", folder.display())))?;
        let mut arguments = vec![
            "dev".to_owned(),
            format!("--nodes={NODES}"),
            format!("--data={}", folder.display()),
            format!("--partitions={}", options.partitions),
            format!("--port-offset={}", options.port_offset),
        ];
        if !options.restart {
            arguments.push("--no-restart".to_owned());
        }
        let log = folder.join("dev.log");
        let mut dev = Process::start("trilith dev", &options.program, arguments, log, true)?;
        let output = dev
            .take_output()
            .ok_or_else(|| ClusterError::Unreadable("trilith dev has no output".to_owned()))?;
        let mut lines = BufReader::new(output).lines();
        let ready = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.trim() == "ready" {
                    return true;
                }
            }
            false
        };
        match timeout(START_PATIENCE, ready).await {
            Ok(true) => {}
            Ok(false) => {
                // Its output has ended, so it has ended or is about to.
                let ended = || std::future::ready(dev.check().err());
                return Err(until("trilith dev to end", Duration::from_secs(5), ended).await?);
            }
            Err(_) => {
                let what = "trilith dev to print \"ready\"".to_owned();
                return Err(ClusterError::TooLate { what, waited: START_PATIENCE });
            }
        }
        // Whatever it says from now on must be read, or it would wait for a full pipe one day.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { dev, options })
    }

    /// The gRPC addresses, by node.
    pub fn endpoints(&self) -> Vec<String> {
        (0..NODES).map(|node| self.address(7400, node)).collect()
    }

    /// Where a node serves HTTP.
    pub fn http_address(&self, node: usize) -> String {
        self.address(7402, node)
    }

    /// Where a node serves Redis clients, forwarding for them or redirecting them.
    pub fn redis_address(&self, node: usize, redirecting: bool) -> String {
        self.address(if redirecting { 6380 } else { 6379 }, node)
    }

    /// The process of a node, from 0, as its `pid` file says.
    pub fn process_id(&self, node: usize) -> Result<u32, ClusterError> {
        let file = self.options.folder.join(format!("node-{}", node + 1)).join("pid");
        let text =
            fs::read_to_string(&file).map_err(ClusterError::io(format!("cannot read {}", file.display())))?;
        let no_id = |_| ClusterError::Unreadable(format!("{} holds no process id", file.display()));
        text.trim().parse().map_err(no_id)
    }

    /// The processes of all nodes. `trilith dev` itself is none of them.
    pub fn process_ids(&self) -> Result<Vec<u32>, ClusterError> {
        (0..NODES).map(|node| self.process_id(node)).collect()
    }

    /// Kills a node at once, or asks it to end.
    pub fn end_node(&self, node: usize, kill: bool) -> Result<(), ClusterError> {
        send_signal(self.process_id(node)?, if kill { Signal::KILL } else { Signal::TERM })
    }

    /// The version that the first node reports.
    pub async fn version(&self) -> Result<String, ClusterError> {
        Ok(self.admin().await?.status(StatusRequest {}).await?.into_inner().version)
    }

    /// Creates a table and waits until every partition of it has a leader.
    pub async fn create_table(&self, name: &str, partitions: u32) -> Result<(), ClusterError> {
        let request = CreateTableRequest {
            name: name.to_owned(),
            partitions,
            // At least as many as there are partitions; the default of 64 is too few for more.
            buckets: partitions.next_power_of_two().max(64),
            replicas: NODES as u32,
            wait: true,
            ..CreateTableRequest::default()
        };
        self.create(request).await
    }

    /// The same with whatever else is said of the table.
    pub async fn create(&self, request: CreateTableRequest) -> Result<(), ClusterError> {
        let name = request.name.clone();
        self.admin().await?.create_table(request).await?;
        self.wait_for_leaders(&name).await.map(|_| ())
    }

    /// Waits until every partition of a table has a leader, and describes the table.
    pub async fn wait_for_leaders(&self, table: &str) -> Result<DescribeTableResponse, ClusterError> {
        let admin = self.admin().await?;
        let led = || {
            let mut admin = admin.clone();
            let request = DescribeTableRequest { name: table.to_owned() };
            async move {
                let table = admin.describe_table(request).await.ok()?.into_inner();
                let all = table
                    .partitions
                    .iter()
                    .all(|partition| partition.entry.as_ref().is_some_and(|entry| !entry.leader.is_empty()));
                (all && !table.partitions.is_empty()).then_some(table)
            }
        };
        until(&format!("all partitions of {table} to have a leader"), LEADER_PATIENCE, led).await
    }

    /// The node, from 0, that leads the first partition of a table.
    pub async fn leader_of(&self, table: &str) -> Result<usize, ClusterError> {
        let described = self.wait_for_leaders(table).await?;
        let leader = described
            .partitions
            .first()
            .and_then(|partition| partition.entry.as_ref())
            .map(|entry| entry.leader.clone())
            .unwrap_or_default();
        let nodes = self.admin().await?.list_nodes(ListNodesRequest {}).await?.into_inner().nodes;
        nodes
            .iter()
            .filter_map(|status| status.entry.as_ref())
            .find(|node| node.node == leader)
            .and_then(|node| node.name.strip_prefix("node-")?.parse::<usize>().ok()?.checked_sub(1))
            .ok_or_else(|| ClusterError::Unreadable(format!("the leader of {table} is no known node")))
    }

    /// A counter summed over all nodes.
    pub async fn counter(&self, name: &str, labels: &[&str]) -> Result<f64, ClusterError> {
        let mut sum = 0.0;
        for node in 0..NODES {
            let address = self.http_address(node);
            let page = http::get(&address, "/metrics").await?.body;
            sum += metric(&page, name, labels)
                .ok_or_else(|| ClusterError::Unreadable(format!("{address} has no metric {name}")))?;
        }
        Ok(sum)
    }

    /// An error when the cluster has ended.
    pub fn check(&mut self) -> Result<(), ClusterError> {
        self.dev.check()
    }

    /// Ends the nodes and whoever started them.
    pub async fn stop(mut self) -> Result<(), ClusterError> {
        self.dev.stop().await
    }

    async fn admin(&self) -> Result<AdminClient<Channel>, ClusterError> {
        let channel = channel::connect(&self.address(7400, 0)).await?;
        Ok(AdminClient::new(channel).max_decoding_message_size(64 << 20))
    }

    fn address(&self, port: u16, node: usize) -> String {
        let port = u32::from(port) + u32::from(self.options.port_offset) + 10 * node as u32;
        format!("127.0.0.1:{port}")
    }
}

/// Whether a node answers that it is ready to serve.
pub async fn is_ready(http_address: &str) -> bool {
    http::get(http_address, "/readyz").await.is_ok_and(|answer| answer.status == 200)
}
