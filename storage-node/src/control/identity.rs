//! The data folder, and who a node is: a UUID in it, never an address or an ordinal.
//!
//! ```text
//! DIR/
//!   identity.yaml    format, node, cluster (once it belongs to one), addresses of others
//!   lock             held while the node runs
//!   raft/ state/     the databases
//!   scratch/         snapshots on their way; emptied at each start
//!   retired/<uuid>/  what an identity left that was removed from its cluster; one is kept
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fs4::fs_std::FileExt;
use parking_lot::Mutex;
use placement::{ClusterId, NodeId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const FORMAT: u32 = 1;
const IDENTITY: &str = "identity.yaml";
const OWNED: [&str; 4] = [IDENTITY, "raft", "state", "scratch"];

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The file system refused.
    #[error("the data folder {path}: {source}", path = path.display())]
    Io {
        /// Which path.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Another process has it.
    #[error("the data folder {path} is in use by another node process; a folder belongs to one", path = .0.display())]
    InUse(PathBuf),
    /// The identity makes no sense.
    #[error("{path} is damaged: {why}; restore it, or give this node an empty folder and let it join as a new one", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// In what way.
        why: String,
    },
    /// A newer program wrote it.
    #[error("the data folder {path} has format {found}; this program knows format {FORMAT}: run a newer one", path = path.display())]
    Newer {
        /// Which folder.
        path: PathBuf,
        /// What it has.
        found: u32,
    },
    /// There is data, and no identity.
    #[error("the data folder {path} holds data but no {IDENTITY}: restore the file, or use an empty folder", path = .0.display())]
    NoIdentity(PathBuf),
    /// It belongs to another cluster.
    #[error("the data folder {path} belongs to cluster {mine}, not to {other}: use a folder of its own for each cluster", path = path.display())]
    OtherCluster {
        /// Which folder.
        path: PathBuf,
        /// Its cluster.
        mine: ClusterId,
        /// The cluster that was met.
        other: ClusterId,
    },
}

/// Who a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The node.
    pub node: NodeId,
    /// The cluster, once it belongs to one.
    pub cluster: Option<ClusterId>,
    /// The other nodes, as last known: by them this one finds its cluster again.
    pub known: Vec<Known>,
    /// The node was told to create the cluster, and it is not yet certain that it has.
    pub founding: bool,
}

/// Another node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The node.
    pub node: Uuid,
    /// Where other nodes reach it.
    pub peer: String,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    node: Uuid,
    cluster: Option<Uuid>,
    #[serde(default)]
    known: Vec<Known>,
    #[serde(default)]
    founding: bool,
}

/// A data folder that this process holds.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    _lock: File,
    /// Held while the identity is read to be written anew.
    writing: Mutex<()>,
}

impl DataFolder {
    /// Takes the folder, and makes it where it is missing.
    pub fn take(path: &Path) -> Result<Self, FolderError> {
        let failed = |source| FolderError::Io { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(failed)?;
        let lock = File::create(path.join("lock")).map_err(failed)?;
        match FileExt::try_lock_exclusive(&lock) {
            Ok(true) => Ok(Self { path: path.to_owned(), _lock: lock, writing: Mutex::default() }),
            Ok(false) => Err(FolderError::InUse(path.to_owned())),
            Err(source) => Err(failed(source)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of the log.
    pub fn log(&self) -> PathBuf {
        self.path.join("raft")
    }

    /// The folder of the state.
    pub fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    /// The folder of snapshots on their way.
    pub fn scratch(&self) -> PathBuf {
        self.path.join("scratch")
    }

    /// Who the node is; none in an empty folder.
    pub fn identity(&self) -> Result<Option<Identity>, FolderError> {
        let path = self.path.join(IDENTITY);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let empty = !self.log().exists() && !self.state().exists();
                return if empty { Ok(None) } else { Err(FolderError::NoIdentity(self.path.clone())) };
            }
            Err(source) => return Err(FolderError::Io { path, source }),
        };
        let damaged = |why: String| FolderError::Damaged { path: path.clone(), why };
        let value: serde_yaml::Value =
            serde_yaml::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        let found = value.get("format").and_then(serde_yaml::Value::as_u64);
        match found {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => {
                let found = u32::try_from(format).unwrap_or(u32::MAX);
                return Err(FolderError::Newer { path: self.path.clone(), found });
            }
            None => return Err(damaged("it has no format".to_owned())),
        }
        let stored: Stored = serde_yaml::from_value(value).map_err(|error| damaged(error.to_string()))?;
        Ok(Some(Identity {
            node: NodeId(stored.node),
            cluster: stored.cluster.map(ClusterId),
            known: stored.known,
            founding: stored.founding,
        }))
    }

    /// Writes down who the node is, so that a crash leaves the old text or the new one.
    pub fn write_identity(&self, identity: &Identity) -> Result<(), FolderError> {
        let _writing = self.writing.lock();
        self.write(identity)
    }

    /// Changes what is written down, where there is an identity.
    pub fn change_identity(&self, change: impl FnOnce(&mut Identity)) -> Result<(), FolderError> {
        let _writing = self.writing.lock();
        let Some(known) = self.identity()? else { return Ok(()) };
        let mut next = known.clone();
        change(&mut next);
        if next == known { Ok(()) } else { self.write(&next) }
    }

    fn write(&self, identity: &Identity) -> Result<(), FolderError> {
        let stored = Stored {
            format: FORMAT,
            node: identity.node.0,
            cluster: identity.cluster.map(|cluster| cluster.0),
            known: identity.known.clone(),
            founding: identity.founding,
        };
        let path = self.path.join(IDENTITY);
        let text = serde_yaml::to_string(&stored)
            .map_err(|error| FolderError::Damaged { path: path.clone(), why: error.to_string() })?;
        let write = || -> io::Result<()> {
            let next = self.path.join("identity.yaml.next");
            let mut file = File::create(&next)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&next, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|source| FolderError::Io { path: path.clone(), source })
    }

    /// Puts what a removed identity left aside. Only the last of them is kept.
    pub fn retire(&self, identity: &Identity) -> Result<PathBuf, FolderError> {
        let all = self.path.join("retired");
        let place = all.join(identity.node.to_string());
        let retire = || -> io::Result<()> {
            if all.exists() {
                fs::remove_dir_all(&all)?;
            }
            fs::create_dir_all(&place)?;
            // The identity goes last: until it has gone, the folder is found to be retired
            // again at the next start.
            for name in OWNED.iter().rev() {
                let from = self.path.join(name);
                if from.exists() {
                    fs::rename(&from, place.join(name))?;
                }
            }
            File::open(&self.path)?.sync_all()
        };
        retire().map_err(|source| FolderError::Io { path: place.clone(), source })?;
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            node: NodeId(Uuid::from_u128(1)),
            cluster: Some(ClusterId(Uuid::from_u128(2))),
            known: vec![Known { node: Uuid::from_u128(3), peer: "127.0.0.1:7411".to_owned() }],
            founding: true,
        }
    }

    #[test]
    fn a_folder_is_held_by_one_process_and_remembers_who_the_node_is() {
        let temp = tempfile::tempdir().unwrap();
        let folder = DataFolder::take(temp.path()).unwrap();
        assert!(matches!(DataFolder::take(temp.path()), Err(FolderError::InUse(_))));
        assert_eq!(folder.identity().unwrap(), None);
        folder.change_identity(|_| panic!("there is none")).unwrap();
        folder.write_identity(&identity()).unwrap();
        folder.change_identity(|identity| identity.founding = false).unwrap();
        drop(folder);
        let founded = Identity { founding: false, ..identity() };
        assert_eq!(DataFolder::take(temp.path()).unwrap().identity().unwrap(), Some(founded));
    }

    #[test]
    fn what_cannot_be_trusted_is_refused_by_name() {
        let temp = tempfile::tempdir().unwrap();
        let folder = DataFolder::take(temp.path()).unwrap();
        fs::create_dir(folder.log()).unwrap();
        assert!(matches!(folder.identity(), Err(FolderError::NoIdentity(_))));
        fs::write(temp.path().join(IDENTITY), "format: 2\nwhatever: true\n").unwrap();
        assert!(matches!(folder.identity(), Err(FolderError::Newer { found: 2, .. })));
        fs::write(temp.path().join(IDENTITY), "format: 1\nnode: no\n").unwrap();
        assert!(matches!(folder.identity(), Err(FolderError::Damaged { .. })));
    }

    #[test]
    fn a_removed_identity_leaves_an_empty_folder_and_its_data_aside() {
        let temp = tempfile::tempdir().unwrap();
        let folder = DataFolder::take(temp.path()).unwrap();
        folder.write_identity(&identity()).unwrap();
        fs::create_dir(folder.log()).unwrap();
        fs::write(folder.log().join("x"), "y").unwrap();
        let place = folder.retire(&identity()).unwrap();
        assert_eq!(folder.identity().unwrap(), None);
        assert_eq!(fs::read_to_string(place.join("raft/x")).unwrap(), "y");
        let other = Identity { node: NodeId(Uuid::from_u128(9)), ..identity() };
        folder.write_identity(&other).unwrap();
        folder.retire(&other).unwrap();
        assert!(!place.exists(), "only the last is kept");
    }
}
