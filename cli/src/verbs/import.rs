//! `trilith import`
//!
//! ```text
//!   file ──▶ feed (a thread) ──▶ lanes, a run of slots each ──▶ the client's batches
//!                │                        │
//!                ▼                        ▼
//!              ledger: what is acknowledged ──▶ checkpoint (FILE.import), progress
//! ```

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use client::{Client, Condition};
use proto::v1::DescribeTableRequest;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use self::checkpoint::Checkpoint;
use self::feed::{Feed, Rules};
use self::lane::Lane;
use self::ledger::Ledger;
use crate::arguments::Global;
use crate::exit::{Exit, Usage};
use crate::interrupt::Interrupt;
use crate::item_file::{Fault, FileFormat, ItemReader, Place};
use crate::output::{Output, note};
use crate::progress::{Done, Progress, ShowProgress};

mod checkpoint;
mod feed;
mod lane;
mod ledger;
mod report;

/// How often it is looked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often that is recorded: what may be done twice after a kill.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// Lanes for each partition: while the answers of one travel, the other is written.
const LANES_A_PARTITION: usize = 2;
/// The fewest and the most lanes.
const LANES: (usize, usize) = (16, 64);

const EXAMPLES: &str = r#"A line of JSON is as `trilith export` and `trilith scan -o json` print it:
  {"key":"k","value":"v"}
  {"key":"k","value":"v","ttl":"10s","content":"json"}             or "ttl_ms":10000; content: json, text
Bytes that are not text: "key_encoding":"base64", "value_encoding":"base64".
CSV has a header that names its columns: key, value and, as needed, ttl, content, key_encoding, value_encoding.

It stops at what is wrong, names it, and says how many items are imported. While it runs, FILE.import
says up to where every item was acknowledged, and --resume goes on there. Of the items after that place some may be in the table
already; they are written again, which changes nothing but their versions and begins their lifetime anew.
Of a key that is in the file twice the last value counts.

Examples:
  trilith import orders.jsonl -t orders
  trilith import orders.jsonl -t orders --resume         after a line was put right, or Ctrl-C
  trilith import users.csv --if-absent                   what is there already stays as it is
  generate | trilith import - --format jsonl"#;

/// Write the items of a file into a table.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Import {
    /// The file; - for standard input.
    file: PathBuf,
    /// How the file is written; else its name says so: .jsonl, .ndjson, .csv or .trilith.
    #[arg(long, value_enum)]
    format: Option<FileFormat>,
    /// Go on where an earlier import of the file stopped.
    #[arg(long, conflicts_with = "from_line")]
    resume: bool,
    /// Begin with this line.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    from_line: Option<u64>,
    /// Leave out what is wrong, name it, and go on.
    #[arg(long)]
    skip_bad: bool,
    /// Leave keys as they are that are there already.
    #[arg(long)]
    if_absent: bool,
    /// When to show how far it is.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = ShowProgress::Auto)]
    progress: ShowProgress,
}

/// What is read.
struct Source {
    reader: Box<dyn ItemReader>,
    from: Place,
    /// Where it is a file that can be gone on with.
    known: Option<Known>,
}

struct Known {
    bytes: u64,
    checkpoint: Checkpoint,
}

impl Import {
    /// Whether it would read what a shell reads its commands from.
    pub fn reads_standard_input(&self) -> bool {
        self.file == Path::new("-")
    }

    /// Imports.
    pub async fn run(self, global: &Global, out: &mut Output) -> anyhow::Result<Exit> {
        let format = self.format.or_else(|| FileFormat::of_name(&self.file)).ok_or_else(|| {
            Usage(
                "the name does not say how the file is written: give --format jsonl, csv or binary"
                    .to_owned(),
            )
        })?;
        let rules = Rules {
            condition: self.if_absent.then_some(Condition::Absent),
            skip_bad: self.skip_bad,
            from_line: self.from_line.unwrap_or(0),
        };
        if !format.has_lines() && (self.from_line.is_some() || self.skip_bad) {
            let why = "--from-line and --skip-bad are for files of lines: a binary file is whole or damaged";
            return Err(Usage(why.to_owned()).into());
        }
        let mut source = self.open(format, &global.table)?;
        let client = global.connect_and_follow().await?;
        let lanes = lanes_for(&client, &global.table).await?;
        let interrupt = Interrupt::listen()?;
        let ledger = Arc::new(Ledger::new(format, source.from));
        let stop = watch::Sender::new(false);
        let (feed, ends) = Feed::new(source.reader, Arc::clone(&ledger), stop.subscribe(), rules, lanes);
        let mut working = JoinSet::new();
        for chunks in ends {
            // A batch of one lane takes all the answers that a partition remembers of a client.
            let table = client.with_own_numbers().table(&global.table);
            let lane =
                Lane { table, ledger: Arc::clone(&ledger), stop: stop.clone(), skip_bad: rules.skip_bad };
            working.spawn(lane.run(chunks));
        }
        let began = Instant::now();
        feed.start(Handle::current()).context("cannot start a thread")?;
        let interrupted =
            follow(&mut working, &ledger, source.known.as_mut(), self.progress, interrupt, &stop).await?;
        if let Some(known) = &mut source.known {
            match ledger.is_whole() {
                true => known.checkpoint.remove()?,
                false => known.checkpoint.save(ledger.done_to())?,
            }
        }
        let counts = ledger.counts();
        if ledger.is_whole() {
            report::say_done(counts, began.elapsed());
        }
        if out.is_json() {
            out.json(&report::counts_json(counts, began.elapsed()))?;
        }
        Ok(match ledger.is_whole() {
            true => Exit::Done,
            false => report::say_stopped(&self.file, &ledger, source.known.is_some(), interrupted),
        })
    }

    fn open(&self, format: FileFormat, table: &str) -> anyhow::Result<Source> {
        if self.reads_standard_input() {
            return self.stream("standard input", || format.read_standard_input());
        }
        let name = self.file.display().to_string();
        let file = File::open(&self.file).with_context(|| format!("cannot read {name}"))?;
        let data = file.metadata().with_context(|| format!("cannot read {name}"))?;
        anyhow::ensure!(!data.is_dir(), "{name} is a folder");
        if !data.is_file() {
            return self.stream(&name, || format.read_stream(BufReader::new(file)));
        }
        let checkpoint = Checkpoint::new(&self.file, file.try_clone()?, table);
        let from = self.resume.then(|| checkpoint.load()).transpose()?;
        if from.is_none() && checkpoint.exists() {
            note(format_args!(
                "from the beginning: --resume would go on where {} says",
                checkpoint.path().display()
            ));
        }
        let reader = format.read_file(file, from).with_context(|| name)?;
        let from = from.unwrap_or_else(|| reader.place());
        Ok(Source { reader, from, known: Some(Known { bytes: data.len(), checkpoint }) })
    }

    /// What can be read only once.
    fn stream(
        &self,
        name: &str,
        read: impl FnOnce() -> Result<Box<dyn ItemReader>, Fault>,
    ) -> anyhow::Result<Source> {
        anyhow::ensure!(!self.resume, Usage("only a file can be gone on with: give --from-line".to_owned()));
        let reader = read().with_context(|| name.to_owned())?;
        Ok(Source { from: reader.place(), reader, known: None })
    }
}

/// How many lanes a table's partitions want.
async fn lanes_for(client: &Client, table: &str) -> anyhow::Result<usize> {
    let described = client.admin().describe_table(DescribeTableRequest { name: table.to_owned() }).await?;
    let (fewest, most) = LANES;
    // A power of two, so that a lane does not lie over the border of two partitions.
    Ok((LANES_A_PARTITION * described.partitions.len()).clamp(fewest, most).next_power_of_two())
}

/// Waits until all lanes have ended, and meanwhile shows and records how far it is. Gives whether
/// somebody interrupted it.
async fn follow(
    working: &mut JoinSet<()>,
    ledger: &Ledger,
    mut known: Option<&mut Known>,
    show: ShowProgress,
    mut interrupt: Interrupt,
    stop: &watch::Sender<bool>,
) -> anyhow::Result<bool> {
    let mut progress = Progress::new(show);
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut interrupted, mut saved) = (false, Instant::now());
    loop {
        tokio::select! {
            ended = working.join_next() => match ended {
                Some(ended) => ended.context("a lane failed")?,
                None => break,
            },
            () = interrupt.received() => {
                interrupted = true;
                stop.send_replace(true);
            }
            _ = look.tick() => {
                let (now, counts, to) = (Instant::now(), ledger.counts(), ledger.done_to());
                let share = known.as_ref().map(|known| to.offset as f64 / known.bytes.max(1) as f64);
                let items = counts.imported + counts.present;
                progress.show(now, Done { items, bytes: counts.bytes, share });
                if let Some(known) = &mut known && now.duration_since(saved) >= SAVE_EVERY {
                    known.checkpoint.save(to)?;
                    saved = now;
                }
            }
        }
    }
    progress.clear();
    Ok(interrupted)
}
