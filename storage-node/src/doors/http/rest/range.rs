//! Keys in their order, in pages.

use axum::extract::Request;
use axum::http::StatusCode;
use base64::Engine as _;
use proto::v1::ScanRequest;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::address::{self, BASE64_URL, Query};
use super::documents::{PathsInQuery, RangeProblems, Snapshot, Stale};
use super::problem::Problem;
use super::values::{self, ItemShown};
use super::{Answer, Api, json};

/// What is asked for.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub struct RangeAsked {
    /// The first key that is wanted, percent-decoded to bytes; without it, from the beginning.
    pub start_key: Option<String>,
    /// The first key that is no longer wanted; without it, to the end.
    pub end_key: Option<String>,
    /// Only keys that begin so.
    pub prefix: Option<String>,
    /// The most items of this page. The node's own limits may end it sooner.
    #[param(minimum = 1)]
    pub limit: Option<u64>,
    /// Goes on where the page that gave it ended. The other parameters must be as they were.
    pub cursor: Option<String>,
    /// From the last key to the first.
    pub reverse: Option<bool>,
    /// Without values.
    pub keys_only: Option<bool>,
    /// Only items whose values are JSON and of which this holds, such as `$.age >= 18 and exists($.email)`. A page may
    /// then have a cursor and few items, or none.
    #[param(min_length = 1, max_length = 4096)]
    pub filter: Option<String>,
}

/// A page of items.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page {
    /// The items, in the order of the bytes of their keys.
    pub items: Vec<ItemShown>,
    /// How many they are.
    pub count: usize,
    /// Gives the next page; null: there is no more.
    pub cursor: Option<String>,
}

/// The routes, for the table that stands before them.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(range))
}

/// List keys in their order
#[utoipa::path(
    get, path = "/kv/range", tag = "keys", operation_id = "range",
    params(RangeAsked, PathsInQuery, Stale, Snapshot),
    responses((status = 200, body = Page, description = "A page of items"), RangeProblems)
)]
async fn range(api: Api, request: Request) -> Answer {
    let (parts, _) = request.into_parts();
    let expected = [
        "startKey", "endKey", "prefix", "limit", "cursor", "reverse", "keysOnly", "stale", "snapshot",
        "filter", "path",
    ];
    let query = Query::with_list(&parts, &expected, "path")?;
    let limit = query.parsed::<u64>("limit", "a number of items")?;
    if limit == Some(0) {
        return Err(Problem::invalid(
            "a limit of 0 asks for nothing: leave it out for as many as a page holds",
        ));
    }
    let keys_only = query.flag("keysOnly")?;
    let asked = ScanRequest {
        table: address::table_in(address::path_of(&parts))?,
        start: query.bytes("startKey").unwrap_or_default(),
        end: query.bytes("endKey").unwrap_or_default(),
        prefix: query.bytes("prefix").unwrap_or_default(),
        limit: limit.unwrap_or(0),
        reverse: query.flag("reverse")?,
        keys_only,
        cursor: query.base64("cursor")?.unwrap_or_default(),
        stale: query.flag("stale")?,
        filter: query.text("filter")?.unwrap_or_default(),
        paths: query.texts("path")?,
        snapshot_ms: values::snapshot_ms(&query)?,
    };
    let page = api.scan(&asked).await?;
    let by_path = !asked.paths.is_empty();
    let items: Vec<_> = page.items.iter().map(|item| values::show_part(item, !keys_only, by_path)).collect();
    let cursor = (!page.cursor.is_empty()).then(|| BASE64_URL.encode(&page.cursor));
    json(StatusCode::OK, &Page { count: items.len(), items, cursor })
}
