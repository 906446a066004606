use proto::v1::{
    BatchRequest, ClearRequest, GetRequest, ModifyResponse, Operation, Overwrite, PutRequest, TxnRequest,
    operation::Operation as Kind,
};

use super::*;
use crate::partition::state::tests::{Fixture, on_memory, on_rocks};

fn modify(key: &'static str, change: Change) -> ModifyRequest {
    let key = Bytes::from_static(key.as_bytes());
    ModifyRequest { key, change: Some(change), most_bytes: 100, ..ModifyRequest::default() }
}

fn changed(it: &mut Fixture, clock_ms: u64, request: ModifyRequest) -> ModifyResponse {
    match it.run(clock_ms, Kind::Modify(request)) {
        Outcome::Modify(response) => response,
        other => panic!("{other:?}"),
    }
}

fn refused(it: &mut Fixture, request: ModifyRequest) -> Why {
    match it.run(1, Kind::Modify(request)) {
        Outcome::Failure(failure) => match failure.reason() {
            Some(Detail::Unsuitable(unsuitable)) => unsuitable.why(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn put(it: &mut Fixture, key: &'static str, value: &'static str, ttl_ms: u64) {
    let put = PutRequest { key: key.into(), value: value.into(), ttl_ms, ..PutRequest::default() };
    it.run(1, Kind::Put(put));
}

fn lasting(lasts: Lasts) -> Lifetime {
    Lifetime { lasts: Some(lasts) }
}

fn renewed(key: &'static str, lasts: Lasts, only: Only) -> ModifyRequest {
    modify(key, Change::Renew(Renew { lifetime: Some(lasting(lasts)), only: only.into(), quietly: false }))
}

#[test]
fn sums_are_made_where_they_are_applied() {
    for mut it in [on_memory(), on_rocks()] {
        assert_eq!(changed(&mut it, 1, modify("n", Change::Add(5))).number, 5);
        assert_eq!(changed(&mut it, 1, modify("n", Change::Add(-7))).number, -2);
        assert_eq!(it.value(b"n").unwrap(), "-2");
        put(&mut it, "n", "9223372036854775807", 0);
        assert_eq!(refused(&mut it, modify("n", Change::Add(1))), Why::Overflow);
        for bad in ["", " 1", "1 ", "01", "+1", "1.0", "-0", "x"] {
            put(&mut it, "n", bad, 0);
            assert_eq!(refused(&mut it, modify("n", Change::Add(1))), Why::NotAnInteger, "{bad:?}");
            assert_eq!(it.value(b"n").unwrap(), bad, "a refusal leaves nothing behind");
        }
        put(&mut it, "n", "10.50", 0);
        let sum = changed(&mut it, 1, modify("n", Change::AddDecimal("0.1".to_owned())));
        assert_eq!(sum.decimal, "10.6");
    }
}

#[test]
fn values_grow_up_to_their_limit() {
    let mut it = on_memory();
    assert_eq!(changed(&mut it, 1, modify("v", Change::Append("ab".into()))).size, 2);
    assert_eq!(changed(&mut it, 1, modify("v", Change::Append("cd".into()))).size, 4);
    let over = |offset, value: &'static str| Change::Overwrite(Overwrite { offset, value: value.into() });
    assert_eq!(changed(&mut it, 1, modify("v", over(6, "x"))).size, 7);
    assert_eq!(it.value(b"v").unwrap(), "abcd\0\0x");
    assert_eq!(refused(&mut it, modify("v", over(100, "x"))), Why::TooLong);
    assert_eq!(refused(&mut it, modify("v", over(u64::MAX, "x"))), Why::TooLong);
    assert_eq!(refused(&mut it, modify("v", Change::Append(vec![b'x'; 94].into()))), Why::TooLong);
    let nothing = changed(&mut it, 1, modify("absent", over(3, "")));
    assert!(!nothing.applied && it.value(b"absent").is_none());
}

#[test]
fn what_was_there_before_is_answered() {
    let mut it = on_memory();
    put(&mut it, "k", "old", 0);
    let replace = Replace { value: "new".into(), ..Replace::default() };
    let request = ModifyRequest { answer_before: true, ..modify("k", Change::Replace(replace)) };
    assert_eq!(changed(&mut it, 1, request).before.unwrap().value, "old");
    let take = ModifyRequest { answer_before: true, ..modify("k", Change::Take(true)) };
    assert_eq!(changed(&mut it, 1, take.clone()).before.unwrap().value, "new");
    assert!(it.value(b"k").is_none());
    let again = changed(&mut it, 1, take);
    assert!(again.before.is_none() && !again.applied);
}

#[test]
fn lives_are_changed_under_conditions() {
    let mut it = on_memory();
    put(&mut it, "k", "v", 0);
    let mut applied = |lasts, only| changed(&mut it, 1, renewed("k", lasts, only)).applied;
    assert!(!applied(Lasts::TtlMs(50), Only::WithEnd));
    assert!(!applied(Lasts::TtlMs(50), Only::ToLater), "what has no end lasts longest");
    assert!(!applied(Lasts::TtlMs(50), Only::WithEndToEarlier));
    assert!(applied(Lasts::TtlMs(50), Only::ToEarlier));
    assert!(!applied(Lasts::TtlMs(60), Only::WithoutEnd));
    assert!(!applied(Lasts::TtlMs(60), Only::ToEarlier));
    assert!(applied(Lasts::TtlMs(60), Only::ToLater));
    assert!(applied(Lasts::UntilMs(40), Only::WithEndToEarlier));
    assert!(applied(Lasts::Forever(true), Only::WithEnd));
    assert!(applied(Lasts::UntilMs(1), Only::Always), "a moment that has passed");
    assert!(it.value(b"k").is_none());
    // Values that are changed live as long as before; those that are replaced do not.
    put(&mut it, "k", "1", 50);
    changed(&mut it, 2, modify("k", Change::Add(1)));
    assert!(it.value(b"k").is_some());
    changed(&mut it, 51, modify("other", Change::Add(1)));
    assert!(it.value(b"k").is_none());
    let made = ModifyRequest { default_ttl_ms: 10, ..modify("made", Change::Add(1)) };
    changed(&mut it, 60, made);
    changed(&mut it, 70, modify("other", Change::Add(1)));
    assert!(it.value(b"made").is_none(), "what is made lives as long as the table says");
}

#[test]
fn copies_keep_the_value_and_its_end() {
    let mut it = on_memory();
    let copied = |it: &mut Fixture, from: &'static str, to: &'static str, replace, remove_source| {
        let (from, to) = (from.into(), to.into());
        match it
            .run(1, Kind::Copy(CopyRequest { from, to, replace, remove_source, ..CopyRequest::default() }))
        {
            Outcome::Copy(copied) => (copied.applied, copied.source_absent),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(copied(&mut it, "{t}a", "{t}b", true, false), (false, true));
    put(&mut it, "{t}a", "v", 50);
    assert_eq!(copied(&mut it, "{t}a", "{t}b", false, false), (true, false));
    assert_eq!(copied(&mut it, "{t}a", "{t}b", false, false), (false, false));
    assert_eq!(copied(&mut it, "{t}a", "{t}b", true, true), (true, false));
    assert!(it.value(b"{t}a").is_none() && it.value(b"{t}b").unwrap() == "v");
    assert_eq!(copied(&mut it, "{t}b", "{t}b", true, true), (true, false), "renamed to itself");
    changed(&mut it, 51, modify("n", Change::Add(1)));
    assert!(it.value(b"{t}b").is_none());
}

#[test]
fn a_clear_takes_everything_in_its_buckets_and_nothing_after_it() {
    for mut it in [on_memory(), on_rocks()] {
        put(&mut it, "a", "1", 0);
        put(&mut it, "b", "2", 1000);
        let clear = Kind::Clear(ClearRequest { first_bucket: 0, last_bucket: 3, ..ClearRequest::default() });
        let all = vec![
            Kind::Put(PutRequest { key: "c".into(), value: "3".into(), ..PutRequest::default() }),
            clear,
            Kind::Get(GetRequest { key: "a".into(), ..GetRequest::default() }),
            Kind::Put(PutRequest { key: "d".into(), value: "4".into(), ..PutRequest::default() }),
        ];
        let answers = it.entry(2, all.into_iter().map(crate::partition::state::tests::operation).collect());
        let got = format!("{:?}", answers[2]);
        assert!(got.contains("item: None"), "{got}");
        for (key, wanted) in [("a", None), ("b", None), ("c", None), ("d", Some("4"))] {
            assert_eq!(it.value(key.as_bytes()).as_deref(), wanted.map(str::as_bytes), "{key}");
        }
        let beyond = Kind::Clear(ClearRequest { first_bucket: 0, last_bucket: 4, ..ClearRequest::default() });
        assert!(matches!(it.run(3, beyond), Outcome::Failure(_)), "buckets of others");
    }
}

#[test]
fn operations_that_came_together_are_done_or_refused_by_themselves() {
    let mut it = on_memory();
    put(&mut it, "x", "not a number", 0);
    let kinds = [
        Kind::Modify(modify("n", Change::Add(1))),
        Kind::Modify(modify("x", Change::Add(1))),
        Kind::Modify(modify("n", Change::Add(1))),
        Kind::Get(GetRequest { key: "n".into(), ..GetRequest::default() }),
    ];
    let operations = kinds.into_iter().map(|kind| Operation { operation: Some(kind) }).collect();
    let batch = Kind::Batch(BatchRequest { operations, ..BatchRequest::default() });
    let Outcome::Batch(batch) = it.run(1, batch) else { panic!("no batch") };
    let shown: Vec<_> = batch.results.into_iter().map(|result| result.result.unwrap()).collect();
    assert!(matches!(&shown[0], Outcome::Modify(one) if one.number == 1));
    assert!(matches!(&shown[1], Outcome::Failure(_)));
    assert!(matches!(&shown[2], Outcome::Modify(two) if two.number == 2));
    assert!(matches!(&shown[3], Outcome::Get(got) if got.item.as_ref().unwrap().value == "2"));
}

#[test]
fn a_transaction_may_hold_one_that_has_conditions_of_its_own() {
    let mut it = on_memory();
    let inner = |key: &'static str| {
        let put = PutRequest { key: key.into(), value: "v".into(), ..PutRequest::default() };
        let absent =
            proto::v1::Compare { key: key.into(), that: Some(proto::v1::compare::That::Absent(true)) };
        let then = vec![Operation { operation: Some(Kind::Put(put)) }];
        Operation {
            operation: Some(Kind::Txn(TxnRequest { compares: vec![absent], then, ..TxnRequest::default() })),
        }
    };
    let txn = TxnRequest { then: vec![inner("{t}a"), inner("{t}a")], ..TxnRequest::default() };
    let Outcome::Txn(txn) = it.run(1, Kind::Txn(txn)) else { panic!("no transaction") };
    let succeeded: Vec<_> = txn
        .results
        .into_iter()
        .map(|result| matches!(result.result, Some(Outcome::Txn(inner)) if inner.succeeded))
        .collect();
    assert_eq!(succeeded, [true, false]);
}
