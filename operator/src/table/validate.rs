//! From a `KVTable` as people write it to a table that cannot be wrong.

use std::time::Duration;

use crds::cluster::Retention;
use crds::table::{Demand, History, Keep, Splitting, Values};
use crds::{ByteQuantity, KVTable, TimeSpan};
use placement::TableName;
use proto::v1::{HistorySettings, SplitPolicy, ValueSettings, history_settings, value_settings};

use super::indexes::Index;

/// How long a bounded history is kept that does not say.
const HISTORY_TIME: Duration = Duration::from_secs(600);
/// How much of it in each partition.
const HISTORY_BYTES: u64 = 64 << 20;

/// A table that cannot be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidTable {
    /// What clients call it.
    pub name: TableName,
    /// The UID of the resource, which owns the table.
    pub owner: String,
    /// How many partitions.
    pub partitions: u32,
    /// How many buckets: a power of two, and no fewer than partitions.
    pub buckets: u32,
    /// How many copies: 1, 3, 5 or 7.
    pub replicas: u32,
    /// Milliseconds after which items go that say nothing else; 0: never.
    pub default_ttl_ms: u64,
    /// How long it keeps its changes.
    pub history: HistorySettings,
    /// What it demands of values.
    pub values: ValueSettings,
    /// How many milliseconds a read gives an item; 0: none.
    pub touch_on_read_ms: u64,
    /// What its items can be found by besides their keys.
    pub indexes: Vec<Index>,
    /// When its partitions are split by themselves.
    pub split: SplitPolicy,
    /// Whether the table goes with its resource.
    pub drops: bool,
}

/// All that is wrong with a spec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct Invalid(pub Vec<String>);

/// What is known of a table whose resource goes, also where its spec is wrong: a resource can always be
/// deleted. None: there can be no table of that name.
pub fn leaving(table: &KVTable) -> Option<ValidTable> {
    Some(ValidTable {
        name: TableName::parse(table.table_name()).ok()?,
        owner: table.metadata.uid.clone().unwrap_or_default(),
        partitions: 0,
        buckets: 0,
        replicas: 0,
        default_ttl_ms: 0,
        history: HistorySettings::default(),
        values: ValueSettings::default(),
        touch_on_read_ms: 0,
        indexes: Vec::new(),
        split: SplitPolicy::default(),
        drops: table.spec.deletion_policy == Retention::Delete,
    })
}

/// Checks a table. The API server checks most of it already; a definition may be older than the
/// operator, though.
pub fn validate(table: &KVTable) -> Result<ValidTable, Invalid> {
    let spec = &table.spec;
    let mut problems = Vec::new();
    let name = TableName::parse(table.table_name());
    if let Err(error) = &name {
        problems.push(format!("spec.name: {error}"));
    }
    let count = |value: i32| u32::try_from(value).unwrap_or_default();
    let (partitions, buckets, replicas) = (count(spec.partitions), count(spec.buckets), count(spec.replicas));
    if !buckets.is_power_of_two() || buckets > 1024 {
        problems.push(format!("spec.buckets: {} is no power of two up to 1024", spec.buckets));
    }
    if partitions == 0 || partitions > buckets {
        problems
            .push(format!("spec.partitions: {} is not between 1 and the {buckets} buckets", spec.partitions));
    }
    if !matches!(replicas, 1 | 3 | 5 | 7) {
        problems.push(format!("spec.replicas: {} is none of 1, 3, 5 and 7", spec.replicas));
    }
    let ttl = spec
        .default_ttl
        .as_ref()
        .map_or(Ok(0), |ttl| ttl.duration().map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)));
    if let Err(error) = &ttl {
        problems.push(format!("spec.defaultTtl: {error}"));
    }
    let history = history(&spec.history, &mut problems);
    let values = values(&spec.values, &mut problems);
    let touch = spec.touch_on_read.as_ref().map_or(Ok(Duration::ZERO), TimeSpan::duration);
    if let Err(error) = &touch {
        problems.push(format!("spec.touchOnRead: {error}"));
    }
    let touch_on_read_ms = touch.map_or(0, |touch| u64::try_from(touch.as_millis()).unwrap_or(u64::MAX));
    let split = split(&spec.split, &mut problems);
    let owner = table.metadata.uid.clone().unwrap_or_default();
    match (name, ttl, problems.is_empty()) {
        (Ok(name), Ok(default_ttl_ms), true) => Ok(ValidTable {
            name,
            owner,
            partitions,
            buckets,
            replicas,
            default_ttl_ms,
            history,
            values,
            touch_on_read_ms,
            indexes: spec.indexes.iter().map(Index::from).collect(),
            split,
            drops: spec.deletion_policy == Retention::Delete,
        }),
        _ => Err(Invalid(problems)),
    }
}

/// What the cluster is told of splitting. How many partitions there may be at most, the cluster says.
fn split(declared: &Splitting, problems: &mut Vec<String>) -> SplitPolicy {
    let bytes = declared.size.as_ref().map_or(Ok(0), ByteQuantity::bytes);
    if let Err(error) = &bytes {
        problems.push(format!("spec.split.size: {error}"));
    }
    SplitPolicy {
        bytes: bytes.unwrap_or(0),
        writes_per_second: declared.writes_per_second.map_or(0, |writes| u64::try_from(writes).unwrap_or(0)),
        most: declared.up_to.map_or(0, |most| u32::try_from(most).unwrap_or(0)),
    }
}

/// What the cluster is told of its demand. Whether a schema is one, the cluster says.
fn values(declared: &Values, problems: &mut Vec<String>) -> ValueSettings {
    let demand = match declared.demand {
        Demand::Any => value_settings::Demand::Any,
        Demand::Json => value_settings::Demand::JsonOnly,
    };
    if declared.demand == Demand::Any && declared.schema.is_some() {
        problems.push("spec.values.schema: a schema goes with demand: Json".to_owned());
    }
    let schema = declared.schema.clone().unwrap_or_default();
    ValueSettings { demand: demand.into(), schema: schema.into() }
}

/// What the cluster is told of it.
fn history(declared: &History, problems: &mut Vec<String>) -> HistorySettings {
    let before = declared.before.is_on();
    let keep = match declared.keep {
        Keep::Default => history_settings::Keep::Default,
        Keep::None => history_settings::Keep::Off,
        Keep::Bounded => history_settings::Keep::Bounded,
    };
    if declared.keep != Keep::Bounded {
        return HistorySettings { keep: keep.into(), before, ..HistorySettings::default() };
    }
    let time = declared.time.as_ref().map_or(Ok(HISTORY_TIME), TimeSpan::duration);
    let keep_ms = time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let bytes = declared.bytes.as_ref().map_or(Ok(HISTORY_BYTES), ByteQuantity::bytes);
    if let Err(error) = &keep_ms {
        problems.push(format!("spec.history.time: {error}"));
    }
    if let Err(error) = &bytes {
        problems.push(format!("spec.history.bytes: {error}"));
    }
    let (keep_ms, keep_bytes) = (keep_ms.unwrap_or_default(), bytes.unwrap_or_default());
    HistorySettings { keep: keep.into(), keep_ms, keep_bytes, before }
}
