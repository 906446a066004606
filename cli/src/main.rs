//! `trilith`, the command line: a file per verb in `verbs/`.
//!
//! ```text
//!   arguments ──▶ verbs/… ──▶ client ──▶ the cluster
//!                    │
//!                    ▼
//!               output (text or JSON)      exit (what the status says)
//! ```

use clap::Parser as _;

use crate::arguments::Arguments;

mod arguments;
mod columns;
mod duration;
mod exit;
mod interrupt;
mod item_file;
mod json;
mod output;
mod progress;
mod quantity;
mod sidecar;
mod verbs;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let arguments = Arguments::parse();
    let format = arguments.global.output;
    exit::report(&verbs::run(arguments).await, format).into()
}
