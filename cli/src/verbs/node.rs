//! `trilith node …`

use std::time::Duration;

use clap::{Args, Subcommand};
use client::Admin;
use proto::v1::{NodeRequest, NodeResponse, NodeState};
use serde_json::{Value, json};

use super::cluster::nodes::state;
use crate::arguments::Global;
use crate::exit::Exit;
use crate::json::id;
use crate::output::{Output, note};

/// How often a drain is looked at while somebody waits for it.
const LOOK: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "\
An ID is a node's UUID or its name.

Examples:
  trilith node can-restart node-2          exit status 3 when it may not
  trilith node drain node-2 --wait
  trilith node undrain node-2
  trilith node remove node-2               only once it is drained";

#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum NodeVerb {
    /// Move everything off a node.
    Drain(Drain),
    /// Let a node be used again.
    Undrain(Named),
    /// Forget a node that holds nothing, for good.
    Remove(Named),
    /// Ask whether every partition keeps its quorum without a node.
    CanRestart(Named),
}

/// A node to empty.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Drain {
    /// The node's UUID or name.
    id: String,
    /// Wait until it holds nothing, and say how far it is.
    #[arg(long)]
    wait: bool,
}

/// A node.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Named {
    /// The node's UUID or name.
    id: String,
}

impl NodeVerb {
    /// Does it.
    pub async fn run(self, global: &Global, out: &mut Output) -> anyhow::Result<Exit> {
        let admin = global.connect().await?.admin();
        match self {
            Self::Drain(Drain { id, wait }) => {
                let mut answer = admin.drain_node(NodeRequest { node: id.clone() }).await?;
                if wait {
                    answer = await_drained(&admin, &id, answer).await?;
                }
                show_node(&answer, out)?;
            }
            Self::Undrain(Named { id }) => {
                show_node(&admin.undrain_node(NodeRequest { node: id }).await?, out)?;
            }
            Self::Remove(Named { id }) => {
                show_node(&admin.remove_node(NodeRequest { node: id }).await?, out)?;
            }
            Self::CanRestart(Named { id }) => {
                let answer = admin.can_restart(NodeRequest { node: id }).await?;
                out.show(
                    || if answer.yes { "yes".to_owned() } else { format!("no: {}", answer.reason) },
                    || json!({"yes": answer.yes, "reason": answer.reason, "blocking": answer.blocking}),
                )?;
                if !answer.yes {
                    return Ok(Exit::NotMet);
                }
            }
        }
        Ok(Exit::Done)
    }
}

/// Asks again until the node holds nothing. Asking for a drain that is under way changes
/// nothing and says what is left.
async fn await_drained(
    admin: &Admin,
    node: &str,
    first: NodeResponse,
) -> Result<NodeResponse, client::Error> {
    let mut answer = first;
    let mut said = None;
    loop {
        let done = answer.node.as_ref().is_some_and(|entry| entry.state() == NodeState::Drained);
        if done {
            return Ok(answer);
        }
        let left = (answer.replicas_left, answer.leaders_left);
        if said != Some(left) {
            note(format_args!("{node}: {} replicas and {} leaders left", left.0, left.1));
            said = Some(left);
        }
        tokio::time::sleep(LOOK).await;
        answer = admin.drain_node(NodeRequest { node: node.to_owned() }).await?;
    }
}

fn show_node(answer: &NodeResponse, out: &mut Output) -> std::io::Result<()> {
    out.show(|| node_text(answer), || node_json(answer))
}

fn node_text(answer: &NodeResponse) -> String {
    let entry = answer.node.clone().unwrap_or_default();
    let state = state(&entry);
    format!(
        "{} is {state}: {} replicas and {} leaders left",
        entry.name, answer.replicas_left, answer.leaders_left
    )
}

fn node_json(answer: &NodeResponse) -> Value {
    let entry = answer.node.clone().unwrap_or_default();
    json!({
        "node": id(&entry.node),
        "name": entry.name,
        "state": state(&entry),
        "replicas_left": answer.replicas_left,
        "leaders_left": answer.leaders_left,
    })
}
