//! The machines of the cluster, by the one interface that every kind of cluster has.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use tokio::process::Command;

use super::{Kubernetes, repository};
use crate::until::until_every;

/// How long a verb may take.
const VERB_WITHIN: Duration = Duration::from_secs(60);
/// How often Kubernetes is asked how a machine is.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// The status with which a verb says that this cluster's machines are not to be touched.
const REFUSED: i32 = 3;

/// What a verb did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// It was done.
    Done,
    /// The cluster is somebody else's, and its machines are left alone.
    Refused,
}

/// The machines that pods can run on.
pub async fn list() -> anyhow::Result<Vec<String>> {
    let (_, out) = tool(&["machines"]).await?;
    Ok(out.lines().map(str::to_owned).collect())
}

/// Takes a machine's power away.
pub async fn kill(machine: &str) -> anyhow::Result<Verb> {
    Ok(tool(&["kill", machine]).await?.0)
}

/// Gives it power again.
pub async fn start(machine: &str) -> anyhow::Result<Verb> {
    Ok(tool(&["start", machine]).await?.0)
}

/// Takes it off the network.
pub async fn cut(machine: &str) -> anyhow::Result<Verb> {
    Ok(tool(&["cut", machine]).await?.0)
}

/// Puts it back on the network.
pub async fn join(machine: &str) -> anyhow::Result<Verb> {
    Ok(tool(&["join", machine]).await?.0)
}

impl Kubernetes {
    /// Waits until Kubernetes calls a machine Ready, or not.
    pub async fn await_machine(&self, machine: &str, ready: bool, within: Duration) -> anyhow::Result<()> {
        let api: Api<Node> = Api::all(self.client.clone());
        let wanted = if ready { "ready" } else { "not ready" };
        until_every(&format!("{machine} is {wanted}"), within, LOOK_EVERY, async || {
            let node = api.get(machine).await?;
            let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
            let status = conditions.iter().find(|condition| condition.type_ == "Ready");
            let status = status.map_or("unknown", |condition| condition.status.as_str()).to_owned();
            anyhow::ensure!((status == "True") == ready, "its condition Ready is {status}");
            Ok(())
        })
        .await
    }
}

async fn tool(arguments: &[&str]) -> anyhow::Result<(Verb, String)> {
    let program: PathBuf = repository().join("e2e/cluster/cluster");
    let line = format!("cluster {}", arguments.join(" "));
    let running = Command::new(&program).args(arguments).kill_on_drop(true).output();
    let ended = tokio::time::timeout(VERB_WITHIN, running).await;
    let ended = ended.with_context(|| format!("`{line}` hangs"))?;
    let ended = ended.with_context(|| format!("cannot run {}", program.display()))?;
    match ended.status.code() {
        Some(0) => Ok((Verb::Done, String::from_utf8_lossy(&ended.stdout).into_owned())),
        Some(REFUSED) => Ok((Verb::Refused, String::new())),
        _ => bail!("`{line}` ended with {}: {}", ended.status, String::from_utf8_lossy(&ended.stderr)),
    }
}
