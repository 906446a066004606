//! `trilith table …`

use std::time::Duration;

use clap::{Args, Subcommand};
use client::Error;
use proto::v1::{
    AlterTableRequest, CreateTableRequest, DescribeTableRequest, DropTableRequest, HistorySettings,
    ListTablesRequest, SplitPolicy, TableEntry,
};
use serde_json::{Value, json};

use self::history::History;
use self::indexes::Indexes;
use self::splitting::Splitting;
use self::values::Values;
use super::cluster::partitions::{partition_columns, partition_json};
use crate::arguments::Global;
use crate::columns::Columns;
use crate::duration::{parse_duration, show_ms};
use crate::exit::{Exit, Usage};
use crate::output::Output;

mod history;
pub mod indexes;
mod splitting;
mod values;

/// Creating waits for every partition's leader, which takes longer than a usual call.
const CREATE_AT_LEAST: Duration = Duration::from_secs(30);

#[derive(Debug, Subcommand)]
pub enum TableVerb {
    /// Create a table.
    Create(Create),
    /// List the tables.
    #[command(after_help = "Examples:\n  trilith table list -o json")]
    List,
    /// Show a table and its partitions.
    Describe(Named),
    /// Change a table.
    Alter(Alter),
    /// Drop a table and everything in it.
    Drop(Named),
}

/// A table to create.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trilith table create orders
  trilith table create sessions --partitions 16 --ttl 1h
  trilith table create events --history 1d --history-bytes 1GiB
  trilith table create people --values json --schema person.schema.json
  trilith table create people --index city=$.address.city:string --index mail=$.mail:string,unique
  trilith table create logs --split-at 512MiB --split-up-to 32
  trilith table create scratch --replicas 1 --if-missing")]
pub struct Create {
    /// Its name.
    name: String,
    /// How many partitions it is split into.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    partitions: u32,
    /// How many nodes hold each partition: 1, 3, 5 or 7. Without it, 3 or as many as there
    /// are nodes for.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=7))]
    replicas: Option<u32>,
    /// How many buckets its keys fall into, for good: a power of two. More partitions than
    /// buckets there can never be.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    buckets: Option<u32>,
    /// How long items live that do not say.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    ttl: Option<Duration>,
    #[command(flatten)]
    history: History,
    #[command(flatten)]
    values: Values,
    /// A read gives an item that has an end at least so long.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    touch_on_read: Option<Duration>,
    #[command(flatten)]
    indexes: Indexes,
    #[command(flatten)]
    splitting: Splitting,
    /// Do nothing when there is a table of that name.
    #[arg(long)]
    if_missing: bool,
}

/// The name of a table.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  trilith table describe orders\n  trilith table drop orders")]
pub struct Named {
    /// The table.
    name: String,
}

/// What to change of a table.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trilith table alter sessions --ttl 30m
  trilith table alter sessions --no-ttl    items live until they are deleted
  trilith table alter orders --replicas 5
  trilith table alter people --index age=$.age:number --drop-index city
  trilith table alter orders --partitions 16    they are split while the table is used
  trilith table alter orders --history off    nobody can watch it, and writes cost a little less")]
pub struct Alter {
    /// The table.
    name: String,
    /// How long items live that do not say.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "no_ttl")]
    ttl: Option<Duration>,
    /// Let items live until they are deleted.
    #[arg(long)]
    no_ttl: bool,
    /// How many nodes hold each partition.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=7))]
    replicas: Option<u32>,
    /// Split partitions until there are so many, at most one for each bucket. Nobody waits for
    /// that: `trilith table describe` shows how far it is.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    partitions: Option<u32>,
    #[command(flatten)]
    history: History,
    #[command(flatten)]
    values: Values,
    /// A read gives an item that has an end at least so long.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "no_touch_on_read")]
    touch_on_read: Option<Duration>,
    /// A read leaves an item's end as it is.
    #[arg(long)]
    no_touch_on_read: bool,
    #[command(flatten)]
    indexes: Indexes,
    /// An index that goes.
    #[arg(long, value_name = "NAME")]
    drop_index: Vec<String>,
    #[command(flatten)]
    splitting: Splitting,
    /// Partitions are not split by themselves.
    #[arg(long, conflicts_with_all = ["split-at", "split-at-writes", "split-up-to"])]
    no_split: bool,
}

impl TableVerb {
    /// Does it.
    pub async fn run(self, global: &Global, out: &mut Output) -> anyhow::Result<Exit> {
        let admin = global.connect().await?.admin();
        match self {
            Self::Create(create) => {
                let request = CreateTableRequest {
                    name: create.name.clone(),
                    partitions: create.partitions,
                    replicas: create.replicas.unwrap_or(0),
                    buckets: create.buckets.unwrap_or(0),
                    default_ttl_ms: create.ttl.map_or(0, milliseconds),
                    owner: String::new(),
                    wait: true,
                    history: create.history.over(HistorySettings::default())?,
                    values: create.values.settings()?,
                    touch_on_read_ms: create.touch_on_read.map_or(0, milliseconds),
                    indexes: create.indexes.settings(),
                    split: create.splitting.over(None),
                };
                let patient = admin.with_deadline(global.timeout.max(CREATE_AT_LEAST));
                match patient.create_table(request).await {
                    Ok(answer) => show_table(&answer.table.unwrap_or_default(), out)?,
                    Err(Error::AlreadyExists(_)) if create.if_missing => {
                        let request = DescribeTableRequest { name: create.name };
                        let table = patient.describe_table(request).await?.table;
                        show_table(&table.unwrap_or_default(), out)?;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Self::List => {
                let tables = admin.list_tables(ListTablesRequest {}).await?.tables;
                out.show(
                    || table_columns(&tables).to_string(),
                    || Value::Array(tables.iter().map(table_json).collect()),
                )?;
            }
            Self::Describe(Named { name }) => {
                let answer = admin.describe_table(DescribeTableRequest { name }).await?;
                let nodes = admin.map().await?.nodes;
                let table = answer.table.unwrap_or_default();
                out.show(
                    || {
                        let tables = table_columns(std::slice::from_ref(&table));
                        let partitions = partition_columns(&answer.partitions, &nodes);
                        match answer.indexes.as_slice() {
                            [] => format!("{tables}\n\n{partitions}"),
                            some => format!("{tables}\n\n{}\n\n{partitions}", indexes::columns(some)),
                        }
                    },
                    || {
                        let partitions: Vec<_> = answer.partitions.iter().map(partition_json).collect();
                        let indexes = indexes::as_json(&answer.indexes);
                        json!({"table": table_json(&table), "indexes": indexes, "partitions": partitions})
                    },
                )?;
            }
            Self::Alter(alter) => {
                let default_ttl_ms = if alter.no_ttl { Some(0) } else { alter.ttl.map(milliseconds) };
                let touch_on_read_ms =
                    if alter.no_touch_on_read { Some(0) } else { alter.touch_on_read.map(milliseconds) };
                let values = alter.values.settings()?;
                let indexes = alter.indexes.are_given() || !alter.drop_index.is_empty();
                let shape =
                    default_ttl_ms.is_some() || alter.replicas.is_some() || alter.partitions.is_some();
                let settings = alter.history.is_given() || values.is_some() || touch_on_read_ms.is_some();
                let splitting = alter.splitting.is_given() || alter.no_split;
                if !shape && !settings && !indexes && !splitting {
                    let message = "nothing to change: give --ttl, --no-ttl, --replicas, --partitions, \
                                   --history, --values, --touch-on-read, --index, --drop-index, --split-at or --no-split";
                    return Err(Usage(message.into()).into());
                }
                let known = match alter.history.is_given() || alter.splitting.is_given() {
                    true => {
                        let request = DescribeTableRequest { name: alter.name.clone() };
                        admin.describe_table(request).await?.table.unwrap_or_default()
                    }
                    false => TableEntry::default(),
                };
                let history = known.settings.and_then(|settings| settings.history).unwrap_or_default();
                let history = alter.history.over(history)?;
                let split = match alter.no_split {
                    true => Some(SplitPolicy::default()),
                    false => alter.splitting.over(known.split),
                };
                let request = AlterTableRequest {
                    name: alter.name,
                    default_ttl_ms,
                    replicas: alter.replicas,
                    partitions: alter.partitions,
                    history,
                    values,
                    touch_on_read_ms,
                    drop_indexes: alter.drop_index,
                    add_indexes: alter.indexes.settings(),
                    split,
                };
                show_table(&admin.alter_table(request).await?.table.unwrap_or_default(), out)?;
            }
            Self::Drop(Named { name }) => {
                admin.drop_table(DropTableRequest { name: name.clone() }).await?;
                out.show(|| format!("dropped {name}"), || json!({"dropped": name}))?;
            }
        }
        Ok(Exit::Done)
    }
}

fn show_table(table: &TableEntry, out: &mut Output) -> std::io::Result<()> {
    out.show(|| table_columns(std::slice::from_ref(table)).to_string(), || table_json(table))
}

fn table_columns(tables: &[TableEntry]) -> Columns {
    let mut columns = Columns::new([
        "TABLE",
        "PARTITIONS",
        "REPLICAS",
        "BUCKETS",
        "TTL",
        "HISTORY",
        "VALUES",
        "TOUCH",
        "SPLIT",
        "OWNER",
    ]);
    for table in tables {
        let ttl = if table.default_ttl_ms == 0 { "none".to_owned() } else { show_ms(table.default_ttl_ms) };
        let touch = match table.settings.as_ref().map_or(0, |settings| settings.touch_on_read_ms) {
            0 => "none".to_owned(),
            touch => show_ms(touch),
        };
        columns.row([
            table.name.clone(),
            match table.wanted_partitions {
                0 => table.partitions.to_string(),
                wanted => format!("{} of {wanted}", table.partitions),
            },
            table.replicas.to_string(),
            table.buckets.to_string(),
            ttl,
            history::show(table.settings.as_ref().and_then(|settings| settings.history.as_ref())),
            values::show(table.settings.as_ref().and_then(|settings| settings.values.as_ref())).to_owned(),
            touch,
            splitting::show(table.split.as_ref()),
            table.owner.clone(),
        ]);
    }
    columns
}

fn table_json(table: &TableEntry) -> Value {
    json!({
        "name": table.name,
        "id": table.table,
        "partitions": table.partitions,
        "wanted_partitions": (table.wanted_partitions > 0).then_some(table.wanted_partitions),
        "replicas": table.replicas,
        "buckets": table.buckets,
        "default_ttl_ms": table.default_ttl_ms,
        "history": history::show(table.settings.as_ref().and_then(|settings| settings.history.as_ref())),
        "values": values::show(table.settings.as_ref().and_then(|settings| settings.values.as_ref())),
        "touch_on_read_ms": table.settings.as_ref().map_or(0, |settings| settings.touch_on_read_ms),
        "indexes": table.settings.iter().flat_map(|settings| &settings.indexes).map(indexes::written)
            .collect::<Vec<_>>(),
        "split": splitting::show(table.split.as_ref()),
        "owner": table.owner,
    })
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
