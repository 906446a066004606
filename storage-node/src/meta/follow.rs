//! How the other nodes follow the meta group: what changed since a revision, and the map
//! that they build from it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use placement::{
    Bucket, ClusterId, Epoch, Leaders, NodeId, NodeState, Partition, PartitionId, PartitionMap, ReplicaId,
    Revision, Table, TableId, TableName,
};
use proto::convert::{self, BadMessage};
use proto::v1::{FollowResponse, MapResponse, NodeEntry, PartitionEntry, TableSettings};

use super::records::RecordKey;
use super::state::{Birth, MetaState, NodeDetails, TableDetails};

impl MetaState {
    /// Everything that changed after a revision; everything there is when that revision is
    /// none of this cluster's, or so old that drops since then are forgotten.
    pub fn changes_since(&self, revision: Revision) -> FollowResponse {
        let full = revision.0 == 0 || revision > self.map.revision || revision < self.changes.forgotten();
        let mut response = FollowResponse {
            revision: self.map.revision.0,
            full,
            meta: Some((&self.meta).into()),
            cluster_version: self.cluster_version,
            ..FollowResponse::default()
        };
        let from = if full { Revision(0) } else { revision };
        for key in self.changes.since(from) {
            match key {
                RecordKey::Node(node) => response.nodes.extend(self.node_entry(node)),
                RecordKey::Table(table) => response.tables.extend(self.table_entry(table)),
                RecordKey::Partition(id) => {
                    response.partitions.extend(self.map.partitions.get(&id).map(PartitionEntry::from));
                    response.births.extend(self.births.get(&id).map(|birth| birth.to_message(id)));
                }
                RecordKey::DroppedTable(table) if !full => response.dropped_tables.push(table.0),
                RecordKey::DroppedPartition(id) if !full => response.dropped_partitions.push(id.0),
                RecordKey::DroppedTable(_)
                | RecordKey::DroppedPartition(_)
                | RecordKey::Head
                | RecordKey::Meta
                | RecordKey::Move(_) => {}
            }
        }
        response
    }
}

/// The cluster as a node that follows knows it: the map, and the way from a key to its
/// partition without a search.
///
/// Shared as an `Arc`; a change is made on a copy, which costs as much as the map is long
/// and happens only when the map changes.
#[derive(Debug, Clone, PartialEq)]
pub struct FollowedMap {
    map: PartitionMap,
    nodes: BTreeMap<NodeId, NodeDetails>,
    tables: BTreeMap<TableId, TableDetails>,
    births: BTreeMap<PartitionId, Birth>,
    meta: Partition,
    cluster_version: u32,
    by_name: HashMap<TableName, TableId>,
    /// For each table the partition of each of its buckets.
    routes: HashMap<TableId, Arc<Vec<Option<PartitionId>>>>,
}

impl Default for FollowedMap {
    fn default() -> Self {
        let empty = MetaState::default();
        Self {
            map: PartitionMap::default(),
            nodes: BTreeMap::new(),
            tables: BTreeMap::new(),
            births: BTreeMap::new(),
            meta: empty.meta,
            cluster_version: 0,
            by_name: HashMap::new(),
            routes: HashMap::new(),
        }
    }
}

/// Takes what the meta leader said into a map. On an error the map is as it was.
pub fn follow_apply(followed: &mut FollowedMap, response: &FollowResponse) -> Result<(), BadMessage> {
    let mut next = if response.full { FollowedMap::default() } else { followed.clone() };
    next.take(response)?;
    *followed = next;
    Ok(())
}

impl FollowedMap {
    /// Nodes, tables and partitions.
    pub fn map(&self) -> &PartitionMap {
        &self.map
    }

    /// The revision that it stands at; ask for what changed since.
    pub fn revision(&self) -> Revision {
        self.map.revision
    }

    /// The cluster version that is active.
    pub fn cluster_version(&self) -> u32 {
        self.cluster_version
    }

    /// The meta group's own replicas.
    pub fn meta(&self) -> &Partition {
        &self.meta
    }

    /// What a partition was when it was created.
    pub fn birth(&self, partition: PartitionId) -> Option<&Birth> {
        self.births.get(&partition)
    }

    /// What placement does not care about, of a node.
    pub fn node_details(&self, node: NodeId) -> Option<&NodeDetails> {
        self.nodes.get(&node)
    }

    /// The table of that name.
    pub fn table(&self, name: &TableName) -> Option<&Table> {
        self.map.tables.get(self.by_name.get(name)?)
    }

    /// What the partitions of a table must know.
    pub fn settings(&self, table: TableId) -> TableSettings {
        self.tables.get(&table).and_then(|details| details.settings.clone()).unwrap_or_default()
    }

    /// The version of what the partitions of a table must know; 0: nobody has said anything.
    pub fn settings_version(&self, table: TableId) -> u64 {
        let settings = self.tables.get(&table).and_then(|details| details.settings.as_ref());
        settings.map_or(0, |settings| settings.version)
    }

    /// How many milliseconds a read gives an item of a table; 0: none.
    pub fn touch_on_read_ms(&self, table: TableId) -> u64 {
        let settings = self.tables.get(&table).and_then(|details| details.settings.as_ref());
        settings.map_or(0, |settings| settings.touch_on_read_ms)
    }

    /// A partition; 0 is the meta group.
    pub fn partition(&self, id: PartitionId) -> Option<&Partition> {
        if id == PartitionId::META { Some(&self.meta) } else { self.map.partitions.get(&id) }
    }

    /// The partition that owns a bucket of a table.
    pub fn owner_of(&self, table: TableId, bucket: Bucket) -> Option<&Partition> {
        let id = self.routes.get(&table)?.get(usize::from(bucket.0))?.as_ref()?;
        self.map.partitions.get(id)
    }

    /// The partition that owns a key of a table.
    pub fn route(&self, table: &Table, key: &[u8]) -> Option<&Partition> {
        self.owner_of(table.id, table.buckets.bucket_of_key(key))
    }

    /// The replicas that a node holds, of partitions and of the meta group.
    pub fn held_by(&self, node: NodeId) -> impl Iterator<Item = (&Partition, &placement::Replica)> {
        let every = self.map.partitions.values().chain(std::iter::once(&self.meta));
        every.filter_map(move |partition| Some((partition, partition.replica_on(node)?)))
    }

    /// The replicas that a node will hold of partitions that are about to be cut off others.
    pub fn about_to_be_cut_off(&self, node: NodeId) -> impl Iterator<Item = (PartitionId, ReplicaId)> {
        let pending = self.births.values().filter_map(|birth| birth.split.as_ref());
        pending.flat_map(move |split| {
            let here = split.replicas.iter().filter(move |replica| replica.node == node);
            here.map(move |replica| (split.child, replica.id))
        })
    }

    /// The map for clients, with who leads what as far as that is known. Nodes that were
    /// removed are left out.
    pub fn to_map_response(&self, cluster: ClusterId, leaders: &Leaders) -> MapResponse {
        let table = |(id, table): (&TableId, &Table)| {
            let details = self.tables.get(id)?;
            Some(details.entry(table))
        };
        let partition =
            |partition: &Partition| convert::partition_entry(partition, leaders.get(&partition.id).copied());
        let nodes = self.map.nodes.values().filter(|node| node.state != NodeState::Removed);
        MapResponse {
            cluster: bytes::Bytes::copy_from_slice(&cluster.to_bytes()),
            revision: self.map.revision.0,
            tables: self.map.tables.iter().filter_map(table).collect(),
            partitions: self.map.partitions.values().map(partition).collect(),
            nodes: nodes.filter_map(|node| self.node_entry(node)).collect(),
        }
    }

    fn node_entry(&self, node: &placement::Node) -> Option<NodeEntry> {
        let details = self.nodes.get(&node.id)?;
        Some(convert::node_entry(node, &details.addresses, details.supports_version))
    }

    fn take(&mut self, response: &FollowResponse) -> Result<(), BadMessage> {
        for entry in &response.nodes {
            let node = placement::Node::try_from(entry)?;
            self.nodes.insert(node.id, NodeDetails::of(entry));
            self.map.nodes.insert(node.id, node);
        }
        for entry in &response.tables {
            let table = Table::try_from(entry)?;
            self.tables.insert(table.id, TableDetails::of(entry));
            self.by_name.insert(table.name.clone(), table.id);
            let route = self.routes.entry(table.id).or_default();
            Arc::make_mut(route).resize(usize::from(table.buckets.get()), None);
            self.map.tables.insert(table.id, table);
        }
        for birth in &response.births {
            self.births.insert(PartitionId(birth.partition), Birth::try_from(birth)?);
        }
        for entry in &response.partitions {
            self.take_partition(Partition::try_from(entry)?);
        }
        for id in &response.dropped_partitions {
            self.drop_partition(PartitionId(*id));
        }
        for id in &response.dropped_tables {
            let id = TableId(*id);
            if let Some(table) = self.map.tables.remove(&id)
                && self.by_name.get(&table.name) == Some(&id)
            {
                self.by_name.remove(&table.name);
            }
            self.tables.remove(&id);
            self.routes.remove(&id);
        }
        if let Some(meta) = &response.meta {
            let meta = Partition::try_from(meta)?;
            // A slow answer of an earlier meta leader does not take back what is known.
            if meta.epoch >= self.meta.epoch || self.meta.epoch == Epoch(0) {
                self.meta = meta;
            }
        }
        self.cluster_version = response.cluster_version;
        self.map.revision = Revision(response.revision);
        Ok(())
    }

    fn take_partition(&mut self, partition: Partition) {
        let route = self.routes.entry(partition.table).or_default();
        let route = Arc::make_mut(route);
        let buckets = partition.buckets;
        // A partition that shrank gives up what it had; whoever has it now says so itself.
        if let Some(before) =
            self.map.partitions.get(&partition.id).filter(|before| before.buckets != buckets)
        {
            for bucket in before.buckets.iter() {
                let owned = route.get_mut(usize::from(bucket.0));
                if let Some(owner) = owned.filter(|owner| **owner == Some(partition.id)) {
                    *owner = None;
                }
            }
        }
        if route.len() <= usize::from(buckets.last.0) {
            route.resize(usize::from(buckets.last.0) + 1, None);
        }
        for owner in route.iter_mut().take(usize::from(buckets.last.0) + 1).skip(usize::from(buckets.first.0))
        {
            *owner = Some(partition.id);
        }
        self.map.partitions.insert(partition.id, partition);
    }

    fn drop_partition(&mut self, id: PartitionId) {
        self.births.remove(&id);
        let Some(partition) = self.map.partitions.remove(&id) else { return };
        if let Some(route) = self.routes.get_mut(&partition.table) {
            for owner in Arc::make_mut(route).iter_mut().filter(|owner| **owner == Some(id)) {
                *owner = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::meta_command::Command;
    use proto::v1::{AlterTable, DropTable};

    use super::*;
    use crate::meta::testing::{cluster, must, node, table};

    fn follow(followed: &mut FollowedMap, state: &MetaState) -> FollowResponse {
        let response = state.changes_since(followed.revision());
        follow_apply(followed, &response).unwrap();
        response
    }

    #[test]
    fn a_follower_learns_tables_finds_their_partitions_and_forgets_dropped_ones() {
        let mut state = cluster(3);
        let mut followed = FollowedMap::default();
        assert!(follow(&mut followed, &state).full);

        must(&mut state, table("orders", &[&[1, 2, 3], &[2, 3, 1]]));
        let response = follow(&mut followed, &state);
        assert!(!response.full && response.nodes.is_empty() && response.partitions.len() == 2);
        let name = TableName::parse("orders").unwrap();
        let orders = followed.table(&name).unwrap().clone();
        assert_eq!(followed.owner_of(orders.id, Bucket(31)).unwrap().id, PartitionId(1));
        assert_eq!(followed.owner_of(orders.id, Bucket(32)).unwrap().id, PartitionId(2));
        assert!(followed.route(&orders, b"some key").is_some());
        assert_eq!(followed.birth(PartitionId(2)).unwrap().replicas[0].node, node(2));
        assert_eq!(followed.held_by(node(1)).count(), 3, "two partitions and the meta group");

        let change =
            AlterTable { name: "orders".to_owned(), default_ttl_ms: Some(9), ..AlterTable::default() };
        must(&mut state, Command::AlterTable(change));
        assert!(follow(&mut followed, &state).partitions.is_empty());
        assert_eq!(followed.table(&name).unwrap().default_ttl_ms, 9);

        must(&mut state, Command::DropTable(DropTable { name: "orders".to_owned() }));
        must(&mut state, table("orders", &[&[3, 2, 1]]));
        let response = follow(&mut followed, &state);
        assert_eq!(response.dropped_partitions, [1, 2]);
        assert_eq!(followed.table(&name).unwrap().id, TableId(2));
        assert!(followed.owner_of(orders.id, Bucket(0)).is_none());
        assert_eq!(followed.owner_of(TableId(2), Bucket(63)).unwrap().id, PartitionId(3));
    }

    #[test]
    fn whoever_asks_from_nowhere_or_from_the_future_is_given_everything() {
        let state = cluster(3);
        let now = state.map().revision;
        assert!(state.changes_since(Revision(0)).full);
        assert!(state.changes_since(Revision(now.0 + 1)).full);
        let nothing = state.changes_since(now);
        assert!(!nothing.full && nothing.nodes.is_empty());
    }

    #[test]
    fn clients_are_not_told_of_nodes_that_were_removed() {
        let mut state = cluster(2);
        for to in
            [proto::v1::NodeState::Draining, proto::v1::NodeState::Drained, proto::v1::NodeState::Removed]
        {
            must(&mut state, crate::meta::testing::node_state(2, to));
        }
        let mut followed = FollowedMap::default();
        follow(&mut followed, &state);
        assert_eq!(followed.map().nodes.len(), 2, "the node itself has to learn that it was removed");
        let map = followed.to_map_response(state.cluster().unwrap(), &Leaders::new());
        assert_eq!(map.nodes.len(), 1);
    }
}
