//! `trilith get`

use std::ffi::OsString;

use clap::Args;
use serde_json::json;

use super::bytes;
use crate::arguments::Global;
use crate::exit::Exit;
use crate::json;
use crate::output::{Output, note};

const EXAMPLES: &str = "\
Examples:
  trilith get greeting
  trilith get greeting -o json             with version and time to live
  trilith get greeting --stale             from any replica, possibly older";

/// Print the value of a key and a newline.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Get {
    /// The key.
    key: OsString,
    /// Ask any replica, which may have an older value.
    #[arg(long)]
    stale: bool,
}

impl Get {
    /// Reads.
    pub async fn run(self, global: &Global, out: &mut Output) -> anyhow::Result<Exit> {
        let table = global.open_table().await?;
        let key = bytes(self.key);
        let item = if self.stale { table.get_stale(key).await? } else { table.get(key).await? };
        match item {
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
