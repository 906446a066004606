//! How a node comes to belong to a cluster, and says again at each start where it is.

use std::time::Duration;

use placement::{ClusterId, NodeId};
use proto::v1::admin_client::AdminClient;
use proto::v1::{
    Failure, MapRequest, NodeEntry, RegisterRequest, RegisterResponse, WrongCluster, error_detail::Detail,
};
use tokio::time::Instant;
use tonic::Code;

use crate::raft::network::connect;
use crate::router::failure;
use crate::seams::{clock, runtime};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A cluster, as somebody outside it sees it.
#[derive(Debug, Clone)]
pub struct Outside {
    /// Its id.
    pub cluster: ClusterId,
    /// Peer addresses of its nodes.
    pub peers: Vec<String>,
}

/// Asks any node, by its gRPC address, which cluster it belongs to and who else does.
pub async fn look(address: &str) -> Result<Outside, Failure> {
    let unreachable = |why: String| {
        Failure::new(
            Code::Unavailable,
            format!(
                "no node answers at {address} ({why}): is it running, and is this its gRPC address (port 7400)?"
            ),
            None,
        )
    };
    let channel =
        connect::connect(address, CONNECT_TIMEOUT).await.map_err(|error| unreachable(chain(&error)))?;
    let mut client = AdminClient::new(channel).max_decoding_message_size(connect::MESSAGE_LIMIT);
    let mut answers = client
        .map(MapRequest { follow: false })
        .await
        .map_err(|status| Failure::from_status(&status))?
        .into_inner();
    let first = answers.message().await.map_err(|status| Failure::from_status(&status))?;
    let map = first.ok_or_else(|| unreachable("it gave no map".to_owned()))?;
    let cluster = ClusterId::from_bytes(&map.cluster)
        .ok_or_else(|| Failure::new(Code::FailedPrecondition, not_in_a_cluster(address), None))?;
    let peers = map.nodes.into_iter().filter_map(|node| node.addresses).map(|addresses| addresses.peer);
    Ok(Outside { cluster, peers: peers.collect() })
}

fn not_in_a_cluster(address: &str) -> String {
    format!("the node at {address} belongs to no cluster yet: `trilith cluster init` there creates one")
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

/// Registers a node with the meta leader, which is looked for among peer addresses.
pub async fn register(
    entry: &NodeEntry,
    cluster: ClusterId,
    peers: &[String],
    deadline: Instant,
) -> Result<RegisterResponse, Failure> {
    let own = entry.addresses.as_ref().map(|addresses| addresses.peer.as_str());
    let mut likely: Option<String> = None;
    let mut turn = 0;
    let mut last = "no other node is known".to_owned();
    loop {
        let left = deadline.saturating_duration_since(clock::now());
        if left.is_zero() {
            return Err(failure::retry_after(
                format!("the cluster's meta leader did not answer in time: {last}"),
                500,
            ));
        }
        let address = likely.take().or_else(|| peers.get(turn % peers.len().max(1)).cloned());
        let Some(address) = address else { return Err(failure::retry_after(last, 500)) };
        match ask(&address, entry, cluster, left.min(Duration::from_secs(3))).await {
            Ok(answer) if answer.not_leader => {
                last = format!("{address} does not lead the meta group");
                likely = Some(answer.meta_leader_address).filter(|address| !address.is_empty());
                turn += usize::from(likely.is_none());
            }
            Ok(answer) => return Ok(answer),
            // Who had this node's address before it may still be listed with it; then it asks itself.
            Err(refused)
                if refused.code == Code::Unavailable as i32
                    || refused.code == Code::DeadlineExceeded as i32
                    || own == Some(address.as_str()) =>
            {
                last = refused.message;
                turn += 1;
            }
            Err(refused) => return Err(refused),
        }
        tokio::time::sleep(Duration::from_millis(runtime::random_between(50, 150))).await;
    }
}

async fn ask(
    address: &str,
    entry: &NodeEntry,
    cluster: ClusterId,
    patience: Duration,
) -> Result<RegisterResponse, Failure> {
    let channel = connect::connect(address, CONNECT_TIMEOUT)
        .await
        .map_err(|error| Failure::new(Code::Unavailable, format!("{address}: {}", chain(&error)), None))?;
    let mut request = tonic::Request::new(RegisterRequest {
        node: Some(entry.clone()),
        cluster: cluster.to_bytes().to_vec().into(),
    });
    request.set_timeout(patience);
    let answer =
        connect::client(channel).register(request).await.map_err(|status| Failure::from_status(&status))?;
    Ok(answer.into_inner())
}

/// The refusal of a node that belongs to another cluster.
pub fn wrong_cluster(expected: ClusterId, actual: ClusterId, node: Option<NodeId>) -> Failure {
    let who = node.map_or_else(|| "the node".to_owned(), |node| format!("node {node}"));
    let message = format!(
        "{who} belongs to cluster {actual}, not to {expected}: give it an empty data folder, or ask the right cluster"
    );
    let detail = WrongCluster {
        expected: expected.to_bytes().to_vec().into(),
        actual: actual.to_bytes().to_vec().into(),
    };
    Failure::new(Code::FailedPrecondition, message, Some(Detail::WrongCluster(detail)))
}
