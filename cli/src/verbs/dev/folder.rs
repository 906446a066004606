//! The folder of a local cluster: one `trilith dev` at a time may use it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, test_kill_process};

use super::layout::Layout;
use crate::output::note;

/// How long nodes of an earlier run may take to end.
const FORMER_NODES: Duration = Duration::from_secs(10);

/// A claimed folder. The claim ends with this process, however it ends.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _claim: File,
}

impl Folder {
    /// Claims a folder for that many nodes, and makes it where it is missing.
    pub fn claim(path: &Path, nodes: u16) -> anyhow::Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot make the folder {}", path.display()))?;
        let path = path.canonicalize().with_context(|| format!("cannot open {}", path.display()))?;
        let claim = lock(&path)?;
        let known = known_nodes(&path)?;
        if known > nodes {
            anyhow::bail!(
                "{} holds the data of {known} nodes, and {nodes} were asked for: start with --nodes {known} \
                 (and take nodes out with `trilith node drain` and `trilith node remove`), or give \
                 another --data",
                path.display()
            );
        }
        Ok(Self { path, _claim: claim })
    }

    /// The folder, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits a while for nodes of an earlier run that was killed: they end by themselves.
    pub async fn await_former_nodes(&self, layout: &Layout) {
        let deadline = Instant::now() + FORMER_NODES;
        for node in layout.nodes() {
            while is_node_alive(&node.folder) {
                if Instant::now() >= deadline {
                    note(format_args!("{} of an earlier run has not ended yet", node.name));
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn lock(path: &Path) -> anyhow::Result<File> {
    let file = path.join("dev.pid");
    let mut claim = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&file)?;
    if flock(&claim, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        claim.read_to_string(&mut pid)?;
        anyhow::bail!(
            "another `trilith dev` (process {}) runs on {}: stop it, or give another --data and --port-offset",
            pid.trim(),
            path.display()
        );
    }
    claim.set_len(0)?;
    claim.rewind()?;
    writeln!(claim, "{}", std::process::id())?;
    Ok(claim)
}

/// The highest N of the `node-N` that are there.
fn known_nodes(path: &Path) -> anyhow::Result<u16> {
    let mut highest = 0;
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("node-")).and_then(|n| n.parse().ok());
        highest = highest.max(number.unwrap_or(0));
    }
    Ok(highest)
}

/// Whether the process whose number is in the folder is one of a node. A number is used
/// again some day, so the process is asked for its name where the system tells it.
fn is_node_alive(folder: &Path) -> bool {
    let Ok(text) = fs::read_to_string(folder.join("pid")) else { return false };
    let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) else { return false };
    if test_kill_process(pid).is_err() {
        return false;
    }
    let name = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()));
    name.map_or(true, |name| name.trim() == "trilith-node")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_claimed_once() {
        let folder = tempfile::tempdir().unwrap();
        let first = Folder::claim(folder.path(), 3).unwrap();
        let why = Folder::claim(folder.path(), 3).unwrap_err().to_string();
        assert!(why.contains(&format!("process {}", std::process::id())), "{why}");
        drop(first);
        Folder::claim(folder.path(), 3).unwrap();
    }

    #[test]
    fn more_data_than_nodes_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("node-5")).unwrap();
        let why = Folder::claim(folder.path(), 3).unwrap_err().to_string();
        assert!(why.contains("--nodes 5"), "{why}");
        Folder::claim(folder.path(), 5).unwrap();
    }

    #[test]
    fn a_process_that_is_no_node_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_node_alive(folder.path()));
        fs::write(folder.path().join("pid"), std::process::id().to_string()).unwrap();
        assert!(!is_node_alive(folder.path()));
    }
}
