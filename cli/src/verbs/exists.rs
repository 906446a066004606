//! `trilith exists`

use std::ffi::OsString;

use clap::Args;
use serde_json::json;

use super::bytes;
use crate::arguments::Global;
use crate::exit::Exit;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  trilith exists greeting && echo there";

/// Print whether there is such a key; the exit status says it too.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Exists {
    /// The key.
    key: OsString,
}

impl Exists {
    /// Asks.
    pub async fn run(self, global: &Global, out: &mut Output) -> anyhow::Result<Exit> {
        let exists = global.open_table().await?.exists(bytes(self.key)).await?;
        out.show(|| exists.to_string(), || json!({"exists": exists}))?;
        Ok(if exists { Exit::Done } else { Exit::NotMet })
    }
}
