//! `trilith dev`: a cluster of real processes on this machine.
//!
//! ```text
//!   folder (who may use it) → program → ports → supervisor (one task a node)
//!                                                    │
//!                                     formation: init, join, table, leaders
//!                                                    │
//!                                     "ready", then restarts until a signal comes
//! ```

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use self::folder::Folder;
use self::layout::Layout;
use self::supervisor::Supervisor;
use crate::arguments::Global;
use crate::columns::Columns;
use crate::exit::Exit;
use crate::output::{Output, note};

mod folder;
mod formation;
mod layout;
mod program;
mod supervisor;

/// How long the nodes may take until they serve together.
const FORM_WITHIN: Duration = Duration::from_secs(90);

const EXAMPLES: &str = "\
Examples:
  trilith dev                              three nodes, data in ./.trilith
  trilith dev --nodes 1 --data /tmp/one
  trilith dev --port-offset 1000           beside another one

Prints `ready` when the cluster serves. Ctrl-C stops it; its data stays, and is found
again at the next start. Each node's output is in DIR/node-N/log.";

/// Run a cluster of real processes on this machine.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Dev {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=32))]
    nodes: u16,
    /// Where the nodes keep their data.
    #[arg(long, value_name = "DIR", default_value = ".trilith")]
    data: PathBuf,
    /// How many partitions the table `default` is created with.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    partitions: u32,
    /// Added to every port.
    #[arg(long, value_name = "N", default_value_t = 0)]
    port_offset: u16,
    /// Leave a node that ended as it is, instead of starting it again after 2 s.
    #[arg(long)]
    no_restart: bool,
}

impl Dev {
    /// Runs the cluster until a signal comes.
    pub async fn run(self, _global: &Global, out: &mut Output) -> anyhow::Result<Exit> {
        let program = program::find()?;
        let folder = Folder::claim(&self.data, self.nodes)?;
        let layout = Layout::new(folder.path(), self.nodes, self.port_offset)?;
        folder.await_former_nodes(&layout).await;
        layout.check_ports()?;

        // Listened for before the first node runs, so that none is left behind.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let stop = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
        };
        tokio::pin!(stop);

        let mut supervisor = Supervisor::start(&program, &layout, !self.no_restart);
        let formed = tokio::select! {
            formed = tokio::time::timeout(FORM_WITHIN, formation::form(&layout, self.partitions)) => {
                formed.unwrap_or_else(|_| {
                    Err(anyhow::anyhow!(
                        "the nodes do not serve after {} s: their logs are {}/node-*/log",
                        FORM_WITHIN.as_secs(),
                        layout.folder().display()
                    ))
                })
            }
            ended = supervisor.first_end() => Err(ended),
            () = &mut stop => {
                supervisor.stop().await;
                return Ok(Exit::Done);
            }
        };
        let ready = formed.and_then(|()| Ok(announce(&layout, out)?));
        if ready.is_ok() {
            tokio::select! {
                () = supervisor.report() => {}
                () = &mut stop => {}
            }
        }
        note("stopping the nodes");
        supervisor.stop().await;
        ready.map(|()| Exit::Done)
    }
}

/// Prints where everything is, and that it serves.
fn announce(layout: &Layout, out: &mut Output) -> std::io::Result<()> {
    let columns = || {
        let mut columns = Columns::new(["NODE", "GRPC", "HTTP", "DATA"]);
        for node in layout.nodes() {
            let data = node.folder.display().to_string();
            columns.row([node.name.clone(), node.grpc.to_string(), node.http.to_string(), data]);
        }
        columns.to_string()
    };
    let object = || {
        let nodes = layout.nodes().iter().map(|node| {
            json!({
                "name": node.name, "grpc": node.grpc.to_string(), "peer": node.peer.to_string(),
                "http": node.http.to_string(), "data": node.folder,
            })
        });
        json!({"nodes": nodes.collect::<Vec<_>>()})
    };
    out.show(columns, object)?;
    out.line("ready")?;
    out.flush()
}
