//! What a scenario does to a Kubernetes cluster, and what it may wait for.
//!
//! ```text
//!   stage      one scenario's namespace: say, figure, apply, await_…   ◀── start here
//!     ├─ objects     what YAML says, and all there is of a label
//!     ├─ conditions  wait until a resource says so
//!     ├─ pods        who runs where, since when
//!     ├─ events      what was told to people
//!     ├─ witness     the application in the cluster
//!     ├─ watchman    sees every pod and claim that is deleted, and asks whether it might be
//!     ├─ logs        what every pod says, written down while it says it
//!     └─ evidence    what is kept of a scenario that failed
//!   machines   kill, start, cut, join
//!   chart      helm
//!   operator   what it costs, how it is made to end
//!   table      what came of all of them
//! ```

pub mod chart;
pub mod conditions;
pub mod events;
pub mod evidence;
pub mod logs;
pub mod machines;
pub mod objects;
pub mod operator;
pub mod pods;
pub mod samples;
pub mod stage;
pub mod table;
pub mod watchman;
pub mod witness;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use kube::Client;

pub use stage::Stage;

use crate::history::guarded::Guarded;

/// The Kubernetes cluster that all scenarios share.
#[derive(Clone)]
pub struct Kubernetes {
    /// Its API server.
    pub client: Client,
    /// The machines that pods can run on, in order.
    pub machines: Vec<String>,
    /// Where images come from.
    pub registry: String,
    /// The values with which the chart was installed last, by these scenarios.
    installed: Arc<Guarded<Option<Vec<String>>>>,
}

impl Kubernetes {
    /// The cluster that `KUBECONFIG` names, which `e2e/cluster/cluster up` gave.
    pub async fn connect() -> anyhow::Result<Self> {
        let client = Client::try_default().await.context("cannot tell which Kubernetes cluster to use")?;
        let version = client.apiserver_version().await.context("the API server does not answer")?;
        let machines = machines::list().await?;
        eprintln!("Kubernetes {} with the machines {}", version.git_version, machines.join(", "));
        let registry = std::env::var("TRILITH_E2E_REGISTRY").unwrap_or_else(|_| "local.test".to_owned());
        Ok(Self { client, machines, registry, installed: Arc::default() })
    }

    /// The machine that scenarios leave alone: operator and witness run there.
    pub fn quiet_machine(&self) -> anyhow::Result<&str> {
        self.machines.first().map(String::as_str).context("the cluster has no machine")
    }

    /// The full name of an image.
    pub fn image(&self, name: &str, tag: &str) -> String {
        format!("{}/{name}:{tag}", self.registry)
    }
}

/// The top of the repository.
fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
