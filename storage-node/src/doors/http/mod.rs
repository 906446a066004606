//! The HTTP door: whether the node lives, whether it is ready, its figures, and REST.
//!
//! ```text
//!     GET /livez      200 while the process serves at all
//!     GET /readyz     200 once it has joined and caught up; before, 503 and why not
//!     GET /metrics    all figures, for Prometheus
//!         /api/v1/…   data, tables and the cluster: see rest
//! ```

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::doors::connections::{self, Connections, Listener};
use crate::observability::metrics::Metrics;
use crate::router::context::Door;

pub mod connection;
pub mod rest;

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

/// What the one connection too many hears.
const REFUSAL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n";

/// Serves until it is told to stop, then finishes what it has begun, though not for ever.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    connections: Arc<Connections>,
    stop: CancellationToken,
) {
    serve_until(listener, router, connections, stop, LAST_ANSWERS).await;
}

async fn serve_until(
    listener: TcpListener,
    router: Router,
    connections: Arc<Connections>,
    stop: CancellationToken,
    last_answers: Duration,
) {
    let too_late = {
        let stop = stop.clone();
        async move {
            stop.cancelled().await;
            tokio::time::sleep(last_answers).await;
        }
    };
    let converse = {
        let stop = stop.clone();
        move |stream, slot| connection::converse(stream, slot, router.clone(), stop.clone())
    };
    let serving =
        connections::serve(Listener::Tcp(listener), Door::Http, connections, REFUSAL, stop, converse);
    tokio::select! {
        () = serving => {}
        () = too_late => {}
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
