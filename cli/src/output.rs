//! Standard output, as text or as JSON.

use std::io::{self, BufWriter, Stdout, Write as _};

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum;
use serde_json::Value;

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs: an object, or one a line where there may be many.
    Json,
}

/// Where results go. What is only about them goes to standard error.
#[derive(Debug)]
pub struct Output {
    format: Format,
    /// Whether what reads the output shows colours.
    coloured: bool,
    stdout: BufWriter<Stdout>,
}

impl Output {
    /// Standard output.
    pub fn new(format: Format) -> Self {
        let coloured = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
        Self { format, coloured, stdout: BufWriter::new(io::stdout()) }
    }

    /// Whether JSON is wanted.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Prints the one or the other. The text may be coloured, which is taken out where nobody
    /// would see it. What a user stored is never printed this way: it stays as it is.
    pub fn show(&mut self, text: impl FnOnce() -> String, json: impl FnOnce() -> Value) -> io::Result<()> {
        match self.format {
            Format::Text if self.coloured => self.line(text()),
            Format::Text => self.line(strip_str(&text()).to_string()),
            Format::Json => self.json(&json()),
        }
    }

    /// Prints a line.
    pub fn line(&mut self, text: impl AsRef<[u8]>) -> io::Result<()> {
        self.raw(text.as_ref())?;
        self.raw(b"\n")
    }

    /// Prints bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stdout.write_all(bytes)
    }

    /// Prints an object on a line.
    pub fn json(&mut self, value: &Value) -> io::Result<()> {
        self.line(value.to_string())
    }

    /// Hands over what was printed so far.
    pub fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }
}

/// Says something about what is going on, on standard error. That nobody reads it is no
/// reason to stop.
pub fn note(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}
