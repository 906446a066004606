//! Which node an operation is sent to.

use placement::BucketCount;
use proto::v1::{MapRequest, MapResponse, admin_client::AdminClient};

use super::{TargetError, channel};
use crate::load::workload::Operation;

/// How a Trilith client chooses a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routing {
    /// Straight to the leader of the key's partition, as clients do that know the map.
    Leader,
    /// To one node, the same for all operations of a client; that node forwards.
    Any,
}

/// Where the leader of each bucket of a table is, by the number of its endpoint.
///
/// Taken once, when a target is opened. A leader that moves later costs a forward, not an
/// error: any node answers for any key.
#[derive(Debug, Clone)]
pub struct Routes {
    buckets: BucketCount,
    endpoint_of_bucket: Vec<Option<usize>>,
}

impl Routes {
    /// Asks the first of the nodes for the map and takes the routes from it.
    pub async fn fetch(endpoints: &[String], table: &str) -> Result<Self, TargetError> {
        let first = endpoints.first().ok_or(TargetError::NoEndpoint)?;
        let mut admin = AdminClient::new(channel::connect(first).await?).max_decoding_message_size(64 << 20);
        let mut answers = admin.map(MapRequest { follow: false }).await?.into_inner();
        let map = answers.message().await?.ok_or(TargetError::StreamEnded)?;
        Self::from_map(&map, endpoints, table)
    }

    /// Takes the routes of one table from a map. A leader whose address is none of the
    /// endpoints is not known: its keys go to any node.
    pub fn from_map(map: &MapResponse, endpoints: &[String], table: &str) -> Result<Self, TargetError> {
        let wanted = if table.is_empty() { "default" } else { table };
        let unknown = || TargetError::UnknownTable(wanted.to_owned());
        let table = map.tables.iter().find(|entry| entry.name == wanted).ok_or_else(unknown)?;
        let buckets = BucketCount::new(table.buckets).map_err(|_| TargetError::Unexpected("bucket count"))?;
        let mut endpoint_of_bucket = vec![None; usize::from(buckets.get())];
        for partition in map.partitions.iter().filter(|partition| partition.table == table.table) {
            let leader = map.nodes.iter().find(|node| node.node == partition.leader);
            let address = leader.and_then(|node| node.addresses.as_ref()).map(|addresses| &addresses.grpc);
            let endpoint = address.and_then(|address| {
                endpoints.iter().position(|endpoint| host_and_port(endpoint) == host_and_port(address))
            });
            for bucket in partition.first_bucket..=partition.last_bucket {
                if let Some(route) = endpoint_of_bucket.get_mut(bucket as usize) {
                    *route = endpoint;
                }
            }
        }
        Ok(Self { buckets, endpoint_of_bucket })
    }

    /// The endpoint that leads the key's partition, where that is known.
    pub fn endpoint_of(&self, operation: &Operation) -> Option<usize> {
        let bucket = self.buckets.bucket_of_key(operation.key());
        self.endpoint_of_bucket.get(usize::from(bucket.0)).copied().flatten()
    }
}

fn host_and_port(address: &str) -> &str {
    address.split_once("://").map_or(address, |(_, rest)| rest).trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proto::v1::{Addresses, NodeEntry, PartitionEntry, TableEntry};

    use super::*;

    fn node(id: u8, grpc: &str) -> NodeEntry {
        let addresses = Some(Addresses { grpc: grpc.to_owned(), ..Addresses::default() });
        NodeEntry { node: Bytes::from(vec![id; 16]), addresses, ..NodeEntry::default() }
    }

    fn partition(first_bucket: u32, last_bucket: u32, leader: u8) -> PartitionEntry {
        let leader = Bytes::from(vec![leader; 16]);
        PartitionEntry { table: 1, first_bucket, last_bucket, leader, ..PartitionEntry::default() }
    }

    fn map() -> MapResponse {
        MapResponse {
            tables: vec![TableEntry {
                table: 1,
                name: "default".to_owned(),
                buckets: 4,
                ..TableEntry::default()
            }],
            partitions: vec![partition(0, 1, 1), partition(2, 2, 2), partition(3, 3, 9)],
            nodes: vec![node(1, "127.0.0.1:7400"), node(2, "127.0.0.1:7410")],
            ..MapResponse::default()
        }
    }

    #[test]
    fn an_operation_goes_to_the_leader_of_its_bucket() {
        let endpoints = ["127.0.0.1:7410".to_owned(), "http://127.0.0.1:7400".to_owned()];
        let routes = Routes::from_map(&map(), &endpoints, "").unwrap();
        assert_eq!(routes.endpoint_of_bucket, [Some(1), Some(1), Some(0), None]);
        for key in ["a", "b", "c", "d", "e", "f"] {
            let operation = Operation::Get { key: Bytes::from_static(key.as_bytes()) };
            let bucket = BucketCount::new(4).unwrap().bucket_of_key(key.as_bytes());
            assert_eq!(
                routes.endpoint_of(&operation),
                routes.endpoint_of_bucket[usize::from(bucket.0)],
                "{key}"
            );
        }
    }

    #[test]
    fn a_table_that_is_not_there_is_named() {
        let error = Routes::from_map(&map(), &[], "orders").unwrap_err();
        assert_eq!(error.to_string(), "there is no table \"orders\": create it first");
    }
}
