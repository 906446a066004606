//! Single calls against nodes that misbehave.

#![expect(clippy::unwrap_used, reason = "a test fails where its scripted cluster does")]

mod scripted;

use std::time::{Duration, Instant};

use client::{Client, Error, Options, PutOptions};
use proto::v1::error_detail::Detail;
use proto::v1::operation::Operation as Op;
use proto::v1::{
    CreateTableRequest, Failure, NotLeader, PartitionEntry, Retry, RetryAfter, UnknownTable, WrongEpoch,
};
use scripted::{Cluster, Node, Step, eventually, quick};
use tonic::Code;

const PATIENT: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(900);

fn refuse(code: Code, detail: Detail) -> Step {
    Step::Refuse(Failure::new(code, "scripted", Some(detail)))
}

fn not_leader(leader: Option<&Node>) -> Step {
    let leader_address = leader.map(Node::address).unwrap_or_default();
    refuse(Code::Unavailable, Detail::NotLeader(NotLeader { leader_address, ..NotLeader::default() }))
}

/// What the puts that a node saw carried.
fn retries(node: &Node) -> Vec<Retry> {
    let retry = |operation| match operation {
        Op::Put(put) => put.retry,
        _ => None,
    };
    node.seen().into_iter().filter_map(retry).collect()
}

fn plain() -> PutOptions {
    PutOptions::default()
}

#[tokio::test]
async fn a_redirect_is_followed_at_once() {
    let cluster = Cluster::of(2).await;
    cluster.nodes[0].script([not_leader(Some(&cluster.nodes[1]))]);
    let table = cluster.simple_client(PATIENT).await.table("");
    assert!(table.put("k", "v", plain()).await.unwrap().applied);
    let retry = &retries(&cluster.nodes[1])[0];
    assert_eq!((retry.attempt, retry.sequence), (0, 1), "nothing was done before");
    assert_eq!(retry.client.len(), 16);
    assert_eq!(cluster.nodes[1].timeouts(), [true], "the deadline travels with the call");
    assert_eq!(table.get("k").await.unwrap().unwrap().value, "v");
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_applied_once() {
    let cluster = Cluster::of(1).await;
    cluster.nodes[0].script([Step::CutAfter, Step::CutAfter]);
    let table = cluster.simple_client(PATIENT).await.table("");
    let put = table.put("k", "v", plain()).await.unwrap();
    assert_eq!((put.applied, put.version), (true, 1));
    assert_eq!(cluster.store.applied(), 1);
    let sent: Vec<_> = retries(&cluster.nodes[0]).iter().map(|r| (r.sequence, r.attempt)).collect();
    assert_eq!(sent, [(1, 0), (1, 1), (1, 2)]);
    let ages: Vec<_> = retries(&cluster.nodes[0]).iter().map(|r| r.age_ms).collect();
    assert!(ages.is_sorted() && ages[2] > 0, "{ages:?}");
}

#[tokio::test]
async fn an_outcome_that_cannot_be_learned_is_unknown() {
    for step in [Step::CutBefore, Step::CutAfter, Step::Hang] {
        let cluster = Cluster::of(1).await;
        cluster.nodes[0].always(step.clone());
        let table = cluster.simple_client(SHORT).await.table("");
        let error = table.put("k", "v", plain()).await.unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown(_)), "{step:?}: {error}");
        assert!(!error.is_definite());
        let error = table.get("k").await.unwrap_err();
        assert!(matches!(error, Error::DeadlineExceeded(_) | Error::Unavailable(_)), "{step:?}: {error}");
    }
}

#[tokio::test]
async fn a_definite_failure_never_becomes_unknown() {
    let cluster = Cluster::of(1).await;
    let table = cluster.simple_client(SHORT).await.table("");
    cluster.nodes[0].always(not_leader(None));
    let error = table.put("k", "v", plain()).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error}");
    assert!(cluster.nodes[0].seen().len() > 2, "it was tried again");
    cluster.nodes[0].always(Step::Refuse(Failure::new(Code::FailedPrecondition, "disk nearly full", None)));
    let error = table.put("k", "v", plain()).await.unwrap_err();
    assert_eq!(error, Error::FailedPrecondition("disk nearly full".into()));
}

#[tokio::test]
async fn a_refusal_after_a_lost_answer_stays_unknown() {
    let cluster = Cluster::of(1).await;
    cluster.nodes[0].script([Step::CutAfter]);
    cluster.nodes[0].always(not_leader(None));
    let table = cluster.simple_client(SHORT).await.table("");
    let error = table.put("k", "v", plain()).await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown(_)), "{error}");
    assert_eq!(cluster.store.applied(), 1);
}

#[tokio::test]
async fn a_busy_node_is_given_its_time() {
    let cluster = Cluster::of(1).await;
    let busy = RetryAfter { milliseconds: 150 };
    cluster.nodes[0].script([refuse(Code::ResourceExhausted, Detail::RetryAfter(busy))]);
    let table = cluster.simple_client(PATIENT).await.table("");
    let started = Instant::now();
    table.put("k", "v", plain()).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(150));
    assert_eq!(retries(&cluster.nodes[0])[1].attempt, 0);
}

#[tokio::test]
async fn a_table_may_take_a_moment_to_be_known() {
    let cluster = Cluster::of(1).await;
    let unknown = || refuse(Code::NotFound, Detail::UnknownTable(UnknownTable { table: "new".into() }));
    cluster.nodes[0].script([unknown(), unknown()]);
    let table = cluster.simple_client(PATIENT).await.table("new");
    table.put("k", "v", plain()).await.unwrap();
    cluster.nodes[0].always(unknown());
    assert_eq!(table.get("k").await.unwrap_err(), Error::UnknownTable("new".into()));
}

#[tokio::test]
async fn endpoints_are_tried_in_turn() {
    let cluster = Cluster::of(1).await;
    let nobody =
        tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let options = Options { follow_map: false, ..quick() };
    let endpoints = vec![nobody.clone(), cluster.nodes[0].address()];
    let client = Client::connect(endpoints, options.clone()).await.unwrap();
    client.table("").put("k", "v", plain()).await.unwrap();
    let error = Client::connect(vec![nobody.clone()], options.clone()).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable { endpoints, .. } if *endpoints == nobody), "{error}");
    let error = Client::connect(vec!["nonsense".into()], options.clone()).await.unwrap_err();
    assert!(matches!(error, Error::BadEndpoint { .. }), "{error}");

    // Without trying first, a refused connection is a definite failure.
    let options = Options { deadline: SHORT, ..options };
    let client = Client::connect_lazy(vec![nobody], options).unwrap();
    let error = client.table("").put("k", "v", plain()).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn keys_go_to_the_leader_that_the_map_names() {
    let cluster = Cluster::of(3).await;
    cluster.publish_map(1, [1, 2]);
    let options = Options { deadline: PATIENT, ..quick() };
    let client = Client::connect(vec![cluster.nodes[0].address()], options).await.unwrap();
    let table = client.table("");
    // `bar` is in the first half of the buckets and `foo` in the second.
    let (bar, foo) = (&cluster.nodes[1], &cluster.nodes[2]);
    eventually("the map is followed", || async {
        table.get("bar").await.unwrap();
        !bar.seen().is_empty()
    })
    .await;
    let before = foo.seen().len();
    table.get("foo").await.unwrap();
    assert_eq!(foo.seen().len(), before + 1);

    // Leadership moves, and the next map says so.
    cluster.publish_map(2, [2, 0]);
    eventually("the new map is followed", || async {
        let before = cluster.nodes[0].seen().len();
        table.get("foo").await.unwrap();
        cluster.nodes[0].seen().len() > before
    })
    .await;

    // A node that finds the map too old says what is missing, and that is remembered.
    let entry = PartitionEntry {
        partition: 2,
        table: 1,
        first_bucket: 32,
        last_bucket: 63,
        epoch: 7,
        leader: vec![2; 16].into(),
        ..PartitionEntry::default()
    };
    let news = WrongEpoch { partitions: vec![entry], map_revision: 3 };
    cluster.nodes[0].script([refuse(Code::FailedPrecondition, Detail::WrongEpoch(news))]);
    let before = (cluster.nodes[0].seen().len(), bar.seen().len());
    table.get("foo").await.unwrap();
    table.get("foo").await.unwrap();
    assert_eq!((cluster.nodes[0].seen().len(), bar.seen().len()), (before.0 + 1, before.1 + 2));
}

#[tokio::test]
async fn an_order_that_is_not_repeatable_is_sent_once() {
    let cluster = Cluster::of(1).await;
    cluster.nodes[0].script([not_leader(None), Step::CutBefore]);
    let admin = cluster.simple_client(PATIENT).await.admin();
    let request = CreateTableRequest { name: "t".into(), ..CreateTableRequest::default() };
    let error = admin.create_table(request).await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown(_)), "{error}");
    assert_eq!(cluster.nodes[0].seen().len(), 2, "after the definite refusal, not after the broken one");
}
