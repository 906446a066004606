//! What items of a table can be found by besides their key.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::switch::Switch;

/// An index over the table's items that are JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.path == oldSelf.path && self.type == oldSelf.type && self.unique == oldSelf.unique && self.sparse == oldSelf.sparse",
    "message": "an index never changes: declare another under another name, and take this one out once that is ready",
}]))]
pub struct Index {
    /// What queries call it.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9_-]*$"), length(min = 1, max = 64))]
    pub name: String,
    /// Where its values are in an item, such as $.address.city, or $.tags[*] for each of an array's.
    #[schemars(regex(pattern = r"^\$"), length(min = 1, max = 1024))]
    pub path: String,
    /// What its values are: String, Number, Bool or Timestamp (a string as RFC 3339 writes it). Others are not in it.
    #[serde(rename = "type")]
    pub kind: IndexType,
    /// Whether no two keys of one {tag} may have the same value.
    #[serde(default)]
    pub unique: Switch,
    /// Whether items without a value are left out.
    #[serde(default)]
    pub sparse: Switch,
}

/// What an index's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IndexType {
    /// Text, by its bytes.
    String,
    /// Numbers.
    Number,
    /// True and false.
    Bool,
    /// Points in time, to the millisecond.
    Timestamp,
}
