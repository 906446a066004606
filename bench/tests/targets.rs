//! The load generator against a small key-value server in this process, over real connections.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that is wrong")]

mod server;

use std::{sync::Arc, time::Duration};

use bench::{
    load::{self, Distribution, Keys, Load, Measured, Pace, Workload},
    target::{Routing, Target, Trilith, TrilithStream},
};
use server::{Behaviour, Server};

const KEYS: u64 = 200;

fn workload(distribution: Distribution, read_share: f64) -> Workload {
    Workload::new(Keys::new(KEYS, 16, distribution), (10, 20), read_share, 1)
}

/// A load that ends by its number of operations, not by the clock.
fn counted(clients: usize, operations: u64, workload: Workload) -> Load {
    Load { operations: Some(operations), ..Load::closed(clients, Duration::from_mins(1), workload) }
}

async fn put_on<T: Target>(target: T, load: &Load) -> Measured {
    load::run(&Arc::new(target), load).await.unwrap()
}

#[tokio::test]
async fn unary_calls_write_every_key_and_read_it_again() {
    let server = Server::start(Behaviour::default()).await;
    let open = || Trilith::open(server.endpoints(), 2, "", Routing::Any);
    let written =
        put_on(open().await.unwrap(), &counted(4, KEYS, workload(Distribution::Sequential, 0.0))).await;
    assert_eq!((written.succeeded, written.failed), (KEYS, 0));
    assert_eq!(server.keys(), KEYS as usize);
    let read = put_on(open().await.unwrap(), &counted(4, 1_000, workload(Distribution::Zipf, 1.0))).await;
    assert_eq!((read.succeeded, read.missing, read.failed), (1_000, 0, 0));
}

#[tokio::test]
async fn a_stream_keeps_its_window_full_and_matches_answers_in_order() {
    let server = Server::start(Behaviour::default()).await;
    let target = TrilithStream::open(server.endpoints(), 2, "", Routing::Any).await.unwrap();
    let load = counted(2, 10_000, workload(Distribution::Uniform, 0.5)).with_window(64);
    let measured = put_on(target, &load).await;
    // An answer that was matched with another operation would be of the wrong kind, and
    // count as failed.
    assert_eq!((measured.succeeded, measured.failed), (10_000, 0));
    assert!(measured.missing > 0, "the first reads find nothing");
    assert!(server.largest_frame() > 1, "operations that are ready together share a frame");
}

#[tokio::test]
async fn a_routed_stream_sends_each_operation_to_its_leader() {
    let servers = Server::start_two(Behaviour::default()).await;
    let endpoints: Vec<String> = servers.iter().flat_map(|server| server.endpoints().to_vec()).collect();
    let target = TrilithStream::open(&endpoints, 2, "default", Routing::Leader).await.unwrap();
    let load = counted(3, 5_000, workload(Distribution::Uniform, 0.5)).with_window(32);
    let measured = put_on(target, &load).await;
    assert_eq!((measured.succeeded, measured.failed), (5_000, 0));
    for server in &servers {
        assert!(server.served() > 0 && server.misrouted() == 0, "{} misrouted", server.misrouted());
    }
}

#[tokio::test]
async fn a_failed_operation_does_not_end_the_stream() {
    let server = Server::start(Behaviour { refuse_every: Some(10), ..Behaviour::default() }).await;
    let target = TrilithStream::open(server.endpoints(), 1, "", Routing::Any).await.unwrap();
    let load = counted(1, 1_000, workload(Distribution::Uniform, 0.0)).with_window(50);
    let measured = put_on(target, &load).await;
    assert_eq!((measured.succeeded, measured.failed), (900, 100));
    assert_eq!(measured.last_failure.as_deref(), Some("refused on purpose"));
}

#[tokio::test]
async fn a_broken_stream_is_opened_again() {
    let server = Server::start(Behaviour { break_after: Some(300), ..Behaviour::default() }).await;
    let target = TrilithStream::open(server.endpoints(), 1, "", Routing::Any).await.unwrap();
    let load = counted(1, 2_000, workload(Distribution::Uniform, 0.0)).with_window(16);
    let measured = put_on(target, &load).await;
    // What was in flight is counted as failed, never lost from the count and never waited for.
    assert_eq!(measured.succeeded + measured.failed, 2_000);
    assert!(measured.failed > 0 && measured.succeeded >= 1_500, "{measured:?}");
}

#[tokio::test]
async fn an_open_loop_charges_a_stall_to_everything_that_should_have_started_in_it() {
    let stall = Duration::from_millis(400);
    let behaviour = Behaviour { stall_at: Some((100, stall)), ..Behaviour::default() };
    let (open, closed) = (Server::start(behaviour.clone()).await, Server::start(behaviour).await);
    let base = Load::closed(1, Duration::from_secs(1), workload(Distribution::Uniform, 0.0));
    let paced = Load { pace: Pace::Open { per_second: 500.0 }, ..base.clone() };
    let unary = |server: &Server| {
        let endpoints = server.endpoints().to_vec();
        async move { Trilith::open(&endpoints, 1, "", Routing::Any).await.unwrap() }
    };
    let open = put_on(unary(&open).await, &paced).await;
    let closed = put_on(unary(&closed).await, &base).await;
    // 500 should have started in the second and all were carried out, 200 of them late.
    assert_eq!(open.succeeded, 500);
    assert!(open.latency.p90_us > 200_000, "{:?}", open.latency);
    assert!(open.longest_gap_ms >= 390, "{}", open.longest_gap_ms);
    // The closed loop met the stall once. Only its correction tells how it would have felt.
    assert!(closed.latency.p90_us < 100_000, "{:?}", closed.latency);
    assert!(closed.corrected.p90_us > closed.latency.p90_us * 2, "{:?}", closed.corrected);
}

#[tokio::test]
async fn an_operation_without_an_answer_is_given_up() {
    let behaviour = Behaviour { stall_at: Some((5, Duration::from_hours(1))), ..Behaviour::default() };
    let server = Server::start(behaviour).await;
    let target = Trilith::open(server.endpoints(), 1, "", Routing::Any).await.unwrap();
    let load =
        Load { patience: Duration::from_millis(100), ..counted(1, 20, workload(Distribution::Uniform, 0.0)) };
    let measured = put_on(target, &load).await;
    assert_eq!((measured.succeeded, measured.failed), (19, 1));
    assert_eq!(measured.last_failure.as_deref(), Some("no answer within 100ms"));
}

#[tokio::test]
async fn a_load_on_which_nothing_succeeds_is_an_error_that_says_why() {
    let server = Server::start(Behaviour { refuse_every: Some(1), ..Behaviour::default() }).await;
    let target = Trilith::open(server.endpoints(), 1, "", Routing::Any).await.unwrap();
    let load = counted(1, 3, workload(Distribution::Uniform, 0.0));
    let error = load::run(&Arc::new(target), &load).await.unwrap_err().to_string();
    assert!(error.contains("refused on purpose"), "{error}");
}
