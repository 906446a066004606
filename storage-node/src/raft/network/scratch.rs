//! The folder in which snapshots lie while they travel.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::seams::runtime;

/// A folder whose contents mean nothing after a restart.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    made: AtomicU64,
}

/// A folder under [`Scratch`]; removed with all it holds when this is dropped.
#[derive(Debug)]
pub struct ScratchFolder {
    path: PathBuf,
}

impl Scratch {
    /// Opens the folder, and empties it of what an earlier process left there.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        match fs::remove_dir_all(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        fs::create_dir_all(&path)?;
        Ok(Self { path, made: AtomicU64::new(0) })
    }

    /// Makes an empty folder. The number keeps names apart within this process, the random
    /// part from anything that somebody put there by hand.
    pub fn folder(&self, purpose: &str) -> io::Result<ScratchFolder> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let path = self.path.join(format!("{purpose}-{number}-{:016x}", runtime::random_u64()));
        fs::create_dir(&path)?;
        Ok(ScratchFolder { path })
    }
}

impl ScratchFolder {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchFolder {
    /// Unlinking a few files is quick enough to be done wherever this is dropped; what fails
    /// to go now goes at the next start.
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a folder of a snapshot could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_go_when_they_are_dropped_and_leftovers_at_the_start() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("scratch");
        let scratch = Scratch::open(&path).unwrap();
        let (first, second) = (scratch.folder("send").unwrap(), scratch.folder("send").unwrap());
        assert_ne!(first.path(), second.path());
        let gone = first.path().to_owned();
        drop(first);
        assert!(!gone.exists());
        std::mem::forget(second);
        Scratch::open(&path).unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }
}
