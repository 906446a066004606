//! What is answered: a line, or `OK|n` and n lines.

use proto::v1::{Failure, error_detail::Detail};
use tonic::Code as GrpcCode;

use super::line::escape;

/// What an `ERROR` line says to programs. The words never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The line is no command, or the command makes no sense.
    BadRequest,
    /// A byte that no text holds; the connection is closed.
    BadBytes,
    /// The line, a key, a value or the number of pairs is over a limit.
    TooLarge,
    /// What a `RANGE` covers is more than one answer holds.
    RangeTooLarge,
    /// There is no table `default`.
    NoTable,
    /// The node belongs to no cluster.
    NoCluster,
    /// The node's connections are too many, or hold too much.
    Busy,
    /// Nothing was done, and it may be tried again: nobody leads just now, too much is under way,
    /// or the disk is nearly full, which the message says.
    TryAgain,
    /// A read had no answer in time.
    TimedOut,
    /// It may have been written, or may yet be, or not.
    OutcomeUnknown,
    /// Some pairs of a batch are written and some are not.
    PartlyDone,
    /// Something does not work as it should.
    Internal,
}

impl Code {
    /// The word on the line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::BadRequest => "BAD_REQUEST",
            Self::BadBytes => "BAD_BYTES",
            Self::TooLarge => "TOO_LARGE",
            Self::RangeTooLarge => "RANGE_TOO_LARGE",
            Self::NoTable => "NO_TABLE",
            Self::NoCluster => "NO_CLUSTER",
            Self::Busy => "BUSY",
            Self::TryAgain => "TRY_AGAIN",
            Self::TimedOut => "TIMED_OUT",
            Self::OutcomeUnknown => "OUTCOME_UNKNOWN",
            Self::PartlyDone => "PARTLY_DONE",
            Self::Internal => "INTERNAL",
        }
    }

    /// The one place where a failure of an operation becomes a code of this protocol.
    pub fn of(failure: &Failure) -> Self {
        match (failure.reason(), GrpcCode::from(failure.code)) {
            (Some(Detail::OutcomeUnknown(_)), _) | (None, GrpcCode::Unknown) => Self::OutcomeUnknown,
            (Some(Detail::OverLimit(_)), _) => Self::TooLarge,
            (Some(Detail::UnknownTable(_)), _) => Self::NoTable,
            (Some(Detail::RetryAfter(_) | Detail::NotLeader(_) | Detail::WrongEpoch(_)), _)
            | (_, GrpcCode::Unavailable | GrpcCode::Aborted | GrpcCode::ResourceExhausted) => Self::TryAgain,
            (_, GrpcCode::FailedPrecondition) => Self::NoCluster,
            (_, GrpcCode::InvalidArgument) => Self::BadRequest,
            (_, GrpcCode::DeadlineExceeded) => Self::TimedOut,
            _ => Self::Internal,
        }
    }
}

/// `OK`
pub const OK: &[u8] = b"OK\n";
/// `PONG`
pub const PONG: &[u8] = b"PONG\n";
/// `NOT_FOUND`
pub const NOT_FOUND: &[u8] = b"NOT_FOUND\n";
/// For the one connection too many.
pub const TOO_MANY_CONNECTIONS: &[u8] =
    b"ERROR|BUSY|this node has as many connections as it may have: try another, or again later\n";

/// `OK|field|field…`
pub fn found<const N: usize>(fields: [&[u8]; N]) -> Vec<u8> {
    let room = fields.iter().map(|field| field.len() + 1).sum::<usize>();
    let mut answer = Vec::with_capacity(room + 3);
    answer.extend_from_slice(b"OK");
    for field in fields {
        answer.push(b'|');
        escape(field, &mut answer);
    }
    answer.push(b'\n');
    answer
}

/// `field|field…`, one of the lines after `OK|n`.
pub fn put_line<const N: usize>(out: &mut Vec<u8>, fields: [&[u8]; N]) {
    for (at, field) in fields.into_iter().enumerate() {
        if at > 0 {
            out.push(b'|');
        }
        escape(field, out);
    }
    out.push(b'\n');
}

/// `OK|n`, before n lines.
pub fn count(lines: usize) -> Vec<u8> {
    format!("OK|{lines}\n").into_bytes()
}

/// `ERROR|code|message`
pub fn error(code: Code, message: &str) -> Vec<u8> {
    let mut answer = format!("ERROR|{}|", code.word()).into_bytes();
    escape(message.as_bytes(), &mut answer);
    answer.push(b'\n');
    answer
}

/// The same for an operation that failed.
pub fn failed(failure: &Failure) -> Vec<u8> {
    error(Code::of(failure), &failure.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::{failure, operations::too_late};

    #[test]
    fn failures_have_stable_codes() {
        for (failure, word) in [
            (failure::invalid("x"), "BAD_REQUEST"),
            (failure::over_limit("x", 1, 2), "TOO_LARGE"),
            (failure::unknown_table("default"), "NO_TABLE"),
            (failure::retry_after("x", 20), "TRY_AGAIN"),
            (failure::too_much_waits(), "TRY_AGAIN"),
            (failure::disk_nearly_full(5), "TRY_AGAIN"),
            (failure::outcome_unknown("x"), "OUTCOME_UNKNOWN"),
            (failure::not_leader(placement::PartitionId(1), None, String::new()), "TRY_AGAIN"),
            (failure::no_leader_in_time(placement::PartitionId(1)), "TRY_AGAIN"),
            (Failure::new(GrpcCode::FailedPrecondition, "no cluster", None), "NO_CLUSTER"),
            (too_late(), "TIMED_OUT"),
            (failure::internal("x"), "INTERNAL"),
        ] {
            assert_eq!(Code::of(&failure).word(), word, "{failure:?}");
        }
    }

    #[test]
    fn answers_are_one_line_whatever_they_hold() {
        assert_eq!(found([b"a|b\nc\\"]), b"OK|a\\|b\\nc\\\\\n");
        assert_eq!(error(Code::BadRequest, "write GET|key"), b"ERROR|BAD_REQUEST|write GET\\|key\n");
        let mut lines = count(2);
        put_line(&mut lines, [b"k", b"\0"]);
        put_line(&mut lines, [b"", b"\xff"]);
        assert_eq!(lines, b"OK|2\nk|\\x00\n|\xff\n");
    }
}
