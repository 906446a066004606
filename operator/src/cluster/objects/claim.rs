//! The claim of a node: the volume with its data.

use crds::annotations::{CLUSTER_ID, FIRST_CLAIM};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use placement::ClusterId;

use super::super::validate::{ValidCluster, ValidPool};
use super::labels::{self, Labels};
use super::names;

/// The claim of a pod, made before the pod can be. It belongs to nobody: whatever is deleted, the data stays until
/// the operator decides otherwise. The label `first` marks the one claim that the cluster is created on.
pub fn claim(
    cluster: &ValidCluster,
    pool: &ValidPool,
    ordinal: u32,
    cluster_id: ClusterId,
    first: bool,
) -> PersistentVolumeClaim {
    let mut all = self::labels(&cluster.name, &pool.spec.name, cluster_id);
    all.extend(first.then(|| (FIRST_CLAIM.to_owned(), "true".to_owned())));
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(names::claim(&cluster.name, &pool.spec.name, ordinal)),
            namespace: Some(cluster.namespace.clone()),
            labels: Some(all),
            ..ObjectMeta::default()
        },
        spec: Some(spec(pool, pool.spec.storage.size.quantity())),
        ..PersistentVolumeClaim::default()
    }
}

/// How the claims of a pool are found, and whose data they hold.
pub fn labels(cluster: &str, pool: &str, cluster_id: ClusterId) -> Labels {
    let mut all = labels::of_pool(cluster, pool);
    all.insert(CLUSTER_ID.to_owned(), cluster_id.to_string());
    all
}

/// What a claim asks for.
pub(super) fn spec(pool: &ValidPool, size: Quantity) -> PersistentVolumeClaimSpec {
    PersistentVolumeClaimSpec {
        access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
        storage_class_name: pool.spec.storage.storage_class_name.clone(),
        resources: Some(VolumeResourceRequirements {
            requests: Some([("storage".to_owned(), size)].into()),
            limits: None,
        }),
        ..PersistentVolumeClaimSpec::default()
    }
}
