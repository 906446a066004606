//! What a table demands of the values that are written to it, checked where they are applied.
//!
//! Settings come through the group's log, so all replicas judge a write by the same demand.

use proto::v1::unsuitable::Why;
use proto::v1::{
    Failure, Operation, TableSettings, TxnRequest, Unsuitable, error_detail::Detail, modify_request::Change,
    operation::Operation as Kind, value_settings,
};
use tonic::Code;

use crate::json::schema::Schema;
use crate::json::text::Json;

/// What values must be.
#[derive(Debug, Default)]
pub enum Demand {
    /// Anything.
    #[default]
    Any,
    /// JSON.
    Json,
    /// JSON that meets a schema.
    Schema(Box<Schema>),
    /// Something that this program cannot judge, so nothing is written.
    Unknown(String),
}

impl Demand {
    /// What those settings demand.
    pub fn of(settings: Option<&TableSettings>) -> Self {
        let Some(values) = settings.and_then(|settings| settings.values.as_ref()) else { return Self::Any };
        match value_settings::Demand::try_from(values.demand) {
            Ok(value_settings::Demand::Any) => Self::Any,
            Ok(value_settings::Demand::JsonOnly) if values.schema.is_empty() => Self::Json,
            Ok(value_settings::Demand::JsonOnly) => match Schema::parse(&values.schema) {
                Ok(schema) => Self::Schema(Box::new(schema)),
                Err(why) => Self::Unknown(why),
            },
            Err(_) => Self::Unknown(format!("demand {} is none that this program knows", values.demand)),
        }
    }

    /// Refuses a value that is not what is demanded.
    pub fn check(&self, value: &[u8]) -> Result<(), Failure> {
        let judged = match self {
            Self::Any => return Ok(()),
            Self::Unknown(why) => Err(format!("what it demands cannot be judged: {why}")),
            Self::Json => Json::parse(value).map(drop).map_err(|why| format!("the value is not JSON: {why}")),
            Self::Schema(schema) => match Json::parse(value) {
                Ok(json) => schema.check(json),
                Err(why) => Err(format!("the value is not JSON: {why}")),
            },
        };
        judged.map_err(|why| {
            let message = format!("the table takes only values that are as it demands: {why}");
            let detail = Detail::Unsuitable(Unsuitable { why: Why::NotAsDemanded.into() });
            Failure::new(Code::FailedPrecondition, message, Some(detail))
        })
    }

    /// Refuses a transaction as a whole for the values that it names, whichever list would be done:
    /// what a client wants written together must not be written in part.
    pub fn check_txn(&self, txn: &TxnRequest) -> Result<(), Failure> {
        if matches!(self, Self::Any) {
            return Ok(());
        }
        txn.then.iter().chain(&txn.otherwise).try_for_each(|operation| self.check_named(operation))
    }

    fn check_named(&self, operation: &Operation) -> Result<(), Failure> {
        match &operation.operation {
            Some(Kind::Put(put)) => self.check(&put.value),
            Some(Kind::Modify(modify)) => match &modify.change {
                Some(Change::Replace(replace)) => self.check(&replace.value),
                _ => Ok(()),
            },
            Some(Kind::Txn(inner)) => self.check_txn(inner),
            _ => Ok(()),
        }
    }
}
