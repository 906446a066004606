//! `FILE.import`: up to where a file is certainly in the table.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::exit::Usage;
use crate::item_file::Place;
use crate::sidecar;

/// How much of the file before the place is compared when it is gone on with.
const COMPARED_BYTES: u64 = 64 << 10;

/// Where a file's import stands.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    file: File,
    table: String,
    saved: Option<Place>,
}

#[derive(Debug, Serialize, Deserialize)]
struct State {
    table: String,
    #[serde(flatten)]
    place: Place,
    /// CRC32C of the bytes before the place, which must be there again.
    before: u32,
}

impl Checkpoint {
    /// Of this file into this table. Nothing is written yet.
    pub fn new(path: &Path, file: File, table: &str) -> Self {
        Self { path: sidecar::beside(path, ".import"), file, table: table.to_owned(), saved: None }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether an earlier import left something to go on with.
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Where an earlier import of the same file into the same table stopped.
    pub fn load(&self) -> anyhow::Result<Place> {
        let path = self.path.display();
        let Some(state) = sidecar::load::<State>(&self.path)? else {
            return Err(Usage(format!("there is no {path}: import without --resume")).into());
        };
        if state.table != self.table {
            let why =
                format!("{path} is of an import into the table {:?}, not {:?}", state.table, self.table);
            return Err(Usage(why).into());
        }
        let same = self.file.metadata()?.len() >= state.place.offset
            && checksum_before(&self.file, state.place.offset)? == state.before;
        anyhow::ensure!(
            same,
            "what was imported already is no longer what the file begins with: import it from the beginning, \
             without --resume"
        );
        Ok(state.place)
    }

    /// Records a place, unless it is recorded already.
    pub fn save(&mut self, place: Place) -> anyhow::Result<()> {
        if self.saved != Some(place) {
            let before = checksum_before(&self.file, place.offset)?;
            sidecar::save(&self.path, &State { table: self.table.clone(), place, before })?;
            self.saved = Some(place);
        }
        Ok(())
    }

    /// Nothing is left to go on with.
    pub fn remove(&self) -> anyhow::Result<()> {
        sidecar::remove(&self.path)
    }
}

fn checksum_before(file: &File, offset: u64) -> io::Result<u32> {
    let start = offset.saturating_sub(COMPARED_BYTES);
    let mut bytes = vec![0; (offset - start) as usize];
    file.read_exact_at(&mut bytes, start)?;
    Ok(crc32c::crc32c(&bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_the_same_file_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("items.jsonl");
        let open = |table| Checkpoint::new(&path, File::open(&path).unwrap(), table);
        fs::write(&path, "one\ntwo\nthr").unwrap();
        let place = Place { offset: 8, number: 3 };
        assert!(open("t").load().unwrap_err().to_string().contains("without --resume"));
        open("t").save(place).unwrap();
        fs::write(&path, "one\ntwo\nthree\nfour\n").unwrap();
        assert_eq!(open("t").load().unwrap(), place);
        assert!(open("other").load().unwrap_err().to_string().contains("the table \"t\""));
        for changed in ["one\nTWO\nthree\n", "one\n"] {
            fs::write(&path, changed).unwrap();
            assert!(open("t").load().unwrap_err().to_string().contains("no longer"));
        }
        open("t").remove().unwrap();
        assert!(!open("t").exists());
    }
}
