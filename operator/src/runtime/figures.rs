//! Figures that always move, such as bytes, are told now and then only: each telling is a write.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// How long they are left as they are, in seconds.
const KEPT_FOR: i64 = 60;

/// In how many seconds figures may be told again that were told then; 0: they may now.
pub fn due_in(told: Option<&Time>, now: Timestamp) -> u64 {
    let left = told.map_or(0, |told| KEPT_FOR - (now.as_second() - told.0.as_second()));
    u64::try_from(left).unwrap_or(0)
}
