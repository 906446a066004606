//! When partitions of a table are split by themselves.

use proto::v1::SplitPolicy;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// When partitions are split by themselves.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Splitting {
    /// Those that take about so many bytes on disk.
    #[schema(minimum = 1_048_576)]
    pub bytes: Option<u64>,
    /// Those that take so many writes a second for half a minute.
    #[schema(minimum = 100)]
    pub writes_per_second: Option<u64>,
    /// There are never more partitions than these; unless given, as many as there are buckets.
    #[schema(minimum = 1, maximum = 1024)]
    pub up_to: Option<u32>,
}

impl From<SplitPolicy> for Splitting {
    fn from(policy: SplitPolicy) -> Self {
        Self {
            bytes: (policy.bytes > 0).then_some(policy.bytes),
            writes_per_second: (policy.writes_per_second > 0).then_some(policy.writes_per_second),
            up_to: (policy.most > 0).then_some(policy.most),
        }
    }
}

impl From<Splitting> for SplitPolicy {
    fn from(given: Splitting) -> Self {
        Self {
            bytes: given.bytes.unwrap_or(0),
            writes_per_second: given.writes_per_second.unwrap_or(0),
            most: given.up_to.unwrap_or(0),
        }
    }
}
