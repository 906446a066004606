//! Where an export goes: standard output, or a file that has its name only once it is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::exit::Usage;
use crate::item_file::FileFormat;
use crate::output::note;
use crate::sidecar;

/// Where an export goes.
#[derive(Debug)]
pub enum Target {
    /// To standard output, which cannot be gone on with.
    Output(io::Stdout),
    /// To a file.
    File(Partial),
}

/// A file that is not whole yet.
#[derive(Debug)]
pub struct Partial {
    /// Its name once it is whole.
    path: PathBuf,
    file: File,
    bytes: u64,
}

/// Up to where an export is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Of this table.
    pub table: String,
    /// In this format.
    pub format: FileFormat,
    /// Of keys that begin with this.
    pub prefix: Bytes,
    /// So many items are in it.
    pub items: u64,
    /// Where the scan goes on; empty: it has not begun.
    pub cursor: Bytes,
}

/// The same as `FILE.progress` has it.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    table: String,
    written_as: FileFormat,
    /// In base64.
    prefix: String,
    items: u64,
    /// How long the file is with them; what is behind was not recorded.
    bytes: u64,
    /// In base64.
    cursor: String,
}

impl Target {
    /// Standard output.
    pub fn standard_output() -> Self {
        Self::Output(io::stdout())
    }

    /// A new file.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        anyhow::ensure!(!path.is_dir(), "{} is a folder", path.display());
        sidecar::remove(&progress_of(path))?;
        let partial = partial_of(path);
        let file = File::create(&partial).with_context(|| format!("cannot write {}", partial.display()))?;
        Ok(Self::File(Partial { path: path.to_owned(), file, bytes: 0 }))
    }

    /// The file of an export that stopped, and where it stopped. It must be the export that is
    /// wanted.
    pub fn reopen(path: &Path, wanted: &Stopped) -> anyhow::Result<(Self, Stopped)> {
        let progress = progress_of(path);
        let Some(state) = sidecar::load::<State>(&progress)? else {
            let why = format!("there is no {}: export without --resume", progress.display());
            return Err(Usage(why).into());
        };
        let bytes = state.bytes;
        let stopped = state.stopped().with_context(|| format!("{} is damaged", progress.display()))?;
        if (&stopped.table, stopped.format, &stopped.prefix) != (&wanted.table, wanted.format, &wanted.prefix)
        {
            let why =
                format!("{} is of another export: of another table, prefix or format", progress.display());
            return Err(Usage(why).into());
        }
        let partial = partial_of(path);
        let file = OpenOptions::new().write(true).open(&partial);
        let mut file = file.with_context(|| format!("cannot write {}", partial.display()))?;
        anyhow::ensure!(
            file.metadata()?.len() >= bytes,
            "{} is shorter than {} says: export without --resume",
            partial.display(),
            progress.display()
        );
        file.set_len(bytes)?;
        file.seek(SeekFrom::End(0))?;
        Ok((Self::File(Partial { path: path.to_owned(), file, bytes }), stopped))
    }

    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Output(output) => Ok(output.write_all(bytes)?),
            Self::File(partial) => {
                let written = partial.file.write_all(bytes);
                written.with_context(|| format!("cannot write {}", partial_of(&partial.path).display()))?;
                partial.bytes += bytes.len() as u64;
                Ok(())
            }
        }
    }

    /// Makes sure that what is written can be gone on with.
    pub fn save(&mut self, at: &Stopped) -> anyhow::Result<()> {
        let Self::File(partial) = self else { return Ok(()) };
        partial.file.sync_data()?;
        let state = State {
            table: at.table.clone(),
            written_as: at.format,
            prefix: STANDARD.encode(&at.prefix),
            items: at.items,
            bytes: partial.bytes,
            cursor: STANDARD.encode(&at.cursor),
        };
        sidecar::save(&progress_of(&partial.path), &state)
    }

    /// It is whole: gives it its name.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Output(output) => Ok(output.flush()?),
            Self::File(partial) => {
                partial.file.sync_all()?;
                let named = fs::rename(partial_of(&partial.path), &partial.path);
                named.with_context(|| format!("cannot write {}", partial.path.display()))?;
                sidecar::remove(&progress_of(&partial.path))
            }
        }
    }

    /// Says how to go on with what is not whole.
    pub fn advise(&self) {
        let Self::File(partial) = self else { return };
        let (name, progress) = (partial_of(&partial.path), progress_of(&partial.path));
        if progress.exists() {
            note(format_args!(
                "what there is, is in {}; to go on: the same command with --resume",
                name.display()
            ));
        }
    }
}

impl State {
    fn stopped(self) -> anyhow::Result<Stopped> {
        Ok(Stopped {
            table: self.table,
            format: self.written_as,
            prefix: STANDARD.decode(self.prefix)?.into(),
            items: self.items,
            cursor: STANDARD.decode(self.cursor)?.into(),
        })
    }
}

fn partial_of(path: &Path) -> PathBuf {
    sidecar::beside(path, ".partial")
}

fn progress_of(path: &Path) -> PathBuf {
    sidecar::beside(path, ".progress")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(items: u64, cursor: &'static [u8]) -> Stopped {
        let cursor = Bytes::from_static(cursor);
        Stopped {
            table: "t".into(),
            format: FileFormat::Csv,
            prefix: Bytes::from_static(b"p\xff"),
            items,
            cursor,
        }
    }

    #[test]
    fn what_was_not_recorded_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("all.csv");
        let mut target = Target::create(&path).unwrap();
        target.write(b"one,").unwrap();
        target.save(&at(1, b"\x00c")).unwrap();
        target.write(b"lost").unwrap();
        drop(target);
        let (mut target, stopped) = Target::reopen(&path, &at(0, b"")).unwrap();
        assert_eq!(stopped, at(1, b"\x00c"));
        target.write(b"two").unwrap();
        assert!(!path.exists());
        target.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one,two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_the_same_export_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("all.csv");
        let refused = |wanted: &Stopped| Target::reopen(&path, wanted).unwrap_err().to_string();
        assert!(refused(&at(0, b"")).contains("without --resume"));
        let mut target = Target::create(&path).unwrap();
        target.write(b"one").unwrap();
        target.save(&at(1, b"c")).unwrap();
        assert!(refused(&Stopped { table: "u".into(), ..at(0, b"") }).contains("another export"));
        fs::write(partial_of(&path), b"o").unwrap();
        assert!(refused(&at(0, b"")).contains("shorter"));
        Target::create(&path).unwrap();
        assert!(refused(&at(0, b"")).contains("there is no"));
    }
}
