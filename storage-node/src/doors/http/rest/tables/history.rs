//! How long a table keeps its changes.

use proto::v1::HistorySettings;
use proto::v1::history_settings::Keep;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::doors::http::rest::problem::Problem;
use crate::doors::http::rest::values::{seconds, ttl_ms};
use crate::partition::history::{DEFAULT_RETENTION, retention_of};

/// The longest: 30 days.
const MOST_SECONDS: f64 = 2_592_000.0;

/// How long changes are kept.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = History)]
pub struct HistoryShown {
    /// Seconds; null: none are kept, and the table cannot be watched.
    pub seconds: Option<f64>,
    /// At most so many bytes in each partition.
    pub bytes: Option<u64>,
    /// Changes also say what was there before.
    pub before: bool,
}

/// How long changes are to be kept. Nothing: as a table has it that does not say.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = HistoryWanted)]
pub struct HistoryGiven {
    /// Seconds; 0: none are kept. Ten minutes unless given.
    #[schema(minimum = 0, maximum = 2_592_000)]
    seconds: Option<f64>,
    /// At most so many bytes in each partition; 64 MiB unless given.
    #[schema(minimum = 1_048_576, maximum = 68_719_476_736_u64)]
    bytes: Option<u64>,
    /// Whether changes also say what was there before.
    before: Option<bool>,
}

impl HistoryShown {
    /// Of a table.
    pub fn of(settings: Option<HistorySettings>) -> Self {
        let retention = retention_of(settings.as_ref());
        Self {
            seconds: retention.map(|kept| kept.time.as_secs_f64()),
            bytes: retention.map(|kept| kept.bytes),
            before: settings.is_some_and(|settings| settings.before),
        }
    }
}

impl HistoryGiven {
    /// As the cluster takes it.
    pub fn settings(self) -> Result<HistorySettings, Problem> {
        let before = self.before.unwrap_or(false);
        let (keep, keep_ms, keep_bytes) = match (self.seconds, self.bytes) {
            (None, None) => (Keep::Default, 0, 0),
            (Some(0.0), None) => (Keep::Off, 0, 0),
            (Some(0.0), Some(_)) => {
                return Err(Problem::invalid("a history of 0 seconds has no bytes: leave one of both out"));
            }
            (Some(more), _) if more > MOST_SECONDS => {
                return Err(Problem::invalid("a history is kept for 30 days at most"));
            }
            (time, bytes) => {
                let default = seconds(u64::try_from(DEFAULT_RETENTION.time.as_millis()).unwrap_or(u64::MAX));
                let keep_ms = ttl_ms(time.unwrap_or(default))?;
                (Keep::Bounded, keep_ms, bytes.unwrap_or(DEFAULT_RETENTION.bytes))
            }
        };
        Ok(HistorySettings { keep: keep.into(), keep_ms, keep_bytes, before })
    }
}
