//! What a table demands of values.

use proto::v1::ValueSettings;
use proto::v1::value_settings::Demand;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// What values must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Values {
    /// Anything.
    Any,
    /// JSON.
    Json,
}

/// What a table demands.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Demand)]
pub struct DemandShown {
    /// What values must be.
    pub values: Values,
    /// The JSON Schema that they must meet; null: none.
    #[schema(value_type = Option<serde_json::Value>)]
    pub schema: Option<Box<RawValue>>,
}

/// What a table is to demand from now on. Values that are there already stay as they are.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DemandWanted)]
pub struct DemandGiven {
    /// What values must be; JSON where a schema is given, unless it says otherwise.
    values: Option<Values>,
    /// The JSON Schema (draft 2020-12 where it does not say) that they must meet. It may refer to places in itself, but
    /// not in a circle.
    #[schema(value_type = Option<serde_json::Value>)]
    schema: Option<Box<RawValue>>,
}

impl DemandShown {
    /// Of a table.
    pub fn of(settings: Option<&ValueSettings>) -> Self {
        let settings = settings.cloned().unwrap_or_default();
        let values = match settings.demand() {
            Demand::Any => Values::Any,
            Demand::JsonOnly => Values::Json,
        };
        let schema = std::str::from_utf8(&settings.schema).ok();
        let schema = schema.and_then(|schema| RawValue::from_string(schema.to_owned()).ok());
        Self { values, schema }
    }
}

impl DemandGiven {
    /// As the cluster takes it.
    pub fn settings(self) -> ValueSettings {
        let demand = match (self.values, &self.schema) {
            (Some(Values::Json), _) | (None, Some(_)) => Demand::JsonOnly,
            (Some(Values::Any) | None, _) => Demand::Any,
        };
        let schema = self.schema.map(|schema| schema.get().to_owned()).unwrap_or_default();
        ValueSettings { demand: demand.into(), schema: schema.into() }
    }
}
