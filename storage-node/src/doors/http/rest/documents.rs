//! What the OpenAPI document says beside each operation: its parameters, and every problem that
//! it can be answered with.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde::Serialize;
use utoipa::openapi::{ContentBuilder, HeaderBuilder, ObjectBuilder, Ref, RefOr, ResponseBuilder, Type};
use utoipa::{IntoParams, IntoResponses, ToSchema};

use super::problem::{Kind, MEDIA_TYPE, Problem};

/// What went wrong (RFC 9457). Further members say more, depending on the type.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
#[serde(rename_all = "camelCase")]
pub struct ProblemShown {
    /// Names the type of problem, for programs; it never changes.
    #[schema(format = "uri-reference")]
    pub r#type: String,
    /// The same for each occurrence of the type.
    pub title: String,
    /// The status of the answer.
    pub status: u16,
    /// What went wrong this time, and what to do about it.
    pub detail: String,
    /// Of `condition-not-met`: the key's version; null: there is no such key.
    pub current_version: Option<u64>,
    /// Of an atomic batch: what became of each operation.
    #[schema(no_recursion)]
    pub results: Option<Vec<super::batch::BatchResult>>,
    /// Of what is over a limit: the limit.
    pub limit: Option<u64>,
    /// Of what is over a limit: what was given.
    pub actual: Option<u64>,
    /// Where trying again is worth while: after how long.
    pub retry_after_milliseconds: Option<u64>,
}

/// The key in the path.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct KeyInPath {
    /// The key, percent-decoded to bytes: `%2F` is a slash, `%FF` a byte that is no text.
    #[param(min_length = 1)]
    pub key: String,
}

/// The key in the query.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct KeyInQuery {
    /// The key, percent-decoded to bytes. Either this or `key64` is given.
    #[param(min_length = 1)]
    pub key: Option<String>,
    /// The key in base64url.
    #[param(min_length = 2, pattern = "^[A-Za-z0-9_-]+={0,2}$")]
    pub key64: Option<String>,
}

/// Parts of values.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PathsInQuery {
    /// Of a value that is JSON only what this path leads to, such as `$.address.city` (RFC 9535, without descents,
    /// filters, slices and unions). May be given several times: the value is then an object with a member for each path
    /// that leads somewhere.
    #[param(max_items = 64)]
    pub path: Option<Vec<String>>,
}

/// Where a read may be answered.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Stale {
    /// Any replica may answer, possibly with an older value.
    pub stale: Option<bool>,
}

/// Whether pages are of one moment.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Snapshot {
    /// All pages are of one moment of each partition, which is held for so many seconds from the first page on.
    #[param(minimum = 0.001, maximum = 300)]
    pub snapshot: Option<f64>,
}

/// The time to live of what has none of its own.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Ttl {
    /// Seconds after which the keys are gone, down to a millisecond, where the body does not say.
    #[param(minimum = 0.001, maximum = 3_153_600_000.0_f64)]
    pub ttl: Option<f64>,
}

/// Whether a batch is one.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Atomic {
    /// All or nothing, on keys of one slot.
    pub atomic: Option<bool>,
}

/// Conditional requests.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
pub struct ConditionHeaders {
    /// `*`: there must be such a key. `"7"`: its version must be 7.
    #[param(rename = "If-Match", example = "\"7\"")]
    pub if_match: Option<String>,
    /// `*` on a write: there must be no such key. `"7"` on a read: 304 where that is its version.
    #[param(rename = "If-None-Match", example = "*")]
    pub if_none_match: Option<String>,
}

/// Requests that may come again.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
pub struct Retryable {
    /// Names this request for ten minutes: sent again under the same key it is done once and
    /// answered as before.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    pub idempotency_key: Option<String>,
}

/// What can go wrong with anything that is asked of a cluster.
const ALWAYS: &[Kind] = &[
    Kind::InvalidRequest,
    Kind::NoSuchTable,
    Kind::NotFound,
    Kind::MethodNotAllowed,
    Kind::KeyTooLong,
    Kind::OverLimit,
    Kind::NoRoomNow,
    Kind::Internal,
    Kind::NotSupported,
    Kind::Unavailable,
    Kind::NotLeader,
    Kind::NoCluster,
    Kind::MapChanged,
    Kind::Overloaded,
    Kind::TooLate,
];
/// And with a request that has a body.
const OF_BODIES: &[Kind] = &[
    Kind::InvalidJson,
    Kind::JsonTooDeep,
    Kind::BodyTooSlow,
    Kind::BodyTooLarge,
    Kind::UnsupportedMediaType,
    Kind::OriginNotAllowed,
];

macro_rules! problems {
    ($(#[$comment:meta])* $name:ident, $($kinds:expr),+) => {
        $(#[$comment])*
        pub struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
                described(&[$($kinds),+])
            }
        }
    };
}

problems!(
    /// Of a read of one key.
    ReadProblems, ALWAYS, &[Kind::NoSuchKey, Kind::ConditionNotMet, Kind::ValueNotJson]
);
problems!(
    /// Of a scan.
    RangeProblems, ALWAYS, &[Kind::BadCursor, Kind::SnapshotExpired]
);
problems!(
    /// Of a look at indexes or by one.
    QueryProblems, ALWAYS, &[Kind::BadCursor, Kind::SnapshotExpired, Kind::NoSuchIndex, Kind::IndexNotReady]
);
problems!(
    /// Of a change of an index.
    IndexChangeProblems, ALWAYS, OF_BODIES, &[Kind::NoSuchIndex, Kind::NotPossibleNow, Kind::OutcomeUnknown]
);
problems!(
    /// Of a watch.
    WatchProblems, ALWAYS, &[Kind::BadToken, Kind::Compacted, Kind::NotPossibleNow]
);
problems!(
    /// Of a write of one key.
    WriteProblems, ALWAYS, OF_BODIES,
    &[
        Kind::NoSuchKey, Kind::ConditionNotMet, Kind::ValueTooLarge, Kind::NotAsDemanded, Kind::IdempotencyKeyReused,
        Kind::NotUnique, Kind::OutcomeUnknown
    ]
);
problems!(
    /// Of a patch of one key.
    PatchProblems, ALWAYS, OF_BODIES,
    &[
        Kind::NoSuchKey, Kind::ConditionNotMet, Kind::ValueTooLarge, Kind::ValueNotJson, Kind::PatchFailed,
        Kind::NotAsDemanded, Kind::IdempotencyKeyReused, Kind::NotUnique, Kind::OutcomeUnknown
    ]
);
problems!(
    /// Of a batch.
    BatchProblems, ALWAYS, OF_BODIES,
    &[
        Kind::CrossSlot, Kind::ConditionNotMet, Kind::ValueTooLarge, Kind::TooManyOperations, Kind::BatchTooLarge,
        Kind::NotAsDemanded, Kind::IdempotencyKeyReused, Kind::NotUnique, Kind::OutcomeUnknown
    ]
);
problems!(
    /// Of a look at the cluster.
    LookProblems, ALWAYS
);
problems!(
    /// Of a change of the cluster.
    ChangeProblems, ALWAYS, OF_BODIES, &[Kind::AlreadyExists, Kind::NotPossibleNow, Kind::OutcomeUnknown]
);

/// A response for each status, which lists the types that come with it.
fn described(kinds: &[&[Kind]]) -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
    let mut by_status: BTreeMap<u16, Vec<Kind>> = BTreeMap::new();
    for kind in kinds.iter().copied().flatten() {
        by_status.entry(kind.status().as_u16()).or_default().push(*kind);
    }
    let response = |(status, kinds): (u16, Vec<Kind>)| {
        let mut description = String::new();
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem")));
        for kind in kinds {
            let line = if description.is_empty() { "" } else { "\n" };
            let _ = write!(description, "{line}`{}`: {}", kind.type_uri(), kind.title());
        }
        let mut response =
            ResponseBuilder::new().description(description).content(MEDIA_TYPE, content.build());
        if matches!(status, 429 | 503) {
            let seconds = ObjectBuilder::new().schema_type(Type::Integer).build();
            let header = HeaderBuilder::new().schema(seconds).description(Some("Seconds")).build();
            response = response.header("Retry-After", header);
        }
        (status.to_string(), RefOr::T(response.build()))
    };
    by_status.into_iter().map(response).collect()
}

/// The pages that the types of problems lead to.
pub fn routes() -> Router {
    Router::new().route("/problems", get(all_problems)).route("/problems/{name}", get(one_problem))
}

async fn all_problems() -> String {
    let mut text = String::new();
    for kind in Kind::ALL {
        let _ = writeln!(text, "{}  {:<34} {}", kind.status().as_u16(), kind.type_uri(), kind.title());
    }
    text
}

async fn one_problem(Path(name): Path<String>) -> Response {
    match Kind::ALL.into_iter().find(|kind| kind.name() == name) {
        Some(kind) => format!("{} ({}): {}.\n", kind.type_uri(), kind.status(), kind.title()).into_response(),
        None => Problem::new(Kind::NotFound, "there is no such type of problem: /problems shows all")
            .into_response(),
    }
}
