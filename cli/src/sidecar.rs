//! Small files beside large ones, which say how far something is that may be gone on with.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Its format, which is checked first.
const FORMAT: u32 = 1;

/// What is in such a file.
#[derive(Debug, Serialize, Deserialize)]
struct Stamped<T> {
    format: u32,
    #[serde(flatten)]
    state: T,
}

#[derive(Debug, Deserialize)]
struct Stamp {
    format: u32,
}

/// The path of a file with something added to its name.
pub fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(ending);
    name.into()
}

/// Writes it whole or not at all.
pub fn save<T: Serialize>(path: &Path, state: &T) -> anyhow::Result<()> {
    let fresh = beside(path, ".new");
    let write = || {
        let mut file = fs::File::create(&fresh)?;
        serde_json::to_writer(&mut file, &Stamped { format: FORMAT, state })?;
        file.write_all(b"\n")?;
        file.sync_data()?;
        fs::rename(&fresh, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Reads it; none where there is none.
pub fn load<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let damaged = || format!("{} is damaged: delete it, and begin again without --resume", path.display());
    let stamp: Stamp = serde_json::from_slice(&text).with_context(damaged)?;
    anyhow::ensure!(
        stamp.format == FORMAT,
        "{} has format {}; this program knows {FORMAT}",
        path.display(),
        stamp.format
    );
    let stamped: Stamped<T> = serde_json::from_slice(&text).with_context(damaged)?;
    Ok(Some(stamped.state))
}

/// Removes it, if it is there.
pub fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct State {
        offset: u64,
    }

    #[test]
    fn what_is_saved_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = beside(&folder.path().join("items.csv"), ".import");
        assert!(path.ends_with("items.csv.import"));
        assert_eq!(load::<State>(&path).unwrap(), None);
        save(&path, &State { offset: 7 }).unwrap();
        save(&path, &State { offset: 8 }).unwrap();
        assert_eq!(load(&path).unwrap(), Some(State { offset: 8 }));
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn other_formats_and_damage_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        for (text, part) in
            [("{\"format\":2,\"x\":1}", "format 2"), ("{\"format\":1}", "damaged"), ("", "damaged")]
        {
            fs::write(&path, text).unwrap();
            let why = format!("{:#}", load::<State>(&path).unwrap_err());
            assert!(why.contains(part), "{text}: {why}");
        }
    }
}
