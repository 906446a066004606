use placement::{Bucket, BucketCount, BucketRange, Epoch, TableId};
use proto::v1::{
    BatchRequest, Compare, Condition, DeleteRequest, Expire, ExpireAnswer, GetRequest, Operation, PutRequest,
    ScanPage, ScanPageRequest, Tick, TxnRequest, compare::That, condition::Is, error_detail::Detail,
};

use super::*;
use crate::partition::expiry::due_extent;
use crate::partition::read::{Found, read_key, scan_page};
use crate::storage::change::{Happened, StoredChange};
use crate::storage::state::{MemoryState, RocksState, RocksStateOptions, StateEngine};

const GROUP: PartitionId = PartitionId(4);

pub(in crate::partition) struct Fixture {
    engine: std::sync::Arc<dyn StateEngine>,
    partition: PartitionState,
    index: u64,
    _folder: Option<tempfile::TempDir>,
}

fn descriptor() -> Descriptor {
    let bucket_count = BucketCount::new(4).unwrap();
    let buckets = BucketRange { first: Bucket(0), last: Bucket(3) };
    Descriptor { table: TableId(1), bucket_count, buckets, epoch: Epoch(1), since: 0 }
}

pub(in crate::partition) fn on_memory() -> Fixture {
    let engine = MemoryState::new();
    let partition = PartitionState::load(GROUP, descriptor(), &*engine).unwrap();
    Fixture { engine, partition, index: 0, _folder: None }
}

pub(in crate::partition) fn on_rocks() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let engine = RocksState::open(&folder.path().join("state"), RocksStateOptions::default()).unwrap();
    let partition = PartitionState::load(GROUP, descriptor(), &*engine).unwrap();
    Fixture { engine, partition, index: 0, _folder: Some(folder) }
}

impl Fixture {
    /// One entry with those commands, at that time.
    pub(in crate::partition) fn entry(
        &mut self,
        clock_ms: u64,
        commands: Vec<command::Command>,
    ) -> Vec<Answer> {
        let answers = self.apply(clock_ms, commands);
        self.write();
        answers
    }

    /// The same, but nothing is written that need not be.
    pub(in crate::partition) fn apply(
        &mut self,
        clock_ms: u64,
        commands: Vec<command::Command>,
    ) -> Vec<Answer> {
        let commands = commands.into_iter().map(|command| Command { command: Some(command) }).collect();
        let data = CommandBatch { clock_ms, commands }.encode_to_vec().into();
        self.index += 1;
        let id = LogId::new_term_index(1, self.index);
        self.partition.apply_commands(id, data, &*self.engine).unwrap()
    }

    pub(in crate::partition) fn write(&mut self) {
        self.engine.write(self.partition.take_changes()).unwrap();
    }

    pub(in crate::partition) fn engine(&self) -> &dyn StateEngine {
        &*self.engine
    }

    pub(in crate::partition) fn partition(&self) -> &PartitionState {
        &self.partition
    }

    pub(in crate::partition) fn run(&mut self, clock_ms: u64, kind: Kind) -> Outcome {
        let mut answers = self.entry(clock_ms, vec![operation(kind)]);
        match answers.pop() {
            Some(Answer::Operation(OperationResult { result: Some(outcome) })) => outcome,
            other => panic!("{other:?}"),
        }
    }

    pub(in crate::partition) fn value(&self, key: &[u8]) -> Option<Bytes> {
        let clock_ms = self.partition.progress.clock_ms;
        match read_key(&*self.engine, &self.partition.descriptor, key, clock_ms, clock_ms).unwrap() {
            Found::Item(item) => Some(item.value),
            Found::Nothing => None,
            Found::Ending => panic!("the clocks are the same"),
        }
    }

    /// A page of a scan by the partition's clock.
    pub(in crate::partition) fn scan(&self, request: &ScanPageRequest) -> ScanPage {
        let clock_ms = self.partition.progress.clock_ms;
        scan_page(&*self.engine, &self.partition.descriptor, request, clock_ms).unwrap()
    }

    /// The same state, loaded again from what is written.
    pub(in crate::partition) fn reload(&mut self) {
        self.partition = PartitionState::load(GROUP, descriptor(), &*self.engine).unwrap();
    }
}

pub(in crate::partition) fn operation(kind: Kind) -> command::Command {
    command::Command::Operation(Operation { operation: Some(kind) })
}

fn put(key: &'static str, value: &'static str) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }
}

fn when(is: Is) -> Condition {
    Condition { is: Some(is) }
}

#[test]
fn conditions_are_judged_where_they_are_applied() {
    for mut it in [on_memory(), on_rocks()] {
        let applied = |outcome| match outcome {
            Outcome::Put(put) => (put.applied, put.version),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            applied(
                it.run(1, Kind::Put(PutRequest { condition: Some(when(Is::Exists(true))), ..put("a", "0") }))
            ),
            (false, 0)
        );
        assert_eq!(
            applied(
                it.run(1, Kind::Put(PutRequest { condition: Some(when(Is::Absent(true))), ..put("a", "1") }))
            ),
            (true, 1)
        );
        assert_eq!(
            applied(
                it.run(1, Kind::Put(PutRequest { condition: Some(when(Is::Absent(true))), ..put("a", "2") }))
            ),
            (false, 1)
        );
        assert_eq!(
            applied(
                it.run(1, Kind::Put(PutRequest { condition: Some(when(Is::Version(1))), ..put("a", "3") }))
            ),
            (true, 2)
        );
        assert_eq!(
            applied(
                it.run(1, Kind::Put(PutRequest { condition: Some(when(Is::Version(1))), ..put("a", "4") }))
            ),
            (false, 2)
        );
        assert_eq!(it.value(b"a").unwrap(), "3");
    }
}

#[test]
fn later_commands_of_an_entry_see_the_earlier_ones() {
    let mut it = on_rocks();
    let answers = it.entry(
        1,
        vec![
            operation(Kind::Put(put("a", "1"))),
            operation(Kind::Get(GetRequest { key: "a".into(), ..GetRequest::default() })),
            operation(Kind::Delete(DeleteRequest { key: "a".into(), ..DeleteRequest::default() })),
            operation(Kind::Put(PutRequest { condition: Some(when(Is::Absent(true))), ..put("a", "2") })),
        ],
    );
    let Answer::Operation(OperationResult { result: Some(Outcome::Get(got)) }) = &answers[1] else {
        panic!()
    };
    assert_eq!(got.item.as_ref().unwrap().value, "1");
    let Answer::Operation(OperationResult { result: Some(Outcome::Put(second)) }) = &answers[3] else {
        panic!()
    };
    // The delete was a change of its own.
    assert_eq!((second.applied, second.version), (true, 3));
    assert_eq!(it.value(b"a").unwrap(), "2");
}

#[test]
fn an_atomic_batch_is_all_or_nothing() {
    let mut it = on_memory();
    it.run(1, Kind::Put(put("{t}a", "old")));
    let batch = |condition| {
        let parts =
            vec![put("{t}a", "new"), put("{t}b", "new"), PutRequest { condition, ..put("{t}c", "new") }];
        let operations =
            parts.into_iter().map(|part| Operation { operation: Some(Kind::Put(part)) }).collect();
        Kind::Batch(BatchRequest { operations, atomic: true, ..BatchRequest::default() })
    };
    let Outcome::Batch(stopped) = it.run(1, batch(Some(when(Is::Exists(true))))) else { panic!() };
    assert!(!stopped.applied);
    assert_eq!((it.value(b"{t}a").unwrap(), it.value(b"{t}b")), ("old".into(), None));
    let Outcome::Batch(done) = it.run(1, batch(Some(when(Is::Absent(true))))) else { panic!() };
    assert!(done.applied && done.results.len() == 3);
    assert_eq!(it.value(b"{t}b").unwrap(), "new");
}

#[test]
fn a_transaction_does_one_of_its_lists() {
    let mut it = on_memory();
    it.run(1, Kind::Put(put("{t}stock", "1")));
    let buy = Kind::Txn(TxnRequest {
        compares: vec![Compare { key: "{t}stock".into(), that: Some(That::ValueEquals("1".into())) }],
        then: vec![Operation { operation: Some(Kind::Put(put("{t}stock", "0"))) }],
        otherwise: vec![Operation {
            operation: Some(Kind::Get(GetRequest { key: "{t}stock".into(), ..GetRequest::default() })),
        }],
        ..TxnRequest::default()
    });
    let Outcome::Txn(first) = it.run(1, buy.clone()) else { panic!() };
    assert!(first.succeeded);
    let Outcome::Txn(second) = it.run(1, buy) else { panic!() };
    assert!(!second.succeeded);
    let Some(Outcome::Get(got)) = &second.results[0].result else { panic!() };
    assert_eq!(got.item.as_ref().unwrap().value, "0");
}

#[test]
fn a_key_that_the_partition_does_not_own_is_refused_and_nothing_is_done() {
    let mut it = on_memory();
    it.partition.descriptor.buckets = BucketRange { first: Bucket(0), last: Bucket(0) };
    let foreign = ["a", "b", "c", "d", "e"]
        .into_iter()
        .find(|key| it.partition.descriptor.bucket_of(key.as_bytes()).is_none());
    let Outcome::Failure(failure) = it.run(1, Kind::Put(put(foreign.unwrap(), "1"))) else { panic!() };
    assert!(matches!(failure.reason(), Some(Detail::WrongEpoch(_))));
    assert_eq!(it.partition.progress.counter, 0);
}

#[test]
fn a_key_ends_at_its_deadline_by_the_entries_clock() {
    for mut it in [on_memory(), on_rocks()] {
        it.run(1000, Kind::Put(PutRequest { ttl_ms: 500, ..put("a", "1") }));
        assert_eq!(it.partition.next_due_ms, 1500);
        it.entry(1499, vec![command::Command::Tick(Tick {})]);
        assert!(it.value(b"a").is_some());
        // The leader's clock may be ahead: then nothing may be said yet.
        let found = read_key(&*it.engine, &it.partition.descriptor, b"a", 1499, 1500).unwrap();
        assert_eq!(found, Found::Ending);
        it.entry(1500, vec![command::Command::Tick(Tick {})]);
        assert!(it.value(b"a").is_none());
        // A clock that went back changes nothing.
        it.entry(1, vec![command::Command::Tick(Tick {})]);
        assert!(it.value(b"a").is_none());
        // An ended key is absent to conditions, and its removal is a change.
        let answers = it.entry(1500, vec![command::Command::Expire(Expire { limit: 10, extent: None })]);
        assert_eq!(answers, [Answer::Expired(ExpireAnswer { removed: 1, more: false })]);
        assert_eq!(earliest_deadline(&*it.engine, &it.partition.descriptor, 0).unwrap(), u64::MAX);
    }
}

#[test]
fn a_key_that_was_put_again_outlives_its_old_deadline() {
    let mut it = on_rocks();
    it.run(1000, Kind::Put(PutRequest { ttl_ms: 500, ..put("a", "1") }));
    it.run(1100, Kind::Put(put("a", "2")));
    let answers = it.entry(2000, vec![command::Command::Expire(Expire { limit: 10, extent: None })]);
    assert_eq!(answers, [Answer::Expired(ExpireAnswer { removed: 0, more: false })]);
    assert_eq!(it.value(b"a").unwrap(), "2");
}

#[test]
fn a_write_that_comes_again_is_applied_once_also_after_a_restart() {
    let mut it = on_rocks();
    let retry = Retry { client: vec![9; 16].into(), sequence: 1, ..Retry::default() };
    let write =
        |attempt| Kind::Put(PutRequest { retry: Some(Retry { attempt, ..retry.clone() }), ..put("a", "1") });
    let first = it.run(1, write(0));
    it.run(1, Kind::Put(put("a", "2")));
    it.reload();
    assert_eq!(it.run(1, write(1)), first);
    assert_eq!(it.value(b"a").unwrap(), "2");
}

#[test]
fn what_is_written_leads_to_the_same_state_again() {
    let mut it = on_rocks();
    it.run(70, Kind::Put(PutRequest { ttl_ms: 500, ..put("a", "1") }));
    let (progress, next_due_ms) = (it.partition.progress, it.partition.next_due_ms);
    it.reload();
    assert_eq!((it.partition.progress, it.partition.next_due_ms), (progress, next_due_ms));
}

#[test]
fn a_scan_merges_buckets_in_key_order_both_ways() {
    for mut it in [on_memory(), on_rocks()] {
        for at in 0..50 {
            let key: &'static str = Box::leak(format!("k{at:02}").into_boxed_str());
            it.run(1, Kind::Put(put(key, "v")));
        }
        let page = |start: &'static str, end: &'static str, reverse, limit| {
            let request = ScanPageRequest {
                start: start.into(),
                end: end.into(),
                reverse,
                limit,
                max_bytes: 1 << 20,
                ..ScanPageRequest::default()
            };
            let page = scan_page(&*it.engine, &it.partition.descriptor, &request, 1).unwrap();
            let keys: Vec<_> =
                page.items.iter().map(|item| String::from_utf8(item.key.to_vec()).unwrap()).collect();
            (keys, page.more)
        };
        let numbers =
            |run: &mut dyn Iterator<Item = i32>| run.map(|at| format!("k{at:02}")).collect::<Vec<_>>();
        assert_eq!(page("", "", false, 100), (numbers(&mut (0..50)), false));
        assert_eq!(page("k10", "k20", false, 5), (numbers(&mut (10..15)), true));
        assert_eq!(page("k10", "k20", true, 5), (numbers(&mut (15..20).rev()), true));
        assert_eq!(page("k10", "k15", false, 5), (numbers(&mut (10..15)), false));
        assert_eq!(page("k20", "k10", false, 5), (vec![], false));
    }
}

#[test]
fn an_unknown_command_stops_the_replica() {
    let mut it = on_memory();
    let data = CommandBatch { clock_ms: 1, commands: vec![Command { command: None }] }.encode_to_vec().into();
    let refused = it.partition.apply_commands(LogId::new_term_index(1, 1), data, &*it.engine);
    assert!(matches!(refused, Err(ApplyError::UnknownCommand { .. })));
}

/// However many entries a replica applies together, it comes to the same state.
#[test]
fn expiry_does_not_depend_on_how_entries_are_gathered() {
    let entries = || {
        let with_ttl = |key, ttl_ms| operation(Kind::Put(PutRequest { ttl_ms, ..put(key, "1") }));
        let expire = || command::Command::Expire(Expire { limit: 1, extent: None });
        vec![
            (10, vec![with_ttl("a", 5), with_ttl("b", 500), with_ttl("d", 100_000)]),
            (20, vec![operation(Kind::Put(put("c", "1"))), expire()]),
            (30, vec![with_ttl("c", 1), operation(Kind::Put(put("b", "2")))]),
            (600, vec![expire()]),
            (601, vec![expire()]),
        ]
    };
    let run = |together: usize| {
        let mut it = on_rocks();
        for (at, (clock_ms, commands)) in entries().into_iter().enumerate() {
            let commands = commands.into_iter().map(|command| Command { command: Some(command) }).collect();
            let data = CommandBatch { clock_ms, commands }.encode_to_vec().into();
            let id = LogId::new_term_index(1, at as u64 + 1);
            it.partition.apply_commands(id, data, &*it.engine).unwrap();
            if (at + 1) % together == 0 {
                it.engine.write(it.partition.take_changes()).unwrap();
            }
        }
        it.engine.write(it.partition.take_changes()).unwrap();
        let mut all = Vec::new();
        let whole = keys::KeyRange { start: Bytes::new(), end: Bytes::from_static(&[255]) };
        let mut walk = it.engine.iterate(&whole, false).unwrap();
        while let Some((key, value)) = walk.current() {
            all.push((key.to_vec(), value.to_vec()));
            walk.advance().unwrap();
        }
        all
    };
    let one_by_one = run(1);
    assert!(one_by_one.len() > 3);
    assert_eq!(run(2), one_by_one);
    assert_eq!(run(5), one_by_one);
}

/// A replica that applies entries together writes no expiry entry for an item that another of them
/// replaced, and others do. All remove the same nevertheless.
#[test]
fn expiry_does_not_depend_on_entries_of_the_index_that_are_out_of_date() {
    let with_ttl = |key, ttl_ms| vec![operation(Kind::Put(PutRequest { ttl_ms, ..put(key, "1") }))];
    let mut entries: Vec<(u64, Vec<command::Command>)> = vec![];
    for (at, key) in ["a", "b", "c", "a", "b", "d", "a", "e"].into_iter().enumerate() {
        entries.push((10 + at as u64, with_ttl(key, 20 - at as u64)));
    }
    // What one replica that leads sees to be due, two places of its index at a time, with writes between.
    let mut leader = on_rocks();
    for (clock_ms, commands) in &entries {
        leader.entry(*clock_ms, commands.clone());
    }
    for clock_ms in 40.. {
        let descriptor = leader.partition.descriptor;
        let extent = due_extent(&*leader.engine, &descriptor, (0, clock_ms), 2).unwrap();
        let more = extent.up_to.is_some();
        let expire = command::Command::Expire(Expire { limit: 2, extent: Some(extent) });
        let mut commands = vec![expire];
        commands.extend(with_ttl("f", 1_000_000));
        leader.entry(clock_ms, commands.clone());
        entries.push((clock_ms, commands));
        if !more {
            break;
        }
    }
    assert!(entries.len() > 10, "{} entries", entries.len());
    let items = |it: &Fixture| {
        let mut items = Vec::new();
        for bucket in it.partition.descriptor.buckets.iter() {
            let mut walk = it.engine.iterate(&keys::items_of(TableId(1), bucket), false).unwrap();
            while let Some((key, value)) = walk.current() {
                items.push((key.to_vec(), value.to_vec()));
                walk.advance().unwrap();
            }
        }
        (items, it.partition.progress.counter)
    };
    let wanted = items(&leader);
    assert_eq!(wanted.0.len(), 1, "only f is left");
    for together in [2, 5, 8, 100] {
        let mut it = on_rocks();
        for (at, (clock_ms, commands)) in entries.iter().enumerate() {
            let commands =
                commands.iter().cloned().map(|command| Command { command: Some(command) }).collect();
            let data = CommandBatch { clock_ms: *clock_ms, commands }.encode_to_vec().into();
            it.partition.apply_commands(LogId::new_term_index(1, at as u64 + 1), data, &*it.engine).unwrap();
            if (at + 1) % together == 0 {
                it.engine.write(it.partition.take_changes()).unwrap();
            }
        }
        it.engine.write(it.partition.take_changes()).unwrap();
        assert_eq!(items(&it), wanted, "{together} together");
    }
}

mod history {
    use proto::v1::history_settings::Keep;
    use proto::v1::{Configure, CopyRequest, HistorySettings, TrimHistory};

    use super::*;
    use crate::partition::history::{Retention, surplus};
    use crate::watch::history::{Missing, read};
    use crate::watch::interest::Interest;
    use crate::watch::token::Run;

    fn configure(version: u64, keep: Keep, before: bool) -> command::Command {
        let history = HistorySettings { keep: keep.into(), before, ..HistorySettings::default() };
        let settings = TableSettings { version, history: Some(history), ..TableSettings::default() };
        command::Command::Configure(Configure { settings: Some(settings) })
    }

    fn trim(up_to: u64) -> command::Command {
        command::Command::TrimHistory(TrimHistory { up_to })
    }

    /// What was changed after a revision, and up to where that is all; else the oldest revision
    /// after which changes are kept.
    fn since(it: &Fixture, after: u64, most: usize) -> Result<(Vec<String>, u64), u64> {
        let run = Run { buckets: descriptor().buckets, after };
        let all = Interest::Prefix(Bytes::new());
        match read(&*it.engine, GROUP, descriptor().table, &[run], &[&all], most) {
            Ok(page) => Ok((page.seen.iter().map(|seen| told(seen.change().unwrap())).collect(), page.up_to)),
            Err(Missing::Compacted { oldest, .. }) => Err(oldest),
            Err(Missing::State(error)) => panic!("{error}"),
        }
    }

    fn told(change: &StoredChange) -> String {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let was = |before: &Option<crate::storage::item::StoredItem>| {
            before.as_ref().map(|item| format!(" was {}", text(&item.value))).unwrap_or_default()
        };
        let what = match &change.what {
            Happened::Put { key, item, before } => {
                assert_eq!(item.version, change.revision);
                format!("{}={}{}", text(key), text(&item.value), was(before))
            }
            Happened::Gone { key, expired: false, before } => format!("{} gone{}", text(key), was(before)),
            Happened::Gone { key, expired: true, before } => format!("{} ended{}", text(key), was(before)),
            Happened::Cleared => "cleared".to_owned(),
        };
        format!("{} {what}", change.revision)
    }

    fn delete(key: &'static str) -> Kind {
        Kind::Delete(DeleteRequest { key: key.into(), ..DeleteRequest::default() })
    }

    #[test]
    fn every_change_is_kept_once_in_order_and_with_what_was_there() {
        for mut it in [on_memory(), on_rocks()] {
            it.run(1, Kind::Put(put("early", "0")));
            it.entry(1, vec![configure(1, Keep::Default, true)]);
            it.entry(
                2,
                vec![
                    operation(Kind::Put(put("a", "1"))),
                    operation(Kind::Put(put("b", "2"))),
                    operation(Kind::Put(put("a", "3"))),
                    operation(delete("b")),
                    operation(delete("nobody")),
                ],
            );
            it.run(3, Kind::Put(PutRequest { ttl_ms: 10, ..put("short", "4") }));
            it.entry(13, vec![command::Command::Expire(Expire { limit: 10, extent: None })]);
            let from = |from: &'static str, to: &'static str| CopyRequest {
                from: from.into(),
                to: to.into(),
                remove_source: true,
                ..CopyRequest::default()
            };
            it.run(14, Kind::Copy(from("a", "{a}c")));
            let all = [
                "2 a=1",
                "3 b=2",
                "4 a=3 was 1",
                "5 b gone was 2",
                "6 short=4",
                "7 short ended was 4",
                "8 a gone was 3",
                "9 {a}c=3",
            ];
            assert_eq!(since(&it, 1, usize::MAX).unwrap(), (all.map(str::to_owned).to_vec(), 9));
            assert_eq!(since(&it, 0, usize::MAX), Err(1), "nothing was kept before it was configured");
            // Pages of one change each give the same.
            let (mut after, mut pages) = (1, Vec::new());
            while after < 9 {
                let (page, up_to) = since(&it, after, 1).unwrap();
                assert!(up_to > after);
                pages.extend(page);
                after = up_to;
            }
            assert_eq!(pages, all);
            it.reload();
            it.run(15, Kind::Put(put("late", "5")));
            assert_eq!(since(&it, 9, usize::MAX).unwrap().0, ["10 late=5"]);
        }
    }

    #[test]
    fn what_did_not_happen_is_not_told() {
        let mut it = on_rocks();
        it.entry(1, vec![configure(1, Keep::Default, false)]);
        let conditional = PutRequest { condition: Some(when(Is::Exists(true))), ..put("b", "2") };
        let parts = [Kind::Put(put("a", "1")), Kind::Put(conditional)];
        let operations = parts.map(|kind| Operation { operation: Some(kind) }).to_vec();
        let batch = BatchRequest { operations, atomic: true, ..BatchRequest::default() };
        it.run(1, Kind::Batch(batch));
        it.run(1, Kind::Put(put("c", "3")));
        assert_eq!(since(&it, 0, usize::MAX).unwrap(), (vec!["1 c=3".to_owned()], 1));
    }

    #[test]
    fn what_is_trimmed_is_said_to_be_and_what_is_off_is_not_kept() {
        let mut it = on_rocks();
        it.entry(1, vec![configure(1, Keep::Default, false)]);
        for value in ["1", "2", "3"] {
            it.run(2, Kind::Put(put("a", value)));
        }
        it.entry(3, vec![trim(2)]);
        assert_eq!(since(&it, 1, usize::MAX), Err(2));
        assert_eq!(since(&it, 2, usize::MAX).unwrap().0, ["3 a=3"]);
        // In one entry: what came before goes with it.
        it.entry(4, vec![operation(Kind::Put(put("a", "4"))), configure(2, Keep::Off, false)]);
        it.run(5, Kind::Put(put("a", "5")));
        assert_eq!(it.partition.progress.history_from, 4);
        it.entry(6, vec![configure(1, Keep::Default, false)]);
        assert!(!it.partition.history.is_on(), "older settings change nothing");
        it.entry(7, vec![configure(3, Keep::Default, false)]);
        it.run(8, Kind::Put(put("a", "6")));
        assert_eq!(since(&it, 4, usize::MAX), Err(5));
        assert_eq!(since(&it, 5, usize::MAX).unwrap().0, ["6 a=6"]);
    }

    #[test]
    fn marks_say_what_is_too_old_or_too_much() {
        let mut it = on_rocks();
        it.entry(1, vec![configure(1, Keep::Default, false)]);
        let large: &'static str = Box::leak("x".repeat(600 << 10).into_boxed_str());
        for step in 0..10_u64 {
            it.run(1_000 + step * 4_000, Kind::Put(put("a", large)));
        }
        let progress = it.partition.progress;
        let surplus = |seconds: u64, bytes: u64, now_ms: u64| {
            let time = std::time::Duration::from_secs(seconds);
            let retention = Some(Retention { time, bytes, before: false });
            surplus(GROUP, retention, &progress, now_ms, &*it.engine).unwrap()
        };
        assert_eq!(surplus(3600, u64::MAX, 40_000), None);
        // Two values to a mark.
        assert_eq!(surplus(3600, 3 << 20, 40_000), Some(4));
        assert_eq!(surplus(20, u64::MAX, 40_000), Some(4));
        assert_eq!(surplus(0, u64::MAX, 40_000), Some(10));
        assert_eq!(it.partition.progress.history_bytes / (600 << 10), 10);
    }
}
