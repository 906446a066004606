//! `trilith scan`

use std::ffi::OsString;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use clap::Args;
use client::ScanOptions;
use serde_json::json;

use super::bytes;
use crate::arguments::Global;
use crate::duration::parse_duration;
use crate::exit::{Exit, Usage};
use crate::json;
use crate::output::{Output, note};

const EXAMPLES: &str = "\
Examples:
  trilith scan                             every key and its value, a tab between
  trilith scan a m                         keys from a up to, but without, m
  trilith scan --prefix user: --keys-only
  trilith scan --limit 100                 says the cursor where it stopped
  trilith scan --limit 100 --cursor C      goes on there
  trilith scan --snapshot 1m               everything as it is at one moment of each partition
  trilith scan --reverse --limit 1         the last key
  trilith scan --prefix user: --filter '$.age >= 18 and exists($.email)' --path '$.name'";

/// Print items in key order.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Scan {
    /// The first key wanted.
    start: Option<OsString>,
    /// The first key no longer wanted.
    end: Option<OsString>,
    /// Only keys that begin with this.
    #[arg(long, value_name = "P")]
    prefix: Option<OsString>,
    /// The most items.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Go on where an earlier scan with the same bounds stopped.
    #[arg(long, value_name = "C")]
    cursor: Option<String>,
    /// From the last key to the first.
    #[arg(long)]
    reverse: bool,
    /// One key a line, without values.
    #[arg(long)]
    keys_only: bool,
    /// Only items whose values are JSON and of which this holds, as in '$.age >= 18'.
    #[arg(long, value_name = "EXPR")]
    filter: Option<String>,
    /// Of values that are JSON only what this path leads to; several make an object.
    #[arg(long = "path", value_name = "PATH", conflicts_with = "keys_only")]
    paths: Vec<String>,
    /// Ask any replica, which may have older items.
    #[arg(long)]
    stale: bool,
    /// Everything as it is at one moment of each partition, which is held for so long.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    snapshot: Option<Duration>,
}

impl Scan {
    /// Scans.
    pub async fn run(self, global: &Global, out: &mut Output) -> anyhow::Result<Exit> {
        let keys_only = self.keys_only;
        let mut scan = global.open_table().await?.scan(self.options()?);
        let mut cursor = Bytes::new();
        while let Some(page) = scan.next_page().await {
            let page = page?;
            for item in &page.items {
                if out.is_json() {
                    out.json(&json::item(item, !keys_only))?;
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
        if !cursor.is_empty() {
            let cursor = URL_SAFE_NO_PAD.encode(&cursor);
            if out.is_json() {
                out.json(&json!({"cursor": cursor}))?;
            } else {
                note(format_args!("there is more: --cursor {cursor}"));
            }
        }
        Ok(Exit::Done)
    }

    fn options(self) -> Result<ScanOptions, Usage> {
        let cursor = match self.cursor {
            Some(text) => URL_SAFE_NO_PAD
                .decode(&text)
                .map_err(|_| Usage(format!("{text:?} is not a cursor: give what an earlier scan printed")))?,
            None => Vec::new(),
        };
        Ok(ScanOptions {
            start: self.start.map(bytes).unwrap_or_default(),
            end: self.end.map(bytes).unwrap_or_default(),
            prefix: self.prefix.map(bytes).unwrap_or_default(),
            limit: self.limit,
            reverse: self.reverse,
            keys_only: self.keys_only,
            cursor: cursor.into(),
            stale: self.stale,
            snapshot: self.snapshot,
            filter: self.filter.unwrap_or_default(),
            paths: self.paths,
        })
    }
}
