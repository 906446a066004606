//! What happens to every request and answer, whatever it asks for.
//!
//! ```text
//!     request ─▶ its id ─▶ CORS ─▶ its origin ─▶ what to do ─▶ counted ─▶ gzip ─▶ answer
//! ```

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowOrigin, CorsLayer, ExposeHeaders};

use super::body::overloaded;
use super::problem::{Kind, Problem};
use crate::config::CorsOrigins;
use crate::doors::http::connection::{Account, HeldBody};
use crate::observability::traces;
use crate::seams::runtime;

/// The name under which a request is found again in logs.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const LONGEST_ID: usize = 128;

/// Puts the layers around a router.
pub fn around(router: Router, origins: &CorsOrigins) -> Router {
    let allowed = Arc::new(origins.clone());
    router
        .layer(middleware::from_fn(counted))
        .layer(CompressionLayer::new().gzip(true))
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            let allowed = Arc::clone(&allowed);
            async move {
                match foreign_origin(&request, &allowed) {
                    Some(problem) => problem.into_response(),
                    None => next.run(request).await,
                }
            }
        }))
        .layer(cors(origins))
        .layer(middleware::from_fn(named))
}

/// Gives a request its id, if it brings none that can be used, and the answer the same.
async fn named(mut request: Request, next: Next) -> Response {
    let id = usable_id(request.headers()).unwrap_or_else(|| {
        let made = format!("{:016x}", runtime::random_u64());
        HeaderValue::from_str(&made).unwrap_or(HeaderValue::from_static("none"))
    });
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).await;
    if response.status().is_server_error() {
        tracing::warn!(id = ?id, %method, path, status = response.status().as_u16(), "a request of the HTTP door failed");
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn usable_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let given = headers.get(REQUEST_ID)?;
    let good = (1..=LONGEST_ID).contains(&given.len()) && given.as_bytes().iter().all(u8::is_ascii_graphic);
    good.then(|| given.clone())
}

/// Counts the answer for its connection until it is sent.
async fn counted(request: Request, next: Next) -> Response {
    let account = request.extensions().get::<Account>().cloned();
    let response = next.run(request).await;
    let Some(account) = account.filter(|_| response.body().size_hint().lower() > 0) else { return response };
    let (parts, body) = response.into_parts();
    match HeldBody::hold(body, account) {
        Ok(held) => Response::from_parts(parts, Body::new(held)),
        Err(error) => overloaded(&error).into_response(),
    }
}

fn cors(origins: &CorsOrigins) -> CorsLayer {
    let allowed = match origins {
        CorsOrigins::Any => AllowOrigin::any(),
        CorsOrigins::These(origins) => {
            AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
        }
    };
    let asked = [
        header::CONTENT_TYPE,
        header::ACCEPT,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        super::idempotency::HEADER,
        REQUEST_ID,
        HeaderName::from_static(traces::HEADERS[0]),
        HeaderName::from_static(traces::HEADERS[1]),
    ];
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers(asked)
        .expose_headers(ExposeHeaders::list([
            header::ETAG,
            header::RETRY_AFTER,
            header::LOCATION,
            REQUEST_ID,
        ]))
}

/// Nobody is asked who they are, so a page that a user happens to look at could change data by
/// a form; a browser says in `Origin` where the page comes from, and only those that may read
/// answers may ask for changes. Programs say nothing and are not held up.
fn foreign_origin(request: &Request, allowed: &CorsOrigins) -> Option<Problem> {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return None;
    }
    let origin = request.headers().get(header::ORIGIN)?.to_str().unwrap_or_default();
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let own = origin.split_once("://").is_some_and(|(_, authority)| authority == host);
    if own || allowed.allow(origin) {
        return None;
    }
    let detail = format!("pages of {origin:?} may not ask for changes here: --cors-origins allows them");
    Some(Problem::new(Kind::OriginNotAllowed, detail))
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(request: axum::http::request::Builder) -> Response {
        let long = || async { "a long answer ".repeat(200) };
        let origins = CorsOrigins::These(vec!["https://shop.example".to_owned()]);
        let router = around(Router::new().route("/", get(long).put(long)), &origins);
        router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn an_id_is_taken_or_made() {
        let taken = ask(Request::get("/").header(REQUEST_ID, "abc-7")).await;
        assert_eq!(taken.headers()[REQUEST_ID], "abc-7");
        for unusable in ["", "a b", &"x".repeat(129)] {
            let made = ask(Request::get("/").header(REQUEST_ID, unusable)).await;
            assert_eq!(made.headers()[REQUEST_ID].len(), 16, "{unusable}");
        }
    }

    #[tokio::test]
    async fn only_pages_of_allowed_origins_change_anything() {
        let put = |origin: &str| Request::put("/").header("host", "kv:7402").header("origin", origin);
        assert_eq!(ask(put("https://evil.example")).await.status(), StatusCode::FORBIDDEN);
        assert_eq!(ask(put("null")).await.status(), StatusCode::FORBIDDEN);
        assert_eq!(ask(put("http://kv:7402")).await.status(), StatusCode::OK);
        let answer = ask(put("https://shop.example")).await;
        assert_eq!(answer.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://shop.example");
        assert_eq!(ask(Request::put("/")).await.status(), StatusCode::OK);
        let read = ask(Request::get("/").header("origin", "https://evil.example")).await;
        assert!(!read.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    }

    #[tokio::test]
    async fn long_answers_are_compressed_for_who_asks() {
        let answer = ask(Request::get("/").header("accept-encoding", "gzip")).await;
        assert_eq!(answer.headers()[header::CONTENT_ENCODING], "gzip");
        assert!(!ask(Request::get("/")).await.headers().contains_key(header::CONTENT_ENCODING));
    }
}
