//! Small clusters for tests, and how they look as text.

use std::fmt::Write;

use uuid::Uuid;

use super::{Policy, place_table, plan};
use crate::bucket::BucketCount;
use crate::check::check;
use crate::id::{Epoch, NodeId, PartitionId, ReplicaId, TableId, TableName};
use crate::map::{Node, NodeState, Partition, PartitionMap, Replica, Role, Table};
use crate::moves::{Leaders, Move, after, describe};

/// A cluster that tests change and look at.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sketch {
    pub map: PartitionMap,
    pub leaders: Leaders,
    pub policy: Policy,
}

pub(crate) fn node(number: usize) -> NodeId {
    NodeId(Uuid::from_u128(number as u128))
}

impl Sketch {
    /// Nodes `node-1`, `node-2` and so on, each in the zone that is given for it.
    pub fn with_zones(zones: &[&str]) -> Self {
        let mut sketch = Self::default();
        zones.iter().for_each(|zone| sketch.add_node(zone, ""));
        sketch
    }

    pub fn add_node(&mut self, zone: &str, host: &str) {
        let number = self.map.nodes.len() + 1;
        let known = Node {
            id: node(number),
            name: format!("node-{number}"),
            state: NodeState::Serving,
            zone: zone.to_owned(),
            host: host.to_owned(),
        };
        self.map.nodes.insert(known.id, known);
    }

    pub fn set_state(&mut self, number: usize, state: NodeState) {
        self.map.nodes.get_mut(&node(number)).unwrap().state = state;
    }

    pub fn add_table(&mut self, name: &str, partitions: u16, replicas: u8) {
        let places = place_table(&self.map, partitions, replicas).unwrap();
        self.add_table_at(name, replicas, &places);
    }

    /// A table whose partitions are where it is said, each led by the first node of its list.
    pub fn add_table_at(&mut self, name: &str, replicas: u8, places: &[Vec<NodeId>]) {
        let id = TableId(self.map.tables.len() as u32 + 1);
        let buckets = BucketCount::new(1024).unwrap();
        let name = TableName::parse(name).unwrap();
        self.map.tables.insert(id, Table { id, name, buckets, replicas, default_ttl_ms: 0 });
        let runs = buckets.split(1024);
        for (number, places) in places.iter().enumerate() {
            let partition = PartitionId(self.map.partitions.len() as u64 + 1);
            let replicas = places.iter().map(|place| {
                let replica = ReplicaId(partition.0 * 10 + place.0.as_u128() as u64 * 1_000_000);
                Replica { id: replica, node: *place, role: Role::Voter }
            });
            if let Some(leader) = places.first() {
                self.leaders.insert(partition, *leader);
            }
            let replicas = replicas.collect();
            let buckets = runs[number % runs.len()];
            let made = Partition { id: partition, table: id, buckets, epoch: Epoch(1), replicas };
            self.map.partitions.insert(partition, made);
        }
    }

    pub fn set_replicas(&mut self, replicas: u8) {
        self.map.tables.values_mut().for_each(|table| table.replicas = replicas);
    }

    pub fn plan(&self) -> Vec<Move> {
        plan(&self.map, &self.leaders, &self.policy)
    }

    /// Carries moves out. A partition that loses its leader is led by the voter with the
    /// smallest id next: whatever the mover chooses must do.
    pub fn make(&mut self, moves: &[Move]) {
        self.map = after(&self.map, moves);
        for mv in moves {
            if let Move::TransferLeader { partition, to, .. } = mv {
                self.leaders.insert(*partition, *to);
            } else if self.leaders.get(&mv.partition()).copied() == mv.from() && mv.from().is_some() {
                let next = self.map.partitions[&mv.partition()].voters().map(|voter| voter.node).min();
                self.leaders.insert(mv.partition(), next.unwrap());
            }
        }
    }

    /// Plans and carries out until a plan is empty. Gives the plans, each of which the
    /// checker must accept.
    pub fn settle(&mut self) -> Vec<Vec<Move>> {
        let mut plans = Vec::new();
        loop {
            let moves = self.plan();
            if moves.is_empty() {
                return plans;
            }
            let verdict = check(&self.map, &self.leaders, &moves, &self.policy);
            assert_eq!(verdict, Ok(()), "\n{}\n{moves:#?}", self.picture());
            self.make(&moves);
            plans.push(moves);
            assert!(plans.len() < 30, "the plans do not come to an end:\n{}\n{plans:#?}", self.picture());
        }
    }

    /// How many copies each serving node holds.
    pub fn loads(&self) -> Vec<usize> {
        let held = |id| self.map.partitions.values().filter(|part| part.replica_on(id).is_some()).count();
        self.serving().map(held).collect()
    }

    /// How many partitions each serving node leads.
    pub fn leads(&self) -> Vec<usize> {
        self.serving().map(|id| self.leaders.values().filter(|leader| **leader == id).count()).collect()
    }

    pub fn serving(&self) -> impl Iterator<Item = NodeId> {
        let serves = |node: &&Node| node.state == NodeState::Serving;
        self.map.nodes.values().filter(serves).map(|node| node.id)
    }

    pub fn replicas(&self) -> usize {
        self.map.partitions.values().map(|partition| partition.replicas.len()).sum()
    }

    /// The cluster as a table: a line for each node, `*` behind what it leads.
    pub fn picture(&self) -> String {
        let mut text = String::from("node     state     zone  host  copies  leads  partitions\n");
        for known in self.map.nodes.values() {
            let held: Vec<_> =
                self.map.partitions.values().filter(|part| part.replica_on(known.id).is_some()).collect();
            let leads = |part: &Partition| self.leaders.get(&part.id) == Some(&known.id);
            let names: Vec<String> = held
                .iter()
                .map(|part| format!("{}{}", part.id, if leads(part) { "*" } else { "" }))
                .collect();
            let line = format!(
                "{:<8} {:<9} {:<5} {:<5} {:>6} {:>6}  {}",
                known.name,
                format!("{:?}", known.state).to_lowercase(),
                known.zone,
                known.host,
                held.len(),
                held.iter().filter(|part| leads(part)).count(),
                names.join(" ")
            );
            writeln!(text, "{}", line.trim_end()).unwrap();
        }
        text
    }

    /// The cluster before, the plans until nothing is left to do, and the cluster after.
    pub fn story(mut self) -> String {
        let mut text = format!("before\n\n{}", self.picture());
        let mut map = self.map.clone();
        let plans = self.settle();
        if plans.is_empty() {
            text += "\nthe plan is empty\n";
            return text;
        }
        for (number, moves) in plans.iter().enumerate() {
            writeln!(text, "\nplan {}\n", number + 1).unwrap();
            moves.iter().for_each(|mv| writeln!(text, "{}", describe(&map, mv)).unwrap());
            map = after(&map, moves);
        }
        writeln!(text, "\nafter\n\n{}", self.picture()).unwrap();
        text
    }
}

/// Whether the numbers differ by one at most.
pub(crate) fn even(loads: &[usize]) -> bool {
    loads.iter().max().unwrap_or(&0) - loads.iter().min().unwrap_or(&0) <= 1
}
