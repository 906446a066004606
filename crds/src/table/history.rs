//! How long a table keeps its changes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::byte_quantity::ByteQuantity;
use crate::switch::Switch;
use crate::time_span::TimeSpan;

/// How long a table keeps its changes for those who watch it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.keep == 'Bounded' || (!has(self.time) && !has(self.bytes))",
    "message": "time and bytes go with keep: Bounded",
}]))]
pub struct History {
    /// Default keeps ten minutes and 64Mi in each partition, Bounded what time and bytes say, None nothing: such a table
    /// cannot be watched, and a write costs a little less.
    #[serde(default)]
    pub keep: Keep,
    /// How long changes are kept, from 1s to 30d, while bytes allow it. Left out: 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<TimeSpan>,
    /// How much of them each partition keeps at most, from 1Mi to 64Gi. Left out: 64Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "quantity(self).compareTo(quantity('1Mi')) >= 0 && quantity(self).compareTo(quantity('64Gi')) <= 0",
        "message": "each partition keeps from 1Mi to 64Gi of history",
    }]))]
    pub bytes: Option<ByteQuantity>,
    /// Whether changes also say what was there before; a write then also reads.
    #[serde(default)]
    pub before: Switch,
}

/// Which changes are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Keep {
    /// Those of the last while.
    #[default]
    Default,
    /// Those that time and bytes allow.
    Bounded,
    /// None.
    None,
}
