//! The one place where a refused operation becomes an error of the Redis protocol.
//!
//! The first word is the kind, for programs. Those of Redis are used where they fit, so that
//! its clients do the right thing: `TRYAGAIN` says that nothing was done and that it is worth
//! trying again. `UNKNOWN` is our own: the write may have been done, or not.

use proto::v1::error_detail::Detail;
use proto::v1::unsuitable::Why;
use proto::v1::{Failure, OverLimit};
use tonic::Code;

use super::reply::Reply;

/// The error for a failure.
pub fn of(failure: &Failure) -> Reply {
    let kind = match (failure.reason(), Code::from(failure.code)) {
        (Some(Detail::CrossSlot(_)), _) => return cross_slot(),
        (Some(Detail::Unsuitable(unsuitable)), _) => return Reply::err(unsuitable_text(unsuitable.why())),
        (Some(Detail::OutcomeUnknown(_)), _) => "UNKNOWN",
        (_, Code::ResourceExhausted) => "MISCONF",
        (Some(Detail::RetryAfter(_) | Detail::NotLeader(_) | Detail::WrongEpoch(_)), _)
        | (None, Code::Unavailable | Code::DeadlineExceeded) => "TRYAGAIN",
        _ => "ERR",
    };
    Reply::Error(format!("{kind} {}", failure.message))
}

/// A command reaches over slots although it is one step.
pub fn cross_slot() -> Reply {
    Reply::Error("CROSSSLOT Keys in request don't hash to the same slot".to_owned())
}

/// Whether a read was refused only because others of its batch had read so much.
pub fn is_for_want_of_room(failure: &Failure) -> bool {
    match failure.reason() {
        Some(Detail::OverLimit(OverLimit { what, .. })) => what.starts_with("values read"),
        Some(Detail::RetryAfter(_)) => Code::from(failure.code) == Code::ResourceExhausted,
        _ => false,
    }
}

fn unsuitable_text(why: Why) -> &'static str {
    match why {
        Why::NotAnInteger => "value is not an integer or out of range",
        Why::NotANumber => "value is not a valid float",
        Why::Overflow => "increment or decrement would overflow",
        Why::NotFinite => "increment would produce NaN or Infinity",
        Why::TooLong => "string exceeds maximum allowed size (proto-max-bulk-len)",
        Why::NotAsDemanded => "the table takes only values that are as it demands",
        _ => "the value is not of a kind that this can be done to",
    }
}
