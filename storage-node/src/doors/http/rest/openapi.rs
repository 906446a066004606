//! The OpenAPI document, and the page that shows it.

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::IntoResponse as _;
use axum::routing::get;
use bytes::Bytes;
use utoipa::OpenApi as _;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{ObjectBuilder, OpenApi, Required, ResponsesBuilder, Type};
use utoipa_axum::router::OpenApiRouter;

use super::documents::ProblemShown;
use super::{Api, batch, cluster, indexes, keys, range, stats, tables, watch};

const PAGE: &str = include_str!("openapi/page.html");
const SCRIPT: &str = include_str!("openapi/page.js");
const STYLE: &str = include_str!("openapi/page.css");
/// The page loads nothing from elsewhere, so it works without any other network.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Trilith",
        description = "A replicated key-value store. What is read is linearizable, and what is acknowledged is on disk \
                       on a quorum. Under `/api/v1/kv` is the table `default`. Nobody is asked who they are.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "keys", description = "Read and write"),
        (name = "tables", description = "List, create, describe, alter, drop"),
        (name = "cluster", description = "Nodes, partitions and what moves"),
    ),
    components(schemas(ProblemShown))
)]
struct Document;

/// All routes with what is said of them.
pub fn routes() -> OpenApiRouter<Api> {
    let of_keys = || {
        OpenApiRouter::new()
            .merge(keys::routes())
            .merge(batch::routes())
            .merge(range::routes())
            .merge(watch::routes())
            .merge(stats::routes())
    };
    OpenApiRouter::with_openapi(Document::openapi())
        .nest("/api/v1", of_keys())
        .nest("/api/v1/tables/{table}", of_keys())
        .nest("/api/v1", tables::routes())
        .nest("/api/v1", indexes::routes())
        .nest("/api/v1", cluster::routes())
}

/// The document and the page.
pub fn pages(document: OpenApi) -> Router {
    let document = complete(document);
    // It is made of constants; a test sees that it can be written.
    let document = Bytes::from(document.to_json().unwrap_or_default());
    let file = |media: &'static str, text: &'static str| {
        get(async move || {
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static(media)),
                (HeaderName::from_static("content-security-policy"), HeaderValue::from_static(POLICY)),
            ];
            (headers, text)
        })
    };
    Router::new()
        .route(
            "/api/v1/openapi.json",
            get(async move || {
                let media = HeaderValue::from_static("application/json");
                ([(header::CONTENT_TYPE, media)], document.clone()).into_response()
            }),
        )
        .route("/api/v1/docs", file("text/html; charset=utf-8", PAGE))
        .route("/api/v1/docs/page.js", file("text/javascript; charset=utf-8", SCRIPT))
        .route("/api/v1/docs/page.css", file("text/css; charset=utf-8", STYLE))
}

/// Adds what follows from the routes: the table in the path, and HEAD wherever there is GET on
/// a key.
fn complete(mut document: OpenApi) -> OpenApi {
    for (path, item) in &mut document.paths.paths {
        let in_table =
            path.starts_with("/api/v1/tables/{table}/kv") || path == "/api/v1/tables/{table}/watch";
        let of_key = path.ends_with("/kv") || path.ends_with("/kv/{key}");
        if of_key {
            item.head = item.get.as_ref().map(without_body);
        }
        let operations =
            [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete, &mut item.head];
        for operation in operations.into_iter().flatten().filter(|_| in_table) {
            operation.parameters.get_or_insert_default().insert(0, table_in_path());
            if let Some(id) = &mut operation.operation_id {
                id.push_str("InTable");
            }
        }
    }
    document
}

/// HEAD is answered as GET, with headers alone.
fn without_body(get: &Operation) -> Operation {
    let mut head = get.clone();
    head.operation_id = head.operation_id.map(|id| id.replacen("get", "head", 1));
    head.summary = Some("Ask whether there is a key, and which version it has".to_owned());
    head.description = None;
    let mut responses = ResponsesBuilder::new();
    for (status, response) in head.responses.responses {
        let response = match response {
            utoipa::openapi::RefOr::T(mut response) => {
                response.content.clear();
                utoipa::openapi::RefOr::T(response)
            }
            reference @ utoipa::openapi::RefOr::Ref(_) => reference,
        };
        responses = responses.response(status, response);
    }
    head.responses = responses.build();
    head
}

fn table_in_path() -> Parameter {
    let name = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .min_length(Some(1))
        .max_length(Some(128));
    ParameterBuilder::new()
        .name("table")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some("The table's name."))
        .schema(Some(name.build()))
        .build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn document() -> Value {
        let (_, document) = routes().split_for_parts();
        serde_json::from_str(&complete(document).to_json().unwrap()).unwrap()
    }

    fn operations(document: &Value) -> Vec<(String, String, Value)> {
        let paths = document["paths"].as_object().unwrap();
        let of_path = |(path, item): (&String, &Value)| {
            let operations = item.as_object().unwrap().iter();
            operations
                .map(|(method, found)| (method.clone(), path.clone(), found.clone()))
                .collect::<Vec<_>>()
        };
        paths.iter().flat_map(of_path).collect()
    }

    #[test]
    fn everything_is_there_for_each_table_too() {
        let document = document();
        assert_eq!(document["openapi"], "3.1.0");
        let paths: BTreeSet<_> = document["paths"].as_object().unwrap().keys().cloned().collect();
        for path in ["/kv", "/kv/{key}", "/kv/batch", "/kv/range", "/kv/stats"] {
            assert!(paths.contains(&format!("/api/v1{path}")), "{path} is not in {paths:?}");
            assert!(paths.contains(&format!("/api/v1/tables/{{table}}{path}")), "{path} is not in {paths:?}");
        }
        for path in
            ["/tables/{table}", "/cluster/status", "/cluster/nodes/{node}/drain", "/cluster/rebalance"]
        {
            assert!(paths.contains(&format!("/api/v1{path}")), "{path} is not in {paths:?}");
        }
    }

    #[test]
    fn each_operation_has_a_name_of_its_own_and_its_parameters() {
        let mut names = BTreeSet::new();
        for (method, path, operation) in operations(&document()) {
            let name = operation["operationId"].as_str().unwrap().to_owned();
            assert!(names.insert(name.clone()), "{name} is there twice");
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            for segment in path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
            {
                let named = parameters.iter().any(|parameter| parameter["name"] == segment);
                assert!(named, "{method} {path} does not describe {segment}");
            }
        }
        assert!(names.contains("headKey") && names.contains("patchKeyByQueryInTable"), "{names:?}");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(object) => {
                    if let Some(Value::String(reference)) = object.get("$ref") {
                        found.insert(reference.clone());
                    }
                    object.values().for_each(|value| references(value, found));
                }
                Value::Array(list) => list.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document = document();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 10, "{found:?}");
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
    }
}
