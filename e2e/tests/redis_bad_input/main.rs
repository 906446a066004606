//! What makes no sense at the Redis doors, what never ends, and what is never read: the
//! protocol's own error, bounded memory, and everybody else served meanwhile.
//!
//! ```text
//!   frames        what is no frame, or a frame too large
//!   crowds        many connections that do little: idle, half done, byte by byte
//!   unread        a client that asks for much and never reads
//!   bystander     another client meanwhile, and the server's memory
//! ```
//!
//! A real Redis is treated so first: where it answers otherwise, what is asked for is wrong.

mod bystander;
mod crowds;
mod frames;
mod unread;

use std::net::SocketAddr;

use anyhow::ensure;
use e2e::redis::RedisServer;
use e2e::{Cluster, Scenario, Shape};
use rand::RngExt as _;
use rustix::process::Pid;

/// A server that is treated badly.
#[derive(Debug, Clone, Copy)]
pub struct Victim {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process.
    pub process: Pid,
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_withstands_bad_input() -> anyhow::Result<()> {
    let scenario = Scenario::begin("bad input for redis").await?;
    crowds::raise_limit(&scenario)?;
    let clients = ["--maxclients", "15000", "--client-output-buffer-limit", "normal 64mb 64mb 0"];
    let server = RedisServer::start(&clients).await?;
    let victim = Victim { address: server.address(), process: server.process_id()? };
    everything_bad(&scenario, victim).await
}

#[tokio::test(flavor = "multi_thread")]
async fn trilith_withstands_bad_input() -> anyhow::Result<()> {
    let scenario = Scenario::begin("bad input for trilith").await?;
    crowds::raise_limit(&scenario)?;
    let arguments = ["--max-connections", "15000"].map(str::to_owned).to_vec();
    let cluster = Cluster::form(Shape { nodes: 1, arguments, ..Shape::default() }).await?;
    let process = cluster.process_id(0)?;
    everything_bad(&scenario, Victim { address: cluster.redis_address(0)?, process }).await?;
    let redirecting = Victim { address: cluster.redis_cluster_address(0)?, process };
    frames::are_refused(redirecting).await?;
    scenario.say("the door that redirects refuses the same");
    cluster.finish()
}

/// All of it, whatever becomes of what came earlier.
async fn everything_bad(scenario: &Scenario, victim: Victim) -> anyhow::Result<()> {
    let seed = scenario.random(1).random();
    let mut failed = 0;
    let mut note = |outcome: anyhow::Result<String>| {
        failed += usize::from(outcome.is_err());
        scenario.say(outcome.unwrap_or_else(|error| format!("FAILS: {error:#}")));
    };
    note(frames::are_refused(victim).await);
    note(frames::requests_of_browsers_end(victim).await);
    note(frames::noise_is_harmless(victim, seed).await);
    note(crowds::half_done(victim).await);
    note(crowds::byte_by_byte(victim).await);
    note(crowds::idle(victim).await);
    note(unread::answers_wait_in_bounds(victim).await);
    ensure!(failed == 0, "{failed} of these failed, as said above");
    Ok(())
}
