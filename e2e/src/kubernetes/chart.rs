//! The Helm chart, installed as a user installs it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::process::Command;

use super::{Kubernetes, repository};

/// The release, and the name of the operator's Deployment.
pub const RELEASE: &str = "trilith";
/// Where it is.
pub const NAMESPACE: &str = "trilith-system";
/// The tag of the images that the scenarios use.
pub const TAG: &str = "dev";
/// How long Helm may take, pods included.
const WITHIN: Duration = Duration::from_secs(120);

/// How a release differs from the chart's defaults.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Values, as `--set` takes them.
    pub values: Vec<String>,
    /// Whether to wait until the operator runs; not where it is made to end.
    pub returns_at_once: bool,
    /// Leave the CRDs alone, to be quicker.
    pub without_hooks: bool,
}

/// Installs the chart, or upgrades it to these values.
pub async fn install(kube: &Kubernetes, choice: &Choice) -> anyhow::Result<()> {
    let chart = repository().join("charts/trilith");
    let machine = kube.quiet_machine()?;
    let mut values = vec![
        format!("image.registry={}", kube.registry),
        format!("image.tag={TAG}"),
        // What takes machines away leaves the operator's alone: two operators are another scenario's matter.
        format!(r"operator.nodeSelector.kubernetes\.io/hostname={machine}"),
    ];
    values.extend(choice.values.iter().cloned());
    *kube.installed.lock() = None;
    let mut helm = Command::new("helm");
    helm.args(["upgrade", RELEASE, "--install", "--create-namespace", "--namespace", NAMESPACE]);
    helm.arg(chart).args(["--timeout", "100s"]);
    values.iter().for_each(|value| {
        helm.args(["--set", value]);
    });
    if !choice.returns_at_once {
        helm.arg("--wait");
    }
    if choice.without_hooks {
        helm.arg("--no-hooks");
    }
    run(helm).await?;
    *kube.installed.lock() = Some(choice.values.clone());
    Ok(())
}

/// Sees to it that the chart is installed with its defaults.
pub async fn ensure_installed(kube: &Kubernetes) -> anyhow::Result<()> {
    let is_default = kube.installed.lock().as_ref().is_some_and(Vec::is_empty);
    if is_default { Ok(()) } else { install(kube, &Choice::default()).await }
}

/// Runs the chart's own test, as `helm test` does.
pub async fn test() -> anyhow::Result<()> {
    let mut helm = Command::new("helm");
    helm.args(["test", RELEASE, "--namespace", NAMESPACE, "--timeout", "60s"]);
    run(helm).await
}

/// Removes the release. The CRDs stay, as Helm has it.
pub async fn uninstall(kube: &Kubernetes) -> anyhow::Result<()> {
    *kube.installed.lock() = None;
    let mut helm = Command::new("helm");
    helm.args(["uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found", "--wait"]);
    run(helm).await
}

async fn run(mut helm: Command) -> anyhow::Result<()> {
    let running = helm.kill_on_drop(true).output();
    let ended =
        tokio::time::timeout(WITHIN, running).await.context("helm hangs")?.context("cannot run helm")?;
    let told = [&ended.stdout, &ended.stderr].map(|told| String::from_utf8_lossy(told));
    ensure!(ended.status.success(), "helm failed: {}", told.join("\n"));
    Ok(())
}
