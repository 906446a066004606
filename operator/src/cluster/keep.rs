//! The objects of a cluster that follow from what is declared alone are kept as they should be.
//! They change no topology and restart nothing.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};

use super::objects::{
    config_map, disruption_budget, network_policy, service, service_account, service_monitor,
};
use super::observe::Found;
use super::validate::ValidCluster;
use crate::dataplane::Where;
use crate::runtime::caches::{Caches, of_cluster};
use crate::runtime::objects::{self, MANAGER, ObjectError};

/// Keeps everything but pools and claims. All is tried, and the first failure is told: a quota on
/// one kind must not keep the others from being there.
pub async fn objects(client: &Client, caches: &Caches, cluster: &ValidCluster) -> Result<(), ObjectError> {
    let mut failed = None;
    let mut note = |result: Result<bool, ObjectError>| {
        if let Err(error) = result {
            failed.get_or_insert(error);
        }
    };
    if let Some(account) = service_account::service_account(cluster) {
        note(objects::keep(client, &caches.accounts, &account).await);
    }
    note(objects::keep(client, &caches.config_maps, &config_map::config_map(cluster)).await);
    note(objects::keep(client, &caches.services, &service::nodes(cluster)).await);
    note(objects::keep(client, &caches.services, &service::client(cluster)).await);
    if let Some(budget) = disruption_budget::disruption_budget(cluster) {
        note(objects::keep(client, &caches.budgets, &budget).await);
    }
    if let Some(policy) = network_policy::network_policy(cluster) {
        note(objects::keep(client, &caches.policies, &policy).await);
    }
    failed.map_or(Ok(()), Err)
}

/// Deletes what is not declared any more: budgets and policies that were switched off, and settings
/// that neither a template nor a pod names.
pub async fn prune(
    client: &Client,
    caches: &Caches,
    cluster: &ValidCluster,
    found: &Found,
) -> Result<(), kube::Error> {
    let which = Where { namespace: cluster.namespace.clone(), name: cluster.name.clone() };
    if disruption_budget::disruption_budget(cluster).is_none() {
        let api: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), &which.namespace);
        for budget in of_cluster(&caches.budgets, &which) {
            objects::delete(&api, &budget.name_any(), &budget.uid().unwrap_or_default(), false).await?;
        }
    }
    if network_policy::network_policy(cluster).is_none() {
        let api: Api<NetworkPolicy> = Api::namespaced(client.clone(), &which.namespace);
        for policy in of_cluster(&caches.policies, &which) {
            objects::delete(&api, &policy.name_any(), &policy.uid().unwrap_or_default(), false).await?;
        }
    }
    let used = settings_in_use(caches, cluster, found, &which);
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &which.namespace);
    let prefix = config_map::name_prefix(&cluster.name);
    for settings in of_cluster(&caches.config_maps, &which) {
        let name = settings.name_any();
        if name.starts_with(&prefix) && !used.contains(&name) {
            objects::delete(&api, &name, &settings.uid().unwrap_or_default(), false).await?;
        }
    }
    Ok(())
}

/// Keeps the `ServiceMonitor`, where one is wanted and its kind exists; whether that is so is told. One that is
/// not wanted any more is deleted.
pub async fn monitoring(client: &Client, cluster: &ValidCluster) -> Result<bool, kube::Error> {
    let resource = service_monitor::resource();
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &cluster.namespace, &resource);
    let Some(monitor) = service_monitor::service_monitor(cluster) else {
        return delete_monitor(&api, cluster).await.map(|()| true);
    };
    match api.patch(&monitor.name_any(), &PatchParams::apply(MANAGER).force(), &Patch::Apply(&monitor)).await
    {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}

/// Deletes the `ServiceMonitor` that the operator made. Without the kind or the permission there is none.
async fn delete_monitor(api: &Api<DynamicObject>, cluster: &ValidCluster) -> Result<(), kube::Error> {
    let monitor = match api.get(&cluster.name).await {
        // Of a kind that there is not, an API server says in bare text that it is not found.
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => return Ok(()),
        monitor => monitor?,
    };
    if !monitor.owner_references().iter().any(|owner| owner.uid == cluster.owner.uid) {
        return Ok(());
    }
    let exactly = Preconditions { uid: monitor.uid(), resource_version: None };
    let how = DeleteParams::background().preconditions(exactly);
    match api.delete(&cluster.name, &how).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error),
    }
}

fn settings_in_use(
    caches: &Caches,
    cluster: &ValidCluster,
    found: &Found,
    which: &Where,
) -> BTreeSet<String> {
    let mut used: BTreeSet<String> = [config_map::name(cluster)].into();
    let mut note = |spec: Option<&k8s_openapi::api::core::v1::PodSpec>| {
        let volumes = spec.and_then(|spec| spec.volumes.as_ref()).into_iter().flatten();
        used.extend(volumes.filter_map(|volume| Some(volume.config_map.as_ref()?.name.clone())));
    };
    for pod in of_cluster(&caches.pods, which) {
        note(pod.spec.as_ref());
    }
    for set in found.sets.values() {
        note(set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()));
        if let Some(good) = super::sets::good_template(set) {
            note(good.spec.as_ref());
        }
    }
    used
}
