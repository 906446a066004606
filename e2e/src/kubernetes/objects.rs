//! Resources of any kind: as YAML says them, and whatever there is of one label.

use anyhow::Context as _;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{GroupVersionKind, TypeMeta};
use kube::discovery::{ApiCapabilities, ApiGroup, ApiResource, Discovery, Scope, pinned_kind, verbs};
use kube::{Api, Client, ResourceExt as _};
use serde::Deserialize as _;
use serde_json::Value;

/// As whom scenarios write.
pub const MANAGER: &str = "trilith-e2e";

/// Applies all resources of a YAML text, as `kubectl apply --server-side` does. Those that have a
/// namespace and name none go into this one.
pub async fn apply(client: &Client, namespace: &str, yaml: &str) -> anyhow::Result<()> {
    for object in parse(yaml)? {
        apply_one(client, namespace, &object).await?;
    }
    Ok(())
}

/// The names of all objects in a namespace, of whatever kind, that carry a label.
pub async fn labelled(client: &Client, namespace: &str, label: &str) -> anyhow::Result<Vec<String>> {
    let of_it = ListParams::default().labels(label);
    let discovery = Discovery::new(client.clone()).run().await.context("the kinds that there are")?;
    let mut found = Vec::new();
    for (resource, capabilities) in discovery.groups().flat_map(ApiGroup::recommended_resources) {
        if capabilities.scope == Scope::Cluster || !capabilities.supports_operation(verbs::LIST) {
            continue;
        }
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        let objects = api.list(&of_it).await.with_context(|| format!("cannot list {}", resource.plural))?;
        found.extend(objects.iter().map(|object| format!("{} {}", resource.kind, object.name_any())));
    }
    Ok(found)
}

fn parse(yaml: &str) -> anyhow::Result<Vec<DynamicObject>> {
    let documents = serde_yaml::Deserializer::from_str(yaml);
    let objects = documents.map(|document| {
        let value = Value::deserialize(document).context("this is no YAML")?;
        if value.is_null() {
            return Ok(None);
        }
        serde_json::from_value(value).map(Some).context("this is no resource")
    });
    objects.filter_map(Result::transpose).collect()
}

async fn apply_one(client: &Client, namespace: &str, object: &DynamicObject) -> anyhow::Result<()> {
    let name = object.name_any();
    let types = object.types.clone().context("a resource without a kind")?;
    let api = api_of(client, namespace, &types, object.namespace()).await?;
    let how = PatchParams::apply(MANAGER).force();
    let applied = api.patch(&name, &how, &Patch::Apply(object)).await;
    applied.with_context(|| format!("cannot apply {} {name}", types.kind))?;
    Ok(())
}

async fn api_of(
    client: &Client,
    namespace: &str,
    what: &TypeMeta,
    own_namespace: Option<String>,
) -> anyhow::Result<Api<DynamicObject>> {
    let (resource, capabilities): (ApiResource, ApiCapabilities) =
        pinned_kind(client, &GroupVersionKind::try_from(what)?)
            .await
            .with_context(|| format!("the API server does not know the kind {}", what.kind))?;
    Ok(match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = own_namespace.as_deref().unwrap_or(namespace);
            Api::namespaced_with(client.clone(), namespace, &resource)
        }
    })
}
