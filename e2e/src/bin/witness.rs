//! `e2e-witness`: an application inside the Kubernetes cluster that the scenarios believe.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use e2e::witness::Settings;
use e2e::witness::door::{self, Door};
use e2e::witness::lonely::Lonely;
use e2e::witness::report::Verdict;
use e2e::witness::run::Work;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::interval;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let settings = Settings::parse();
    let listener = TcpListener::bind(settings.http).await.context("the witness's door")?;
    let mut terminate = signal(SignalKind::terminate())?;
    if settings.lonely {
        let lonely = Lonely::new(&settings)?;
        tokio::spawn(Arc::clone(&lonely).read());
        let ended = async move {
            terminate.recv().await;
        };
        axum::serve(listener, door::of_lonely(lonely)).with_graceful_shutdown(ended).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let work = Work::new(&settings)?;
    let (tell, verdict) = watch::channel(None);
    let end = Arc::new(Notify::new());
    let door = Door { work: Arc::clone(&work), end: Arc::clone(&end), verdict: verdict.clone() };
    let mut told = verdict;
    let judged = async move {
        // It fails only when the program is ending without a verdict.
        let _ = told.wait_for(Option::is_some).await;
    };
    let serving = tokio::spawn(
        axum::serve(listener, door::of_witness(door)).with_graceful_shutdown(judged).into_future(),
    );
    let ended = async {
        tokio::select! {
            () = end.notified() => {}
            _ = terminate.recv() => {}
        }
    };
    let verdict = witness(&work, &settings, ended).await;
    println!("{}", serde_json::to_string(&verdict)?);
    tell.send_replace(Some(verdict.clone()));
    serving.await??;
    Ok(if verdict.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Works until it is told to end, prints every second how it goes, and judges.
async fn witness(work: &Arc<Work>, settings: &Settings, ended: impl Future<Output = ()>) -> Verdict {
    let reports = async {
        let mut seconds = interval(Duration::from_secs(1));
        loop {
            seconds.tick().await;
            if let Ok(line) = serde_json::to_string(&work.report()) {
                println!("{line}");
            }
        }
    };
    let works = async {
        work.begin(settings).await;
        reports.await;
    };
    tokio::select! {
        () = works => {}
        () = ended => {}
    }
    work.end().await
}
