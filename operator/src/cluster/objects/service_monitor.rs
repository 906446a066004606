//! How the Prometheus operator is told to collect metrics. Its kind may not exist, so it is neither typed nor watched.

use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use serde_json::json;

use super::super::validate::ValidCluster;
use super::ports::HTTP;
use super::{labels, owned};

/// The kind, to be looked for before it is used.
pub fn kind() -> GroupVersionKind {
    GroupVersionKind::gvk("monitoring.coreos.com", "v1", "ServiceMonitor")
}

/// The kind as requests name it.
pub fn resource() -> ApiResource {
    ApiResource::from_gvk_with_plural(&kind(), "servicemonitors")
}

/// The `ServiceMonitor` of a cluster that wants one. It collects from each node by the Service of nodes, ready or not.
pub fn service_monitor(cluster: &ValidCluster) -> Option<DynamicObject> {
    let wanted = cluster.service_monitor.as_ref()?;
    let mut metadata = owned(cluster, cluster.name.clone());
    // Whatever a Prometheus asks for, the operator finds its own objects by its own labels.
    let mut all = wanted.labels.clone();
    all.extend(labels::of_cluster(&cluster.name));
    metadata.labels = Some(all);
    let mut object = DynamicObject::new(&cluster.name, &resource()).data(json!({
        "spec": {
            "selector": { "matchLabels": labels::nodes_service(&cluster.name) },
            "endpoints": [{ "port": HTTP.name, "path": "/metrics", "interval": wanted.interval }],
            "podTargetLabels": [crds::annotations::POOL],
        },
    }));
    object.metadata = metadata;
    Some(object)
}
