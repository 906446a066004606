//! A number of bytes as people write it in Kubernetes.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A number of bytes: a Kubernetes quantity of whole units, such as `10Gi` or `500M`.
///
/// It is a string in the schema and not a number or a string, as quantities mostly are: a rule
/// about something whose length has no bound would cost more than the API server allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteQuantity(pub String);

/// Why a text is not a number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a number of bytes: write a whole number, alone or with Ki, Mi, Gi, Ti, k, M, G or T")]
pub struct BadByteQuantity(String);

impl ByteQuantity {
    /// From its text, which is not checked.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// How many bytes it says.
    pub fn bytes(&self) -> Result<u64, BadByteQuantity> {
        let bad = || BadByteQuantity(self.0.clone());
        let digits = self.0.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = self.0.split_at_checked(digits).ok_or_else(bad)?;
        let factor: u64 = match unit {
            "" => 1,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            "Ti" => 1 << 40,
            "k" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "T" => 1_000_000_000_000,
            _ => return Err(bad()),
        };
        let number: u64 = number.parse().map_err(|_| bad())?;
        number.checked_mul(factor).ok_or_else(bad)
    }

    /// The same for the API server.
    pub fn quantity(&self) -> Quantity {
        Quantity(self.0.clone())
    }
}

impl JsonSchema for ByteQuantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ByteQuantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9]{1,15}(Ki|Mi|Gi|Ti|k|M|G|T)?$",
            "maxLength": 17,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_with_and_without_a_unit() {
        for (text, bytes) in [("4096", 4096), ("10Gi", 10 << 30), ("500M", 500_000_000), ("0", 0)] {
            assert_eq!(ByteQuantity::new(text).bytes(), Ok(bytes), "{text}");
        }
        for text in ["", "Gi", "-1", "1.5Gi", "10GiB", "99999999999Ti", "ä"] {
            assert!(ByteQuantity::new(text).bytes().is_err(), "{text}");
        }
    }
}
