//! As whom the pods run. Nodes ask nothing of the API server, so no permission is bound to it and no token mounted.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::super::validate::ValidCluster;
use super::{names, owned};

/// The `ServiceAccount` of a cluster, unless its spec names one that exists.
pub fn service_account(cluster: &ValidCluster) -> Option<ServiceAccount> {
    let wanted = &cluster.service_account;
    wanted.name.is_none().then(|| {
        let mut metadata = owned(cluster, names::service_account(&cluster.name));
        if !wanted.annotations.is_empty() {
            metadata.annotations = Some(wanted.annotations.clone());
        }
        ServiceAccount { metadata, automount_service_account_token: Some(false), ..ServiceAccount::default() }
    })
}
