//! What is kept of a scenario that failed: its resources and Events, and beside them the logs of
//! every pod, see [`super::logs`].

use std::fs;
use std::path::{Path, PathBuf};

use crds::{KVCluster, KVTable};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::ListParams;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{events, repository};

/// Where everything is kept: `TRILITH_E2E_LOGS`, or `target/e2e`.
pub fn top() -> PathBuf {
    let asked = std::env::var_os("TRILITH_E2E_LOGS").map(PathBuf::from);
    asked.unwrap_or_else(|| repository().join("target/e2e"))
}

/// Where evidence of a scenario is kept.
pub fn folder(scenario: &str) -> PathBuf {
    top().join(scenario)
}

/// Forgets what is kept in a folder, where there is something.
pub fn forget(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        eprintln!("{} cannot be removed: {error}", folder.display());
    }
}

/// Keeps everything about a namespace. What cannot be had is left out: evidence of a failure must
/// not fail by itself.
pub async fn keep(client: &Client, namespace: &str, folder: &Path) {
    resources::<KVCluster>(client, namespace, folder, "kvclusters").await;
    resources::<KVTable>(client, namespace, folder, "kvtables").await;
    resources::<StatefulSet>(client, namespace, folder, "statefulsets").await;
    resources::<PersistentVolumeClaim>(client, namespace, folder, "claims").await;
    resources::<Pod>(client, namespace, folder, "pods").await;
    if let Ok(told) = events::all(client, namespace).await {
        write(folder, "events.txt", &told.join("\n"));
    }
}

async fn resources<K>(client: &Client, namespace: &str, folder: &Path, name: &str)
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Serialize
        + std::fmt::Debug,
    K::DynamicType: Default,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    if let Ok(list) = api.list(&ListParams::default()).await
        && let Ok(text) = serde_yaml::to_string(&list.items)
    {
        write(folder, &format!("{name}.yaml"), &text);
    }
}

/// Keeps a text in a folder.
pub fn write(folder: &Path, name: &str, text: &str) {
    if let Err(error) = fs::create_dir_all(folder).and_then(|()| fs::write(folder.join(name), text)) {
        eprintln!("{} cannot be kept: {error}", folder.join(name).display());
    }
}
