//! /metrics, and whether the process is well.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;

/// Whether the operator is ready: its caches are filled, or it waits for its turn, in which case
/// another one acts. An operator that waits is ready, or an update of two of them would never end.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// It is ready from now on, or not.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

#[derive(Clone)]
struct Shown {
    metrics: Metrics,
    ready: Readiness,
}

/// Serves until it is told to stop.
pub async fn serve(
    address: SocketAddr,
    metrics: Metrics,
    ready: Readiness,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    axum::serve(listener, router(metrics, ready)).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn router(metrics: Metrics, ready: Readiness) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(async |State(shown): State<Shown>| shown.metrics.render()))
        .with_state(Shown { metrics, ready })
}

async fn readyz(State(shown): State<Shown>) -> (StatusCode, &'static str) {
    match shown.ready.get() {
        true => (StatusCode::OK, "ok\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready: not everything was listed yet; see the log\n"),
    }
}
