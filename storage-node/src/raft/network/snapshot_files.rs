//! What travels as a snapshot: a handful of files.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::scratch::ScratchFolder;

/// A state machine's snapshot.
#[derive(Clone)]
pub enum SnapshotFiles {
    /// A handle on a state that is pinned in the state machine. openraft asks for the current
    /// snapshot far more often than it sends one, so nothing is written before it is sent.
    Lazy(Arc<dyn SnapshotSource>),
    /// What a peer sent, verified and on disk.
    Received(Arc<ReceivedFiles>),
}

/// A state that can be written as files.
pub trait SnapshotSource: Send + Sync {
    /// Writes the files, each of at most 64 MiB, into an empty folder and returns them in the
    /// order in which they are to be sent. Runs on a thread that may block.
    fn write_files(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;
}

/// Files from a peer: of the announced lengths and checksums, and synced. They are removed
/// when this is dropped, so what is to stay must be moved or copied before.
#[derive(Debug)]
pub struct ReceivedFiles {
    files: Vec<PathBuf>,
    _folder: ScratchFolder,
}

impl ReceivedFiles {
    pub(in crate::raft) fn new(files: Vec<PathBuf>, folder: ScratchFolder) -> Self {
        Self { files, _folder: folder }
    }

    /// The files, in the order in which they were sent.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

impl fmt::Debug for SnapshotFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lazy(_) => f.write_str("a snapshot that is not written yet"),
            Self::Received(received) => write!(f, "{} files of a snapshot", received.files.len()),
        }
    }
}

/// Whether a name may be that of a snapshot's file: it becomes a path on the receiver.
pub(super) fn is_file_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::is_file_name;

    #[test]
    fn a_name_cannot_lead_out_of_its_folder() {
        for name in ["000012.sst", "records-1_b"] {
            assert!(is_file_name(name), "{name}");
        }
        for name in ["", ".", "..", ".hidden", "a/b", "../a", "a\\b", "a\0", &"x".repeat(129)] {
            assert!(!is_file_name(name), "{name}");
        }
    }
}
