//! One key: read, write, delete, and whether it is there.

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use proto::v1::{
    Condition, ContentKind, DeleteRequest, GetRequest, Item, PutRequest, condition, operation::Operation,
    result::Result as Outcome,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::address::{self, Query};
use super::body::{self, Media};
use super::conditions::{Conditions, Shown, entity_tag};
use super::documents::{
    ConditionHeaders, KeyInPath, KeyInQuery, PathsInQuery, ReadProblems, Retryable, Stale, Ttl, WriteProblems,
};
use super::patch;
use super::problem::{Kind, Problem};
use super::values::{self, Encoding, ItemShown, Stored};
use super::{Answer, Api, another_result, json, wants_bytes};

/// What a key is written with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Value)]
pub struct ValueGiven<'a> {
    /// Any JSON. A string is stored as text, anything else with its bytes as they are given.
    #[serde(borrow)]
    #[schema(value_type = serde_json::Value)]
    value: &'a RawValue,
    /// Says that the value is a string in base64, whose bytes are to be stored.
    #[schema(value_type = Option<Encoding>)]
    encoding: Option<Encoding>,
    /// Seconds after which the key is gone, down to a millisecond. Without it the table's own
    /// time to live counts, if it has one.
    #[schema(minimum = 0.001, maximum = 3_153_600_000.0_f64)]
    ttl: Option<f64>,
}

/// What was written.
#[derive(Debug, Serialize, ToSchema)]
pub struct Written {
    /// The key, where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The key in base64url, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key64: Option<String>,
    /// The key's version from now on.
    pub version: u64,
}

/// What was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub struct Deleted {
    /// The key, where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The key in base64url, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key64: Option<String>,
    /// Always true.
    pub deleted: bool,
}

/// The routes, for the table that stands before them.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(get_by_path, put_by_path, patch::patch_by_path, delete_by_path))
        .routes(routes!(get_by_query, put_by_query, patch::patch_by_query, delete_by_query))
}

/// Read a key
///
/// The value is shown as JSON where it is JSON, as a string where it is text, and in base64
/// where it is not UTF-8; with `Accept: application/octet-stream` its bytes come as they are.
#[utoipa::path(
    get, path = "/kv/{key}", tag = "keys", operation_id = "getKey",
    params(KeyInPath, PathsInQuery, Stale, ConditionHeaders),
    responses(
        (status = 200, description = "The item", headers(("ETag" = String, description = "The key's version")),
            content((ItemShown = "application/json"), (Vec<u8> = "application/octet-stream"))),
        (status = 304, description = "The caller has this version already"),
        ReadProblems,
    )
)]
async fn get_by_path(api: Api, request: Request) -> Answer {
    let (parts, _) = request.into_parts();
    let query = Query::with_list(&parts, &["stale", "path"], "path")?;
    let key = address::key_in(address::path_of(&parts))?;
    get(&api, &parts, key, &query).await
}

/// Read a key that a path cannot name
#[utoipa::path(
    get, path = "/kv", tag = "keys", operation_id = "getKeyByQuery",
    params(KeyInQuery, PathsInQuery, Stale, ConditionHeaders),
    responses(
        (status = 200, description = "The item", headers(("ETag" = String, description = "The key's version")),
            content((ItemShown = "application/json"), (Vec<u8> = "application/octet-stream"))),
        (status = 304, description = "The caller has this version already"),
        ReadProblems,
    )
)]
async fn get_by_query(api: Api, request: Request) -> Answer {
    let (parts, _) = request.into_parts();
    let query = Query::with_list(&parts, &["key", "key64", "stale", "path"], "path")?;
    get(&api, &parts, query.key()?, &query).await
}

/// Write a key
///
/// With `If-None-Match: *` only where there is no such key, with `If-Match: *` only where there
/// is one, with `If-Match: "7"` only where its version is 7.
#[utoipa::path(
    put, path = "/kv/{key}", tag = "keys", operation_id = "putKey",
    params(KeyInPath, Ttl, ConditionHeaders, Retryable),
    request_body(content((ValueGiven<'static> = "application/json"), (Vec<u8> = "application/octet-stream"))),
    responses(
        (status = 200, body = Written, description = "Written", headers(("ETag" = String, description = "The key's version"))),
        (status = 201, body = Written, description = "Written, and there was no such key before, as If-None-Match demanded",
            headers(("ETag" = String, description = "The key's version"))),
        WriteProblems,
    )
)]
async fn put_by_path(api: Api, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let query = Query::of(&parts, &["ttl"])?;
    let key = address::key_in(address::path_of(&parts))?;
    put(&api, &parts, body, key, &query).await
}

/// Write a key that a path cannot name
#[utoipa::path(
    put, path = "/kv", tag = "keys", operation_id = "putKeyByQuery",
    params(KeyInQuery, Ttl, ConditionHeaders, Retryable),
    request_body(content((ValueGiven<'static> = "application/json"), (Vec<u8> = "application/octet-stream"))),
    responses(
        (status = 200, body = Written, description = "Written", headers(("ETag" = String, description = "The key's version"))),
        (status = 201, body = Written, description = "Written, and there was no such key before, as If-None-Match demanded",
            headers(("ETag" = String, description = "The key's version"))),
        WriteProblems,
    )
)]
async fn put_by_query(api: Api, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let query = Query::of(&parts, &["key", "key64", "ttl"])?;
    put(&api, &parts, body, query.key()?, &query).await
}

/// Delete a key
#[utoipa::path(
    delete, path = "/kv/{key}", tag = "keys", operation_id = "deleteKey",
    params(KeyInPath, ConditionHeaders, Retryable),
    responses((status = 200, body = Deleted, description = "There was such a key, and it is gone"), WriteProblems)
)]
async fn delete_by_path(api: Api, request: Request) -> Answer {
    let (parts, _) = request.into_parts();
    Query::of(&parts, &[])?;
    let key = address::key_in(address::path_of(&parts))?;
    delete(&api, &parts, key).await
}

/// Delete a key that a path cannot name
#[utoipa::path(
    delete, path = "/kv", tag = "keys", operation_id = "deleteKeyByQuery",
    params(KeyInQuery, ConditionHeaders, Retryable),
    responses((status = 200, body = Deleted, description = "There was such a key, and it is gone"), WriteProblems)
)]
async fn delete_by_query(api: Api, request: Request) -> Answer {
    let (parts, _) = request.into_parts();
    let key = Query::of(&parts, &["key", "key64"])?.key()?;
    delete(&api, &parts, key).await
}

async fn get(api: &Api, parts: &Parts, key: Bytes, query: &Query) -> Answer {
    let (stale, paths) = (query.flag("stale")?, query.texts("path")?);
    let by_path = !paths.is_empty();
    let conditions = Conditions::of(&parts.headers)?;
    let table = address::table_in(address::path_of(parts))?;
    let asked = GetRequest { table, key, stale, paths, ..GetRequest::default() };
    let Outcome::Get(got) = api.run(Operation::Get(asked)).await? else {
        return Err(another_result().into());
    };
    let version = got.item.as_ref().map_or(0, |item| item.version);
    let shown = conditions.judge_read(version)?;
    let item = got.item.ok_or_else(Problem::no_such_key)?;
    let mut response = match shown {
        Shown::NotModified => StatusCode::NOT_MODIFIED.into_response(),
        Shown::Whole if wants_bytes(&parts.headers) => bytes_of(item),
        Shown::Whole => json(StatusCode::OK, &values::show_part(&item, true, by_path))?,
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, entity_tag(version));
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    // The next read may find another value; a cache has to ask, by the entity tag.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

fn bytes_of(item: Item) -> Response {
    let media = HeaderValue::from_static("application/octet-stream");
    ([(header::CONTENT_TYPE, media)], item.value).into_response()
}

async fn put(api: &Api, parts: &Parts, body: Body, key: Bytes, query: &Query) -> Answer {
    let condition = Conditions::of(&parts.headers)?.of_write()?;
    let media = Media::of(&parts.headers)?;
    let table = address::table_in(address::path_of(parts))?;
    let most = api.limits().max_value_bytes;
    let body = match media {
        // A byte more than is stored, so that the refusal is about the value.
        Media::Bytes => body::read(parts, body, most).await.map_err(|problem| match problem.kind {
            Kind::BodyTooLarge => {
                Problem::over_limit(Kind::ValueTooLarge, "length of the value in bytes", most as u64)
            }
            _ => problem,
        })?,
        Media::Json => body::read(parts, body, Api::json_bytes(most)).await?,
    };
    let asked = query.parsed::<f64>("ttl", "a number of seconds")?;
    let (Stored { bytes: value, content }, ttl) = match media {
        Media::Bytes => (Stored { bytes: body.clone(), content: ContentKind::Bytes }, asked),
        Media::Json => {
            let given: ValueGiven<'_> = values::read_json(&body)?;
            if given.ttl.is_some() && asked.is_some() {
                return Err(Problem::invalid(
                    "the time to live is given twice, in the body and in the query",
                ));
            }
            (values::store(given.value, given.encoding)?, given.ttl.or(asked))
        }
    };
    let ttl_ms = ttl.map(values::ttl_ms).transpose()?.unwrap_or(0);
    let retry = api.seen().retry(parts, &body)?;
    let must_be_new = is_absent(condition.as_ref());
    let (shown_key, key64) = values::show_key(&key);
    let put = PutRequest { table, key, value, condition, ttl_ms, content: content.into(), retry };
    let Outcome::Put(done) = api.run(Operation::Put(put)).await? else {
        return Err(another_result().into());
    };
    if !done.applied {
        return Err(Problem::condition_not_met(done.version));
    }
    let status = if must_be_new { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = json(status, &Written { key: shown_key, key64, version: done.version })?;
    response.headers_mut().insert(header::ETAG, entity_tag(done.version));
    Ok(response)
}

async fn delete(api: &Api, parts: &Parts, key: Bytes) -> Answer {
    let condition = Conditions::of(&parts.headers)?.of_write()?;
    if is_absent(condition.as_ref()) {
        return Err(Problem::invalid("a key that must not exist cannot be deleted: leave If-None-Match out"));
    }
    let table = address::table_in(address::path_of(parts))?;
    let retry = api.seen().retry(parts, &[])?;
    let (shown_key, key64) = values::show_key(&key);
    let conditional = condition.is_some();
    let Outcome::Delete(done) =
        api.run(Operation::Delete(DeleteRequest { table, key, condition, retry })).await?
    else {
        return Err(another_result().into());
    };
    match (done.deleted, conditional) {
        (true, _) => json(StatusCode::OK, &Deleted { key: shown_key, key64, deleted: true }),
        (false, true) => Err(Problem::condition_not_met(done.version)),
        (false, false) => Err(Problem::no_such_key()),
    }
}

fn is_absent(condition: Option<&Condition>) -> bool {
    condition.is_some_and(|condition| matches!(condition.is, Some(condition::Is::Absent(true))))
}
