//! Many operations in one request, each with a result of its own.

use std::fmt;

use axum::extract::Request;
use axum::http::StatusCode;
use bytes::Bytes;
use proto::v1::{
    BatchRequest, Condition, DeleteRequest, ExistsRequest, GetRequest, Operation, PutRequest, condition::Is,
    operation::Operation as Asked, result::Result as Outcome,
};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use base64::Engine as _;

use super::address::{self, BASE64_URL, Query};
use super::body::{self, Media};
use super::documents::{Atomic, BatchProblems, ProblemShown, Retryable, Ttl};
use super::problem::{Kind, Problem};
use super::values::{self, Encoding};
use super::{Answer, Api, another_result, json};

/// What an operation of a batch does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Read a key.
    Get,
    /// Write a key.
    Put,
    /// Delete a key.
    Delete,
    /// Whether there is such a key.
    Exists,
}

/// One operation of a batch.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = BatchOperation)]
pub struct OperationGiven<'a> {
    op: Verb,
    /// The key, where it is text; else give `key64`.
    #[schema(min_length = 1)]
    key: Option<String>,
    /// The key in base64url.
    #[schema(min_length = 2)]
    key64: Option<String>,
    /// For `put`: any JSON, as for a single key.
    #[serde(borrow, default, deserialize_with = "there")]
    #[schema(value_type = serde_json::Value)]
    value: Option<&'a RawValue>,
    #[schema(value_type = Option<Encoding>)]
    encoding: Option<Encoding>,
    /// For `put`: seconds after which the key is gone.
    #[schema(minimum = 0.001, maximum = 3_153_600_000.0_f64)]
    ttl: Option<f64>,
    /// For `put` and `delete`: only where this is the key's version.
    #[schema(minimum = 1)]
    if_version: Option<u64>,
    /// For `put`: only where there is no such key.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    if_absent: bool,
    /// For `put` and `delete`: only where there is such a key.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    if_exists: bool,
}

/// A batch: an object of keys and the values that they are written with, or a list of
/// operations.
#[derive(Debug, ToSchema)]
#[schema(as = Batch)]
#[serde(untagged)]
pub enum BatchShape<'a> {
    /// Keys and values.
    Values(std::collections::HashMap<String, serde_json::Value>),
    /// Operations.
    Operations(Vec<OperationGiven<'a>>),
}

/// How one operation of a batch ended.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct BatchResult {
    /// The status that the operation would have been answered with alone.
    pub status: u16,
    /// The key, where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The key in base64url, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key64: Option<String>,
    /// Of `get`: the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = serde_json::Value)]
    pub value: Option<Box<RawValue>>,
    /// There where the value is base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// Of `get` and `put`: the key's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Of `get`: seconds that are left of its life, where it has an end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<f64>,
    /// Of `exists`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exists: Option<bool>,
    /// Why it was not done, where it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ProblemShown>)]
    pub problem: Option<serde_json::Value>,
}

/// How a batch ended.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchAnswer {
    /// One for each operation, in their order.
    pub results: Vec<BatchResult>,
}

/// The routes, for the table that stands before them.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(batch))
}

/// Do many operations
///
/// The body is an object of keys and values, or a list of operations. Each has a result of its
/// own, also where others fail; with `atomic=true` all are done or none, and then all keys must
/// be of one slot (one `{tag}`).
#[utoipa::path(
    post, path = "/kv/batch", tag = "keys", operation_id = "batch",
    params(Atomic, Ttl, Retryable),
    request_body(content = BatchShape<'static>, content_type = "application/json"),
    responses((status = 200, body = BatchAnswer, description = "A result for each operation"), BatchProblems)
)]
async fn batch(api: Api, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let query = Query::of(&parts, &["atomic", "ttl"])?;
    let atomic = query.flag("atomic")?;
    let ttl =
        query.parsed::<f64>("ttl", "a number of seconds")?.map(values::ttl_ms).transpose()?.unwrap_or(0);
    let table = address::table_in(address::path_of(&parts))?;
    Media::must_be_json(&parts.headers)?;
    let body = body::read(&parts, body, Api::json_bytes(api.limits().max_batch_bytes)).await?;
    let asked = read_operations(&body, ttl, api.limits().max_batch_operations)?;
    let retry = api.seen().retry(&parts, &body)?;
    let keys: Vec<Bytes> = asked.iter().map(key_of).collect();
    let operations = asked.into_iter().map(|operation| Operation { operation: Some(operation) }).collect();
    let request = BatchRequest { table, operations, atomic, retry };
    let Outcome::Batch(done) = api.run(Asked::Batch(request)).await? else {
        return Err(another_result().into());
    };
    let results =
        keys.iter().zip(done.results).map(|(key, result)| show_result(key, result.result)).collect();
    if !done.applied {
        return Err(nothing_written(results));
    }
    json(StatusCode::OK, &BatchAnswer { results })
}

fn read_operations(body: &[u8], ttl_ms: u64, most: usize) -> Result<Vec<Asked>, Problem> {
    let text = body.trim_ascii_start();
    let asked: Vec<Asked> = if text.starts_with(b"[") {
        let given: Vec<OperationGiven<'_>> = values::read_json(body)?;
        refuse_too_many(given.len(), most)?;
        let numbered = given.into_iter().enumerate();
        numbered
            .map(|(at, one)| one.asked(ttl_ms).map_err(|problem| problem.with("operation", at)))
            .collect::<Result<_, _>>()?
    } else {
        let Pairs(pairs) = values::read_json(body)?;
        refuse_too_many(pairs.len(), most)?;
        let put = |(key, value): (String, &RawValue)| {
            let stored = values::store(value, None)?;
            let (key, value, content) = (key.into(), stored.bytes, stored.content.into());
            Ok::<_, Problem>(Asked::Put(PutRequest { key, value, content, ttl_ms, ..PutRequest::default() }))
        };
        pairs.into_iter().map(put).collect::<Result<_, _>>()?
    };
    Ok(asked)
}

fn refuse_too_many(count: usize, most: usize) -> Result<(), Problem> {
    if count <= most {
        return Ok(());
    }
    let problem = Problem::over_limit(Kind::TooManyOperations, "number of operations", most as u64);
    Err(problem.with("actual", count))
}

impl OperationGiven<'_> {
    fn asked(self, ttl_ms: u64) -> Result<Asked, Problem> {
        let key: Bytes = match (self.key, self.key64) {
            (Some(key), None) => key.into(),
            (None, Some(key)) => BASE64_URL
                .decode(key)
                .map_err(|error| Problem::invalid(format!("key64 is not base64url: {error}")))?
                .into(),
            _ => return Err(Problem::invalid("an operation has either key or key64")),
        };
        let is = match (self.if_version, self.if_absent, self.if_exists) {
            (None, false, false) => None,
            (Some(version), false, false) => Some(Is::Version(version)),
            (None, true, false) => Some(Is::Absent(true)),
            (None, false, true) => Some(Is::Exists(true)),
            _ => {
                return Err(Problem::invalid(
                    "an operation has at most one of ifVersion, ifAbsent and ifExists",
                ));
            }
        };
        let condition = is.map(|is| Condition { is: Some(is) });
        let writes_value = self.value.is_some() || self.encoding.is_some() || self.ttl.is_some();
        let absent = matches!(is, Some(Is::Absent(_)));
        match self.op {
            Verb::Put => {
                let value = self.value.ok_or_else(|| Problem::invalid("a put needs a value"))?;
                let stored = values::store(value, self.encoding)?;
                let (value, content) = (stored.bytes, stored.content.into());
                let ttl_ms = self.ttl.map(values::ttl_ms).transpose()?.unwrap_or(ttl_ms);
                Ok(Asked::Put(PutRequest { key, value, content, ttl_ms, condition, ..PutRequest::default() }))
            }
            _ if writes_value => Err(Problem::invalid("value, encoding and ttl are for put")),
            Verb::Delete if !absent => {
                Ok(Asked::Delete(DeleteRequest { key, condition, ..DeleteRequest::default() }))
            }
            Verb::Delete => Err(Problem::invalid("a key that must not exist cannot be deleted")),
            Verb::Get | Verb::Exists if condition.is_some() => {
                Err(Problem::invalid("only writes have conditions"))
            }
            Verb::Get => Ok(Asked::Get(GetRequest { key, ..GetRequest::default() })),
            Verb::Exists => Ok(Asked::Exists(ExistsRequest { key, ..ExistsRequest::default() })),
        }
    }
}

/// An atomic batch of which a condition did not hold. Its other writes have results that would
/// have been theirs, and must not be taken for what was done.
fn nothing_written(mut results: Vec<BatchResult>) -> Problem {
    for result in &mut results {
        if result.problem.is_none() && result.value.is_none() && result.exists.is_none() {
            let problem =
                Problem::new(Kind::NotApplied, "another operation of the atomic batch could not be done");
            result.status = problem.kind.status().as_u16();
            result.version = None;
            result.problem = Some(problem.to_json());
        }
    }
    let detail = "a condition of the atomic batch does not hold: nothing was written";
    let results = serde_json::to_value(&results).unwrap_or_default();
    Problem::new(Kind::ConditionNotMet, detail).with("results", results)
}

fn key_of(asked: &Asked) -> Bytes {
    match asked {
        Asked::Get(get) => get.key.clone(),
        Asked::Put(put) => put.key.clone(),
        Asked::Delete(delete) => delete.key.clone(),
        Asked::Exists(exists) => exists.key.clone(),
        // A batch of this door holds nothing else.
        _ => Bytes::new(),
    }
}

fn show_result(key: &[u8], result: Option<Outcome>) -> BatchResult {
    let (key, key64) = values::show_key(key);
    let named = BatchResult { status: 200, key, key64, ..BatchResult::default() };
    let failed = |named: BatchResult, problem: Problem| BatchResult {
        status: problem.kind.status().as_u16(),
        problem: Some(problem.to_json()),
        ..named
    };
    match result {
        Some(Outcome::Get(got)) => match got.item {
            None => failed(named, Problem::no_such_key()),
            Some(item) => {
                let shown = values::show(&item, true);
                let (version, ttl) = (Some(shown.version), shown.ttl);
                BatchResult { value: shown.value, encoding: shown.encoding, version, ttl, ..named }
            }
        },
        Some(Outcome::Put(put)) if put.applied => BatchResult { version: Some(put.version), ..named },
        Some(Outcome::Put(put)) => failed(named, Problem::condition_not_met(put.version)),
        Some(Outcome::Delete(delete)) if delete.deleted => named,
        Some(Outcome::Delete(delete)) if delete.version == 0 => failed(named, Problem::no_such_key()),
        Some(Outcome::Delete(delete)) => failed(named, Problem::condition_not_met(delete.version)),
        Some(Outcome::Exists(exists)) => BatchResult { exists: Some(exists.exists), ..named },
        Some(Outcome::Failure(failure)) => failed(named, failure.into()),
        _ => failed(named, another_result().into()),
    }
}

/// What stands in the JSON, also where it is null.
fn there<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The members of an object in their order, none of them twice.
struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading<'a>(std::marker::PhantomData<&'a ()>);

        impl<'de: 'a, 'a> Visitor<'de> for Reading<'a> {
            type Value = Pairs<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of keys and values, or a list of operations")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Pairs<'a>, M::Error> {
                let (mut pairs, mut names) = (Vec::new(), std::collections::HashSet::new());
                while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                    if !names.insert(key.clone()) {
                        return Err(serde::de::Error::custom(format!("the key {key:?} is there twice")));
                    }
                    pairs.push((key, value));
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Reading(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::{ContentKind, PutResponse};

    use super::*;

    fn read(body: &str) -> Result<Vec<Asked>, Kind> {
        read_operations(body.as_bytes(), 0, 3).map_err(|problem| problem.kind)
    }

    #[test]
    fn an_object_is_a_list_of_puts() {
        let asked = read(r#"{"b": {"x":1}, "a": "text", "c": null}"#).unwrap();
        let puts: Vec<_> = asked
            .iter()
            .map(|asked| match asked {
                Asked::Put(put) => (&put.key[..], &put.value[..], put.content()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            puts,
            [
                (&b"b"[..], &br#"{"x":1}"#[..], ContentKind::Json),
                (b"a", b"text", ContentKind::Text),
                (b"c", b"null", ContentKind::Json),
            ]
        );
        assert_eq!(read(r#"{"a":1,"a":2}"#), Err(Kind::InvalidJson));
        assert_eq!(read(r#"{"a":1,"b":2,"c":3,"d":4}"#), Err(Kind::TooManyOperations));
    }

    #[test]
    fn operations_say_what_they_do() {
        let asked = read(
            r#"[{"op":"put","key":"k","value":1,"ttl":1.5,"ifAbsent":true},{"op":"get","key64":"_w"},{"op":"delete","key":"k","ifVersion":7}]"#,
        )
        .unwrap();
        let Asked::Put(put) = &asked[0] else { panic!("{asked:?}") };
        assert_eq!((put.ttl_ms, put.condition.as_ref().unwrap().is), (1_500, Some(Is::Absent(true))));
        assert!(matches!(&asked[1], Asked::Get(get) if get.key[..] == [255]));
        assert!(matches!(&asked[2], Asked::Delete(delete) if delete.condition.is_some()));
        for bad in [
            r#"[{"op":"put","key":"k"}]"#,
            r#"[{"op":"get","key":"k","value":1}]"#,
            r#"[{"op":"get"}]"#,
            r#"[{"op":"get","key":"k","key64":"_w"}]"#,
            r#"[{"op":"get","key":"k","ifExists":true}]"#,
            r#"[{"op":"delete","key":"k","ifAbsent":true}]"#,
            r#"[{"op":"put","key":"k","value":1,"ifAbsent":true,"ifExists":true}]"#,
        ] {
            assert_eq!(read(bad), Err(Kind::InvalidRequest), "{bad}");
        }
        for bad in [r#"[{"op":"jump","key":"k"}]"#, r#"[{"op":"get","key":"k","more":1}]"#, "[1]", "7", ""] {
            assert_eq!(read(bad), Err(Kind::InvalidJson), "{bad}");
        }
    }

    #[test]
    fn a_condition_that_does_not_hold_is_a_result_of_its_own() {
        let refused = show_result(b"k", Some(Outcome::Put(PutResponse { applied: false, version: 4 })));
        assert_eq!(refused.status, 412);
        assert_eq!(refused.problem.unwrap()["currentVersion"], 4);
    }

    #[test]
    fn nothing_of_an_atomic_batch_that_was_not_applied_looks_done() {
        let put = |applied| show_result(b"k", Some(Outcome::Put(PutResponse { applied, version: 4 })));
        let problem = nothing_written(vec![put(true), put(false)]).to_json();
        assert_eq!(problem["status"], 412);
        assert_eq!(problem["results"][0]["problem"]["type"], "/problems/not-applied");
        assert!(problem["results"][0].get("version").is_none(), "{problem}");
        assert_eq!(problem["results"][1]["problem"]["currentVersion"], 4);
    }
}
