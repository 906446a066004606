//! What each command does and what it refuses; and that any sequence of commands leaves
//! records and followers that agree with the state.

use bytes::Bytes;
use placement::{ClusterId, TableName};
use proptest::prelude::*;
use proto::v1::change_meta::Change;
use proto::v1::{
    AdvanceMove, AlterTable, CancelMove, ChangeMeta, DropTable, MetaVoters, Move as MoveMessage,
    NodeState as StateMessage, RefusalKind, RegisterNode, SetNodeState, StartMoves,
};

use placement::Revision;

use super::*;
use crate::meta::follow::{FollowedMap, follow_apply};
use crate::meta::orders::{KEPT_ENDED, MOST_MOVES};
use crate::meta::testing::{
    apply, cluster, entry, init, must, node, node_state, order, refused, replicas, table,
};

fn register(entry: NodeEntry) -> Command {
    Command::RegisterNode(RegisterNode { node: Some(entry) })
}

fn remove(number: u8, presumed_dead: bool) -> Command {
    let node = Bytes::copy_from_slice(&node(number).to_bytes());
    Command::SetNodeState(SetNodeState { node, state: StateMessage::Removed.into(), presumed_dead })
}

fn start(orders: &[Move], expected_revision: u64) -> Command {
    Command::StartMoves(StartMoves {
        moves: orders.iter().map(MoveMessage::from).collect(),
        expected_revision,
    })
}

fn advance(id: MoveId, from: MoveStage, to: MoveStage, ending: MoveStage) -> Command {
    Command::AdvanceMove(AdvanceMove {
        id: id.0,
        from: from.into(),
        to: to.into(),
        ending: ending.into(),
        detail: String::new(),
    })
}

fn replace(partition: u64, replica: u64, from: u8, to: u8) -> Move {
    Move::Replace {
        partition: PartitionId(partition),
        replica: ReplicaId(replica),
        from: node(from),
        to: node(to),
    }
}

#[test]
fn a_cluster_is_created_once() {
    let mut state = MetaState::default();
    assert_eq!(refused(&mut state, register(entry(2, ""))), RefusalKind::NotInitialised);
    must(&mut state, init());
    assert_eq!(state.cluster(), ClusterId::from_bytes(&[0xcc; 16]));
    assert_eq!(state.meta().replicas[0].node, node(1));
    assert!(apply(&mut state, init()).already);
    let Command::InitCluster(mut other) = init() else { unreachable!() };
    other.cluster = Bytes::from_static(&[0xdd; 16]);
    assert_eq!(refused(&mut state, Command::InitCluster(other)), RefusalKind::OtherCluster);
}

#[test]
fn an_unknown_command_stops_the_program() {
    let mut state = cluster(1);
    assert_eq!(state.apply(MetaCommand { command: None }), Err(UnknownCommand));
}

#[test]
fn a_node_registers_again_under_its_identity_and_nobody_takes_its_name() {
    let mut state = cluster(2);
    assert!(apply(&mut state, register(entry(2, "zone-2"))).already);
    let mut moved = entry(2, "zone-9");
    moved.addresses.as_mut().unwrap().grpc = "10.9.9.9:7400".to_owned();
    let before = state.map().revision;
    must(&mut state, register(moved));
    assert_eq!(state.map().nodes[&node(2)].zone, "zone-9");
    assert!(state.map().revision > before);

    let mut thief = entry(3, "");
    thief.name = "node-2".to_owned();
    assert_eq!(refused(&mut state, register(thief.clone())), RefusalKind::NodeNameTaken);
    for to in [StateMessage::Draining, StateMessage::Drained, StateMessage::Removed] {
        must(&mut state, node_state(2, to));
    }
    assert_eq!(refused(&mut state, register(entry(2, ""))), RefusalKind::NodeRemoved);
    must(&mut state, register(thief));
    assert_eq!(state.find_node("node-2"), Some(node(3)));
    assert_eq!(state.find_node(&node(1).to_string()), Some(node(1)));

    let nameless = NodeEntry { name: String::new(), ..entry(4, "") };
    let uuid = NodeEntry { name: node(1).to_string(), ..entry(4, "") };
    let nowhere = NodeEntry { addresses: None, ..entry(4, "") };
    let endless = NodeEntry { zone: "z".repeat(254), ..entry(4, "") };
    let no_id = NodeEntry { node: Bytes::from_static(b"short"), ..entry(4, "") };
    for bad in [nameless, uuid, nowhere, endless, no_id] {
        assert_eq!(refused(&mut state, register(bad)), RefusalKind::Invalid);
    }
}

#[test]
fn a_node_on_its_way_out_gives_its_name_to_a_newcomer() {
    let mut state = cluster(2);
    must(&mut state, node_state(2, StateMessage::Draining));
    let newcomer = NodeEntry { name: "node-2".to_owned(), ..entry(3, "") };
    must(&mut state, register(newcomer));
    assert_eq!(state.find_node("node-2"), Some(node(3)));
    let renamed = state.map().nodes[&node(2)].name.clone();
    assert!(renamed.starts_with("node-2~"), "{renamed}");
    // It may still come back, and be wanted again; the name stays the newcomer's.
    must(&mut state, register(entry(2, "")));
    must(&mut state, node_state(2, StateMessage::Serving));
    must(&mut state, register(entry(2, "")));
    assert_eq!(state.map().nodes[&node(2)].name, renamed);
    assert_eq!(state.find_node("node-2"), Some(node(3)));
}

#[test]
fn the_life_of_a_node_goes_one_way_and_back_until_it_is_removed() {
    let mut state = cluster(4);
    must(&mut state, table("t", &[&[1, 2, 3]]));
    let set = node_state;
    assert_eq!(refused(&mut state, set(4, StateMessage::Drained)), RefusalKind::NodeState);
    assert_eq!(refused(&mut state, remove(4, false)), RefusalKind::NodeState);
    must(&mut state, set(2, StateMessage::Draining));
    must(&mut state, set(2, StateMessage::Serving));
    must(&mut state, set(2, StateMessage::Draining));
    assert_eq!(refused(&mut state, set(2, StateMessage::Drained)), RefusalKind::NodeNotEmpty);
    assert_eq!(refused(&mut state, remove(2, true)), RefusalKind::NodeNotEmpty);
    // The meta group's voter holds something too, and so does whoever a move goes to.
    must(&mut state, set(1, StateMessage::Draining));
    assert_eq!(refused(&mut state, set(1, StateMessage::Drained)), RefusalKind::NodeNotEmpty);
    let id = order(&mut state, replace(1, 3, 2, 4));
    assert_eq!(refused(&mut state, remove(4, true)), RefusalKind::NodeNotEmpty);
    must(&mut state, Command::CancelMove(CancelMove { id: id.0 }));
    // What holds nothing goes: drained, or dead.
    must(&mut state, set(4, StateMessage::Draining));
    must(&mut state, set(4, StateMessage::Drained));
    assert!(apply(&mut state, set(4, StateMessage::Draining)).already);
    must(&mut state, set(4, StateMessage::Serving));
    must(&mut state, remove(4, true));
    assert!(apply(&mut state, remove(4, false)).already);
    assert_eq!(refused(&mut state, set(4, StateMessage::Serving)), RefusalKind::NodeRemoved);
    // The last node that serves is not drained while it holds something.
    assert_eq!(refused(&mut state, set(3, StateMessage::Draining)), RefusalKind::NodeState);
    assert_eq!(refused(&mut state, set(9, StateMessage::Draining)), RefusalKind::UnknownNode);
}

#[test]
fn a_table_is_created_with_fresh_ids_and_a_birth_for_each_partition() {
    let mut state = cluster(3);
    must(&mut state, table("a", &[&[1, 2, 3], &[2, 3, 1]]));
    must(&mut state, table("b", &[&[3]]));
    let partitions: Vec<_> = state.map().partitions.values().collect();
    assert_eq!(partitions.iter().map(|part| part.id.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(state.voters_of(PartitionId(2)), replicas(&[5, 6, 7]));
    assert_eq!((partitions[1].buckets.to_string(), partitions[1].epoch), ("32-63".to_owned(), Epoch(1)));
    let birth = state.birth(PartitionId(2)).unwrap();
    assert_eq!((birth.table, birth.replicas[0].node), (TableId(1), node(2)));

    for (command, kind) in [
        (table("a", &[&[1, 2, 3], &[2, 3, 1]]), RefusalKind::TableExists),
        (table("bad name", &[&[1]]), RefusalKind::Invalid),
        (table("c", &[&[1, 2]]), RefusalKind::Invalid),
        (table("c", &[&[1, 2, 3], &[1, 2, 2]]), RefusalKind::Invalid),
        (table("c", &[]), RefusalKind::Invalid),
        (table("c", &[&[1, 2, 3, 4, 5]]), RefusalKind::TooFewNodes),
        (table("c", &[&[9]]), RefusalKind::MapChanged),
        (table("c", &[&[1][..]; 65]), RefusalKind::Invalid),
    ] {
        assert_eq!(refused(&mut state, command.clone()), kind, "{command:?}");
    }
}

#[test]
fn a_table_belongs_to_its_owner_who_may_ask_twice() {
    let mut state = cluster(3);
    let owned = |owner: &str, ttl: u64| {
        let Command::CreateTable(mut create) = table("t", &[&[1, 2, 3]]) else { unreachable!() };
        owner.clone_into(&mut create.owner);
        create.default_ttl_ms = ttl;
        Command::CreateTable(create)
    };
    must(&mut state, owned("uid-1", 5));
    let again = apply(&mut state, owned("uid-1", 5));
    assert!(again.already && matches!(again.outcome, Some(Outcome::Table(table)) if table.table == 1));
    assert_eq!(refused(&mut state, owned("uid-1", 6)), RefusalKind::TableExists);
    assert_eq!(refused(&mut state, owned("uid-2", 5)), RefusalKind::NameTaken);
    assert_eq!(refused(&mut state, owned("", 5)), RefusalKind::TableExists);
}

#[test]
fn a_table_is_altered_and_dropped_and_its_moves_end_with_it() {
    let mut state = cluster(4);
    must(&mut state, table("t", &[&[1, 2, 3]]));
    let alter = |ttl: Option<u64>, replicas: Option<u32>| {
        Command::AlterTable(AlterTable {
            name: "t".to_owned(),
            default_ttl_ms: ttl,
            replicas,
            ..AlterTable::default()
        })
    };
    must(&mut state, alter(Some(7), Some(1)));
    let changed = &state.map().tables[&TableId(1)];
    assert_eq!((changed.default_ttl_ms, changed.replicas), (7, 1));
    assert!(apply(&mut state, alter(Some(7), None)).already);
    assert_eq!(refused(&mut state, alter(None, Some(5))), RefusalKind::TooFewNodes);
    assert_eq!(refused(&mut state, alter(None, Some(2))), RefusalKind::Invalid);

    let id = order(&mut state, replace(1, 2, 1, 4));
    must(&mut state, Command::DropTable(DropTable { name: "t".to_owned() }));
    assert!(state.map().tables.is_empty() && state.map().partitions.is_empty());
    assert_eq!(state.order(id).unwrap().stage, MoveStage::Cancelled);
    let gone = Command::DropTable(DropTable { name: "t".to_owned() });
    assert_eq!(refused(&mut state, gone), RefusalKind::UnknownTable);
}

#[test]
fn moves_are_accepted_all_or_none_and_only_as_the_map_allows() {
    let mut state = cluster(4);
    must(&mut state, table("t", &[&[1, 2, 3], &[1, 2, 3]]));
    must(&mut state, table("one", &[&[1]]));
    let planned = state.map().revision.0;
    let good = replace(1, 2, 1, 4);
    let add = |partition: u64, to: u8| Move::Add { partition: PartitionId(partition), to: node(to) };
    let transfer = |to: u8| Move::TransferLeader { partition: PartitionId(2), from: node(1), to: node(to) };
    let last = Move::Remove { partition: PartitionId(3), replica: ReplicaId(8), from: node(1) };
    for (bad, kind) in [
        (replace(9, 2, 1, 4), RefusalKind::UnknownPartition),
        (replace(2, 2, 1, 4), RefusalKind::MoveRefused),
        (replace(2, 5, 1, 2), RefusalKind::MoveRefused),
        (add(2, 1), RefusalKind::MoveRefused),
        (add(2, 9), RefusalKind::MoveRefused),
        (add(1, 4), RefusalKind::MoveRefused),
        (transfer(4), RefusalKind::MoveRefused),
        (last, RefusalKind::MoveRefused),
    ] {
        assert_eq!(refused(&mut state, start(&[good, bad], 0)), kind, "{bad:?}");
    }
    let unknown = StartMoves { moves: vec![MoveMessage::default()], expected_revision: 0 };
    assert_eq!(refused(&mut state, Command::StartMoves(unknown)), RefusalKind::Invalid);
    assert_eq!(refused(&mut state, start(&vec![good; MOST_MOVES + 1], 0)), RefusalKind::OverBound);

    let Outcome::Started(started) = must(&mut state, start(&[good], planned)) else { panic!() };
    let id = MoveId(started.moves[0]);
    must(&mut state, advance(id, MoveStage::Queued, MoveStage::CatchingUp, MoveStage::Done));
    let moved = state.map().partitions[&PartitionId(1)].clone();
    assert_eq!((moved.epoch, moved.replica_on(node(4)).unwrap().role), (Epoch(2), Role::Learner));
    must(&mut state, Command::CancelMove(CancelMove { id: id.0 }));
    must(&mut state, advance(id, MoveStage::CleaningUp, MoveStage::Cancelled, MoveStage::Cancelled));
    assert_eq!(refused(&mut state, start(&[good], planned)), RefusalKind::MapChanged);
    let now = state.map().revision.0;
    must(&mut state, start(&[good], now));
}

#[test]
fn two_drivers_cannot_take_the_same_step_and_stages_cannot_be_skipped() {
    let mut state = cluster(4);
    must(&mut state, table("t", &[&[1, 2, 3]]));
    let id = order(&mut state, replace(1, 2, 1, 4));
    let (queued, catching, switching, cleaning, done) = (
        MoveStage::Queued,
        MoveStage::CatchingUp,
        MoveStage::Switching,
        MoveStage::CleaningUp,
        MoveStage::Done,
    );
    assert_eq!(refused(&mut state, advance(id, queued, switching, done)), RefusalKind::MoveStage);
    must(&mut state, advance(id, queued, catching, done));
    assert_eq!(refused(&mut state, advance(id, queued, catching, done)), RefusalKind::MoveStage);
    assert_eq!(refused(&mut state, advance(id, catching, cleaning, done)), RefusalKind::MoveStage);
    must(&mut state, advance(id, catching, switching, done));
    let cancel = Command::CancelMove(CancelMove { id: id.0 });
    assert_eq!(refused(&mut state, cancel.clone()), RefusalKind::MoveStage);
    must(&mut state, advance(id, switching, cleaning, done));
    assert_eq!(state.voters_of(PartitionId(1)), replicas(&[3, 4, 5]));
    assert_eq!(refused(&mut state, advance(id, cleaning, MoveStage::Failed, done)), RefusalKind::MoveStage);
    must(&mut state, advance(id, cleaning, done, done));
    assert_eq!(refused(&mut state, cancel), RefusalKind::MoveStage);
    assert_eq!(refused(&mut state, advance(MoveId(77), queued, done, done)), RefusalKind::UnknownMove);
}

#[test]
fn only_the_last_moves_that_ended_are_kept() {
    let mut state = cluster(4);
    must(&mut state, table("t", &[&[1, 2, 3]]));
    for _ in 0..KEPT_ENDED + 5 {
        let id = order(&mut state, replace(1, 2, 1, 4));
        must(&mut state, Command::CancelMove(CancelMove { id: id.0 }));
    }
    assert_eq!(state.moves_ended().count(), KEPT_ENDED);
    assert_eq!(state.moves_ended().next().unwrap().id, MoveId(KEPT_ENDED as u64 + 5));
    assert!(state.order(MoveId(5)).is_none());
}

#[test]
fn the_cluster_version_goes_up_only_when_every_node_supports_it() {
    let mut state = cluster(2);
    let set = |version: u32| Command::SetClusterVersion(SetClusterVersion { version });
    assert_eq!(refused(&mut state, set(2)), RefusalKind::VersionRefused);
    for number in 1..=2 {
        must(&mut state, register(NodeEntry { supports_version: 3, ..entry(number, "") }));
    }
    must(&mut state, set(2));
    assert!(apply(&mut state, set(2)).already);
    assert_eq!(refused(&mut state, set(1)), RefusalKind::VersionRefused);
    assert_eq!(refused(&mut state, register(entry(3, ""))), RefusalKind::VersionRefused);
}

#[test]
fn ids_and_meta_replicas_are_allocated_once() {
    let mut state = cluster(3);
    let Outcome::Allocated(first) = must(&mut state, Command::AllocateIds(AllocateIds { replicas: 5 }))
    else {
        panic!()
    };
    assert_eq!((first.first_replica, first.replicas), (2, 5));
    assert_eq!(
        refused(&mut state, Command::AllocateIds(AllocateIds { replicas: 10_001 })),
        RefusalKind::OverBound
    );

    let change = |state: &MetaState, change: Change| {
        Command::ChangeMeta(ChangeMeta { expected_epoch: state.meta().epoch.0, change: Some(change) })
    };
    let learner = Change::AddLearner(convert::node_bytes(node(2)));
    let add = change(&state, learner.clone());
    must(&mut state, add.clone());
    assert_eq!(state.meta().replica_on(node(2)).unwrap().id, ReplicaId(7));
    assert_eq!(refused(&mut state, add), RefusalKind::MetaChanged);
    let voters = |ids: &[u64]| Change::RecordVoters(MetaVoters { replicas: ids.to_vec() });
    for bad in [learner, voters(&[]), voters(&[1, 99]), Change::RemoveLearner(1)] {
        let bad = change(&state, bad);
        assert_eq!(refused(&mut state, bad), RefusalKind::MetaChanged);
    }
    let switch = change(&state, voters(&[7]));
    must(&mut state, switch);
    let held: Vec<_> = state.meta().voters().map(|voter| voter.node).collect();
    assert_eq!(held, [node(2)]);
}

/// A command that may or may not fit the state, from a few numbers.
fn command() -> impl Strategy<Value = Command> {
    let partition = 1_u64..6;
    let number = 1_u8..6;
    let states = prop::sample::select(vec![
        StateMessage::Serving,
        StateMessage::Draining,
        StateMessage::Drained,
        StateMessage::Removed,
    ]);
    let stages = || {
        prop::sample::select(vec![
            MoveStage::Queued,
            MoveStage::CatchingUp,
            MoveStage::Switching,
            MoveStage::CleaningUp,
            MoveStage::Done,
            MoveStage::Failed,
        ])
    };
    let name = || prop::sample::select(vec!["a", "b", "c"]);
    prop_oneof![
        1 => Just(init()),
        3 => (number.clone(), "[xy]").prop_map(|(number, zone)| register(entry(number, &zone))),
        2 => (number.clone(), states).prop_map(|(number, state)| node_state(number, state)),
        1 => number.clone().prop_map(|number| remove(number, true)),
        3 => (name(), 1_usize..4, number.clone()).prop_map(|(name, count, number)| {
            table(name, &vec![&[number][..]; count])
        }),
        2 => (name(), number.clone()).prop_map(|(name, _)| table(name, &[&[1, 2, 3]])),
        1 => name().prop_map(|name| Command::DropTable(DropTable { name: name.to_owned() })),
        1 => (name(), 0_u64..3).prop_map(|(name, ttl)| Command::AlterTable(AlterTable {
            name: name.to_owned(), default_ttl_ms: Some(ttl), ..AlterTable::default()
        })),
        4 => (partition.clone(), 1_u64..20, number.clone(), number.clone())
            .prop_map(|(partition, replica, from, to)| start(&[replace(partition, replica, from, to)], 0)),
        3 => (partition.clone(), number.clone())
            .prop_map(|(partition, to)| start(&[Move::Add { partition: PartitionId(partition), to: node(to) }], 0)),
        8 => (1_u64..8, stages(), stages(), stages())
            .prop_map(|(id, from, to, ending)| advance(MoveId(id), from, to, ending)),
        1 => (1_u64..8).prop_map(|id| Command::CancelMove(CancelMove { id })),
        2 => (1_u64..8, number).prop_map(|(expected_epoch, number)| Command::ChangeMeta(ChangeMeta {
            expected_epoch, change: Some(Change::AddLearner(convert::node_bytes(node(number)))),
        })),
        1 => (1_u64..8, 1_u64..20).prop_map(|(expected_epoch, replica)| Command::ChangeMeta(ChangeMeta {
            expected_epoch, change: Some(Change::RecordVoters(MetaVoters { replicas: vec![1, replica] })),
        })),
        1 => (0_u32..3).prop_map(|replicas| Command::AllocateIds(AllocateIds { replicas })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn records_and_followers_agree_with_the_state_whatever_happens(
        commands in prop::collection::vec((command(), 0_u8..4), 1..120),
    ) {
        let mut state = cluster(3);
        let mut twin = state.clone();
        let mut disk: BTreeMap<Vec<u8>, Bytes> =
            state.records().into_iter().filter_map(|record| Some((record.key, record.value?))).collect();
        let mut followed = FollowedMap::default();
        for (command, follow) in commands {
            let command = MetaCommand { command: Some(command) };
            let before = state.map().revision;
            let applied = state.apply(command.clone()).unwrap();
            prop_assert_eq!(twin.apply(command).unwrap(), applied.clone(), "the same on every replica");
            prop_assert!(state.map().revision >= before);
            for record in applied.changes {
                match record.value {
                    Some(value) => disk.insert(record.key, value),
                    None => disk.remove(&record.key),
                };
            }
            let loaded = MetaState::load(disk.clone());
            prop_assert_eq!(loaded.as_ref(), Ok(&state), "what is on disk is the state");
            if follow == 0 {
                let changes = state.changes_since(followed.revision());
                follow_apply(&mut followed, &changes).unwrap();
            }
            for partition in state.map().partitions.values() {
                let nodes: BTreeSet<_> = partition.replicas.iter().map(|replica| replica.node).collect();
                prop_assert_eq!(nodes.len(), partition.replicas.len(), "no two replicas on a node");
                prop_assert!(partition.voters().count() > 0);
            }
        }
        let changes = state.changes_since(followed.revision());
        follow_apply(&mut followed, &changes).unwrap();
        let mut anew = FollowedMap::default();
        follow_apply(&mut anew, &state.changes_since(Revision(0))).unwrap();
        prop_assert_eq!(&followed, &anew, "changes add up to everything");
        prop_assert_eq!(followed.map(), state.map());
        let whole: BTreeMap<Vec<u8>, Bytes> =
            state.records().into_iter().filter_map(|record| Some((record.key, record.value?))).collect();
        let loaded = MetaState::load(whole);
        prop_assert_eq!(loaded.as_ref(), Ok(&state));
    }
}

#[test]
fn names_that_nobody_has_find_nothing() {
    let state = cluster(1);
    assert_eq!(state.find_node("nobody"), None);
    assert!(state.map().table_named(&TableName::parse("t").unwrap()).is_none());
}
