//! Typed errors on the wire.
//!
//! A unary call that fails answers with a gRPC status whose details hold a
//! `google.rpc.Status` with one `trilith.v1.ErrorDetail` in an `Any`, which is how gRPC
//! tools expect them; in a stream the same thing travels as a [`Failure`].

use prost::Message;
use tonic::{Code, Status};

use crate::v1::{ErrorDetail, Failure, error_detail::Detail};

const TYPE_URL: &str = "type.googleapis.com/trilith.v1.ErrorDetail";

/// `google.rpc.Status`, of which only these three fields exist.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

impl Failure {
    /// A failure with a typed reason.
    pub fn new(code: Code, message: impl Into<String>, detail: Option<Detail>) -> Self {
        Self {
            code: code as i32,
            message: message.into(),
            detail: detail.map(|detail| ErrorDetail { detail: Some(detail) }),
        }
    }

    /// The typed reason, where there is one.
    pub fn reason(&self) -> Option<&Detail> {
        self.detail.as_ref()?.detail.as_ref()
    }

    /// The same as a gRPC status.
    pub fn into_status(self) -> Status {
        let code = Code::from(self.code);
        let Some(detail) = self.detail else {
            return Status::new(code, self.message);
        };
        let any = Any { type_url: TYPE_URL.to_owned(), value: detail.encode_to_vec() };
        let wire = RpcStatus { code: self.code, message: self.message.clone(), details: vec![any] };
        Status::with_details(code, self.message, wire.encode_to_vec().into())
    }

    /// What a status says, with its typed reason where it carries one.
    pub fn from_status(status: &Status) -> Self {
        let detail = RpcStatus::decode(status.details())
            .ok()
            .and_then(|wire| wire.details.into_iter().find(|any| any.type_url == TYPE_URL))
            .and_then(|any| ErrorDetail::decode(any.value.as_slice()).ok());
        Self { code: status.code() as i32, message: status.message().to_owned(), detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::RetryAfter;

    #[test]
    fn a_typed_reason_survives_the_status() {
        let failure = Failure::new(
            Code::Unavailable,
            "too many writes are waiting",
            Some(Detail::RetryAfter(RetryAfter { milliseconds: 40 })),
        );
        let status = failure.clone().into_status();
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(Failure::from_status(&status), failure);
    }

    #[test]
    fn a_plain_status_has_no_reason() {
        let failure = Failure::from_status(&Status::internal("no"));
        assert_eq!(failure.message, "no");
        assert!(failure.reason().is_none());
    }
}
