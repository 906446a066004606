//! The HTTP door: whether the node lives, whether it is ready, and its figures.
//!
//! ```text
//!     GET /livez      200 while the process serves at all
//!     GET /readyz     200 once it has joined and caught up; before, 503 and why not
//!     GET /metrics    all figures, for Prometheus
//! ```

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::observability::metrics::Metrics;

#[cfg(test)]
mod tests;

/// How long a request that is under way may hold up the end of the node.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// Whether a node is ready, which only its parts together know.
pub trait Health: Send + Sync + 'static {
    /// Whether the node has joined a cluster and has caught up once since its start; not
    /// whether a quorum exists. If not, says what it waits for, for people to read.
    fn ready(&self) -> Result<(), String>;
}

/// What the door shows.
#[derive(Clone)]
struct Shown {
    health: Arc<dyn Health>,
    metrics: Arc<Metrics>,
}

/// What the door answers, without the door.
pub fn router(health: Arc<dyn Health>, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(figures))
        .with_state(Shown { health, metrics })
}

/// Serves until it is told to stop, then finishes what it has begun, though not for ever.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> io::Result<()> {
    serve_until(listener, router, stop, LAST_ANSWERS).await
}

async fn serve_until(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
    last_answers: Duration,
) -> io::Result<()> {
    // Answers are small and whole; waiting to fill a packet would only delay them. A socket
    // that refuses the option works without it.
    let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
    let too_late = {
        let stop = stop.clone();
        async move {
            stop.cancelled().await;
            tokio::time::sleep(last_answers).await;
        }
    };
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    tokio::select! {
        served = async { serving.await } => served,
        () = too_late => Ok(()),
    }
}

async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State(shown): State<Shown>) -> Response {
    match shown.health.ready() {
        Ok(()) => "ok\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn figures(State(shown): State<Shown>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], shown.metrics.text())
        .into_response()
}
