//! `trilith patch`

use std::ffi::OsString;

use clap::Args;
use client::Patch as Change;
use serde_json::json;

use super::bytes;
use super::put::ConditionFlags;
use crate::arguments::Global;
use crate::exit::Exit;
use crate::output::{Output, note};

const EXAMPLES: &str = "\
Examples:
  trilith patch user:7 '{\"address\":{\"city\":\"Bern\"},\"fax\":null}'       a merge patch: sets the city, removes fax
  trilith patch user:7 --json-patch '[{\"op\":\"add\",\"path\":\"/tags/-\",\"value\":\"new\"}]'
  trilith patch user:7 '{\"seen\":true}' --if-version 41                only if nobody changed it since";

/// Change parts of a value that is JSON, in one step with looking at it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Patch {
    /// The key.
    key: OsString,
    /// The patch: a JSON Merge Patch (RFC 7396), to which no key is an empty object.
    #[arg(value_name = "PATCH")]
    changes: OsString,
    /// The patch is a JSON Patch (RFC 6902), a list of operations.
    #[arg(long = "json-patch")]
    by_operations: bool,
    #[command(flatten)]
    condition: ConditionFlags,
}

impl Patch {
    /// Patches.
    pub async fn run(self, global: &Global, out: &mut Output) -> anyhow::Result<Exit> {
        let patch = bytes(self.changes);
        let change = if self.by_operations { Change::Json(patch) } else { Change::Merge(patch) };
        let table = global.open_table().await?;
        let done = table.patch(bytes(self.key), change, self.condition.condition()).await?;
        if out.is_json() {
            out.json(&json!({"applied": done.applied, "version": done.version}))?;
        } else if done.applied {
            out.line(format!("version {}", done.version))?;
        } else if done.version == 0 {
            note("not patched: there is no such key");
        } else {
            note(format_args!("not patched: the key's version is {}", done.version));
        }
        Ok(if done.applied { Exit::Done } else { Exit::NotMet })
    }
}
