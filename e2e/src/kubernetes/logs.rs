//! What every pod says, written down while it says it. The log of a pod goes with the pod, and those
//! that a scenario loses or replaces are the ones that tell what went wrong.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use futures::{AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::task::JoinSet;

/// How much of a pod's UID tells it from its predecessors of the same name.
const SHORT_UID: usize = 8;

/// The writers of all logs of some namespaces. They end with this.
#[derive(Debug)]
pub struct Logs {
    _writers: JoinSet<()>,
}

impl Logs {
    /// Begins to write: a file for each run of each container.
    pub fn begin(client: &Client, namespaces: &[&str], folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("no logs can be kept in {}", folder.display()))?;
        let mut writers = JoinSet::new();
        for namespace in namespaces {
            writers.spawn(write_all(Api::namespaced(client.clone(), namespace), folder.to_owned()));
        }
        Ok(Self { _writers: writers })
    }
}

/// One run of a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Run {
    pod: String,
    uid: String,
    container: String,
    restarts: i32,
}

impl Run {
    fn file(&self) -> String {
        let uid: String = self.uid.chars().take(SHORT_UID).collect();
        format!("{}.{uid}.{}.{}.log", self.pod, self.container, self.restarts)
    }
}

async fn write_all(api: Api<Pod>, folder: PathBuf) {
    let mut begun = BTreeSet::new();
    let mut writers = JoinSet::new();
    let mut events = Box::pin(watcher(api.clone(), watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        let Ok(Event::Apply(pod) | Event::InitApply(pod)) = event else { continue };
        for run in runs(&pod) {
            if begun.insert(run.clone()) {
                writers.spawn(write(api.clone(), run, folder.clone()));
            }
        }
    }
}

/// The containers of a pod that have something to say.
fn runs(pod: &Pod) -> Vec<Run> {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let begun = statuses.filter(|status| {
        status.state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    });
    begun
        .map(|status| Run {
            pod: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            container: status.name.clone(),
            restarts: status.restart_count,
        })
        .collect()
}

/// Writes to the end of the run. What cannot be had is left out: evidence of a failure must not
/// fail by itself.
async fn write(api: Api<Pod>, run: Run, folder: PathBuf) {
    let how = LogParams { container: Some(run.container.clone()), follow: true, ..LogParams::default() };
    let Ok(log) = api.log_stream(&run.pod, &how).await else { return };
    let Ok(mut file) = File::create(folder.join(run.file())) else { return };
    let mut lines = Box::pin(log.lines());
    while let Ok(Some(line)) = lines.try_next().await {
        if writeln!(file, "{line}").is_err() {
            return;
        }
    }
}
