//! A pool as a `StatefulSet`. Kubernetes starts and restarts its pods; when a pod is replaced by one from a newer template
//! is the operator's to decide.

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use placement::ClusterId;

use super::super::validate::{ValidCluster, ValidPool};
use super::{claim, labels, names, owned, pod};

/// What a `StatefulSet` must be told besides what is declared.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The id of the cluster, which its claims carry.
    pub cluster_id: ClusterId,
    /// How many pods it should have now. It follows what is declared step by step.
    pub replicas: u32,
    /// The size in the template of its claims, where it exists already. That can never change; the claims themselves can.
    pub claim_size: Option<Quantity>,
    /// The template to make pods from, where it is not that of what is declared now.
    pub template: Option<PodTemplateSpec>,
}

/// The `StatefulSet` of a pool.
pub fn stateful_set(cluster: &ValidCluster, pool: &ValidPool, standing: &Standing) -> StatefulSet {
    let name = names::stateful_set(&cluster.name, &pool.spec.name);
    let template = standing.template.clone().unwrap_or_else(|| pod::template(cluster, pool));
    let keep = || Some("Retain".to_owned());
    StatefulSet {
        metadata: ObjectMeta {
            labels: Some(labels::of_pool(&cluster.name, &pool.spec.name)),
            ..owned(cluster, name)
        },
        spec: Some(StatefulSetSpec {
            replicas: Some(i32::try_from(standing.replicas).unwrap_or(i32::MAX)),
            selector: labels::matching(labels::pods_of_pool(&cluster.name, &pool.spec.name)),
            service_name: Some(names::nodes_service(&cluster.name)),
            // A cluster that was stopped needs a quorum of its nodes at once, not one after the other.
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                rolling_update: None,
            }),
            // Only the operator deletes a claim, after the data plane said that it may.
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: keep(),
                when_scaled: keep(),
            }),
            template,
            volume_claim_templates: Some(vec![claim_template(cluster, pool, standing)]),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

/// Claims are there before their pods are; this is what Kubernetes would make where somebody deletes one.
fn claim_template(cluster: &ValidCluster, pool: &ValidPool, standing: &Standing) -> PersistentVolumeClaim {
    let size = standing.claim_size.clone().unwrap_or_else(|| pool.spec.storage.size.quantity());
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(names::DATA.to_owned()),
            labels: Some(claim::labels(&cluster.name, &pool.spec.name, standing.cluster_id)),
            ..ObjectMeta::default()
        },
        spec: Some(claim::spec(pool, size)),
        ..PersistentVolumeClaim::default()
    }
}
