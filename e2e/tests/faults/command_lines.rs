//! Command lines that make no sense.

use e2e::commands::{Done, run, trilith};
use e2e::{Cluster, Scenario, Shape};

#[tokio::test(flavor = "multi_thread")]
async fn command_lines_that_make_no_sense_are_refused() -> anyhow::Result<()> {
    let scenario = Scenario::begin("bad command lines").await?;
    let cluster = Cluster::form(Shape { nodes: 1, ..Shape::default() }).await?;
    let endpoints = cluster.endpoints();
    let says = async |arguments: &[&str], status: i32, phrase: &str| {
        trilith(&endpoints, arguments).await?.refused(status, phrase)
    };
    says(&["get"], 2, "KEY").await?;
    says(&["scna"], 2, "scan").await?;
    says(&["put", "k", "v", "--ttl", "soon"], 2, "--ttl").await?;
    says(&["put", "k", "v", "--if-absent", "--if-exists"], 2, "cannot be used with").await?;
    says(&["put", "", "v"], 1, "must not be empty").await?;
    says(&["get", &"k".repeat(4097)], 1, "4097 is more than 4096").await?;
    says(&["get", "k", "-t", "nowhere"], 1, "trilith table create").await?;
    says(&["scan", "--cursor", "bm9uc2Vuc2U="], 2, "cursor").await?;
    says(&["get", "k", "-e", "nonsense"], 2, "HOST:PORT").await?;
    says(&["get", "k", "-e", "127.0.0.1:1"], 1, "trilith dev").await?;
    says(&["table", "create", "default"], 1, "default").await?;
    says(&["node", "drain", "nobody"], 3, "there is no node").await?;
    scenario.say("`trilith` refuses what makes no sense, and says why");

    let node = async |arguments: &[&str]| run("trilith-node", arguments, &[]).await;
    let folder = tempfile::tempdir()?;
    let data = folder.path().display().to_string();
    let refused = |done: Done, status: i32, phrase: &str| done.refused(status, phrase);
    refused(node(&[]).await?, 1, "no data folder was given")?;
    refused(node(&["--data", &data, "--listen-grpc", "everywhere"]).await?, 2, "IP:PORT")?;
    refused(node(&["--data", &data, "--heartbeat-interval", "5s"]).await?, 1, "election_timeout_min")?;
    let taken = ["--data", &data, "--listen-grpc", &cluster.endpoint(0)?];
    refused(node(&taken).await?, 1, "cannot listen on")?;
    let held = cluster.data(0)?.display().to_string();
    let free = [
        "--data",
        &held,
        "--listen-grpc=127.0.0.1:0",
        "--listen-peer=127.0.0.1:0",
        "--listen-http=127.0.0.1:0",
    ];
    refused(node(&free).await?, 1, "in use by another node process")?;
    scenario.say("`trilith-node` refuses what makes no sense, and says why");
    cluster.finish()
}
