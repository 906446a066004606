//! What a table demands of values, as arguments and as a column.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use proto::v1::ValueSettings;
use proto::v1::value_settings::Demand;

use crate::exit::Usage;

/// What the table demands of values.
#[derive(Debug, Clone, Args)]
pub struct Values {
    /// What values must be. Those that are there already stay as they are.
    #[arg(long, value_enum)]
    values: Option<Kind>,
    /// A file with the JSON Schema that values must meet, with --values json.
    #[arg(long, value_name = "FILE", requires = "values")]
    schema: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Anything.
    Any,
    /// JSON.
    Json,
}

impl Values {
    /// As the cluster takes it; none: nothing was said.
    pub fn settings(&self) -> Result<Option<ValueSettings>, Usage> {
        let schema = match &self.schema {
            Some(file) => std::fs::read(file)
                .map_err(|error| Usage(format!("the schema {} cannot be read: {error}", file.display())))?,
            None => Vec::new(),
        };
        match self.values {
            None => Ok(None),
            Some(Kind::Any) if self.schema.is_some() => {
                Err(Usage("--schema goes with --values json".to_owned()))
            }
            Some(kind) => {
                let demand = if kind == Kind::Json { Demand::JsonOnly } else { Demand::Any };
                Ok(Some(ValueSettings { demand: demand.into(), schema: schema.into() }))
            }
        }
    }
}

/// In a column.
pub fn show(values: Option<&ValueSettings>) -> &'static str {
    match values {
        Some(values) if values.demand() == Demand::JsonOnly && values.schema.is_empty() => "json",
        Some(values) if values.demand() == Demand::JsonOnly => "json, schema",
        _ => "any",
    }
}
