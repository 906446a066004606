//! Pods: who runs where, and since when.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, Resource, ResourceExt as _};

use crate::until::until_every;

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// UIDs by name.
pub type Uids = BTreeMap<String, String>;

/// The pods of the storage nodes of a cluster.
pub async fn of_cluster(client: &Client, namespace: &str, cluster: &str) -> anyhow::Result<Vec<Pod>> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    Ok(api.list(&of(cluster)).await?.items)
}

/// The claims of a cluster.
pub async fn claims(
    client: &Client,
    namespace: &str,
    cluster: &str,
) -> anyhow::Result<Vec<PersistentVolumeClaim>> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let labels = ListParams::default().labels(&format!("app.kubernetes.io/instance={cluster}"));
    Ok(api.list(&labels).await?.items)
}

fn of(cluster: &str) -> ListParams {
    let labels = format!("app.kubernetes.io/instance={cluster},app.kubernetes.io/component=storage");
    ListParams::default().labels(&labels)
}

/// The UIDs of objects. A pod that restarted by being made anew has another.
pub fn uids<K: Resource>(objects: &[K]) -> Uids {
    objects.iter().map(|object| (object.name_any(), object.uid().unwrap_or_default())).collect()
}

/// Whether a pod is ready and not on its way out.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
    pod.metadata.deletion_timestamp.is_none() && ready.is_some_and(|condition| condition.status == "True")
}

/// The machine that a pod runs on.
pub fn machine(pod: &Pod) -> anyhow::Result<String> {
    let machine = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    machine.with_context(|| format!("{} is on no machine yet", pod.name_any()))
}

/// The image that a pod was made with.
pub fn image(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.containers.first()?.image.as_deref()
}

/// The address of a pod.
pub fn address(pod: &Pod) -> anyhow::Result<String> {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    address.with_context(|| format!("{} has no address yet", pod.name_any()))
}

/// How often the containers of a pod were started again.
pub fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|status| status.restart_count).sum()
}

/// Waits until there is another pod of a name than the one of that UID, and it is ready.
pub async fn await_another(
    client: &Client,
    namespace: &str,
    name: &str,
    before: Option<&str>,
    within: Duration,
) -> anyhow::Result<Pod> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    until_every(&format!("another pod {name} is ready"), within, LOOK_EVERY, async || {
        let pod = api.get(name).await?;
        anyhow::ensure!(pod.metadata.uid.as_deref() != before, "it is still the same");
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
        anyhow::ensure!(is_ready(&pod), "it is {phase}");
        Ok(pod)
    })
    .await
}

/// Deletes a pod.
pub async fn delete(client: &Client, namespace: &str, name: &str) -> anyhow::Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    api.delete(name, &DeleteParams::default()).await.with_context(|| format!("cannot delete pod {name}"))?;
    Ok(())
}

/// Evicts a pod, as `kubectl drain` does: a disruption budget is asked, once. Its refusal is one that
/// clients otherwise try again for as long as it stands.
pub async fn evict(namespace: &str, name: &str) -> anyhow::Result<()> {
    let mut config = kube::Config::infer().await.context("cannot tell which Kubernetes cluster to use")?;
    config.default_retry = false;
    let api: Api<Pod> = Api::namespaced(Client::try_from(config)?, namespace);
    let evicted = api.evict(name, &kube::api::EvictParams::default()).await;
    evicted.with_context(|| format!("cannot evict pod {name}"))?;
    Ok(())
}
