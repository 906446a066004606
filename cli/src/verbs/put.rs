//! `trilith put`

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use client::{Condition, PutOptions};
use serde_json::json;

use super::bytes;
use crate::arguments::Global;
use crate::duration::parse_duration;
use crate::exit::Exit;
use crate::output::{Output, note};

const EXAMPLES: &str = "\
Examples:
  trilith put greeting hello
  trilith put session abc --ttl 30m
  trilith put lock me --if-absent          exit status 3 when somebody has it
  trilith put counter 8 --if-version 41    only if nobody changed it since";

/// Write a key.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Put {
    /// The key.
    key: OsString,
    /// Its value.
    #[arg(allow_negative_numbers = true)]
    value: OsString,
    /// How long it lives, for example 10s, 5m, 1h or 1d.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    ttl: Option<Duration>,
    #[command(flatten)]
    condition: ConditionFlags,
}

/// What must hold; at most one.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct ConditionFlags {
    /// Only if there is no such key.
    #[arg(long = "if-absent")]
    absent: bool,
    /// Only if there is such a key.
    #[arg(long = "if-exists")]
    exists: bool,
    /// Only if the key's version is this one.
    #[arg(long = "if-version", value_name = "N")]
    version: Option<u64>,
}

impl ConditionFlags {
    /// As the client takes it.
    pub fn condition(&self) -> Option<Condition> {
        match self {
            Self { absent: true, .. } => Some(Condition::Absent),
            Self { exists: true, .. } => Some(Condition::Exists),
            Self { version, .. } => version.map(Condition::Version),
        }
    }
}

impl Put {
    /// Writes.
    pub async fn run(self, global: &Global, out: &mut Output) -> anyhow::Result<Exit> {
        let condition = self.condition.condition();
        let options = PutOptions { ttl: self.ttl, condition, ..PutOptions::default() };
        let table = global.open_table().await?;
        let put = table.put(bytes(self.key), bytes(self.value), options).await?;
        if out.is_json() {
            out.json(&json!({"applied": put.applied, "version": put.version}))?;
        } else if put.applied {
            out.line(format!("version {}", put.version))?;
        } else if put.version == 0 {
            note("not written: there is no such key");
        } else {
            note(format_args!("not written: the key's version is {}", put.version));
        }
        Ok(if put.applied { Exit::Done } else { Exit::NotMet })
    }
}
