//! Files of items: what `trilith export` writes and `trilith import` reads.
//!
//! ```text
//!   item ──▶ ItemWriter ──▶ bytes      of three kinds: json_lines, csv, binary
//!   bytes ──▶ ItemReader ──▶ item, and the place where it stands
//! ```
//!
//! Nothing here knows of clusters. Start with `json_lines`, which is the shortest.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use clap::ValueEnum;
use client::{Condition, ContentKind, Item, Operation, PutOptions};
use serde::{Deserialize, Serialize};

use self::binary::{BlockReader, BlockWriter};
use self::csv::{CsvReader, CsvWriter};
use self::json_lines::{JsonLineReader, JsonLineWriter};
pub use self::place::{Fault, Place, Spot};

mod binary;
mod csv;
mod csv_record;
mod json_lines;
mod lines;
mod place;

/// The most bytes of key and value together: what the largest request to a node holds.
const LARGEST_ITEM: usize = 16 << 20;
/// The longest record as text: JSON writes a control character with six.
const LONGEST_TEXT: usize = 6 * LARGEST_ITEM + 4096;
/// Read at a time.
const READ_BYTES: usize = 1 << 20;

/// How items are written in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// A JSON object a line.
    Jsonl,
    /// Comma-separated values with a header, as RFC 4180 has them.
    Csv,
    /// Blocks with checksums: the smallest and fastest.
    Binary,
}

/// An item as a file has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileItem {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// What the value is.
    pub content: ContentKind,
    /// How long it lives from when it is read; none: as the table says.
    pub ttl_ms: Option<u64>,
}

/// Reads the items of a file, one after the other.
pub trait ItemReader: Send {
    /// The next item; none at the end. After [`Fault::Item`] the one after it may be read.
    fn next_item(&mut self) -> Result<Option<FileItem>, Fault>;

    /// Where the item begins that is read next.
    fn place(&self) -> Place;
}

/// Turns items into the bytes of a file.
pub trait ItemWriter: Send {
    /// What stands before all items.
    fn begin(&mut self, out: &mut Vec<u8>);

    /// Adds an item, or keeps it until there are more.
    fn write(&mut self, item: &FileItem, out: &mut Vec<u8>);

    /// Adds what was kept: the file can be gone on with from here.
    fn pause(&mut self, out: &mut Vec<u8>);

    /// Adds what was kept, and what stands after all items.
    fn finish(&mut self, out: &mut Vec<u8>);
}

impl FileFormat {
    /// The format that a file's name ends with.
    pub fn of_name(file: &Path) -> Option<Self> {
        match file.extension().and_then(OsStr::to_str)? {
            "jsonl" | "ndjson" => Some(Self::Jsonl),
            "csv" => Some(Self::Csv),
            "trilith" => Some(Self::Binary),
            _ => None,
        }
    }

    /// Whether its items are counted by lines.
    pub fn has_lines(self) -> bool {
        self != Self::Binary
    }

    /// What a place in such a file is called.
    pub fn spot(self, place: Place) -> Spot {
        match self {
            Self::Jsonl | Self::Csv => Spot::Line(place.number),
            Self::Binary => Spot::Block(place.offset),
        }
    }

    /// A writer of a file that has so many items already.
    pub fn writer(self, items: u64) -> Box<dyn ItemWriter> {
        match self {
            Self::Jsonl => Box::new(JsonLineWriter),
            Self::Csv => Box::new(CsvWriter),
            Self::Binary => Box::new(BlockWriter::after(items)),
        }
    }

    /// A reader of a file from its beginning, or from a place in it.
    pub fn read_file(self, mut file: File, from: Option<Place>) -> Result<Box<dyn ItemReader>, Fault> {
        file.seek(SeekFrom::Start(0))?;
        let mut input = BufReader::with_capacity(READ_BYTES, file);
        Ok(match (self, from) {
            (_, None) => return self.read_stream(input),
            (Self::Jsonl, Some(from)) => {
                input.seek(SeekFrom::Start(from.offset))?;
                Box::new(JsonLineReader::at(input, from))
            }
            (Self::Csv, Some(from)) => {
                let mut reader = CsvReader::begin(input)?;
                reader.go_on_at(from)?;
                Box::new(reader)
            }
            (Self::Binary, Some(from)) => {
                let mut reader = BlockReader::begin(input)?;
                reader.go_on_at(from)?;
                Box::new(reader)
            }
        })
    }

    /// A reader of what comes through a pipe.
    pub fn read_stream(self, input: impl BufRead + Send + 'static) -> Result<Box<dyn ItemReader>, Fault> {
        Ok(match self {
            Self::Jsonl => Box::new(JsonLineReader::at(input, Place::FIRST)),
            Self::Csv => Box::new(CsvReader::begin(input)?),
            Self::Binary => Box::new(BlockReader::begin(input)?),
        })
    }

    /// A reader of what standard input gives.
    pub fn read_standard_input(self) -> Result<Box<dyn ItemReader>, Fault> {
        self.read_stream(BufReader::with_capacity(READ_BYTES, io::stdin()))
    }
}

impl FileItem {
    /// This item, where a table can hold it. Its nodes may allow less.
    fn checked(self) -> Result<Self, String> {
        let bytes = self.key.len().saturating_add(self.value.len());
        if self.key.is_empty() {
            return Err("the key is empty".to_owned());
        }
        if bytes > LARGEST_ITEM {
            return Err(format!("key and value have {bytes} bytes, which is more than {LARGEST_ITEM}"));
        }
        Ok(self)
    }

    /// The operation that writes it.
    pub fn put(self, condition: Option<Condition>) -> Operation {
        // An item that ended as it was read ends at once.
        let ttl = self.ttl_ms.map(|ttl| Duration::from_millis(ttl.max(1)));
        Operation::put(self.key, self.value, PutOptions { ttl, condition, content: self.content })
    }
}

impl From<Item> for FileItem {
    fn from(item: Item) -> Self {
        let content = item.content();
        Self { key: item.key, value: item.value, content, ttl_ms: item.ttl_ms }
    }
}

#[cfg(test)]
mod tests;
