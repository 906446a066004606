//! `trilith delete`

use std::ffi::OsString;

use clap::Args;
use client::Condition;
use serde_json::json;

use super::bytes;
use crate::arguments::Global;
use crate::exit::Exit;
use crate::output::{Output, note};

const EXAMPLES: &str = "\
Examples:
  trilith delete greeting                  exit status 3 when there is no such key
  trilith delete lock --if-version 17";

/// Delete a key.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Delete {
    /// The key.
    key: OsString,
    /// Only if the key's version is this one.
    #[arg(long, value_name = "N")]
    if_version: Option<u64>,
}

impl Delete {
    /// Deletes.
    pub async fn run(self, global: &Global, out: &mut Output) -> anyhow::Result<Exit> {
        let table = global.open_table().await?;
        let answer = table.delete(bytes(self.key), self.if_version.map(Condition::Version)).await?;
        if out.is_json() {
            out.json(&json!({"deleted": answer.deleted, "version": answer.version}))?;
        } else if answer.deleted {
            out.line("deleted")?;
        } else if self.if_version.is_some() && answer.version > 0 {
            note(format_args!("not deleted: the key's version is {}", answer.version));
        } else {
            note("not found");
        }
        Ok(if answer.deleted { Exit::Done } else { Exit::NotMet })
    }
}
