//! What the tests of the meta group build their states from.

use std::collections::BTreeSet;

use bytes::Bytes;
use placement::{
    Bucket, BucketRange, Epoch, NodeId, Partition, PartitionId, Replica, ReplicaId, Role, TableId,
};
use proto::v1::meta_answer::Outcome;
use proto::v1::meta_command::Command;
use proto::v1::{
    Addresses, CreateTable, FollowerReport, GroupReport, InitCluster, MetaAnswer, MetaCommand,
    Move as MoveMessage, NodeEntry, NodeList, RefusalKind, RegisterNode, SetNodeState, StartMoves,
};

use super::state::{MetaState, MoveId};

/// The node of that number.
pub fn node(number: u8) -> NodeId {
    NodeId::from_bytes(&[number; 16]).unwrap()
}

/// A set of replicas.
pub fn replicas(ids: &[u64]) -> BTreeSet<ReplicaId> {
    ids.iter().map(|id| ReplicaId(*id)).collect()
}

/// A partition whose replica n is on node n.
pub fn partition(id: u64, voters: &[u64]) -> Partition {
    let replica = |id: &u64| Replica { id: ReplicaId(*id), node: node(*id as u8), role: Role::Voter };
    Partition {
        id: PartitionId(id),
        table: TableId(1),
        buckets: BucketRange { first: Bucket(0), last: Bucket(63) },
        epoch: Epoch(1),
        replicas: voters.iter().map(replica).collect(),
    }
}

/// A leader's report of a group in which everybody has caught up with 100 entries.
pub fn group(partition: u64, leader: u64, voters: &[u64], learners: &[u64]) -> GroupReport {
    let others = voters.iter().chain(learners).filter(|replica| **replica != leader);
    GroupReport {
        partition,
        replica: leader,
        leads: true,
        term: 1,
        applied_index: 100,
        last_index: 100,
        followers: others.map(|replica| FollowerReport { replica: *replica, matched_index: 100 }).collect(),
        voters: voters.to_vec(),
        learners: learners.to_vec(),
        ..GroupReport::default()
    }
}

/// A node as it registers, in a zone of its own unless one is given.
pub fn entry(number: u8, zone: &str) -> NodeEntry {
    NodeEntry {
        node: Bytes::copy_from_slice(&node(number).to_bytes()),
        name: format!("node-{number}"),
        addresses: Some(Addresses {
            grpc: format!("10.0.0.{number}:7400"),
            peer: format!("10.0.0.{number}:7401"),
            http: format!("10.0.0.{number}:7402"),
            ..Addresses::default()
        }),
        zone: zone.to_owned(),
        supports_version: 1,
        ..NodeEntry::default()
    }
}

/// Applies a command that this program knows.
pub fn apply(state: &mut MetaState, command: Command) -> MetaAnswer {
    state.apply(MetaCommand { command: Some(command) }).unwrap().answer
}

/// Applies a command that must not be refused.
pub fn must(state: &mut MetaState, command: Command) -> Outcome {
    match apply(state, command).outcome.unwrap() {
        Outcome::Refused(refused) => panic!("{}", refused.failure.unwrap().message),
        outcome => outcome,
    }
}

/// Applies a command that must be refused, and says how.
pub fn refused(state: &mut MetaState, command: Command) -> RefusalKind {
    let before = state.clone();
    let applied = state.apply(MetaCommand { command: Some(command) }).unwrap();
    assert!(applied.changes.is_empty());
    assert_eq!(*state, before, "a refusal changes nothing");
    match applied.answer.outcome.unwrap() {
        Outcome::Refused(refused) => refused.kind(),
        outcome => panic!("not refused: {outcome:?}"),
    }
}

/// The command that creates the cluster on node 1.
pub fn init() -> Command {
    Command::InitCluster(InitCluster {
        cluster: Bytes::from_static(&[0xcc; 16]),
        first_node: Some(entry(1, "zone-1")),
        first_meta_replica: 1,
    })
}

/// A cluster of that many nodes, each in a zone of its own.
pub fn cluster(nodes: u8) -> MetaState {
    let mut state = MetaState::default();
    must(&mut state, init());
    for number in 2..=nodes {
        let node = Some(entry(number, &format!("zone-{number}")));
        must(&mut state, Command::RegisterNode(RegisterNode { node }));
    }
    state
}

/// The command that creates a table with these nodes for each partition.
pub fn table(name: &str, partitions: &[&[u8]]) -> Command {
    let list = |nodes: &&[u8]| NodeList {
        nodes: nodes.iter().map(|number| Bytes::copy_from_slice(&node(*number).to_bytes())).collect(),
    };
    Command::CreateTable(CreateTable {
        name: name.to_owned(),
        buckets: 64,
        replicas: partitions.first().map_or(0, |nodes| nodes.len() as u32),
        default_ttl_ms: 0,
        owner: String::new(),
        partitions: partitions.iter().map(list).collect(),
        history: None,
        split: None,
        values: None,
        touch_on_read_ms: 0,
        indexes: Vec::new(),
    })
}

/// The command that takes a node to a state.
pub fn node_state(number: u8, state: proto::v1::NodeState) -> Command {
    Command::SetNodeState(SetNodeState {
        node: Bytes::copy_from_slice(&node(number).to_bytes()),
        state: state.into(),
        presumed_dead: false,
    })
}

/// Orders a move that must be accepted.
pub fn order(state: &mut MetaState, order: placement::Move) -> MoveId {
    let start = StartMoves { moves: vec![MoveMessage::from(&order)], expected_revision: 0 };
    match must(state, Command::StartMoves(start)) {
        Outcome::Started(started) => MoveId(started.moves[0]),
        outcome => panic!("{outcome:?}"),
    }
}
