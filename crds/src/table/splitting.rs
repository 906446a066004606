//! When partitions of a table are split by themselves.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::byte_quantity::ByteQuantity;

/// When partitions of a table are split by themselves. Nothing: never.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.upTo) || has(self.size) || has(self.writesPerSecond)",
    "message": "upTo goes with size or writesPerSecond",
}]))]
pub struct Splitting {
    /// A partition that takes about this much on disk is split, such as 512Mi; from 1Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "quantity(self).compareTo(quantity('1Mi')) >= 0",
        "message": "partitions are split from 1Mi on",
    }]))]
    pub size: Option<ByteQuantity>,
    /// A partition that takes so many writes a second for half a minute is split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 1_000_000_000))]
    pub writes_per_second: Option<i64>,
    /// There are never more partitions than these. Left out: as many as there are buckets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub up_to: Option<i32>,
}
