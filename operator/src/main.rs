//! `trilith-operator`: see `--help`, and start reading in the library.

use anyhow::Context as _;
use clap::Parser;
use operator::runtime::logs;
use operator::runtime::metrics::Metrics;
use operator::settings::{Arguments, Command, CrdsAction, LogFormat, RunSettings};
use operator::{connect, definitions, run};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command() {
        Command::Run(settings) => keep(*settings).await,
        Command::Crds { action: CrdsAction::Print } => {
            use std::io::Write;
            let yaml = definitions::print()?;
            std::io::stdout().write_all(yaml.as_bytes()).context("the definitions cannot be printed")
        }
        Command::Crds { action: CrdsAction::Apply } => {
            logs::start(LogFormat::Human, "info").context("the log filter cannot be read")?;
            let client = connect::client(Metrics::default()).await?;
            Ok(definitions::apply(&client).await?)
        }
    }
}

async fn keep(settings: RunSettings) -> anyhow::Result<()> {
    logs::start(settings.log_format, &settings.log_level).context("the log filter cannot be read")?;
    let metrics = Metrics::default();
    let client = connect::client(metrics.clone()).await?;
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be heard")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be heard")?;
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop");
        told.cancel();
    });
    Ok(run::run(&settings, client, metrics, stop).await?)
}
