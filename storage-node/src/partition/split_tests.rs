//! What a split leaves, and that it is the same however entries were applied.

use std::collections::BTreeMap;

use placement::TableId;
use proto::v1::operation::Operation as Kind;
use proto::v1::{
    BuildIndex, Command, CommandBatch, Configure, Expire, PutRequest, Retry, Session, TableSettings, Tick,
    command, index_record::State, result::Result as Outcome,
};

use super::*;
use crate::partition::Answer;
use crate::partition::indexes::read_record;
use crate::partition::read::{Found, read_key};
use crate::partition::state::tests::operation;
use crate::storage::state::{MemoryState, StateEngine};

const PARENT: PartitionId = PartitionId(4);
const CHILD: PartitionId = PartitionId(9);

fn whole() -> Descriptor {
    let bucket_count = placement::BucketCount::new(4).unwrap();
    let buckets = BucketRange { first: Bucket(0), last: Bucket(3) };
    Descriptor { table: TableId(1), bucket_count, buckets, epoch: Epoch(1), since: 0 }
}

fn split() -> Split {
    let replica = |number: u64| {
        proto::v1::ReplicaEntry::from(&Replica {
            id: placement::ReplicaId(number),
            node: placement::NodeId(uuid::Uuid::from_u128(number.into())),
            role: placement::Role::Voter,
        })
    };
    Split {
        child: CHILD.0,
        first_bucket: 2,
        last_bucket: 3,
        replicas: (11..14).map(replica).collect(),
        epoch: 2,
        map_revision: 30,
    }
}

fn put(key: &str, value: &str, sequence: u64) -> command::Command {
    let retry = Retry { client: Bytes::from_static(&[7; 16]), sequence, ..Retry::default() };
    operation(Kind::Put(PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ttl_ms: if sequence.is_multiple_of(3) { 500 } else { 0 },
        retry: Some(retry),
        ..PutRequest::default()
    }))
}

fn is_upper(key: &str) -> bool {
    whole().bucket_count.bucket_of_key(key.as_bytes()) >= Bucket(2)
}

fn key_of(upper: bool) -> String {
    (0..1_000).map(|number| format!("new-{number}")).find(|key| is_upper(key) == upper).unwrap()
}

/// The entries of a partition's log, the one that splits it among them, alone or among others.
fn log(alone: bool) -> Vec<(u64, Vec<command::Command>)> {
    let settings = proto::v1::TableSettings { version: 1, ..proto::v1::TableSettings::default() };
    let configure = command::Command::Configure(Configure { settings: Some(settings) });
    let mut entries = vec![(1_000, vec![configure])];
    for number in 0..20_u64 {
        entries.push((1_000 + number * 20, vec![put(&format!("key-{number}"), "first", number)]));
    }
    let cut = command::Command::Split(split());
    if alone {
        entries.push((2_000, vec![cut]));
    } else {
        let upper = key_of(true);
        entries.push((2_000, vec![put("key-1", "again", 40), cut, put(&upper, "in the same entry", 41)]));
    }
    entries.push((2_100, vec![command::Command::Tick(Tick {})]));
    entries.push((2_200, vec![put(&key_of(false), "after", 50)]));
    entries.push((60_000, vec![command::Command::Expire(Expire { limit: 100, extent: None })]));
    entries
}

/// A replica, with the index of the next entry.
struct Replicated {
    engine: std::sync::Arc<MemoryState>,
    partition: PartitionState,
}

impl Replicated {
    fn new(engine: std::sync::Arc<MemoryState>) -> Self {
        let partition = PartitionState::load(PARENT, whole(), &*engine).unwrap();
        Self { engine, partition }
    }

    fn next(&self) -> usize {
        self.partition.progress.applied.map_or(0, |id| usize::try_from(id.index()).unwrap())
    }

    /// Applies the next entry; it is written now or with what follows.
    fn apply(&mut self, log: &[(u64, Vec<command::Command>)], write: bool) -> Vec<Answer> {
        let next = self.next();
        let (clock_ms, commands) = log[next].clone();
        let commands = commands.into_iter().map(|command| Command { command: Some(command) }).collect();
        let data = CommandBatch { clock_ms, commands }.encode_to_vec().into();
        let id = LogId::new_term_index(1, next as u64 + 1);
        let answers = self.partition.apply_commands(id, data, &*self.engine).unwrap();
        if write {
            self.write();
        }
        answers
    }

    fn write(&mut self) {
        let changes = self.partition.take_changes();
        self.engine.write(changes).unwrap();
    }

    fn dump(&self) -> BTreeMap<Bytes, Bytes> {
        let all = keys::KeyRange { start: Bytes::new(), end: Bytes::from_static(&[255; 8]) };
        let mut found = BTreeMap::new();
        let mut walk = self.engine.iterate(&all, false).unwrap();
        while let Some((key, value)) = walk.current() {
            found.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            walk.advance().unwrap();
        }
        found
    }

    fn child(&self) -> PartitionState {
        PartitionState::load(CHILD, whole(), &*self.engine).unwrap()
    }
}

fn read(engine: &MemoryState, owned: &Descriptor, key: &str) -> Option<Bytes> {
    match read_key(engine, owned, key.as_bytes(), 1_450, 1_450).unwrap() {
        Found::Item(item) => Some(item.value),
        Found::Nothing | Found::Ending => None,
    }
}

#[test]
fn the_child_goes_on_where_the_parent_was() {
    let log = log(true);
    let mut it = Replicated::new(MemoryState::new());
    for _ in 0..21 {
        it.apply(&log, true);
    }
    let before = it.partition.progress;
    assert_eq!(it.apply(&log, true).pop(), Some(Answer::Split(true)));
    let [seeded] = &it.partition.take_seeded()[..] else { panic!() };
    assert_eq!((seeded.group, seeded.origin.parent), (CHILD, PARENT.0));

    let child = it.child();
    assert_eq!((child.descriptor.buckets.first, child.descriptor.buckets.last), (Bucket(2), Bucket(3)));
    assert_eq!((child.descriptor.epoch, it.partition.descriptor.epoch), (Epoch(2), Epoch(2)));
    assert_eq!(it.partition.descriptor.since, 22);
    assert_eq!(child.progress.applied, Some(LogId::new_term_index(0, 0)));
    assert_eq!((child.progress.counter, child.progress.clock_ms), (before.counter, 2_000));
    assert_eq!(child.settings, it.partition.settings);
    assert_eq!(child.progress.history_bytes, it.partition.progress.history_bytes);
    for number in 0..20 {
        let key = format!("key-{number}");
        let owner = if is_upper(&key) { &child } else { &it.partition };
        assert_eq!(read(&it.engine, &owner.descriptor, &key).unwrap(), "first");
    }
    // A client that did not hear the answer asks the child.
    let upper = (0..20).find(|number| is_upper(&format!("key-{number}"))).unwrap();
    let mut child = child;
    let Some(command::Command::Operation(again)) = Some(put(&format!("key-{upper}"), "sent again", upper))
    else {
        panic!()
    };
    let batch = CommandBatch {
        clock_ms: 2_500,
        commands: vec![Command { command: Some(command::Command::Operation(again)) }],
    };
    let data = batch.encode_to_vec().into();
    let answers = child.apply_commands(LogId::new_term_index(1, 1), data, &*it.engine).unwrap();
    let [Answer::Operation(answer)] = &answers[..] else { panic!("{answers:?}") };
    assert!(matches!(&answer.result, Some(Outcome::Put(put)) if put.version == upper + 1), "{answer:?}");
    assert_eq!(child.progress.counter, before.counter, "it is not done again");
}

#[test]
fn a_split_takes_effect_at_the_end_of_its_entry_and_once() {
    let log = log(false);
    let mut it = Replicated::new(MemoryState::new());
    for _ in 0..21 {
        it.apply(&log, true);
    }
    let answers = it.apply(&log, true);
    assert_eq!(answers[1], Answer::Split(true));
    assert_eq!(read(&it.engine, &it.child().descriptor, &key_of(true)).unwrap(), "in the same entry");
    assert_eq!(it.child().progress.counter, it.partition.progress.counter);
    let answer = |it: &mut Replicated, split: Split| {
        let commands = vec![Command { command: Some(command::Command::Split(split)) }];
        let data = CommandBatch { clock_ms: 0, commands }.encode_to_vec().into();
        let id = LogId::new_term_index(1, it.next() as u64 + 1);
        it.partition.apply_commands(id, data, &*it.engine).unwrap().pop().unwrap()
    };
    let before = it.partition.descriptor;
    assert_eq!(answer(&mut it, split()), Answer::Split(true), "asked twice");
    for bad in [
        Split { epoch: 5, ..split() },
        Split { epoch: 3, ..split() },
        Split { epoch: 3, first_bucket: 0, last_bucket: 1, ..split() },
        Split { epoch: 3, first_bucket: 1, last_bucket: 70_000, ..split() },
        Split { epoch: 3, first_bucket: 1, last_bucket: 1, replicas: Vec::new(), ..split() },
    ] {
        assert_eq!(answer(&mut it, bad), Answer::Split(false));
        assert_eq!(it.partition.descriptor, before);
    }
}

#[test]
fn all_replicas_come_to_the_same_however_they_apply_and_wherever_they_crash() {
    for alone in [true, false] {
        let log = log(alone);
        let mut plain = Replicated::new(MemoryState::new());
        while plain.next() < log.len() {
            plain.apply(&log, true);
        }
        let expected = plain.dump();
        // Written in lots of every length.
        for lot in 2..=log.len() {
            let mut it = Replicated::new(MemoryState::new());
            while it.next() < log.len() {
                let write = (it.next() + 1).is_multiple_of(lot) || it.next() + 1 == log.len();
                it.apply(&log, write);
            }
            assert!(it.dump() == expected, "in lots of {lot}");
        }
        // What was flushed after one entry is left by a crash after another.
        for flushed in 0..log.len() {
            for crash in flushed..=log.len() {
                let mut it = Replicated::new(MemoryState::new());
                while it.next() < crash {
                    it.apply(&log, true);
                    if it.next() == flushed {
                        it.engine.flush().unwrap();
                    }
                }
                it.engine.crash();
                let mut it = Replicated::new(std::sync::Arc::clone(&it.engine));
                while it.next() < log.len() {
                    it.apply(&log, true);
                }
                assert!(it.dump() == expected, "flushed after {flushed}, crashed after {crash}");
            }
        }
    }
}

#[test]
fn a_child_that_has_gone_on_is_not_made_anew() {
    let log = log(true);
    let mut it = Replicated::new(MemoryState::new());
    for _ in 0..21 {
        it.apply(&log, true);
    }
    it.engine.flush().unwrap();
    it.apply(&log, true);
    let child = keys::group_record(CHILD, GroupRecord::Progress);
    let ahead = Progress { counter: 999, ..it.child().progress };
    // As though a replica of the child had come here by itself.
    it.engine.crash();
    let mut changes = crate::storage::state::Changes::default();
    changes.put(child.clone(), ahead.encode());
    it.engine.write(changes).unwrap();
    let mut it = Replicated::new(std::sync::Arc::clone(&it.engine));
    assert_eq!(it.apply(&log, true).pop(), Some(Answer::Split(true)));
    assert!(it.partition.take_seeded().is_empty());
    assert_eq!(it.engine.get(&child).unwrap().unwrap(), ahead.encode());
    assert_eq!(it.partition.descriptor.buckets.last, Bucket(1));
}

#[test]
fn sessions_are_copied_also_when_they_changed_in_the_same_entry() {
    let log = log(false);
    let mut it = Replicated::new(MemoryState::new());
    for _ in 0..22 {
        it.apply(&log, true);
    }
    let session = |group| {
        let stored = it.engine.get(&keys::session(group, &[7; 16])).unwrap().unwrap();
        Session::decode(stored).unwrap()
    };
    assert_eq!(session(PARENT), session(CHILD));
    assert!(session(CHILD).answers.iter().any(|answer| answer.sequence == 41));
}

#[test]
fn an_index_that_is_declared_and_begun_is_built_on_both_sides() {
    let index = proto::v1::IndexSettings {
        id: 1,
        name: "city".to_owned(),
        path: "$.c".to_owned(),
        ..proto::v1::IndexSettings::default()
    };
    let settings = TableSettings { version: 1, indexes: vec![index], ..TableSettings::default() };
    let configure = command::Command::Configure(Configure { settings: Some(settings) });
    let build = |items| command::Command::BuildIndex(BuildIndex { index: 1, items, bytes: u32::MAX });
    let cut = || command::Command::Split(split());
    let puts = (0..20).map(|number| {
        let put = PutRequest {
            key: format!("key-{number}").into(),
            value: r#"{"c":"x"}"#.into(),
            ..PutRequest::default()
        };
        (1_000, vec![operation(Kind::Put(put))])
    });
    let puts: Vec<_> = puts.collect();
    // Declared, and begun, before the split and by its own entry.
    for cutting in [
        vec![(1_001, vec![configure.clone(), cut()])],
        vec![(1_001, vec![configure.clone()]), (1_002, vec![build(3), cut()])],
        vec![(1_001, vec![configure.clone()]), (1_002, vec![build(13)]), (1_003, vec![build(3), cut()])],
        vec![(1_001, vec![configure.clone()]), (1_002, vec![build(100), cut()])],
    ] {
        let log = [puts.clone(), cutting].concat();
        let mut it = Replicated::new(MemoryState::new());
        while it.next() < log.len() {
            it.apply(&log, true);
        }
        let record = |group| read_record(group, 1, &*it.engine).unwrap().unwrap();
        assert_eq!(record(PARENT), record(CHILD));
        let mut child = it.child();
        let step = |it: &mut PartitionState, engine: &MemoryState, index: u64| {
            let commands = vec![Command { command: Some(build(4)) }];
            let data = CommandBatch { clock_ms: 2_000, commands }.encode_to_vec().into();
            it.apply_commands(LogId::new_term_index(2, index), data, engine).unwrap();
            engine.write(it.take_changes()).unwrap();
        };
        for index in 100..110 {
            step(&mut it.partition, &it.engine, index);
            step(&mut child, &it.engine, index);
        }
        for group in [PARENT, CHILD] {
            let record = read_record(group, 1, &*it.engine).unwrap().unwrap();
            assert_eq!(record.state(), State::Ready, "{group}");
        }
        let entries: usize = (0..4)
            .map(|bucket| {
                let mut walk =
                    it.engine.iterate(&keys::indexes_of(TableId(1), Bucket(bucket)), false).unwrap();
                let mut count = 0;
                while walk.current().is_some() {
                    count += 1;
                    walk.advance().unwrap();
                }
                count
            })
            .sum();
        assert_eq!(entries, 20);
    }
}
