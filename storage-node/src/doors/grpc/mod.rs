//! The gRPC doors: for applications and people on one port, for the other nodes on another.

use std::time::Duration;

use proto::v1::Failure;
use tonic::metadata::MetadataMap;

use crate::router::Context;
use crate::router::context::Door;

pub mod admin;
pub mod kv;
pub mod peer;
pub mod pipeline;
pub mod watch;

pub use admin::AdminDoor;
pub use kv::KvDoor;
pub use peer::PeerDoor;

/// The largest message that a door takes or gives: a full batch, with room to spare.
pub const MESSAGE_BYTES: usize = 20 << 20;
/// For callers who do not say how long they wait.
const PATIENCE: Duration = Duration::from_secs(10);
/// For an operation on a stream, which carries no deadline of its own. Answers come in order, so
/// one that finds no leader holds up those behind it; and a client that waits for three seconds,
/// as ours do, must hear that it was not done before it gives the whole stream up.
const STREAM_PATIENCE: Duration = Duration::from_secs(2);

/// Until when the caller waits, less a little for the answer's way back.
pub(super) fn context_of(metadata: &MetadataMap) -> Context {
    let asked = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse_timeout);
    Context::within(Door::Grpc, asked.map_or(PATIENCE, |asked| asked.mul_f64(0.95)))
}

/// `grpc-timeout`: at most eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// The one place where an error of an operation becomes a gRPC status.
pub(super) fn status(failure: Failure) -> tonic::Status {
    failure.into_status()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read_in_every_unit() {
        for (text, wanted) in [("3S", 3_000), ("250m", 250), ("2M", 120_000), ("5000u", 5), ("9000000n", 9)] {
            assert_eq!(parse_timeout(text), Some(Duration::from_millis(wanted)), "{text}");
        }
        for bad in ["", "S", "3", "3x", "-3S", "é"] {
            assert_eq!(parse_timeout(bad), None, "{bad}");
        }
    }
}
