//! On or off, in words that YAML does not take for a boolean.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether something is there. A word and not a boolean, so that a third way can be added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Switch {
    /// It is there.
    Enabled,
    /// It is not there.
    #[default]
    Disabled,
}

impl Switch {
    /// Whether it is there.
    pub fn is_on(self) -> bool {
        self == Self::Enabled
    }

    pub(crate) fn on() -> Self {
        Self::Enabled
    }
}
