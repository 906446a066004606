//! `trilith-bench`: puts load on a cluster, and compares Trilith with etcd.

mod commands;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use commands::Command;

/// Measures Trilith and etcd with one load generator.
#[derive(Debug, clap::Parser)]
#[command(name = "trilith-bench", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// One thread on purpose: the generator shares the machine with the servers that it measures,
/// and tasks that wake each other on one thread cost the least.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Leaving by the normal way drops the clusters, which ends their processes and removes
    // their data.
    let outcome = tokio::select! {
        outcome = arguments.command.run() => outcome,
        interrupted = interrupted() => interrupted,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trilith-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn interrupted() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    anyhow::bail!("interrupted; what was started is stopped")
}
