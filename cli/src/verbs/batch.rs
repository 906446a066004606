//! `trilith batch`

use std::path::{Path, PathBuf};

use clap::Args;
use client::{Answer, Error, Operation, Table};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, BufReader};

use self::line::parse_line;
use crate::arguments::Global;
use crate::exit::Exit;
use crate::json;
use crate::output::{Output, note};

mod line;

/// Operations that are read before they are sent. The client splits them further.
const CHUNK_OPERATIONS: usize = 8000;
/// A chunk ends with the line that passes this.
const CHUNK_BYTES: usize = 16 * 1024 * 1024;

const EXAMPLES: &str = r#"Each line is one operation:
  {"op":"put","key":"k","value":"v"}
  {"op":"put","key":"k","value":"v","ttl":"10s","if":"absent"}     or "exists", or a version
  {"op":"get","key":"k"}   {"op":"delete","key":"k"}   {"op":"exists","key":"k"}
Bytes that are not text: "key_encoding":"base64", "value_encoding":"base64".
A line that fails is named on standard error, and the others are done all the same.

Examples:
  trilith batch operations.jsonl
  generate | trilith batch - -o json       one answer a line"#;

/// Do many operations, one JSON object a line.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Batch {
    /// The file; - for standard input.
    file: PathBuf,
}

/// What came of all lines.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    done: u64,
    not_met: u64,
    failed: u64,
    unknown: u64,
}

impl Batch {
    /// Whether it would read what a shell reads its commands from.
    pub fn reads_standard_input(&self) -> bool {
        self.file == Path::new("-")
    }

    /// Does them.
    pub async fn run(self, global: &Global, out: &mut Output) -> anyhow::Result<Exit> {
        let mut input = open(&self.file).await?;
        let table = global.connect_and_follow().await?.table(&global.table);
        let mut tally = Tally::default();
        let mut number = 0;
        loop {
            let mut chunk = Vec::new();
            let mut bytes = 0;
            let mut text = Vec::new();
            let mut ended = true;
            while input.read_until(b'\n', &mut text).await? > 0 {
                number += 1;
                match parse_line(text.trim_ascii()) {
                    Ok(None) => {}
                    Ok(Some(operation)) => chunk.push((number, operation)),
                    Err(why) => {
                        tally.failed += 1;
                        note(format_args!("line {number}: {why}"));
                    }
                }
                bytes += text.len();
                text.clear();
                if chunk.len() >= CHUNK_OPERATIONS || bytes >= CHUNK_BYTES {
                    ended = false;
                    break;
                }
            }
            run_chunk(&table, chunk, &mut tally, out).await?;
            out.flush()?;
            if ended {
                break;
            }
        }
        note(tally.to_string());
        Ok(tally.exit())
    }
}

async fn open(file: &Path) -> anyhow::Result<Box<dyn AsyncBufRead + Unpin + Send>> {
    if file == Path::new("-") {
        return Ok(Box::new(BufReader::new(tokio::io::stdin())));
    }
    let opened = tokio::fs::File::open(file).await;
    let opened = opened.map_err(|error| anyhow::anyhow!("cannot read {}: {error}", file.display()))?;
    Ok(Box::new(BufReader::new(opened)))
}

async fn run_chunk(
    table: &Table,
    chunk: Vec<(u64, Operation)>,
    tally: &mut Tally,
    out: &mut Output,
) -> anyhow::Result<()> {
    let (numbers, operations): (Vec<u64>, Vec<Operation>) = chunk.into_iter().unzip();
    let keys: Vec<_> = operations.iter().map(|operation| operation.key().clone()).collect();
    let outcome = table.batch(operations).await;
    for ((number, key), result) in numbers.into_iter().zip(keys).zip(outcome.results) {
        tally.count(&result);
        match result {
            Err(error) => note(format_args!("line {number}: {error}")),
            Ok(answer) if out.is_json() => out.json(&answer_json(number, &key, &answer))?,
            Ok(Answer::Get(Some(item))) => {
                out.raw(&item.key)?;
                out.raw(b"\t")?;
                out.line(&item.value)?;
            }
            Ok(Answer::Exists(exists)) => {
                out.raw(&key)?;
                out.line(format!("\t{exists}"))?;
            }
            Ok(Answer::Put(put)) if !put.applied => note(format_args!("line {number}: condition not met")),
            Ok(Answer::Get(None) | Answer::Put(_) | Answer::Delete(_)) => {}
        }
    }
    Ok(())
}

fn answer_json(line: u64, key: &[u8], answer: &Answer) -> Value {
    let mut object = Map::new();
    object.insert("line".to_owned(), json!(line));
    json::put_bytes(&mut object, "key", key);
    let (name, value) = match answer {
        Answer::Get(None) => ("item", Value::Null),
        Answer::Get(Some(item)) => ("item", json::item(item, true)),
        Answer::Exists(exists) => ("exists", json!(exists)),
        Answer::Delete(deleted) => ("deleted", json!(deleted.deleted)),
        Answer::Put(put) => {
            object.insert("version".to_owned(), json!(put.version));
            ("applied", json!(put.applied))
        }
    };
    object.insert(name.to_owned(), value);
    Value::Object(object)
}

impl Tally {
    fn count(&mut self, result: &Result<Answer, Error>) {
        let counter = match result {
            Ok(Answer::Put(put)) if !put.applied => &mut self.not_met,
            Ok(_) => &mut self.done,
            Err(Error::OutcomeUnknown(_)) => &mut self.unknown,
            Err(_) => &mut self.failed,
        };
        *counter += 1;
    }

    /// The worst that came of any line.
    fn exit(&self) -> Exit {
        match self {
            Self { unknown: 1.., .. } => Exit::Unknown,
            Self { failed: 1.., .. } => Exit::Failed,
            Self { not_met: 1.., .. } => Exit::NotMet,
            _ => Exit::Done,
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} done", self.done)?;
        for (count, what) in
            [(self.not_met, "condition not met"), (self.failed, "failed"), (self.unknown, "outcome unknown")]
        {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_line_decides_the_exit_status() {
        let tally = Tally { done: 5, not_met: 1, failed: 2, unknown: 0 };
        assert_eq!(tally.exit(), Exit::Failed);
        assert_eq!(tally.to_string(), "5 done, 1 condition not met, 2 failed");
        assert_eq!(Tally { unknown: 1, ..tally }.exit(), Exit::Unknown);
        assert_eq!(Tally::default().exit(), Exit::Done);
    }
}
