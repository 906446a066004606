//! A resource is held so that its data can be deleted before it goes, and only under the policy that says so.

use crds::KVCluster;
use crds::annotations::FINALIZER;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{Hands, HeldBy, Taken, api_server};
use crate::cluster::context::Context;
use crate::cluster::objects::labels;
use crate::runtime::objects::MANAGER;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

impl Hands<'_> {
    /// Lets the resource go. Under the policy that deletes data the API server is asked first whether any is
    /// left: a claim that was made a moment ago may be in no cache yet.
    pub(super) async fn let_go(&self) -> Taken {
        if self.deletes_data() {
            let api: Api<PersistentVolumeClaim> = self.api();
            let own = labels::query(&labels::of_cluster(&self.name()));
            let left = api.list(&ListParams::default().labels(&own)).await.map_err(api_server)?;
            if let Some(claim) = left.items.first() {
                return Err((HeldBy::News, format!("Claim {} is still there.", claim.name_any())));
            }
        }
        set_finalizer(self.context, self.resource, false).await.map_err(api_server)
    }

    fn deletes_data(&self) -> bool {
        self.resource.spec.claim_retention.when_deleted == crds::cluster::Retention::Delete
    }
}

/// Holds a resource, so that its data can be deleted before it goes; or lets it go. It fails where the resource
/// was changed meanwhile, and is tried again.
pub async fn set_finalizer(context: &Context, resource: &KVCluster, held: bool) -> Result<(), kube::Error> {
    let mut finalizers = resource.finalizers().to_vec();
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    if held {
        finalizers.push(FINALIZER.to_owned());
    }
    if finalizers == resource.finalizers() {
        return Ok(());
    }
    let api: Api<KVCluster> =
        Api::namespaced(context.client.clone(), &resource.namespace().unwrap_or_default());
    let how = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let patch = json!({
        "metadata": { "finalizers": finalizers, "resourceVersion": resource.resource_version() },
    });
    match api.patch(&resource.name_any(), &how, &Patch::Merge(patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}
