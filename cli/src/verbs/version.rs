//! `trilith version`

use clap::Args;
use serde_json::json;

use crate::exit::Exit;
use crate::output::Output;

const VERSION: &str = env!("CARGO_PKG_VERSION");

const EXAMPLES: &str = "\
Examples:
  trilith version
  trilith ping                             says the versions of the nodes";

/// Print the version of this program.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Version {}

impl Version {
    /// Prints it.
    pub fn run(out: &mut Output) -> anyhow::Result<Exit> {
        out.show(|| format!("trilith {VERSION}"), || json!({"version": VERSION}))?;
        Ok(Exit::Done)
    }
}
