//! What a table demands of the values that are written to it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a table demands of values. Those that are there when it changes stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.schema) || self.demand == 'Json'",
    "message": "a schema goes with demand: Json",
}]))]
pub struct Values {
    /// Any, or Json: values that are not JSON are refused.
    #[serde(default)]
    pub demand: Demand,
    /// With Json: a JSON Schema (draft 2020-12 where it does not say), written as JSON, that values must meet. It may
    /// refer to places in itself, but not in a circle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 65536))]
    pub schema: Option<String>,
}

/// Which values are taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Demand {
    /// All.
    #[default]
    Any,
    /// Those that are JSON.
    Json,
}
