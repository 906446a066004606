//! The one place where what went wrong becomes an answer of HTTP: `application/problem+json`
//! (RFC 9457) with a type that programs can rely on.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use proto::v1::{Failure, error_detail::Detail, unsuitable::Why};
use serde_json::{Map, Value, json};
use tonic::Code;

use crate::router::failure;

pub use kind::Kind;

mod kind;

/// What the media type of a problem is.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What went wrong, as it is answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Which of the known ways.
    pub kind: Kind,
    detail: String,
    members: Map<String, Value>,
    retry_after_ms: Option<u64>,
}

impl Problem {
    /// Of that kind, with a sentence about this occurrence.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), members: Map::new(), retry_after_ms: None }
    }

    /// The request makes no sense.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Kind::InvalidRequest, detail)
    }

    /// There is no such key.
    pub fn no_such_key() -> Self {
        Self::new(Kind::NoSuchKey, "there is no such key in this table")
    }

    /// A condition did not hold, and nothing was done; the version is the key's own.
    pub fn condition_not_met(version: u64) -> Self {
        let detail = match version {
            0 => "the condition does not hold: there is no such key".to_owned(),
            version => format!("the condition does not hold: the version of the key is {version}"),
        };
        let current = if version == 0 { Value::Null } else { version.into() };
        Self::new(Kind::ConditionNotMet, detail).with("currentVersion", current)
    }

    /// The node belongs to no cluster, so it has no data.
    pub fn no_cluster(failure: Failure) -> Self {
        Self { retry_after_ms: Some(1_000), ..Self::new(Kind::NoCluster, failure.message) }
    }

    /// Something is larger than it may be.
    pub fn over_limit(kind: Kind, what: &str, limit: u64) -> Self {
        Self::new(kind, format!("the {what} is over the limit of {limit}")).with("limit", limit)
    }

    /// Has another member beside those of the RFC.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Says when it is worth another try.
    #[must_use]
    pub fn after(mut self, milliseconds: u64) -> Self {
        self.retry_after_ms = Some(milliseconds);
        self
    }

    /// As the object that is answered.
    pub fn to_json(&self) -> Value {
        let mut object = self.members.clone();
        object.insert("type".to_owned(), self.kind.type_uri().into());
        object.insert("title".to_owned(), self.kind.title().into());
        object.insert("status".to_owned(), self.kind.status().as_u16().into());
        object.insert("detail".to_owned(), self.detail.clone().into());
        if let Some(milliseconds) = self.retry_after_ms {
            object.insert("retryAfterMilliseconds".to_owned(), milliseconds.into());
        }
        Value::Object(object)
    }
}

impl From<Failure> for Problem {
    fn from(failed: Failure) -> Self {
        let code = Code::from(failed.code);
        let crowded = failed == failure::too_much_waits();
        let plain = |kind| Self::new(kind, failed.message.clone());
        match failed.reason() {
            Some(Detail::OverLimit(over)) => {
                let problem = plain(kind_of_limit(&over.what)).with("what", over.what.clone());
                problem.with("limit", over.limit).with("actual", over.actual)
            }
            Some(Detail::RetryAfter(later)) => {
                let kind = match code {
                    _ if crowded => Kind::NoRoomNow,
                    Code::ResourceExhausted => Kind::NoRoomNow,
                    _ => Kind::Unavailable,
                };
                plain(kind).after(later.milliseconds)
            }
            Some(Detail::NotLeader(other)) => {
                let leader = match other.leader_address.as_str() {
                    "" => Value::Null,
                    address => json!(address),
                };
                plain(Kind::NotLeader)
                    .with("partition", other.partition)
                    .with("leaderAddress", leader)
                    .after(100)
            }
            Some(Detail::WrongEpoch(_)) => plain(Kind::MapChanged).after(100),
            Some(Detail::OutcomeUnknown(unknown)) => {
                plain(Kind::OutcomeUnknown).with("why", unknown.why.clone())
            }
            Some(Detail::CrossSlot(_)) => plain(Kind::CrossSlot),
            Some(Detail::UnknownTable(unknown)) => {
                plain(Kind::NoSuchTable).with("table", unknown.table.clone())
            }
            Some(Detail::SnapshotExpired(_)) => plain(Kind::SnapshotExpired),
            Some(Detail::BadCursor(bad)) => plain(Kind::BadCursor).with("why", bad.why.clone()),
            Some(Detail::BadToken(bad)) => plain(Kind::BadToken).with("why", bad.why.clone()),
            Some(Detail::Compacted(gone)) => {
                plain(Kind::Compacted).with("partition", gone.partition).with("oldest", gone.oldest)
            }
            Some(Detail::AlreadyExists(exists)) => {
                plain(Kind::AlreadyExists).with("what", exists.what.clone())
            }
            Some(Detail::UniqueClash(clash)) => {
                let key = String::from_utf8_lossy(&clash.key).into_owned();
                plain(Kind::NotUnique).with("index", clash.index.clone()).with("key", key)
            }
            Some(Detail::IndexNotReady(index)) => plain(Kind::IndexNotReady)
                .with("index", index.index.clone())
                .with("percent", index.percent)
                .with("failed", !index.failed.is_empty()),
            Some(Detail::UnknownIndex(index)) => plain(Kind::NoSuchIndex).with("index", index.index.clone()),
            Some(Detail::Unsuitable(unsuitable)) => plain(kind_of_why(unsuitable.why())),
            Some(Detail::WrongCluster(_)) => plain(Kind::NotPossibleNow),
            None => plain(kind_of_code(code)),
        }
    }
}

fn kind_of_why(why: Why) -> Kind {
    match why {
        Why::NotJson => Kind::ValueNotJson,
        Why::NoSuchKey => Kind::NoSuchKey,
        Why::NoSuchPath | Why::TestFailed | Why::TooDeep => Kind::PatchFailed,
        Why::TooLong => Kind::ValueTooLarge,
        Why::TooMuchWork => Kind::OverLimit,
        Why::NotAsDemanded => Kind::NotAsDemanded,
        // No route of this door asks for changes that ask for numbers.
        Why::Unspecified | Why::NotAnInteger | Why::NotANumber | Why::Overflow | Why::NotFinite => {
            Kind::NotPossibleNow
        }
    }
}

fn kind_of_limit(what: &str) -> Kind {
    match what {
        "length of the key in bytes" => Kind::KeyTooLong,
        "length of the value in bytes" => Kind::ValueTooLarge,
        "number of operations" => Kind::TooManyOperations,
        "size of the batch in bytes" => Kind::BatchTooLarge,
        _ => Kind::OverLimit,
    }
}

fn kind_of_code(code: Code) -> Kind {
    match code {
        Code::InvalidArgument | Code::OutOfRange => Kind::InvalidRequest,
        Code::NotFound => Kind::NotFound,
        Code::AlreadyExists => Kind::AlreadyExists,
        Code::FailedPrecondition | Code::Aborted => Kind::NotPossibleNow,
        Code::ResourceExhausted => Kind::NoRoomNow,
        Code::Unavailable | Code::Cancelled => Kind::Unavailable,
        Code::DeadlineExceeded => Kind::TooLate,
        Code::Unimplemented => Kind::NotSupported,
        // Unknown without a typed reason is a program at fault: what is in doubt says so.
        _ => Kind::Internal,
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.kind.status(), self.to_json().to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        // What is answered in a moment of trouble must not be kept for later.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(milliseconds) = self.retry_after_ms {
            headers.insert(header::RETRY_AFTER, milliseconds.div_ceil(1_000).max(1).into());
        }
        if self.kind.status() == StatusCode::REQUEST_TIMEOUT {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(failure: Failure) -> Kind {
        Problem::from(failure).kind
    }

    #[test]
    fn each_failure_has_a_type_of_its_own() {
        assert_eq!(kind(failure::over_limit("length of the key in bytes", 8, 9)), Kind::KeyTooLong);
        assert_eq!(kind(failure::over_limit("length of the value in bytes", 8, 9)), Kind::ValueTooLarge);
        assert_eq!(kind(failure::over_limit("number of operations", 8, 9)), Kind::TooManyOperations);
        assert_eq!(kind(failure::over_limit("size of the batch in bytes", 8, 9)), Kind::BatchTooLarge);
        assert_eq!(kind(failure::unknown_table("t")), Kind::NoSuchTable);
        assert_eq!(kind(failure::cross_slot()), Kind::CrossSlot);
        assert_eq!(kind(failure::too_much_waits()), Kind::NoRoomNow);
        assert_eq!(kind(failure::disk_nearly_full(5)), Kind::NoRoomNow);
        assert_eq!(kind(failure::no_leader_in_time(placement::PartitionId(3))), Kind::Unavailable);
        assert_eq!(kind(failure::bad_cursor("it is old")), Kind::BadCursor);
        assert_eq!(kind(failure::internal("no")), Kind::Internal);
    }

    #[test]
    fn an_unknown_outcome_is_never_called_failed() {
        let problem = Problem::from(failure::outcome_unknown("the leader went away"));
        assert_eq!(problem.kind, Kind::OutcomeUnknown);
        let text = problem.to_json().to_string();
        assert!(text.contains("/problems/outcome-unknown") && !text.contains("fail"), "{text}");
    }

    #[test]
    fn typed_details_are_members() {
        let problem = Problem::from(failure::over_limit("length of the key in bytes", 8, 9)).to_json();
        assert_eq!(
            (&problem["limit"], &problem["actual"], &problem["status"]),
            (&8.into(), &9.into(), &413.into())
        );
        let response = Problem::from(failure::too_much_waits()).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }
}
