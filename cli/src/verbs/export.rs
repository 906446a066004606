//! `trilith export`
//!
//! ```text
//!   scan (pages ahead of need) ──▶ ItemWriter ──▶ target: standard output, or FILE.partial
//!                                                    │ whole: renamed to FILE
//!                                                    └ on the way: FILE.progress
//! ```

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;
use clap::Args;
use client::{Error, Page, Scan, ScanOptions};
use serde_json::json;
use tokio::sync::mpsc;

use self::copy::Copy;
use self::target::{Stopped, Target};
use super::bytes;
use crate::arguments::Global;
use crate::exit::{Exit, Usage};
use crate::interrupt::Interrupt;
use crate::item_file::FileFormat;
use crate::output::{Output, note};
use crate::progress::{Progress, ShowProgress};
use crate::quantity::{show_bytes, show_count};

mod copy;
mod target;

/// Pages that are read ahead, of 4 MiB each unless the nodes say otherwise.
const PAGES_AHEAD: usize = 4;

const EXAMPLES: &str = "\
Items come in key order, and `trilith import` reads them again: with their content kind, and what is then
left of their lifetime. Each page of the export is a linearizable read of every partition at the time that it
is read; writes that come meanwhile may be in it or not.

The file is written as FILE.partial and renamed when it is whole; a FILE that is there already is replaced
then. When it is interrupted, FILE.progress says how far it is, and --resume goes on there.

Examples:
  trilith export orders.jsonl -t orders                  a JSON object a line
  trilith export users.csv --prefix user:
  trilith export all.trilith                             binary: smallest, with checksums
  trilith export all.trilith --resume                    after Ctrl-C, or when the cluster was away
  trilith export - --format jsonl | gzip > all.jsonl.gz";

/// Write a table into a file.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Export {
    /// The file; - for standard output.
    file: PathBuf,
    /// How to write it; else its name says so: .jsonl, .ndjson, .csv or .trilith.
    #[arg(long, value_enum)]
    format: Option<FileFormat>,
    /// Only keys that begin with this.
    #[arg(long, value_name = "P")]
    prefix: Option<OsString>,
    /// Go on with an export that was interrupted.
    #[arg(long)]
    resume: bool,
    /// When to show how far it is.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = ShowProgress::Auto)]
    progress: ShowProgress,
}

impl Export {
    /// Exports.
    pub async fn run(self, global: &Global, out: &mut Output) -> anyhow::Result<Exit> {
        let format = self.format.or_else(|| FileFormat::of_name(&self.file)).ok_or_else(|| {
            Usage(
                "the name does not say how to write the file: give --format jsonl, csv or binary".to_owned(),
            )
        })?;
        let to_output = self.file == Path::new("-");
        if to_output && self.resume {
            return Err(Usage("only a file can be gone on with".to_owned()).into());
        }
        let prefix = self.prefix.map(bytes).unwrap_or_default();
        let from_beginning =
            Stopped { table: global.table.clone(), format, prefix, items: 0, cursor: Bytes::new() };
        let (target, at) = match (to_output, self.resume) {
            (true, _) => (Target::standard_output(), from_beginning),
            (false, false) => (Target::create(&self.file)?, from_beginning),
            (false, true) => Target::reopen(&self.file, &from_beginning)?,
        };
        let table = global.connect_and_follow().await?.table(&global.table);
        let interrupt = Interrupt::listen()?;
        let options =
            ScanOptions { prefix: at.prefix.clone(), cursor: at.cursor.clone(), ..ScanOptions::default() };
        let pages = read_ahead(table.scan(options));
        let (began, before) = (Instant::now(), at.items);
        let mut copy = Copy::begin(target, at, Progress::new(self.progress));
        let whole = match copy.run(pages, interrupt).await {
            Ok(whole) => whole,
            Err(error) => {
                copy.advise();
                return Err(error);
            }
        };
        if !whole {
            note("interrupted");
            copy.advise();
            return Ok(Exit::Failed);
        }
        let (done, seconds) = (copy.done(), began.elapsed().as_secs_f64());
        let rate = show_count(((done.items - before) as f64 / seconds.max(0.001)) as u64);
        let (items, size) = (show_count(done.items), show_bytes(done.bytes));
        note(format_args!("{items} exported, {size} in {seconds:.1} s ({rate}/s)"));
        if out.is_json() && !to_output {
            out.json(&json!({"exported": done.items, "bytes": done.bytes, "seconds": seconds}))?;
        }
        Ok(Exit::Done)
    }
}

/// Reads pages before they are asked for. It ends with the scan, or when nobody takes them.
fn read_ahead(mut scan: Scan) -> mpsc::Receiver<Result<Page, Error>> {
    let (to, pages) = mpsc::channel(PAGES_AHEAD);
    tokio::spawn(async move {
        while let Some(page) = scan.next_page().await {
            if to.send(page).await.is_err() {
                return;
            }
        }
    });
    pages
}
