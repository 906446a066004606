//! REST: the operations for whoever has nothing but HTTP.
//!
//! ```text
//!     layers ─▶ keys, batch, range, watch, stats, tables, cluster ─▶ Operations
//!                  │ read by                    │ fail as
//!                  ▼                            ▼
//!          address, body, values,            problem
//!          conditions, idempotency
//! ```
//!
//! Everything on keys is there twice: under `/api/v1/kv` for the table `default`, and under
//! `/api/v1/tables/{table}/kv`. The document of it all, at `/api/v1/openapi.json`, is made of
//! what stands beside the functions that answer; `/api/v1/docs` shows it to people.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRequestParts, OriginalUri, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use prost::Message;
use proto::v1::{
    Failure, QueryRequest, QueryResponse, ScanRequest, ScanResponse, operation::Operation as Kind,
    result::Result as Outcome,
};
use serde::Serialize;

use crate::config::Limits;
use crate::doors::Operations;
use crate::node::Member;
use crate::observability::traces::Trace;
use crate::router::{Context, failure};

pub mod address;
pub mod batch;
pub mod body;
pub mod cluster;
pub mod conditions;
pub mod documents;
pub mod idempotency;
pub mod indexes;
pub mod keys;
pub mod layers;
pub mod openapi;
mod patch;
pub mod problem;
pub mod range;
pub mod stats;
pub mod tables;
pub mod values;
pub mod watch;

use idempotency::Seen;
use problem::Problem;

/// How long an operation may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// In JSON a value takes more bytes than it has: quotes, escapes, base64, and what stands around.
const JSON_AROUND: usize = 64 << 10;

/// What a request is answered with.
pub type Answer = Result<Response, Problem>;

/// What the functions that answer share.
#[derive(Clone)]
pub struct Api {
    shared: Arc<Shared>,
    /// What a request belongs to.
    trace: Trace,
}

/// As a request sees it.
impl FromRequestParts<Api> for Api {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Infallible> {
        let traces = &api.shared.operations.node().traces;
        let trace = traces.asked(|name| parts.headers.get(name)?.to_str().ok());
        Ok(Self { trace, ..api.clone() })
    }
}

struct Shared {
    operations: Operations,
    limits: Limits,
    seen: Seen,
}

/// Everything under `/api/v1`, and `/problems`.
pub fn router(operations: Operations) -> Router {
    let config = Arc::clone(&operations.node().config);
    let shared = Shared { operations, limits: config.limits, seen: Seen::default() };
    let (router, document) = openapi::routes().split_for_parts();
    let router = router
        .with_state(Api { shared: Arc::new(shared), trace: Trace::None })
        .merge(openapi::pages(document))
        .merge(documents::routes())
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method);
    layers::around(router, &config.cors_origins)
}

impl Api {
    /// What is refused for its size.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Idempotency keys that came of late.
    pub fn seen(&self) -> &Seen {
        &self.shared.seen
    }

    /// The largest body in JSON that may carry so many bytes.
    pub fn json_bytes(carried: usize) -> usize {
        carried.saturating_mul(2).saturating_add(JSON_AROUND)
    }

    /// What the node is in its cluster.
    pub fn member(&self) -> Result<Arc<Member>, Problem> {
        self.shared.operations.member().map_err(Problem::no_cluster)
    }

    /// Does an operation on data.
    pub async fn run(&self, kind: Kind) -> Result<Outcome, Problem> {
        self.member()?;
        let operations = &self.shared.operations;
        Ok(operations.run(&self.context(), kind).await?)
    }

    /// One page of a scan.
    pub async fn scan(&self, request: &ScanRequest) -> Result<ScanResponse, Problem> {
        self.member()?;
        let operations = &self.shared.operations;
        Ok(operations.scan(&self.context(), request).await?)
    }

    /// One page of a query.
    pub async fn query(&self, request: &QueryRequest) -> Result<QueryResponse, Problem> {
        self.member()?;
        let operations = &self.shared.operations;
        Ok(operations.query(&self.context(), request).await?)
    }

    /// Asks the meta leader.
    pub async fn admin<Q: Message, A: Message + Default>(
        &self,
        method: &'static str,
        request: &Q,
    ) -> Result<A, Problem> {
        self.member()?;
        let operations = &self.shared.operations;
        Ok(operations.admin(&self.context(), method, request).await?)
    }

    fn context(&self) -> Context {
        self.shared.operations.context(PATIENCE).in_trace(self.trace.clone())
    }
}

/// An answer in JSON.
pub fn json<T: Serialize>(status: StatusCode, answer: &T) -> Answer {
    let text = serde_json::to_vec(answer).map_err(|error| failure::internal(error.to_string()))?;
    Ok((status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response())
}

/// A result of another kind than the operation's; it would be a fault of this program.
pub fn another_result() -> Failure {
    failure::internal("an operation had another's result")
}

/// Whether the caller would rather have the bytes than JSON around them.
pub fn wants_bytes(headers: &HeaderMap) -> bool {
    let (mut bytes, mut json) = (0.0_f32, 0.0_f32);
    let ranges = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in ranges.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality =
            parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
        match name.as_str() {
            "application/octet-stream" => bytes = quality,
            "application/json" => json = quality,
            _ => {}
        }
    }
    bytes > 0.0 && bytes >= json
}

async fn no_such_path(OriginalUri(uri): OriginalUri) -> Problem {
    Problem::new(
        problem::Kind::NotFound,
        format!("there is nothing at {:?}: /api/v1/docs shows what there is", uri.path()),
    )
}

async fn no_such_method(OriginalUri(uri): OriginalUri, request: Request) -> Problem {
    let detail = format!(
        "{} is not for {:?}; a key of that name is reached by ?key=…, and /api/v1/docs shows what there is",
        request.method(),
        uri.path()
    );
    Problem::new(problem::Kind::MethodNotAllowed, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_for_who_asks_for_them() {
        let wants = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            wants_bytes(&headers)
        };
        assert!(wants("application/octet-stream"));
        assert!(wants("application/octet-stream, */*;q=0.1"));
        assert!(!wants("*/*"));
        assert!(!wants("application/json, application/octet-stream;q=0.5"));
        assert!(!wants("application/octet-stream;q=0"));
        assert!(!wants_bytes(&HeaderMap::new()));
    }
}
