use proptest::prelude::*;
use proto::v1::query_request::Which;
use proto::v1::{
    BatchRequest, ClearRequest, CommandBatch, Configure, CopyRequest, DeleteRequest, Expire, ExpireExtent,
    IndexPageRequest, IndexSettings, IndexType, Operation, PutRequest, ScanPageRequest, TxnRequest, command,
    operation::Operation as Kind, result::Result as Outcome,
};

use super::*;
use crate::index::bounds::runs_of;

use crate::partition::query::{Question, index_page};
use crate::partition::read::scan_page;
use crate::partition::state::tests::{Fixture, on_memory, on_rocks, operation};

const GROUP: PartitionId = PartitionId(4);
const KEYS: [&str; 6] = ["a", "b", "{t}1", "{t}2", "{t}3", "{s}1"];

fn index(id: u32, path: &str, kind: IndexType) -> IndexSettings {
    let (name, path) = (format!("i{id}"), path.to_owned());
    IndexSettings { id, name, path, r#type: kind.into(), unique: false, sparse: true }
}

fn unique(id: u32, path: &str) -> IndexSettings {
    IndexSettings { unique: true, ..index(id, path, IndexType::String) }
}

fn configure(version: u64, indexes: Vec<IndexSettings>) -> command::Command {
    let settings = TableSettings { version, indexes, ..TableSettings::default() };
    command::Command::Configure(Configure { settings: Some(settings) })
}

fn build(index: u32, items: u32) -> command::Command {
    command::Command::BuildIndex(BuildIndex { index, items, bytes: u32::MAX })
}

fn put(key: &str, value: &str) -> Kind {
    Kind::Put(PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..PutRequest::default()
    })
}

fn delete(key: &str) -> Kind {
    Kind::Delete(DeleteRequest { key: key.to_owned().into(), ..DeleteRequest::default() })
}

fn atomic(kinds: Vec<Kind>) -> Kind {
    let operations = kinds.into_iter().map(|kind| Operation { operation: Some(kind) }).collect();
    Kind::Batch(BatchRequest { operations, atomic: true, ..BatchRequest::default() })
}

fn clash(outcome: Outcome) -> (Code, Option<Bytes>) {
    match outcome {
        Outcome::Failure(failure) => match failure.reason() {
            Some(Detail::UniqueClash(clash)) => (Code::from(failure.code), Some(clash.key.clone())),
            _ => (Code::from(failure.code), None),
        },
        other => panic!("{other:?}"),
    }
}

fn definition(it: &Fixture, id: u32) -> Definition {
    let settings = it.partition().settings.clone().unwrap();
    Definition::parse(settings.indexes.iter().find(|index| index.id == id).unwrap()).unwrap()
}

/// The keys that a query gives, in its order, by pages of that many.
fn ask(it: &Fixture, id: u32, which: Option<&Which>, reverse: bool, limit: u64) -> Vec<String> {
    let definition = definition(it, id);
    let runs = runs_of(&definition, which).unwrap();
    let mut request =
        IndexPageRequest { index: id, reverse, limit, max_bytes: u64::MAX, ..IndexPageRequest::default() };
    let mut keys = Vec::new();
    loop {
        let clock_ms = it.partition().progress.clock_ms;
        let question = Question { definition: &definition, runs: &runs, request: &request, clock_ms };
        let page = index_page(it.engine(), &it.partition().descriptor, &question).unwrap();
        let hits = page.hits.iter().filter_map(|hit| hit.item.as_ref());
        keys.extend(hits.map(|item| String::from_utf8(item.key.to_vec()).unwrap()));
        if !page.more {
            return keys;
        }
        request.after = page.last;
    }
}

fn equals(value: &str) -> Which {
    Which::Equals(value.to_owned())
}

fn record(it: &Fixture, id: u32) -> IndexRecord {
    read_record(GROUP, id, it.engine()).unwrap().unwrap()
}

#[test]
fn entries_follow_their_items() {
    for mut it in [on_memory(), on_rocks()] {
        let city = index(1, "$.c", IndexType::String);
        let tags = index(2, "$.t[*]", IndexType::String);
        it.entry(1, vec![configure(1, vec![city, tags])]);
        it.run(2, put("a", r#"{"c":"Bern","t":["x","y"]}"#));
        it.run(2, put("b", r#"{"c":"Bern","t":["y","z"]}"#));
        it.run(2, put("{t}1", "not JSON"));
        assert_eq!(ask(&it, 1, Some(&equals("Bern")), false, 9), ["a", "b"]);
        assert_eq!(ask(&it, 1, Some(&equals("Bern")), true, 1), ["b", "a"]);
        assert_eq!(ask(&it, 2, Some(&equals("y")), false, 9), ["a", "b"]);
        assert_eq!(ask(&it, 2, None, false, 1), ["a", "b"], "an item is given once, at its first value");
        assert_eq!(ask(&it, 2, None, true, 1), ["b", "a"]);
        it.run(3, put("a", r#"{"c":"Genf"}"#));
        assert_eq!(ask(&it, 1, None, false, 9), ["b", "a"]);
        assert_eq!(ask(&it, 2, None, false, 9), ["b"]);
        it.run(4, delete("b"));
        assert_eq!(ask(&it, 1, None, false, 9), ["a"]);
        it.reload();
        it.run(5, put("a", "1"));
        assert!(ask(&it, 1, None, false, 9).is_empty());
    }
}

/// Removes all that has ended.
fn expire() -> command::Command {
    let extent = Some(ExpireExtent { due_ms: u64::MAX, up_to: None });
    command::Command::Expire(Expire { limit: 1000, extent })
}

#[test]
fn what_has_ended_is_not_found_and_goes_with_its_entries() {
    let mut it = on_rocks();
    it.entry(1, vec![configure(1, vec![index(1, "$.c", IndexType::String)])]);
    let short =
        PutRequest { key: "a".into(), value: r#"{"c":"x"}"#.into(), ttl_ms: 10, ..PutRequest::default() };
    it.run(1, Kind::Put(short));
    assert_eq!(ask(&it, 1, None, false, 9), ["a"]);
    it.entry(11, vec![]);
    assert!(ask(&it, 1, None, false, 9).is_empty());
    assert_eq!(entries_on_disk(&it).len(), 1);
    it.entry(12, vec![expire()]);
    assert!(entries_on_disk(&it).is_empty());
}

#[test]
fn a_clash_names_the_other_key_and_leaves_nothing_behind() {
    for mut it in [on_memory(), on_rocks()] {
        it.entry(1, vec![configure(1, vec![unique(1, "$.m")])]);
        it.run(2, put("{t}1", r#"{"m":"x"}"#));
        assert_eq!(clash(it.run(3, put("{t}2", r#"{"m":"x"}"#))), (Code::AlreadyExists, Some("{t}1".into())));
        let counter = it.partition().progress.counter;
        assert_eq!(counter, 1, "nothing was counted");
        assert!(it.value(b"{t}2").is_none());
        // Keys of another tag may have it, and so may the key itself again.
        it.run(4, put("{s}1", r#"{"m":"x"}"#));
        assert!(matches!(it.run(4, put("{t}1", r#"{"m":"x","n":1}"#)), Outcome::Put(_)));
        // All or nothing, in a batch and in a transaction.
        let both = vec![put("{t}3", r#"{"m":"y"}"#), put("{t}2", r#"{"m":"x"}"#)];
        match it.run(5, atomic(both.clone())) {
            Outcome::Batch(batch) => {
                assert!(!batch.applied);
                let last = batch.results.into_iter().next_back().and_then(|result| result.result).unwrap();
                assert_eq!(clash(last).1, Some("{t}1".into()));
            }
            other => panic!("{other:?}"),
        }
        let then = both.into_iter().map(|kind| Operation { operation: Some(kind) }).collect();
        let txn = Kind::Txn(TxnRequest { then, ..TxnRequest::default() });
        assert_eq!(clash(it.run(6, txn)).1, Some("{t}1".into()));
        assert!(it.value(b"{t}3").is_none() && ask(&it, 1, Some(&equals("y")), false, 9).is_empty());
        // Handing it on within a batch is fine, and so is a rename.
        let swap = atomic(vec![delete("{t}1"), put("{t}2", r#"{"m":"x"}"#)]);
        assert!(matches!(it.run(7, swap), Outcome::Batch(batch) if batch.applied));
        let rename = CopyRequest {
            from: "{t}2".into(),
            to: "{t}9".into(),
            remove_source: true,
            ..CopyRequest::default()
        };
        assert!(matches!(it.run(8, Kind::Copy(rename)), Outcome::Copy(copy) if copy.applied));
        let copy = CopyRequest { from: "{t}9".into(), to: "{t}2".into(), ..CopyRequest::default() };
        assert_eq!(clash(it.run(8, Kind::Copy(copy))).1, Some("{t}9".into()));
        assert_eq!(ask(&it, 1, Some(&equals("x")), false, 9), ["{s}1", "{t}9"]);
    }
}

#[test]
fn a_value_is_free_once_its_item_has_ended() {
    let mut it = on_rocks();
    it.entry(1, vec![configure(1, vec![unique(1, "$.m")])]);
    let short =
        PutRequest { key: "{t}1".into(), value: r#"{"m":"x"}"#.into(), ttl_ms: 10, ..PutRequest::default() };
    it.run(1, Kind::Put(short));
    assert_eq!(clash(it.run(10, put("{t}2", r#"{"m":"x"}"#))).1, Some("{t}1".into()));
    it.run(11, put("{t}2", r#"{"m":"x"}"#));
    it.entry(12, vec![expire()]);
    assert_eq!(clash(it.run(13, put("{t}3", r#"{"m":"x"}"#))).1, Some("{t}2".into()), "it is taken still");
}

#[test]
fn what_cannot_be_indexed_is_refused() {
    let mut it = on_rocks();
    it.entry(1, vec![configure(1, vec![index(1, "$.t[*]", IndexType::Number), unique(2, "$.m")])]);
    let many = serde_json::json!({ "t": (0..=MOST_VALUES).collect::<Vec<_>>() }).to_string();
    assert_eq!(clash(it.run(2, put("a", &many))).0, Code::InvalidArgument);
    let long = serde_json::json!({ "m": "x".repeat(MOST_STRING_BYTES + 1) }).to_string();
    assert_eq!(clash(it.run(2, put("a", &long))).0, Code::InvalidArgument);
    assert!(it.value(b"a").is_none());
}

#[test]
fn a_build_goes_on_where_it_was_and_sees_what_is_written_meanwhile() {
    for mut it in [on_memory(), on_rocks()] {
        for number in 0..20 {
            it.run(1, put(&format!("k{number:02}"), &format!(r#"{{"n":{number}}}"#)));
        }
        it.entry(2, vec![configure(1, vec![index(1, "$.n", IndexType::Number)])]);
        assert_eq!(record(&it, 1).state(), State::Building);
        it.entry(3, vec![build(1, 7)]);
        let begun = record(&it, 1);
        assert_eq!((begun.state(), begun.items), (State::Building, 7));
        it.reload();
        it.run(4, put("k00", r#"{"n":100}"#));
        it.run(4, put("k19", r#"{"n":-1}"#));
        it.run(4, delete("k10"));
        // In one entry with what it must not see twice.
        it.entry(5, vec![operation(put("k11", r#"{"n":50}"#)), build(1, 7)]);
        it.entry(6, vec![build(1, 7)]);
        it.entry(7, vec![build(1, 7)]);
        assert_eq!(record(&it, 1).state(), State::Ready);
        let mut wanted: Vec<_> = (1..19).filter(|number| ![10, 11].contains(number)).collect::<Vec<_>>();
        wanted.insert(0, 19);
        wanted.extend([11, 0]);
        let wanted: Vec<_> = wanted.into_iter().map(|number| format!("k{number:02}")).collect();
        assert_eq!(ask(&it, 1, None, false, 3), wanted);
        it.entry(8, vec![configure(2, Vec::new())]);
        assert!(entries_on_disk(&it).is_empty());
        assert_eq!(read_record(GROUP, 1, it.engine()).unwrap(), None);
    }
}

#[test]
fn a_build_that_meets_a_clash_fails_and_refuses_nothing() {
    let mut it = on_rocks();
    it.run(1, put("{t}1", r#"{"m":"x"}"#));
    it.run(1, put("{t}2", r#"{"m":"x"}"#));
    it.entry(2, vec![configure(1, vec![unique(1, "$.m")])]);
    it.entry(3, vec![build(1, 100)]);
    let failed = record(&it, 1);
    assert_eq!(failed.state(), State::Failed);
    assert!(failed.failure.contains("{t}1") && failed.failure.contains("{t}2"), "{}", failed.failure);
    assert!(entries_on_disk(&it).is_empty());
    assert!(matches!(it.run(4, put("{t}3", r#"{"m":"x"}"#)), Outcome::Put(_)));
    assert!(entries_on_disk(&it).is_empty());
    // Mended, dropped and added again it is ready.
    it.run(5, delete("{t}1"));
    it.run(5, delete("{t}3"));
    it.entry(6, vec![configure(2, vec![unique(2, "$.m")])]);
    it.entry(7, vec![build(2, 100)]);
    assert_eq!(record(&it, 2).state(), State::Ready);
    assert_eq!(clash(it.run(8, put("{t}4", r#"{"m":"x"}"#))).1, Some("{t}2".into()));
}

#[test]
fn an_empty_partition_has_nothing_to_build() {
    let mut it = on_rocks();
    it.entry(1, vec![configure(1, vec![index(1, "$.n", IndexType::Number)])]);
    assert_eq!(record(&it, 1).state(), State::Ready);
    // Not in one entry with its first item: that was written without the index.
    let mut it = on_rocks();
    it.entry(
        1,
        vec![operation(put("a", r#"{"n":1}"#)), configure(1, vec![index(1, "$.n", IndexType::Number)])],
    );
    assert_eq!(record(&it, 1).state(), State::Building);
    it.entry(2, vec![build(1, 10)]);
    assert_eq!(ask(&it, 1, None, false, 9), ["a"]);
}

/// All entries and claims.
fn entries_on_disk(it: &Fixture) -> Vec<(Bytes, Bytes)> {
    let descriptor = it.partition().descriptor;
    let mut found = Vec::new();
    for bucket in descriptor.buckets.iter() {
        found.extend(all_in(it, &keys::indexes_of(descriptor.table, bucket)));
    }
    found
}

fn all_in(it: &Fixture, range: &KeyRange) -> Vec<(Bytes, Bytes)> {
    let mut walk = it.engine().iterate(range, false).unwrap();
    let mut found = Vec::new();
    while let Some((key, value)) = walk.current() {
        found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        walk.advance().unwrap();
    }
    found
}

#[derive(Debug, Clone)]
enum Step {
    Put(usize, String, u64),
    Delete(usize),
    Both(usize, String, usize, String),
    Rename(usize, usize),
    Expire,
    Clear,
    Declare(Vec<u8>),
    Build(u32),
    Wait(u64),
}

fn any_value() -> impl Strategy<Value = String> {
    let city = prop_oneof![
        "[ab\0]{0,2}".prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
        "[ab]".prop_map(|end| ("x".repeat(MOST_STRING_BYTES) + &end).into()),
    ];
    let tags = prop::collection::vec("[a-d]", 0..4);
    let parts = (city, tags, any::<i8>(), prop::option::of("[ab]"));
    let json = parts.prop_map(|(city, tags, number, mail)| {
        serde_json::json!({"c": city, "t": tags, "n": number, "m": mail}).to_string()
    });
    prop_oneof![8 => json, 1 => Just("no JSON".to_owned()), 1 => Just("{}".to_owned())]
}

fn any_step() -> impl Strategy<Value = Step> {
    let key = || 0..KEYS.len();
    prop_oneof![
        8 => (key(), any_value(), 0_u64..20).prop_map(|(key, value, ttl)| Step::Put(key, value, ttl)),
        2 => key().prop_map(Step::Delete),
        2 => (key(), any_value(), key(), any_value()).prop_map(|(k, v, l, w)| Step::Both(k, v, l, w)),
        2 => (key(), key()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => Just(Step::Expire),
        1 => Just(Step::Clear),
        2 => prop::collection::vec(0_u8..4, 0..4).prop_map(Step::Declare),
        4 => (1_u32..4).prop_map(Step::Build),
        1 => (0_u64..15).prop_map(Step::Wait),
    ]
}

/// What each step proposes; ids of indexes are never used again.
struct Proposer {
    version: u64,
    last_index: u32,
    declared: Vec<(u8, IndexSettings)>,
}

impl Proposer {
    fn commands(&mut self, step: &Step) -> Vec<command::Command> {
        match step {
            Step::Put(key, value, ttl_ms) => {
                // A few of them end.
                let ttl_ms = if *ttl_ms > 15 { *ttl_ms } else { 0 };
                let (key, value) = (KEYS[*key].into(), value.clone().into());
                vec![operation(Kind::Put(PutRequest { key, value, ttl_ms, ..PutRequest::default() }))]
            }
            Step::Delete(key) => vec![operation(delete(KEYS[*key]))],
            Step::Both(key, value, other, more) => {
                vec![operation(atomic(vec![put(KEYS[*key], value), put(KEYS[*other], more)]))]
            }
            Step::Rename(from, to) => {
                let (from, to) = (KEYS[*from].into(), KEYS[*to].into());
                let copy =
                    CopyRequest { from, to, remove_source: true, replace: true, ..CopyRequest::default() };
                vec![operation(Kind::Copy(copy))]
            }
            Step::Expire => vec![expire()],
            Step::Clear => {
                let clear = ClearRequest { first_bucket: 1, last_bucket: 2, ..ClearRequest::default() };
                vec![operation(Kind::Clear(clear))]
            }
            Step::Declare(wanted) => {
                self.declared.retain(|(kind, _)| wanted.contains(kind));
                for kind in wanted {
                    if self.declared.iter().all(|(known, _)| known != kind) {
                        self.last_index += 1;
                        self.declared.push((*kind, one_of(*kind, self.last_index)));
                    }
                }
                self.version += 1;
                vec![configure(self.version, self.declared.iter().map(|(_, index)| index.clone()).collect())]
            }
            Step::Build(items) => self.declared.iter().map(|(_, index)| build(index.id, *items)).collect(),
            Step::Wait(_) => vec![command::Command::Tick(proto::v1::Tick {})],
        }
    }
}

fn one_of(kind: u8, id: u32) -> IndexSettings {
    match kind {
        0 => IndexSettings { sparse: false, ..index(id, "$.c", IndexType::String) },
        1 => index(id, "$.t[*]", IndexType::String),
        2 => index(id, "$.n", IndexType::Number),
        _ => unique(id, "$.m"),
    }
}

/// Every index that is ready answers as a look at all items does, and nothing else is on disk.
fn agrees_with_the_items(it: &Fixture) {
    let (descriptor, clock_ms) = (it.partition().descriptor, it.partition().progress.clock_ms);
    let request = ScanPageRequest { limit: u64::MAX, max_bytes: u64::MAX, ..ScanPageRequest::default() };
    let items = scan_page(it.engine(), &descriptor, &request, clock_ms).unwrap().items;
    let declared = it.partition().settings.clone().unwrap_or_default().indexes;
    let mut known: Vec<u32> = Vec::new();
    for settings in &declared {
        let definition = Definition::parse(settings).unwrap();
        known.push(definition.id);
        if record(it, definition.id).state() != State::Ready {
            continue;
        }
        let values = |item: &proto::v1::Item| extract(&[&definition], &item.value).remove(0).values;
        let mut wanted: Vec<_> = items
            .iter()
            .filter_map(|item| Some((values(item).first()?.encoded.clone(), item.key.clone())))
            .collect();
        wanted.sort();
        let wanted: Vec<_> =
            wanted.into_iter().map(|(_, key)| String::from_utf8(key.to_vec()).unwrap()).collect();
        assert_eq!(ask(it, definition.id, None, false, 2), wanted, "{settings:?}");
        let long = "x".repeat(MOST_STRING_BYTES) + "a";
        for text in ["a", "b", "7", &long] {
            let which = equals(text);
            let Ok(runs) = runs_of(&definition, Some(&which)) else { continue };
            let has = |item: &&proto::v1::Item| values(item).iter().any(|value| runs[0].holds(value));
            let mut wanted: Vec<_> = items.iter().filter(has).map(|item| item.key.clone()).collect();
            wanted.sort();
            let found = ask(it, definition.id, Some(&which), true, 1);
            assert_eq!(found.into_iter().rev().map(Bytes::from).collect::<Vec<_>>(), wanted, "{which:?}");
            if definition.unique {
                let mut tags: Vec<_> = wanted.iter().map(|key| partition_key(key).to_vec()).collect();
                tags.dedup();
                assert_eq!(tags.len(), wanted.len(), "a value is had twice");
            }
        }
    }
    for (key, _) in entries_on_disk(it) {
        let id = u32::from_be_bytes(key[7..11].try_into().unwrap());
        assert!(known.contains(&id), "something of index {id} is left");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// However many entries a replica applies before it writes, it gives the same answers and ends with
    /// the same bytes; and indexes agree with the items all the while.
    #[test]
    fn indexes_agree_with_the_items_on_every_replica(
        steps in prop::collection::vec((any_step(), any::<bool>(), any::<bool>()), 1..60),
    ) {
        let (mut one, mut other) = (on_memory(), on_memory());
        let mut proposer = Proposer { version: 0, last_index: 0, declared: Vec::new() };
        let mut clock_ms = 1;
        let mut commands = Vec::new();
        for (step, joined, written) in steps {
            clock_ms += if let Step::Wait(time) = step { time } else { 1 };
            commands.extend(proposer.commands(&step));
            // Some steps share an entry.
            if joined {
                continue;
            }
            let entry = std::mem::take(&mut commands);
            let answers = one.entry(clock_ms, entry.clone());
            prop_assert_eq!(answers, other.apply(clock_ms, entry));
            agrees_with_the_items(&one);
            if written {
                other.write();
                other.reload();
            }
        }
        other.write();
        one.write();
        // An expiry entry that its item has outlived is written or not, as entries were gathered.
        let everything = |it: &Fixture| {
            let range = KeyRange { start: Bytes::new(), end: Bytes::from_static(&[255; 8]) };
            let mut all = all_in(it, &range);
            all.retain(|(key, _)| key.get(6) != Some(&2));
            all
        };
        prop_assert_eq!(everything(&one), everything(&other));
    }
}

#[test]
fn commands_of_indexes_are_those_of_their_numbers() {
    // Pinned: what is in the log must be read for ever.
    let bytes =
        CommandBatch { clock_ms: 0, commands: vec![proto::v1::Command { command: Some(build(3, 4)) }] };
    assert_eq!(&bytes.encode_to_vec()[..7], [18, 12, 58, 10, 8, 3, 16]);
}
