//! The way to the API server, with every request on it counted.

use std::time::Duration;

use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tower::util::{MapFutureLayer, MapRequestLayer};

use crate::runtime::metrics::Metrics;

/// How long the API server may take until it begins to answer. A watch goes on for as long as it lasts once
/// it has begun.
const PATIENCE: Duration = Duration::from_secs(30);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// There is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody says where it is.
    #[error("no API server is known: run in a pod, or set KUBECONFIG: {0}")]
    Unknown(#[from] kube::config::InferConfigError),
    /// What is said cannot be used.
    #[error("the API server cannot be used as configured: {0}")]
    Unusable(#[from] kube::Error),
}

/// A client by what the pod or KUBECONFIG says.
pub async fn client(metrics: Metrics) -> Result<Client, Error> {
    let config = Config::infer().await?;
    let count = MapRequestLayer::new(move |request: http::Request<Body>| {
        metrics.request(request.method().as_str(), request.uri().query());
        request
    });
    let in_time = MapFutureLayer::new(in_time);
    Ok(ClientBuilder::try_from(config)?.with_layer(&in_time).with_layer(&count).build())
}

/// An answer, or that none came in time: an API server that accepts and says nothing holds up no look.
async fn in_time<T>(answer: impl Future<Output = Result<T, BoxError>>) -> Result<T, BoxError> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("the API server did not answer within {} s", PATIENCE.as_secs()).into()),
    }
}
