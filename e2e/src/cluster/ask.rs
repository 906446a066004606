//! What a scenario asks of a cluster: through the client as applications do, or at the door
//! of one node alone.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use client::{Client, Options};
use placement::{BucketCount, NodeId, TableName};
use proto::v1::admin_client::AdminClient;
use proto::v1::kv_client::KvClient;
use proto::v1::peer_client::PeerClient;
use proto::v1::{
    GroupReport, GroupStatusRequest, MapRequest, NodeEntry, NodeRequest, NodeState, StatusRequest,
    StatusResponse,
};
use rustix::process::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use super::{Cluster, HEALTHY_WITHIN};
use crate::until;

/// The largest answer that is taken at a node's door.
const MESSAGE_BYTES: usize = 20 << 20;
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// How long one look at a node may take.
const LOOK_WITHIN: Duration = Duration::from_secs(2);

impl Cluster {
    /// How many nodes there are, those that do not run included.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// The nodes that run and are not paused.
    pub fn running(&self) -> impl Iterator<Item = usize> {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter(|(_, node)| node.process.is_some() && !node.paused).map(|(at, _)| at)
    }

    /// Where applications reach a node.
    pub fn endpoint(&self, node: usize) -> anyhow::Result<String> {
        Ok(self.node(node)?.place.grpc.to_string())
    }

    /// Where other nodes reach a node.
    pub fn peer_endpoint(&self, node: usize) -> anyhow::Result<String> {
        Ok(self.node(node)?.place.peer.to_string())
    }

    /// Where browsers and curl reach a node.
    pub fn http_address(&self, node: usize) -> anyhow::Result<SocketAddr> {
        Ok(self.node(node)?.place.http)
    }

    /// Where Redis clients reach a node that forwards.
    pub fn redis_address(&self, node: usize) -> anyhow::Result<SocketAddr> {
        Ok(self.node(node)?.place.redis)
    }

    /// Where Redis clients reach a node that redirects.
    pub fn redis_cluster_address(&self, node: usize) -> anyhow::Result<SocketAddr> {
        Ok(self.node(node)?.place.redis_cluster)
    }

    /// Drains a node, by its name or id, and returns once nothing is left on it.
    pub async fn drain(&self, node: &str, within: Duration) -> anyhow::Result<()> {
        let admin = self.client()?.admin();
        let request = NodeRequest { node: node.to_owned() };
        until("the node is drained", within, async || {
            let answer = admin.drain_node(request.clone()).await?;
            let state = answer.node.as_ref().map_or(NodeState::Serving, NodeEntry::state);
            ensure!(
                state == NodeState::Drained && answer.replicas_left == 0 && answer.leaders_left == 0,
                "it is {state:?} with {} replicas",
                answer.replicas_left
            );
            Ok(())
        })
        .await
    }

    /// The process of a node that runs.
    pub fn process_id(&self, node: usize) -> anyhow::Result<Pid> {
        self.node(node)?.process.as_ref().context("it does not run")?.id()
    }

    /// Where lines of text are understood by a node.
    pub fn text_address(&self, node: usize) -> anyhow::Result<SocketAddr> {
        Ok(self.node(node)?.place.text)
    }

    /// What a running node takes of this machine's memory.
    pub fn memory_of(&self, node: usize) -> anyhow::Result<u64> {
        self.node(node)?.process.as_ref().context("it does not run")?.memory_bytes()
    }

    /// The endpoints of all nodes, as the command line takes them.
    pub fn endpoints(&self) -> String {
        let all: Vec<_> = self.nodes.iter().map(|node| node.place.grpc.to_string()).collect();
        all.join(",")
    }

    /// A client with the defaults that applications have.
    pub fn client(&self) -> anyhow::Result<Client> {
        self.client_with(Options::default())
    }

    /// A client.
    pub fn client_with(&self, options: Options) -> anyhow::Result<Client> {
        let endpoints = self.nodes.iter().map(|node| node.place.grpc.to_string()).collect();
        Ok(Client::connect_lazy(endpoints, options)?)
    }

    /// The data door of this node alone.
    pub fn kv_at(&self, node: usize) -> anyhow::Result<KvClient<Channel>> {
        let client = KvClient::new(channel(&self.endpoint(node)?)?);
        Ok(client.max_decoding_message_size(MESSAGE_BYTES).max_encoding_message_size(4 * MESSAGE_BYTES))
    }

    /// The admin door of this node alone.
    pub fn admin_at(&self, node: usize) -> anyhow::Result<AdminClient<Channel>> {
        Ok(AdminClient::new(channel(&self.endpoint(node)?)?))
    }

    /// The peer door of this node alone.
    pub fn peer_at(&self, node: usize) -> anyhow::Result<PeerClient<Channel>> {
        Ok(PeerClient::new(channel(&self.peer_endpoint(node)?)?))
    }

    /// That a node answers at all, which it does before it belongs to a cluster, and while
    /// its cluster has no leader.
    pub async fn answers(&self, node: usize) -> anyhow::Result<()> {
        let mut door = self.admin_at(node)?;
        let answer = tokio::time::timeout(LOOK_WITHIN, door.map(MapRequest { follow: false })).await;
        answer.with_context(|| format!("node {node} does not answer"))??;
        Ok(())
    }

    /// The status as this node gives it, which takes a meta leader once it is in a cluster.
    pub async fn status_of(&self, node: usize) -> anyhow::Result<StatusResponse> {
        let mut request = tonic::Request::new(StatusRequest {});
        request.set_timeout(LOOK_WITHIN);
        let mut door = self.admin_at(node)?;
        let answer = tokio::time::timeout(LOOK_WITHIN, door.status(request)).await;
        Ok(answer.with_context(|| format!("node {node} does not answer"))??.into_inner())
    }

    /// Who a node is; none before it belongs to a cluster.
    pub async fn id_of(&self, node: usize) -> anyhow::Result<Option<NodeId>> {
        Ok(NodeId::from_bytes(&self.status_of(node).await?.this_node))
    }

    /// A group as a node's own replica has it; none where it holds no replica.
    pub async fn group_at(&self, node: usize, group: u64) -> anyhow::Result<Option<GroupReport>> {
        let mut peer = self.peer_at(node)?;
        let mut request = tonic::Request::new(GroupStatusRequest { group });
        request.set_timeout(LOOK_WITHIN);
        let answer = tokio::time::timeout(LOOK_WITHIN, peer.group_status(request)).await;
        let answer = answer.with_context(|| format!("node {node} does not answer"))??.into_inner();
        Ok(answer.group.filter(|_| !answer.absent))
    }

    /// The partitions of a table, from the map.
    pub async fn partitions(&self, table: &str) -> anyhow::Result<Vec<u64>> {
        let map = self.client()?.admin().map().await?;
        let table = map.tables.iter().find(|entry| entry.name == table).context("there is no such table")?;
        let of_it = map.partitions.iter().filter(|partition| partition.table == table.table);
        Ok(of_it.map(|partition| partition.partition).collect())
    }

    /// The partition that a key belongs to.
    pub async fn partition_of(&self, table: &str, key: &[u8]) -> anyhow::Result<u64> {
        let name = TableName::parse(table)?;
        let map = self.client()?.admin().map().await?;
        let table = map.tables.iter().find(|entry| entry.name == name.as_str()).context("no such table")?;
        let bucket = u32::from(BucketCount::new(table.buckets)?.bucket_of_key(key).0);
        let owner = map.partitions.iter().find(|partition| {
            partition.table == table.table
                && (partition.first_bucket..=partition.last_bucket).contains(&bucket)
        });
        Ok(owner.context("no partition owns the key")?.partition)
    }

    /// Which node leads a partition, by what the running replicas themselves say: of several
    /// that think so the one of the newest term. Waits until there is one.
    pub async fn leader_of(&self, partition: u64) -> anyhow::Result<usize> {
        let what = format!("partition {partition} has a leader");
        until(&what, HEALTHY_WITHIN, async || {
            let mut leaders = Vec::new();
            for node in self.running() {
                if let Ok(Some(group)) = self.group_at(node, partition).await
                    && group.leads
                {
                    leaders.push((group.term, node));
                }
            }
            leaders.into_iter().max().map(|(_, node)| node).context("no running replica leads")
        })
        .await
    }

    /// Waits until every running node is ready, sees every other, and all partitions have a
    /// leader and their full number of live replicas.
    pub async fn await_healthy(&self) -> anyhow::Result<()> {
        self.await_health(self.running().count()).await
    }

    /// The same where that many nodes are alive, and others may be missed.
    pub async fn await_health(&self, alive: usize) -> anyhow::Result<()> {
        let healthy = until("the cluster is healthy", HEALTHY_WITHIN, async || {
            for node in self.running() {
                let status = self.status_of(node).await?;
                let seen = status.nodes.iter().filter(|node| node.alive).count();
                // Copies on a node that is missed are missed too.
                let whole = seen < status.nodes.len() || status.partitions_under_replicated == 0;
                ensure!(
                    seen == alive
                        && !status.meta_leader.is_empty()
                        && status.partitions_without_leader == 0
                        && whole,
                    "node {node} sees {seen} nodes, and says: {}",
                    status.summary
                );
                self.ready(node).await?;
            }
            Ok(())
        });
        healthy.await
    }

    /// That a node says it is ready, at the door that Kubernetes asks.
    pub async fn ready(&self, node: usize) -> anyhow::Result<()> {
        let place = self.node(node)?.place.http;
        let ask = async {
            let mut stream = TcpStream::connect(place).await?;
            stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            anyhow::Ok(answer)
        };
        let answer = tokio::time::timeout(LOOK_WITHIN, ask).await.context("/readyz does not answer")??;
        ensure!(answer.starts_with("HTTP/1.1 200"), "node {node} is not ready: {answer}");
        Ok(())
    }
}

fn channel(address: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    Ok(endpoint.connect_timeout(CONNECT_WITHIN).tcp_nodelay(true).connect_lazy())
}
