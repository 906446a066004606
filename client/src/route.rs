//! The map that the client routes by: from a key to the node that leads its partition.

use std::collections::HashMap;
use std::sync::Arc;

use placement::{BucketCount, NodeId};
use proto::v1::{MapResponse, NodeState, NotLeader, PartitionEntry, WrongEpoch};

/// Where a node answers, as `host:port` or a URL.
pub(crate) type Address = Arc<str>;

/// The cluster's map at one revision, with what redirects have told since.
#[derive(Debug, Clone, Default)]
pub(crate) struct RouteMap {
    cluster: Vec<u8>,
    revision: u64,
    tables: HashMap<String, Arc<TableRoute>>,
    partitions: HashMap<u64, Arc<PartitionRoute>>,
    nodes: HashMap<NodeId, Address>,
}

#[derive(Debug, Clone)]
struct TableRoute {
    id: u32,
    buckets: BucketCount,
    /// By bucket; `None` where the map is silent.
    owners: Vec<Option<u64>>,
}

#[derive(Debug, Clone, PartialEq)]
struct PartitionRoute {
    table: u32,
    first: usize,
    last: usize,
    epoch: u64,
    leader: Option<NodeId>,
}

impl RouteMap {
    /// The map that a node sent.
    pub(crate) fn new(map: &MapResponse) -> Self {
        let mut route = Self { cluster: map.cluster.to_vec(), revision: map.revision, ..Self::default() };
        for node in map.nodes.iter().filter(|node| node.state() != NodeState::Removed) {
            let address = node.addresses.as_ref().map_or("", |addresses| addresses.grpc.as_str());
            if let (Some(id), false) = (NodeId::from_bytes(&node.node), address.is_empty()) {
                route.nodes.insert(id, address.into());
            }
        }
        for table in &map.tables {
            if let Ok(buckets) = BucketCount::new(table.buckets) {
                let owners = vec![None; usize::from(buckets.get())];
                let entry = TableRoute { id: table.table, buckets, owners };
                route.tables.insert(table.name.clone(), Arc::new(entry));
            }
        }
        for entry in &map.partitions {
            route.partitions.insert(entry.partition, Arc::new(PartitionRoute::new(entry)));
        }
        route.rebuild_owners();
        route
    }

    /// Whether a map may take this one's place: it is of the same cluster and not older.
    pub(crate) fn may_be_replaced_by(&self, map: &MapResponse) -> bool {
        self.cluster.is_empty() || (self.cluster == map.cluster && self.revision <= map.revision)
    }

    /// Where the leader of a key answers, as far as is known.
    pub(crate) fn leader_of(&self, table: &str, key: &[u8]) -> Option<&Address> {
        let partition = self.partitions.get(&self.partition_of(table, key)?)?;
        self.nodes.get(&partition.leader?)
    }

    /// The partition that owns a key, as far as is known.
    pub(crate) fn partition_of(&self, table: &str, key: &[u8]) -> Option<u64> {
        let name = if table.is_empty() { placement::TableName::DEFAULT } else { table };
        let table = self.tables.get(name)?;
        let bucket = table.buckets.bucket_of_key(key);
        *table.owners.get(usize::from(bucket.0))?
    }

    /// Every node's address.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.nodes.values()
    }

    /// This map with what a follower said; `None` when that is nothing new.
    pub(crate) fn with_leader(&self, hint: &NotLeader) -> Option<Self> {
        let leader = NodeId::from_bytes(&hint.leader_node);
        let old = self.partitions.get(&hint.partition)?;
        let address_is_new = match leader {
            Some(node) if !hint.leader_address.is_empty() => {
                self.nodes.get(&node).is_none_or(|known| **known != *hint.leader_address)
            }
            _ => false,
        };
        if old.leader == leader && !address_is_new {
            return None;
        }
        let mut route = self.clone();
        let entry = PartitionRoute { leader, ..PartitionRoute::clone(old) };
        route.partitions.insert(hint.partition, Arc::new(entry));
        if let (Some(node), true) = (leader, address_is_new) {
            route.nodes.insert(node, hint.leader_address.as_str().into());
        }
        Some(route)
    }

    /// This map with the entries that it lacked; `None` when it has them all.
    pub(crate) fn with_entries(&self, news: &WrongEpoch) -> Option<Self> {
        let newer = |entry: &&PartitionEntry| {
            let known = self.partitions.get(&entry.partition);
            known.is_none_or(|known| known.epoch < entry.epoch)
        };
        let entries: Vec<_> = news.partitions.iter().filter(newer).collect();
        if entries.is_empty() {
            return None;
        }
        let mut route = self.clone();
        for entry in entries {
            route.partitions.insert(entry.partition, Arc::new(PartitionRoute::new(entry)));
        }
        route.rebuild_owners();
        Some(route)
    }

    /// Fills in which partition owns which bucket. Where two claim one, the newer epoch is
    /// right: the other has shrunk since it was heard of.
    fn rebuild_owners(&mut self) {
        let mut in_order: Vec<_> = self.partitions.iter().collect();
        in_order.sort_by_key(|(id, partition)| (partition.epoch, **id));
        let mut by_table: HashMap<u32, Vec<(u64, &PartitionRoute)>> = HashMap::new();
        for (id, partition) in in_order {
            by_table.entry(partition.table).or_default().push((*id, partition));
        }
        for table in self.tables.values_mut() {
            let mut owners = vec![None; table.owners.len()];
            for (id, partition) in by_table.get(&table.id).into_iter().flatten() {
                let run = partition.first..partition.last.saturating_add(1).min(owners.len());
                owners.get_mut(run).unwrap_or_default().fill(Some(*id));
            }
            if table.owners != owners {
                *table = Arc::new(TableRoute { owners, ..TableRoute::clone(table) });
            }
        }
    }
}

impl PartitionRoute {
    fn new(entry: &PartitionEntry) -> Self {
        Self {
            table: entry.table,
            first: entry.first_bucket as usize,
            last: entry.last_bucket as usize,
            epoch: entry.epoch,
            leader: NodeId::from_bytes(&entry.leader),
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::{Addresses, NodeEntry, TableEntry};

    use super::*;

    fn node(byte: u8) -> Vec<u8> {
        vec![byte; 16]
    }

    fn partition(partition: u64, buckets: (u32, u32), epoch: u64, leader: u8) -> PartitionEntry {
        PartitionEntry {
            partition,
            table: 5,
            first_bucket: buckets.0,
            last_bucket: buckets.1,
            epoch,
            replicas: Vec::new(),
            leader: node(leader).into(),
        }
    }

    fn map() -> RouteMap {
        let entry = |byte: u8| NodeEntry {
            node: node(byte).into(),
            addresses: Some(Addresses { grpc: format!("n{byte}:1"), ..Addresses::default() }),
            ..NodeEntry::default()
        };
        RouteMap::new(&MapResponse {
            cluster: node(9).into(),
            revision: 4,
            tables: vec![TableEntry {
                table: 5,
                name: "default".into(),
                buckets: 64,
                ..TableEntry::default()
            }],
            partitions: vec![partition(1, (0, 31), 1, 1), partition(2, (32, 63), 1, 2)],
            nodes: vec![entry(1), entry(2)],
        })
    }

    fn leader(route: &RouteMap, key: &str) -> Option<String> {
        route.leader_of("", key.as_bytes()).map(ToString::to_string)
    }

    #[test]
    fn a_key_leads_to_its_leader() {
        // Slots 12182 and 5061: buckets 47 and 19 of 64.
        assert_eq!(leader(&map(), "foo"), Some("n2:1".into()));
        assert_eq!(leader(&map(), "bar"), Some("n1:1".into()));
        assert_eq!(map().leader_of("other", b"foo"), None);
    }

    #[test]
    fn redirects_teach() {
        let hint = NotLeader { partition: 2, leader_node: node(3).into(), leader_address: "n3:1".into() };
        let route = map().with_leader(&hint).unwrap();
        assert_eq!(leader(&route, "foo"), Some("n3:1".into()));
        assert!(route.with_leader(&hint).is_none(), "nothing new the second time");
        let nobody = NotLeader { partition: 2, ..NotLeader::default() };
        assert_eq!(leader(&route.with_leader(&nobody).unwrap(), "foo"), None);
    }

    #[test]
    fn newer_entries_win_over_older_ones() {
        let news = WrongEpoch { partitions: vec![partition(3, (40, 63), 2, 1)], map_revision: 5 };
        let route = map().with_entries(&news).unwrap();
        assert_eq!(leader(&route, "foo"), Some("n1:1".into()));
        assert_eq!(leader(&route, "bar"), Some("n1:1".into()));
        let stale = WrongEpoch { partitions: vec![partition(3, (0, 63), 1, 2)], map_revision: 5 };
        assert!(route.with_entries(&stale).is_none());
    }

    #[test]
    fn a_map_of_another_cluster_or_an_older_one_is_refused() {
        let newer = |cluster: u8, revision| MapResponse {
            cluster: node(cluster).into(),
            revision,
            ..MapResponse::default()
        };
        assert!(map().may_be_replaced_by(&newer(9, 4)));
        assert!(!map().may_be_replaced_by(&newer(9, 3)));
        assert!(!map().may_be_replaced_by(&newer(8, 9)));
        assert!(RouteMap::default().may_be_replaced_by(&newer(8, 1)));
    }
}
