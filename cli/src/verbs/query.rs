//! `trilith query`

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use clap::Args;
use client::{QueryOptions, Wanted};
use proto::v1::QueryPlan;
use serde_json::{Map, Value, json};

use super::table::indexes::written;
use crate::arguments::Global;
use crate::duration::parse_duration;
use crate::exit::{Exit, Usage};
use crate::json;
use crate::output::{Output, note};

const EXAMPLES: &str = "\
Examples:
  trilith query city                          every item that is in the index, by its value
  trilith query city --equals Bern
  trilith query city --in Bern,Genf
  trilith query city --prefix B --keys-only
  trilith query age --from 18 --to 65         from 18 up to, but without, 65
  trilith query age --reverse --limit 10      the ten greatest
  trilith query city --missing                items without a city
  trilith query city --equals Bern --count
  trilith query city --equals Bern --explain

Values are written as the index's type: a string as it is, a number, true or false, or a point in time
such as 2026-01-31T12:00:00Z.";

/// Print items by what an index says of them, in its order.
#[expect(clippy::struct_excessive_bools, reason = "each is an argument of its own")]
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Query {
    /// The index.
    index: String,
    /// Items with this value.
    #[arg(long, value_name = "V", group = "wanted", allow_hyphen_values = true)]
    equals: Option<String>,
    /// Items with one of these values; a comma between, or given again.
    #[arg(
        long = "in",
        value_name = "V",
        group = "wanted",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    among: Option<Vec<String>>,
    /// Items whose value begins so; of an index of strings.
    #[arg(long, value_name = "P", group = "wanted")]
    prefix: Option<String>,
    /// Items without a value.
    #[arg(long, group = "wanted")]
    missing: bool,
    /// The first value wanted.
    #[arg(long, value_name = "A", conflicts_with = "wanted", allow_hyphen_values = true)]
    from: Option<String>,
    /// The first value no longer wanted.
    #[arg(long, value_name = "B", conflicts_with = "wanted", allow_hyphen_values = true)]
    to: Option<String>,
    /// From the greatest value to the least.
    #[arg(long)]
    reverse: bool,
    /// The most items.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "count")]
    limit: Option<u64>,
    /// Go on where an earlier query for the same stopped.
    #[arg(long, value_name = "C", conflicts_with = "count")]
    cursor: Option<String>,
    /// One key a line, without values: only the index is read.
    #[arg(long, conflicts_with = "count")]
    keys_only: bool,
    /// How many items there are, and nothing else.
    #[arg(long)]
    count: bool,
    /// Ask any replica, which may have older items.
    #[arg(long)]
    stale: bool,
    /// Everything as it is at one moment of each partition, which is held for so long.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    snapshot: Option<Duration>,
    /// Say how it was done instead of printing items.
    #[arg(long)]
    explain: bool,
}

impl Query {
    /// Queries.
    pub async fn run(self, global: &Global, out: &mut Output) -> anyhow::Result<Exit> {
        let (keys_only, explain, index) = (self.keys_only, self.explain, self.index.clone());
        let (table, count) = (global.open_table().await?, self.count);
        let options = self.options()?;
        if count {
            let (count, plan) = table.query_count(&index, &options).await?;
            match plan.filter(|_| explain) {
                Some(plan) => show_plan(&plan, out)?,
                None => out.show(|| count.to_string(), || json!({"count": count}))?,
            }
            return Ok(Exit::Done);
        }
        let mut query = table.query(&index, &options);
        let (mut cursor, mut whole) = (Bytes::new(), QueryPlan::default());
        while let Some(page) = query.next_page().await {
            let page = page?;
            if let Some(plan) = query.plan().filter(|_| explain) {
                whole = together(&whole, plan);
            }
            for item in page.items.iter().filter(|_| !explain) {
                if out.is_json() {
                    let mut shown = json::item(item, !keys_only);
                    if let Some(object) = shown.as_object_mut().filter(|_| keys_only) {
                        object.remove("version");
                    }
                    out.json(&shown)?;
                } else if keys_only {
                    out.line(&item.key)?;
                } else {
                    out.raw(&item.key)?;
                    out.raw(b"\t")?;
                    out.line(&item.value)?;
                }
            }
            out.flush()?;
            cursor = page.cursor;
        }
        if explain {
            show_plan(&whole, out)?;
        } else if !cursor.is_empty() {
            let cursor = URL_SAFE_NO_PAD.encode(&cursor);
            if out.is_json() {
                out.json(&json!({"cursor": cursor}))?;
            } else {
                note(format_args!("there is more: --cursor {cursor}"));
            }
        }
        Ok(Exit::Done)
    }

    fn options(self) -> Result<QueryOptions, Usage> {
        let cursor = match self.cursor {
            Some(text) => URL_SAFE_NO_PAD.decode(&text).map_err(|_| {
                Usage(format!("{text:?} is not a cursor: give what an earlier query printed"))
            })?,
            None => Vec::new(),
        };
        let wanted = match (self.equals, self.among, self.prefix) {
            (Some(value), ..) => Wanted::Equals(value),
            (_, Some(values), _) => Wanted::In(values),
            (_, _, Some(prefix)) => Wanted::Prefix(prefix),
            _ if self.missing => Wanted::Missing,
            _ if self.from.is_some() || self.to.is_some() => Wanted::Range(self.from, self.to),
            _ => Wanted::All,
        };
        Ok(QueryOptions {
            wanted,
            reverse: self.reverse,
            limit: self.limit,
            keys_only: self.keys_only,
            cursor: cursor.into(),
            stale: self.stale,
            snapshot: self.snapshot,
            explain: self.explain,
        })
    }
}

/// What several pages came to.
fn together(sum: &QueryPlan, page: &QueryPlan) -> QueryPlan {
    QueryPlan {
        asked: sum.asked + page.asked,
        entries: sum.entries + page.entries,
        items: sum.items + page.items,
        answered: sum.answered + page.answered,
        ..page.clone()
    }
}

fn show_plan(plan: &QueryPlan, out: &mut Output) -> std::io::Result<()> {
    let index = plan.index.clone().unwrap_or_default();
    let text = || {
        let mut lines = vec![format!("index       {}", written(&index))];
        lines.extend(plan.runs.iter().map(|run| format!("values      {run}")));
        lines.push(format!("partitions  {}, asked {} times", plan.partitions, plan.asked));
        lines.push(format!("looked at   {} entries of the index, {} items", plan.entries, plan.items));
        lines.push(format!("answered    {} items", plan.answered));
        lines.join("\n")
    };
    let value = || {
        let mut object = Map::new();
        object.insert("index".to_owned(), json!(written(&index)));
        object.insert("values".to_owned(), json!(plan.runs));
        object.insert("partitions".to_owned(), json!(plan.partitions));
        object.insert("asked".to_owned(), json!(plan.asked));
        object.insert("entries".to_owned(), json!(plan.entries));
        object.insert("items".to_owned(), json!(plan.items));
        object.insert("answered".to_owned(), json!(plan.answered));
        Value::Object(object)
    };
    out.show(text, value)
}
