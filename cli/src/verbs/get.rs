//! `trilith get`

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use client::GetOptions;
use serde_json::json;

use super::bytes;
use crate::arguments::Global;
use crate::duration::parse_duration;
use crate::exit::Exit;
use crate::json;
use crate::output::{Output, note};

const EXAMPLES: &str = "\
Examples:
  trilith get greeting
  trilith get greeting -o json             with version and time to live
  trilith get greeting --stale             from any replica, possibly older
  trilith get user:7 --path '$.address.city'
  trilith get session --touch 30m          and let it live 30 minutes from now on";

/// Print the value of a key and a newline.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Get {
    /// The key.
    key: OsString,
    /// Ask any replica, which may have an older value.
    #[arg(long)]
    stale: bool,
    /// Of a value that is JSON only what this path leads to; several make an object.
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<String>,
    /// Give an item that has an end at least so long to live.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "stale")]
    touch: Option<Duration>,
}

impl Get {
    /// Reads.
    pub async fn run(self, global: &Global, out: &mut Output) -> anyhow::Result<Exit> {
        let table = global.open_table().await?;
        let key = bytes(self.key);
        let by_path = !self.paths.is_empty();
        let options = GetOptions { stale: self.stale, paths: self.paths, touch: self.touch };
        match table.get_with(key, options).await? {
            Some(item) if by_path && item.value.is_empty() => {
                if out.is_json() {
                    out.json(&json!({"found": false, "version": item.version}))?;
                } else {
                    note("the path leads nowhere in the value");
                }
                return Ok(Exit::NotMet);
            }
            Some(item) if out.is_json() => out.json(&json::item(&item, true))?,
            Some(item) => out.line(&item.value)?,
            None => {
                if out.is_json() {
                    out.json(&json!({"found": false}))?;
                } else {
                    note("not found");
                }
                return Ok(Exit::NotMet);
            }
        }
        Ok(Exit::Done)
    }
}
