//! The programs and libraries that people already have reach us as they reach Redis.
//!
//! ```text
//!   doors          where the clients are sent: of a real Redis, or of ours
//!   command_lines  redis-cli, redis-benchmark, netcat, socat
//!   crates         the crates redis and fred
//!   scripts        redis-py and Jedis, whose programs are in e2e/clients
//!   loss           each of them while a node is killed
//! ```
//!
//! Every round is done with a real Redis first: where that fails, the round is wrong.

mod command_lines;
mod crates;
mod doors;
mod loss;
mod scripts;

use std::pin::Pin;

use anyhow::ensure;
use e2e::redis::{RedisCluster, RedisServer};
use e2e::{Cluster, Scenario, Shape};

use doors::Doors;

#[tokio::test(flavor = "multi_thread")]
async fn rounds_work_with_redis() -> anyhow::Result<()> {
    let scenario = Scenario::begin("clients of redis").await?;
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("socket");
    let server = RedisServer::start(&["--unixsocket", &socket.display().to_string()]).await?;
    let cluster = RedisCluster::form().await?;
    let doors = Doors { forwarding: vec![server.address()], redirecting: cluster.addresses(), socket };
    every_round(&scenario, &doors).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rounds_work_with_trilith() -> anyhow::Result<()> {
    let scenario = Scenario::begin("clients of trilith").await?;
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("socket");
    let cluster = with_socket(&socket.display().to_string()).await?;
    let doors = Doors::of(&cluster, socket)?;
    every_round(&scenario, &doors).await?;
    command_lines::update(&doors).await?;
    scenario.say("UPDATE, which is our own, puts only over what is there");
    cluster.finish()
}

/// Three nodes, of which the first listens at a path too: one path is for one node. It does so
/// from its beginning, because a node that was restarted leads nothing for a while.
async fn with_socket(socket: &str) -> anyhow::Result<Cluster> {
    let mut cluster = Cluster::processes(Shape { nodes: 0, ..Shape::default() }).await?;
    cluster.add_process(None, &["--resp-socket", socket]).await?;
    cluster.init(0).await?;
    cluster.add_node().await?;
    cluster.add_node().await?;
    cluster.await_healthy().await?;
    cluster.create_table("default", 8).await?;
    cluster.await_healthy().await?;
    Ok(cluster)
}

/// All of them, whatever becomes of earlier ones.
async fn every_round(scenario: &Scenario, doors: &Doors) -> anyhow::Result<()> {
    type Round<'a> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send + 'a>>;
    let rounds: Vec<(&str, Round<'_>)> = vec![
        ("redis-cli", Box::pin(command_lines::redis_cli(doors))),
        ("redis-cli -c", Box::pin(command_lines::redis_cli_in_a_cluster(doors))),
        ("redis-benchmark", Box::pin(command_lines::redis_benchmark(doors))),
        ("redis-benchmark --cluster", Box::pin(command_lines::redis_benchmark_in_a_cluster(doors))),
        ("netcat", Box::pin(command_lines::netcat(doors))),
        ("socat on the Unix socket", Box::pin(command_lines::socat(doors))),
        ("the crate redis", Box::pin(crates::redis_plain(doors))),
        ("the crate redis in a cluster", Box::pin(crates::redis_in_a_cluster(doors))),
        ("the crate fred", Box::pin(crates::fred_plain(doors))),
        ("the crate fred in a cluster", Box::pin(crates::fred_in_a_cluster(doors))),
        ("redis-py", Box::pin(scripts::redis_py(doors))),
        ("redis-py, asyncio", Box::pin(scripts::redis_py_asyncio(doors))),
        ("redis-py, RedisCluster", Box::pin(scripts::redis_py_in_a_cluster(doors))),
        ("Jedis", Box::pin(scripts::jedis(doors))),
        ("JedisCluster", Box::pin(scripts::jedis_in_a_cluster(doors))),
    ];
    let mut failed = Vec::new();
    for (name, round) in rounds {
        match round.await {
            Ok(()) => scenario.say(format_args!("{name} works")),
            Err(error) => {
                scenario.say(format_args!("{name} FAILS: {error:#}"));
                failed.push(name);
            }
        }
    }
    ensure!(failed.is_empty(), "these clients fail, as said above: {failed:?}");
    Ok(())
}
