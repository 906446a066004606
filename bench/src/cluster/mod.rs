//! Real clusters of either system on this machine: started, observed, stopped.
//!
//! Both get three nodes on loopback, their data on the same disk, and their own defaults for
//! everything else, durability above all.

pub mod etcd;
pub mod http;
pub mod process;
pub mod redis;
pub mod trilith;

use std::{
    fs,
    future::Future,
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;
use tokio::time::{Instant, sleep};

pub use etcd::EtcdCluster;
pub use process::{Process, Usage};
pub use redis::RedisServer;
pub use trilith::TrilithCluster;

/// Nodes in a cluster under test.
pub const NODES: usize = 3;

/// How often a condition is looked at while it is waited for.
const POLL: Duration = Duration::from_millis(20);

/// Why a cluster could not be started or observed.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// A program is not where it should be.
    #[error("cannot find {program}: {advice}")]
    NoProgram {
        /// Which one.
        program: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// A program could not be started.
    #[error("cannot start {program}: {source}")]
    Spawn {
        /// Which one.
        program: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A process ended although it should run.
    #[error("{name} ended ({status}); the end of its log:\n{log}")]
    Ended {
        /// Which process.
        name: String,
        /// How it ended.
        status: String,
        /// Its last words.
        log: String,
    },
    /// A condition did not come true.
    #[error("waited {waited:?} for {what}")]
    TooLate {
        /// For what.
        what: String,
        /// How long.
        waited: Duration,
    },
    /// A file or a folder could not be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Something was read that makes no sense.
    #[error("{0}")]
    Unreadable(String),
    /// A call to a node failed.
    #[error(transparent)]
    Call(#[from] crate::target::TargetError),
}

impl From<tonic::Status> for ClusterError {
    fn from(status: tonic::Status) -> Self {
        Self::Call(status.into())
    }
}

impl ClusterError {
    /// A failed input or output, and what was tried.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        |source| Self::Io { what: what.into(), source }
    }
}

/// Looks again and again until `condition` gives something, or `patience` is over.
pub async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    patience: Duration,
    mut condition: impl FnMut() -> F,
) -> Result<T, ClusterError> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = condition().await {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(ClusterError::TooLate { what: what.to_owned(), waited: patience });
        }
        sleep(POLL).await;
    }
}

/// Looks for a program: where it was said to be, else beside this program or in `also`, else
/// on the `PATH`.
pub fn find_program(
    program: &'static str,
    given: Option<PathBuf>,
    also: Option<PathBuf>,
    advice: &'static str,
) -> Result<PathBuf, ClusterError> {
    let missing = || ClusterError::NoProgram { program, advice };
    if let Some(given) = given {
        return if given.is_file() { Ok(given) } else { Err(missing()) };
    }
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(program)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join(program));
    beside.into_iter().chain(also).chain(on_path).find(|place| place.is_file()).ok_or_else(missing)
}

/// A fresh folder for a cluster's data below `work`. It goes when it is dropped.
pub fn fresh_folder(work: &Path, name: &str) -> Result<tempfile::TempDir, ClusterError> {
    let cannot = || ClusterError::io(format!("cannot make a folder in {}", work.display()));
    fs::create_dir_all(work).map_err(cannot())?;
    tempfile::Builder::new().prefix(name).tempdir_in(work).map_err(cannot())
}
