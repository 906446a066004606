//! Batches, transactions, scans and pipelines against nodes that misbehave.

#![expect(clippy::unwrap_used, reason = "a test fails where its scripted cluster does")]

mod scripted;

use std::collections::HashSet;
use std::time::Duration;

use client::{Answer, Client, Compare, Error, Operation, Options, PutOptions, ScanOptions, Txn};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use proto::v1::error_detail::Detail;
use proto::v1::operation::Operation as Op;
use proto::v1::{Failure, NotLeader, OverLimit};
use scripted::{Cluster, Step, quick};
use tonic::Code;

const PATIENT: Duration = Duration::from_secs(10);

fn put(key: String) -> Operation {
    Operation::put(key, "v", PutOptions::default())
}

#[tokio::test]
async fn a_batch_of_any_length_keeps_its_order() {
    let cluster = Cluster::of(1).await;
    cluster.nodes[0].script([Step::CutAfter]);
    let table = cluster.simple_client(PATIENT).await.table("");
    let mut operations: Vec<_> = (0..2400).map(|n| put(format!("k{n}"))).collect();
    operations.push(Operation::get("k2399"));
    operations.push(Operation::exists("nothing"));
    operations.push(Operation::delete("k0", None));
    let outcome = table.batch(operations).await;
    assert_eq!(outcome.results.len(), 2403);
    for (n, result) in outcome.results[..2400].iter().enumerate() {
        assert!(matches!(result, Ok(Answer::Put(put)) if put.version == n as u64 + 1), "{n}: {result:?}");
    }
    assert!(matches!(&outcome.results[2400], Ok(Answer::Get(Some(item))) if item.version == 2400));
    assert_eq!(outcome.results[2401], Ok(Answer::Exists(false)));
    assert!(matches!(&outcome.results[2402], Ok(Answer::Delete(deleted)) if deleted.deleted));
    assert_eq!(cluster.store.applied(), 2401, "each once, although a request was sent twice");
    let sizes: Vec<_> = cluster.nodes[0]
        .seen()
        .into_iter()
        .map(|op| if let Op::Batch(batch) = op { batch.operations.len() } else { 0 })
        .collect();
    assert_eq!(sizes, [1000, 1000, 1000, 403]);
}

#[tokio::test]
async fn a_batch_that_fails_says_so_for_each_operation() {
    let cluster = Cluster::of(1).await;
    let over = OverLimit { what: "key".into(), limit: 4096, actual: 5000 };
    let failure = Failure::new(Code::InvalidArgument, "too large", Some(Detail::OverLimit(over)));
    cluster.nodes[0].script([Step::Refuse(failure)]);
    let table = cluster.simple_client(PATIENT).await.table("");
    let outcome = table.batch(vec![put("a".into()), put("b".into())]).await;
    assert!(
        outcome.results.iter().all(|result| matches!(result, Err(Error::OverLimit { .. }))),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_transaction_is_sent_again_as_one() {
    let cluster = Cluster::of(1).await;
    cluster.nodes[0].script([Step::CutAfter]);
    let table = cluster.simple_client(PATIENT).await.table("");
    let txn = Txn::new().when(Compare::absent("{a}1")).then(put("{a}1".into())).then(put("{a}2".into()));
    let outcome = table.txn(txn).await.unwrap();
    assert!(outcome.succeeded);
    assert_eq!(outcome.answers.len(), 2);
    assert_eq!(cluster.store.applied(), 2);
}

#[tokio::test]
async fn a_scan_goes_on_after_a_broken_connection() {
    let cluster = Cluster::of(1).await;
    let table = cluster.simple_client(PATIENT).await.table("");
    let keys: Vec<String> = (10..31).map(|n| format!("k{n}")).collect();
    table.batch(keys.iter().cloned().map(put).collect()).await;
    cluster.nodes[0].script([Step::Do, Step::Do, Step::CutBefore, Step::Do, Step::CutBefore, Step::Hang]);
    let items: Vec<_> = table.scan(ScanOptions::default()).items().collect().await;
    let found: Vec<_> = items.into_iter().map(|item| item.unwrap().key).collect();
    assert_eq!(found, keys);
}

#[tokio::test]
async fn a_limited_scan_ends_with_a_cursor_that_goes_on() {
    let cluster = Cluster::of(1).await;
    let table = cluster.simple_client(PATIENT).await.table("");
    table.batch((10..20).map(|n| put(format!("k{n}"))).collect()).await;
    cluster.nodes[0].script([Step::Do, Step::CutBefore]);
    let options = ScanOptions { limit: Some(5), ..ScanOptions::default() };
    let pages: Vec<_> = table.scan(options.clone()).pages().map(Result::unwrap).collect().await;
    assert_eq!(pages.iter().map(|page| page.items.len()).sum::<usize>(), 5);
    let cursor = pages.last().unwrap().cursor.clone();
    let rest: Vec<_> =
        table.scan(ScanOptions { cursor, ..options }).pages().map(Result::unwrap).collect().await;
    let keys: Vec<_> = pages.iter().chain(&rest).flat_map(|page| &page.items).map(|item| &item.key).collect();
    assert_eq!(keys.len(), 10);
    assert!(keys.is_sorted());
}

#[tokio::test]
async fn a_pipeline_fills_its_frames_and_answers_each_operation() {
    let cluster = Cluster::of(1).await;
    let pipeline = cluster.simple_client(PATIENT).await.pipeline("");
    let mut pending = FuturesUnordered::new();
    for n in 0..3000 {
        // More than may be in flight: room is made by awaiting.
        if pending.len() == 1024 {
            assert!(matches!(pending.next().await, Some(Ok(Answer::Put(_)))));
        }
        pending.push(pipeline.submit(put(format!("k{n}"))).await.unwrap());
    }
    while let Some(answer) = pending.next().await {
        assert!(matches!(answer, Ok(Answer::Put(_))), "{answer:?}");
    }
    let frames = cluster.nodes[0].frames();
    assert_eq!(frames.iter().sum::<usize>(), 3000);
    assert!(frames.len() < 1500, "{} frames for 3000 operations", frames.len());
    let got = pipeline.submit(Operation::get("k7")).await.unwrap().await;
    assert!(matches!(got, Ok(Answer::Get(Some(item))) if item.key == "k7"));
}

#[tokio::test]
async fn answers_make_room_although_nobody_looks_at_them_yet() {
    let cluster = Cluster::of(1).await;
    let pipeline = cluster.simple_client(PATIENT).await.pipeline("");
    let mut pending = Vec::new();
    for n in 0..2500 {
        pending.push(pipeline.submit(put(format!("k{n}"))).await.unwrap());
    }
    let answers = futures::future::join_all(pending).await;
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Answer::Put(_)))));
}

#[tokio::test]
async fn a_pipeline_survives_broken_streams_and_applies_each_write_once() {
    let cluster = Cluster::of(2).await;
    cluster.publish_map(1, [0, 1]);
    for node in &cluster.nodes {
        node.script((0..700).map(|n| if n % 150 == 149 { Step::CutAfter } else { Step::Do }));
    }
    let options = Options { deadline: PATIENT, ..quick() };
    let pipeline = Client::connect(cluster.endpoints(), options).await.unwrap().pipeline("");
    let mut pending = FuturesUnordered::new();
    for n in 0..800 {
        pending.push(pipeline.submit(put(format!("k{n}"))).await.unwrap());
    }
    let mut versions = HashSet::new();
    while let Some(answer) = pending.next().await {
        let Ok(Answer::Put(put)) = answer else { panic!("{answer:?}") };
        assert!(versions.insert(put.version), "an answer was given to two operations");
    }
    assert_eq!(cluster.store.applied(), 800);
    assert!(cluster.nodes.iter().all(|node| !node.frames().is_empty()), "each leader has its stream");
}

#[tokio::test]
async fn a_pipeline_follows_redirects_and_reports_failures_alone() {
    let cluster = Cluster::of(2).await;
    let leader_address = cluster.nodes[1].address();
    let hint = Detail::NotLeader(NotLeader { leader_address, ..NotLeader::default() });
    let moved = Failure::new(Code::Unavailable, "not the leader", Some(hint));
    let wrong = Failure::new(Code::InvalidArgument, "no", None);
    cluster.nodes[0].script([Step::Refuse(moved), Step::Refuse(wrong), Step::Do]);
    let pipeline = cluster.simple_client(PATIENT).await.pipeline("");
    let first = pipeline.submit(put("a".into())).await.unwrap();
    let second = pipeline.submit(put("b".into())).await.unwrap();
    let third = pipeline.submit(put("c".into())).await.unwrap();
    let (first, second, third) = futures::join!(first, second, third);
    assert!(first.is_ok() && third.is_ok(), "{first:?} {third:?}");
    assert_eq!(second, Err(Error::InvalidArgument("no".into())));
    assert_eq!(cluster.nodes[1].seen().len(), 1);
}

#[tokio::test]
async fn a_pipeline_that_gets_no_answer_reports_the_outcome_as_unknown() {
    let cluster = Cluster::of(1).await;
    cluster.nodes[0].always(Step::Hang);
    let pipeline = cluster.simple_client(Duration::from_millis(800)).await.pipeline("");
    let answer = pipeline.submit(put("a".into())).await.unwrap().await;
    assert!(matches!(answer, Err(Error::OutcomeUnknown(_))), "{answer:?}");
}
