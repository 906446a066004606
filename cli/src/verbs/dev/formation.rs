//! Makes one cluster of nodes that were just started, or lets an old one come together.

use std::time::Duration;

use client::{Admin, Client, Error, Options};
use proto::v1::{
    CreateTableRequest, InitRequest, JoinRequest, ListTablesRequest, NodeState, SetClusterVersionRequest,
    StatusRequest, StatusResponse,
};

use super::layout::Layout;
use crate::verbs::cluster::version::supported_by_all;

/// How often it is looked whether the nodes have come further.
const LOOK: Duration = Duration::from_millis(50);
/// How long one look may take.
const LOOK_WITHIN: Duration = Duration::from_secs(2);
/// How long creating the table may take.
const CREATE_WITHIN: Duration = Duration::from_secs(60);
const TABLE: &str = "default";

/// Forms the cluster, and returns when it serves. Ends only with that or with an error that
/// waiting does not mend; the caller bounds the time.
pub async fn form(layout: &Layout, partitions: u32) -> anyhow::Result<()> {
    let endpoints: Vec<String> = layout.nodes().iter().map(|node| node.grpc.to_string()).collect();
    let options = Options { follow_map: false, ..Options::default() };
    let client = Client::connect_lazy(endpoints.clone(), options)?;
    let mut found = Vec::new();
    for endpoint in &endpoints {
        found.push(await_answer(&client, endpoint).await?);
    }

    // A node whose folder is from an earlier run knows its cluster already.
    let member = endpoints.iter().zip(&found).find(|(_, status)| !status.cluster.is_empty());
    let member = match (member, endpoints.first()) {
        (Some((endpoint, _)), _) => endpoint.clone(),
        (None, Some(first)) => {
            let admin = client.admin_at(first).with_deadline(CREATE_WITHIN);
            admin.init(InitRequest::default()).await?;
            first.clone()
        }
        (None, None) => anyhow::bail!("a cluster needs a node"),
    };
    for (endpoint, status) in endpoints.iter().zip(&found) {
        if status.cluster.is_empty() && *endpoint != member {
            join(&client, endpoint, &member).await?;
        }
    }

    await_state(&client, &member, |status| all_alive(status, endpoints.len())).await?;
    raise_version(&client.admin()).await?;
    ensure_table(&client.admin(), endpoints.len(), partitions).await?;
    await_state(&client, &member, |status| status.partitions_without_leader == 0).await
}

/// How many nodes should hold each partition of the first table: three, or one where there
/// are fewer than three nodes.
pub fn replicas_for(nodes: usize) -> u32 {
    if nodes < 3 { 1 } else { 3 }
}

async fn await_answer(client: &Client, endpoint: &str) -> anyhow::Result<StatusResponse> {
    let admin = client.admin_at(endpoint).with_deadline(LOOK_WITHIN);
    loop {
        match admin.status(StatusRequest {}).await {
            Ok(status) => return Ok(status),
            Err(error) if is_early(&error) => tokio::time::sleep(LOOK).await,
            Err(error) => return Err(error.into()),
        }
    }
}

async fn join(client: &Client, endpoint: &str, member: &str) -> anyhow::Result<()> {
    let admin = client.admin_at(endpoint).with_deadline(CREATE_WITHIN);
    loop {
        match admin.join(JoinRequest { address: member.to_owned() }).await {
            Ok(_) => return Ok(()),
            // An old cluster may still be electing.
            Err(error) if is_early(&error) => tokio::time::sleep(LOOK).await,
            Err(error) => return Err(error.into()),
        }
    }
}

async fn await_state(
    client: &Client,
    endpoint: &str,
    reached: impl Fn(&StatusResponse) -> bool,
) -> anyhow::Result<()> {
    while !reached(&await_answer(client, endpoint).await?) {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

fn all_alive(status: &StatusResponse, nodes: usize) -> bool {
    let alive = status.nodes.iter().filter(|node| {
        let removed = node.entry.as_ref().is_some_and(|entry| entry.state() == NodeState::Removed);
        node.alive && !removed
    });
    !status.meta_leader.is_empty() && alive.count() >= nodes
}

/// All nodes run one program, which may be newer than what the folder was written by.
async fn raise_version(admin: &Admin) -> anyhow::Result<()> {
    let status = admin.status(StatusRequest {}).await?;
    let version = supported_by_all(&status.nodes);
    if version > status.cluster_version {
        admin.set_cluster_version(SetClusterVersionRequest { version }).await?;
    }
    Ok(())
}

async fn ensure_table(admin: &Admin, nodes: usize, partitions: u32) -> anyhow::Result<()> {
    let admin = admin.clone().with_deadline(CREATE_WITHIN);
    let tables = admin.list_tables(ListTablesRequest {}).await?.tables;
    if tables.iter().any(|table| table.name == TABLE) {
        return Ok(());
    }
    let request = CreateTableRequest {
        name: TABLE.to_owned(),
        partitions,
        replicas: replicas_for(nodes),
        wait: true,
        ..CreateTableRequest::default()
    };
    match admin.create_table(request).await {
        Ok(_) | Err(Error::AlreadyExists(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether an error only says that a node is not ready yet.
fn is_early(error: &Error) -> bool {
    matches!(error, Error::Unavailable(_) | Error::DeadlineExceeded(_))
}

#[cfg(test)]
mod tests {
    use proto::v1::NodeStatus;

    use super::*;

    #[test]
    fn the_first_table_has_an_odd_number_of_replicas() {
        assert_eq!([1, 2, 3, 4, 9].map(replicas_for), [1, 1, 3, 3, 3]);
    }

    #[test]
    fn a_cluster_serves_with_a_leader_and_every_node() {
        let alive = NodeStatus { alive: true, ..NodeStatus::default() };
        let mut status = StatusResponse { nodes: vec![alive.clone(), alive], ..StatusResponse::default() };
        assert!(!all_alive(&status, 2), "no leader");
        status.meta_leader = vec![1; 16].into();
        assert!(all_alive(&status, 2));
        assert!(!all_alive(&status, 3));
    }
}
