//! Changes of values that are JSON by what a patch says of them.

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use proto::v1::{ModifyRequest, modify_request::Change, operation::Operation, result::Result as Outcome};

use super::address::{self, Query};
use super::body;
use super::conditions::{Conditions, entity_tag};
use super::documents::{ConditionHeaders, KeyInPath, KeyInQuery, PatchProblems, Retryable};
use super::keys::Written;
use super::problem::{Kind, Problem};
use super::{Answer, Api, another_result, json, values};

const MERGE_PATCH: &str = "application/merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";

/// Patch a value that is JSON
///
/// By a merge patch (RFC 7396), to which no key is an empty object, or by a JSON patch (RFC 6902).
/// The patch is carried out in one step where the value is: what others write meanwhile is not lost. What it does not
/// touch keeps its bytes.
#[utoipa::path(
    patch, path = "/kv/{key}", tag = "keys", operation_id = "patchKey",
    params(KeyInPath, ConditionHeaders, Retryable),
    request_body(content((serde_json::Value = "application/merge-patch+json"), (Vec<serde_json::Value> = "application/json-patch+json"))),
    responses(
        (status = 200, body = Written, description = "Patched", headers(("ETag" = String, description = "The key's version"))),
        PatchProblems,
    )
)]
pub async fn patch_by_path(api: Api, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    Query::of(&parts, &[])?;
    let key = address::key_in(address::path_of(&parts))?;
    patch(&api, &parts, body, key).await
}

/// Patch a value whose key a path cannot name
#[utoipa::path(
    patch, path = "/kv", tag = "keys", operation_id = "patchKeyByQuery",
    params(KeyInQuery, ConditionHeaders, Retryable),
    request_body(content((serde_json::Value = "application/merge-patch+json"), (Vec<serde_json::Value> = "application/json-patch+json"))),
    responses(
        (status = 200, body = Written, description = "Patched", headers(("ETag" = String, description = "The key's version"))),
        PatchProblems,
    )
)]
pub async fn patch_by_query(api: Api, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let key = Query::of(&parts, &["key", "key64"])?.key()?;
    patch(&api, &parts, body, key).await
}

async fn patch(api: &Api, parts: &Parts, body: Body, key: Bytes) -> Answer {
    let condition = Conditions::of(&parts.headers)?.of_write()?;
    let as_change = change_of(&parts.headers)?;
    let table = address::table_in(address::path_of(parts))?;
    let body = body::read(parts, body, api.limits().max_value_bytes).await?;
    let retry = api.seen().retry(parts, &body)?;
    let (shown_key, key64) = values::show_key(&key);
    let change = Some(as_change(body));
    let modify = ModifyRequest { table, key, change, retry, condition, ..ModifyRequest::default() };
    let Outcome::Modify(done) = api.run(Operation::Modify(modify)).await? else {
        return Err(another_result().into());
    };
    if !done.applied {
        return Err(Problem::condition_not_met(done.version));
    }
    let mut response = json(StatusCode::OK, &Written { key: shown_key, key64, version: done.version })?;
    response.headers_mut().insert(header::ETAG, entity_tag(done.version));
    Ok(response)
}

/// What kind of patch the body is. Here it must be said: the same JSON may be either.
fn change_of(headers: &HeaderMap) -> Result<fn(Bytes) -> Change, Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|given| given.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        MERGE_PATCH => Ok(Change::MergePatch),
        JSON_PATCH => Ok(Change::JsonPatch),
        other => {
            let detail =
                format!("{other:?} is no patch that is known here: send {MERGE_PATCH} or {JSON_PATCH}");
            Err(Problem::new(Kind::UnsupportedMediaType, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kind_of_patch_it_is_must_be_said() {
        let change = |given: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, given.parse().unwrap());
            change_of(&headers).map(|change| change(Bytes::new())).map_err(|problem| problem.kind)
        };
        assert_eq!(change("application/merge-patch+json"), Ok(Change::MergePatch(Bytes::new())));
        assert_eq!(change("Application/JSON-Patch+json; charset=utf-8"), Ok(Change::JsonPatch(Bytes::new())));
        for other in ["application/json", "text/plain", "application/x-www-form-urlencoded"] {
            assert_eq!(change(other), Err(Kind::UnsupportedMediaType), "{other}");
        }
        assert!(change_of(&HeaderMap::new()).is_err());
    }
}
