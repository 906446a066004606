use proto::v1::value_settings::Demand;
use proto::v1::{
    BatchRequest, Condition, Configure, ContentKind, CopyRequest, GetRequest, Lifetime, ModifyRequest,
    ModifyResponse, Operation, PutRequest, Renew, Replace, Result as OperationResult, ScanPageRequest,
    TableSettings, TxnRequest, ValueSettings, command, condition::Is, lifetime::Lasts,
    operation::Operation as Kind, result::Result as Outcome,
};

use super::*;
use crate::partition::state::tests::{Fixture, on_memory, on_rocks};

fn merge(key: &'static str, patch: &'static str) -> ModifyRequest {
    let change = Some(Change::MergePatch(patch.into()));
    ModifyRequest { key: key.into(), change, most_bytes: 1_000, ..ModifyRequest::default() }
}

fn patch(key: &'static str, patch: &'static str) -> ModifyRequest {
    ModifyRequest { change: Some(Change::JsonPatch(patch.into())), ..merge(key, "") }
}

fn done(it: &mut Fixture, request: ModifyRequest) -> ModifyResponse {
    match it.run(1, Kind::Modify(request)) {
        Outcome::Modify(response) => response,
        other => panic!("{other:?}"),
    }
}

fn why(outcome: Outcome) -> (Why, String) {
    match outcome {
        Outcome::Failure(failure) => match failure.reason() {
            Some(Detail::Unsuitable(unsuitable)) => (unsuitable.why(), failure.message),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn put(key: &'static str, value: &'static str) -> Kind {
    Kind::Put(PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() })
}

fn get(it: &mut Fixture, clock_ms: u64, get: GetRequest) -> Option<proto::v1::Item> {
    let operations = vec![Operation { operation: Some(Kind::Get(get)) }];
    let batch = BatchRequest { operations, atomic: true, ..BatchRequest::default() };
    match it.run(clock_ms, Kind::Batch(batch)) {
        Outcome::Batch(batch) => match batch.results.into_iter().next() {
            Some(OperationResult { result: Some(Outcome::Get(got)) }) => got.item,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn configure(it: &mut Fixture, version: u64, values: ValueSettings) {
    let settings = TableSettings { version, values: Some(values), ..TableSettings::default() };
    it.entry(1, vec![command::Command::Configure(Configure { settings: Some(settings) })]);
}

fn json_only(schema: &'static str) -> ValueSettings {
    ValueSettings { demand: Demand::JsonOnly.into(), schema: schema.into() }
}

#[test]
fn patches_are_made_where_they_are_applied() {
    for mut it in [on_memory(), on_rocks()] {
        it.run(1, put("k", r#"{ "a" : 1.10, "n": 1 }"#));
        let merged = done(&mut it, merge("k", r#"{"n":null,"b":[1]}"#));
        assert!(merged.applied && merged.version == 2);
        assert_eq!(it.value(b"k").unwrap(), r#"{"a":1.10,"b":[1]}"#);
        done(
            &mut it,
            patch("k", r#"[{"op":"test","path":"/b/0","value":1},{"op":"add","path":"/b/-","value":2}]"#),
        );
        assert_eq!(it.value(b"k").unwrap(), r#"{"a":1.10,"b":[1,2]}"#);
        let item = get(&mut it, 1, GetRequest { key: "k".into(), ..GetRequest::default() }).unwrap();
        assert_eq!(item.content(), ContentKind::Json);
        // No item is an empty object to a merge patch.
        assert_eq!(done(&mut it, merge("new", r#"{"a":{"b":null}}"#)).size, 8);
        assert_eq!(it.value(b"new").unwrap(), r#"{"a":{}}"#);
    }
}

#[test]
fn a_patch_that_does_not_fit_leaves_nothing_behind() {
    let mut it = on_memory();
    it.run(1, put("text", "hello"));
    it.run(1, put("k", r#"{"a":1}"#));
    let test = r#"[{"op":"add","path":"/b","value":2},{"op":"test","path":"/a","value":2}]"#;
    let path = r#"[{"op":"add","path":"/b","value":2},{"op":"remove","path":"/c"}]"#;
    for (request, expected) in [
        (merge("text", "{}"), Why::NotJson),
        (patch("text", "[]"), Why::NotJson),
        (patch("absent", "[]"), Why::NoSuchKey),
        (patch("k", test), Why::TestFailed),
        (patch("k", path), Why::NoSuchPath),
        (ModifyRequest { most_bytes: 8, ..merge("k", r#"{"b":1}"#) }, Why::TooLong),
    ] {
        let (found, message) = why(it.run(1, Kind::Modify(request)));
        assert_eq!(found, expected, "{message}");
    }
    assert_eq!(it.value(b"k").unwrap(), r#"{"a":1}"#);
    assert_eq!(it.value(b"text").unwrap(), "hello");
    assert!(it.value(b"absent").is_none());
    assert_eq!(done(&mut it, merge("k", "{}")).version, 3, "refusals count no version");
    // The door refuses what is no patch; a log that has one all the same does no harm.
    for request in [merge("k", "{"), patch("k", "{}")] {
        assert!(check(request.change.as_ref().unwrap()).is_err());
        assert!(matches!(it.run(1, Kind::Modify(request)), Outcome::Failure(_)));
    }
}

#[test]
fn a_patch_is_bound_to_a_condition_like_any_write() {
    let mut it = on_memory();
    it.run(1, put("k", "{}"));
    let when =
        |is, request: ModifyRequest| ModifyRequest { condition: Some(Condition { is: Some(is) }), ..request };
    let stale = done(&mut it, when(Is::Version(7), merge("k", r#"{"a":1}"#)));
    assert!(!stale.applied && stale.version == 1);
    assert!(done(&mut it, when(Is::Version(1), merge("k", r#"{"a":1}"#))).applied);
    assert!(!done(&mut it, when(Is::Absent(true), merge("k", r#"{"a":2}"#))).applied);
    assert!(!done(&mut it, when(Is::Exists(true), merge("new", "{}"))).applied);
    assert_eq!(it.value(b"k").unwrap(), r#"{"a":1}"#);
    assert!(it.value(b"new").is_none());
}

#[test]
fn a_patch_keeps_the_end_of_an_item() {
    let mut it = on_memory();
    let put = PutRequest { key: "k".into(), value: "{}".into(), ttl_ms: 100, ..PutRequest::default() };
    it.run(1, Kind::Put(put));
    done(&mut it, merge("k", r#"{"a":1}"#));
    let item = get(&mut it, 1, GetRequest { key: "k".into(), ..GetRequest::default() }).unwrap();
    assert_eq!(item.deadline_ms, Some(101));
    let made = ModifyRequest { default_ttl_ms: 50, ..merge("new", "{}") };
    done(&mut it, made);
    let item = get(&mut it, 1, GetRequest { key: "new".into(), ..GetRequest::default() }).unwrap();
    assert_eq!(item.deadline_ms, Some(51));
}

#[test]
fn a_table_takes_only_what_it_demands() {
    for mut it in [on_memory(), on_rocks()] {
        it.run(1, put("old", "text"));
        configure(&mut it, 1, json_only(r#"{"type":"object","required":["name"]}"#));
        let replace = Replace { value: "{}".into(), ..Replace::default() };
        let changes = [
            put("k", "text"),
            put("k", "{}"),
            put("k", "[]"),
            Kind::Modify(ModifyRequest { change: Some(Change::Replace(replace)), ..merge("k", "") }),
            Kind::Modify(ModifyRequest { change: Some(Change::Append("x".into())), ..merge("k", "") }),
            Kind::Modify(ModifyRequest { change: Some(Change::Add(1)), ..merge("k", "") }),
            Kind::Modify(merge("k", r#"{"a":1}"#)),
        ];
        for change in changes {
            let (found, message) = why(it.run(1, change));
            assert_eq!(found, Why::NotAsDemanded, "{message}");
        }
        let (_, message) = why(it.run(1, put("k", r#"{"nam":"Ann"}"#)));
        assert!(message.contains("\"name\" is a required property"), "{message}");
        assert!(it.value(b"k").is_none());
        done(&mut it, merge("k", r#"{"name":"Ann"}"#));
        // What is there stays, and can be read, kept alive, renamed and deleted.
        assert_eq!(it.value(b"old").unwrap(), "text");
        let forever = Some(Lifetime { lasts: Some(Lasts::Forever(true)) });
        let renew = Change::Renew(Renew { lifetime: forever, ..Renew::default() });
        assert!(done(&mut it, ModifyRequest { change: Some(renew), ..merge("old", "") }).applied);
        let copy = CopyRequest { from: "old".into(), to: "{old}2".into(), ..CopyRequest::default() };
        assert!(matches!(it.run(1, Kind::Copy(copy)), Outcome::Copy(copied) if copied.applied));
        it.reload();
        assert_eq!(why(it.run(1, put("k", "{}"))).0, Why::NotAsDemanded, "it is remembered");
        configure(&mut it, 2, ValueSettings::default());
        it.run(1, put("k", "text"));
        assert_eq!(it.value(b"k").unwrap(), "text");
    }
}

#[test]
fn what_is_written_together_is_refused_together() {
    let mut it = on_memory();
    configure(&mut it, 1, json_only(""));
    let operations = |kinds: Vec<Kind>| {
        kinds.into_iter().map(|kind| Operation { operation: Some(kind) }).collect::<Vec<_>>()
    };
    let both = || operations(vec![put("{t}a", "1"), put("{t}b", "text")]);
    let batch = BatchRequest { operations: both(), atomic: true, ..BatchRequest::default() };
    assert!(matches!(it.run(1, Kind::Batch(batch)), Outcome::Batch(batch) if !batch.applied));
    let txn = TxnRequest { then: both(), ..TxnRequest::default() };
    assert_eq!(why(it.run(1, Kind::Txn(txn.clone()))).0, Why::NotAsDemanded);
    let outer =
        TxnRequest { then: operations(vec![put("{t}a", "1"), Kind::Txn(txn)]), ..TxnRequest::default() };
    assert_eq!(why(it.run(1, Kind::Txn(outer))).0, Why::NotAsDemanded);
    assert!(it.value(b"{t}a").is_none() && it.value(b"{t}b").is_none());
}

#[test]
fn a_demand_that_cannot_be_judged_lets_nothing_in() {
    let mut it = on_memory();
    configure(&mut it, 1, json_only("{"));
    let (found, message) = why(it.run(1, put("k", "{}")));
    assert_eq!(found, Why::NotAsDemanded);
    assert!(message.contains("cannot be judged"), "{message}");
}

#[test]
fn a_read_by_path_shows_a_part() {
    let mut it = on_memory();
    it.run(1, put("k", r#"{"a":{"b": 1.10}}"#));
    let paths = |paths: &[&str]| GetRequest {
        key: "k".into(),
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        ..GetRequest::default()
    };
    let item = get(&mut it, 1, paths(&["$.a"])).unwrap();
    assert_eq!((&item.value[..], item.content()), (&br#"{"b": 1.10}"#[..], ContentKind::Json));
    assert_eq!(get(&mut it, 1, paths(&["$.x"])).unwrap().value, "");
    assert_eq!(get(&mut it, 1, paths(&["$.a.b", "$.x"])).unwrap().value, r#"{"$.a.b":1.10}"#);
}

#[test]
fn a_touch_moves_an_end_quietly_and_seldom() {
    let mut it = on_memory();
    let brief = PutRequest { key: "k".into(), value: "v".into(), ttl_ms: 1_000, ..PutRequest::default() };
    it.run(1_000, Kind::Put(brief));
    it.run(1_000, put("endless", "v"));
    let touch = |key: &'static str| GetRequest { key: key.into(), touch_ms: 1_000, ..GetRequest::default() };
    let ends =
        |it: &mut Fixture, clock_ms, key| get(it, clock_ms, touch(key)).and_then(|item| item.deadline_ms);
    assert_eq!(ends(&mut it, 1_100, "k"), Some(2_000), "a tenth is not worth a write");
    assert_eq!(ends(&mut it, 1_101, "k"), Some(2_101));
    assert_eq!(ends(&mut it, 1_101, "endless"), None);
    let item = get(&mut it, 2_100, touch("k")).unwrap();
    assert_eq!((item.version, item.ttl_ms), (1, Some(1_000)), "the version stays");
    assert!(get(&mut it, 3_100, touch("k")).is_none(), "its end has come");
    assert_eq!(it.value(b"endless").unwrap(), "v");
}

#[test]
fn a_renewal_may_be_quiet() {
    let mut it = on_memory();
    let brief = PutRequest { key: "k".into(), value: "v".into(), ttl_ms: 100, ..PutRequest::default() };
    it.run(1, Kind::Put(brief));
    let lifetime = Some(Lifetime { lasts: Some(Lasts::TtlMs(500)) });
    let renew = Renew { lifetime, quietly: true, ..Renew::default() };
    let response = done(&mut it, ModifyRequest { change: Some(Change::Renew(renew)), ..merge("k", "") });
    assert!(response.applied && response.version == 1);
    let item = get(&mut it, 200, GetRequest { key: "k".into(), ..GetRequest::default() }).unwrap();
    assert_eq!((item.version, item.deadline_ms), (1, Some(501)));
}

#[test]
fn a_page_shows_what_a_filter_wants_and_how_far_it_looked() {
    for mut it in [on_memory(), on_rocks()] {
        for n in 0..50_u8 {
            let value = format!(r#"{{"n":{n},"odd":{}}}"#, n % 2 == 1);
            let key = format!("k{n:02}").into();
            it.run(1, Kind::Put(PutRequest { key, value: value.into(), ..PutRequest::default() }));
        }
        it.run(1, put("k99", "text"));
        let ask = |filter: &str, paths: &[&str]| ScanPageRequest {
            filter: filter.to_owned(),
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            limit: 10,
            max_bytes: 1 << 20,
            ..ScanPageRequest::default()
        };
        let page = it.scan(&ask("$.odd == true and $.n >= 25", &["$.n"]));
        let values: Vec<_> =
            page.items.iter().map(|item| String::from_utf8(item.value.to_vec()).unwrap()).collect();
        assert_eq!(values, ["25", "27", "29", "31", "33", "35", "37", "39", "41", "43"]);
        assert!(page.more);
        assert_eq!(page.looked_at, "k43");
        let none = it.scan(&ask("$.n == 77", &[]));
        assert!(none.items.is_empty() && !none.more);
        let shown = it.scan(&ScanPageRequest { start: "k48".into(), ..ask("", &["$.odd"]) });
        let values: Vec<_> = shown.items.iter().map(|item| item.value.clone()).collect();
        assert_eq!(values, ["false", "true", ""], "of what is not JSON nothing");
        assert!(it.scan(&ask("$.n ==", &[])).failure.is_some());
    }
}

#[test]
fn the_work_of_a_page_is_bounded() {
    let mut it = on_memory();
    let value = format!(r#"{{"n":0,"filler":"{}"}}"#, "x".repeat(1 << 20));
    for n in 0..20_u8 {
        let key = format!("k{n:02}").into();
        it.run(1, Kind::Put(PutRequest { key, value: value.clone().into(), ..PutRequest::default() }));
    }
    let mut ask = ScanPageRequest {
        filter: "$.n == 1".to_owned(),
        limit: 10,
        max_bytes: 1 << 20,
        ..ScanPageRequest::default()
    };
    let mut pages = 0;
    loop {
        let page = it.scan(&ask);
        assert!(page.items.is_empty());
        pages += 1;
        if !page.more {
            break;
        }
        assert!(page.looked_at > ask.start, "each page gets further");
        ask.start = [&page.looked_at[..], &[0]].concat().into();
    }
    assert_eq!(pages, 3, "8 of them are 16 MiB to look at");
}
