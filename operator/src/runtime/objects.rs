//! Objects are applied when they differ from what was declared for them: never "to be sure".
//!
//! What is declared is applied by the server under one field manager, and its hash is kept on the
//! object. Two things make an object differ: its hash is of something else, or a field that was
//! declared has another value, because somebody else changed it.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Under which name fields are owned.
pub const MANAGER: &str = "trilith-operator";
/// The annotation that keeps the hash of what was declared.
pub const DECLARED: &str = "kv.trilith.dev/declared";

/// An object could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// Somebody else's object has the name.
    #[error("{kind} {name} is there already and belongs to somebody else: delete or rename it")]
    Taken {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The API server does not take it.
    #[error("{kind} {name} was refused: {}", said(source))]
    Refused {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// What the API server said.
        #[source]
        source: Box<kube::Error>,
    },
    /// It was changed since it was looked at.
    #[error("{kind} {name} was changed meanwhile")]
    Stale {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// It cannot be written as JSON.
    #[error("{kind} {name} cannot be written: {source}")]
    Unwritable {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// Writes a resource's status, where it is another one.
pub async fn tell<K, S>(client: &Client, resource: &K, before: &S, after: S) -> Result<(), kube::Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    S: PartialEq + Serialize,
{
    if *before == after {
        return Ok(());
    }
    let api: Api<K> = Api::namespaced(client.clone(), &resource.namespace().unwrap_or_default());
    let patch = json!({ "apiVersion": K::api_version(&()), "kind": K::kind(&()), "status": after });
    let how = PatchParams::apply(MANAGER).force();
    match api.patch_status(&resource.name_any(), &how, &Patch::Apply(patch)).await {
        Ok(_) => Ok(()),
        // It was deleted meanwhile.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

/// What the API server said, without what the client makes of it.
pub fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// What may be kept: a kind that this program knows, in a namespace.
pub trait Kept:
    Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + 'static
{
}

impl<K> Kept for K where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + 'static
{
}

/// Applies an object where the cached one differs from it; whether it did.
pub async fn keep<K: Kept>(client: &Client, cache: &Store<K>, declared: &K) -> Result<bool, ObjectError> {
    let namespace = declared.namespace().unwrap_or_default();
    let present = cache.get(&ObjectRef::new(&declared.name_any()).within(&namespace));
    let Some(value) = changed(declared, present.as_deref())? else { return Ok(false) };
    // The cache shows the operator's own objects only, so a name that it does not know may be
    // somebody else's.
    if present.is_none() {
        owned(client, declared).await?;
    }
    apply(client, declared, value).await.map(|_| true)
}

/// Applies an object over exactly the one that it was made from, or where there is none; gives it back as it
/// is then. Where the API server has a newer one nothing is done: what was decided may be wrong by now.
pub async fn keep_exactly<K: Kept>(
    client: &Client,
    present: Option<&K>,
    declared: &K,
) -> Result<Option<K>, ObjectError> {
    let Some(mut value) = changed(declared, present)? else { return Ok(None) };
    match present {
        Some(present) => {
            if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.extend([
                    ("uid".to_owned(), json!(present.uid())),
                    ("resourceVersion".to_owned(), json!(present.resource_version())),
                ]);
            }
        }
        None if owned(client, declared).await? => return Err(stale(declared)),
        None => {}
    }
    apply(client, declared, value).await.map(Some)
}

/// An object as it would be applied; none: the present one is so already.
fn changed<K: Kept>(declared: &K, present: Option<&K>) -> Result<Option<Value>, ObjectError> {
    let unwritable =
        |source| ObjectError::Unwritable { kind: kind(declared), name: declared.name_any(), source };
    let value = stamped(serde_json::to_value(declared).map_err(unwritable)?);
    let Some(present) = present else { return Ok(Some(value)) };
    let present = serde_json::to_value(present).map_err(unwritable)?;
    Ok(differs(&value, &present).then_some(value))
}

/// Whether there is an object of that name, which is the operator's. Somebody else's is an error.
async fn owned<K: Kept>(client: &Client, declared: &K) -> Result<bool, ObjectError> {
    let (name, namespace) = (declared.name_any(), declared.namespace().unwrap_or_default());
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    let there = api.get_opt(&name).await.map_err(|error| refused(declared, error))?;
    match there {
        Some(other) if !is_ours(&other, declared.meta().owner_references.as_deref()) => {
            Err(ObjectError::Taken { kind: kind(declared), name })
        }
        there => Ok(there.is_some()),
    }
}

async fn apply<K: Kept>(client: &Client, declared: &K, value: Value) -> Result<K, ObjectError> {
    let (name, namespace) = (declared.name_any(), declared.namespace().unwrap_or_default());
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    let how = PatchParams::apply(MANAGER).force();
    let applied = api.patch(&name, &how, &Patch::Apply(value)).await;
    let applied = applied.map_err(|error| refused(declared, error))?;
    tracing::info!(kind = kind(declared), namespace, name, "applied");
    Ok(applied)
}

fn kind<K: Kept>(_: &K) -> String {
    K::kind(&()).into_owned()
}

fn refused<K: Kept>(declared: &K, error: kube::Error) -> ObjectError {
    match error {
        // All fields are taken by force, so a conflict is one of versions.
        kube::Error::Api(status) if status.code == 409 => stale(declared),
        error => {
            ObjectError::Refused { kind: kind(declared), name: declared.name_any(), source: Box::new(error) }
        }
    }
}

fn stale<K: Kept>(declared: &K) -> ObjectError {
    ObjectError::Stale { kind: kind(declared), name: declared.name_any() }
}

/// Deletes exactly this object: one of the same name that was made later stays. One that is gone
/// is deleted already.
pub async fn delete<K>(api: &Api<K>, name: &str, uid: &str, force: bool) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let exactly = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    let mut how = DeleteParams::background().preconditions(exactly);
    how.grace_period_seconds = force.then_some(0);
    match api.delete(name, &how).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_ours<K: Resource>(object: &K, owners: Option<&[OwnerReference]>) -> bool {
    let labels = object.meta().labels.as_ref();
    let managed = labels.and_then(|labels| labels.get("app.kubernetes.io/managed-by"));
    let owned = object.meta().owner_references.as_deref().unwrap_or_default();
    let wanted = owners.unwrap_or_default();
    managed.is_some_and(|by| by == MANAGER)
        && (owned.is_empty()
            || wanted.is_empty()
            || owned.iter().any(|one| wanted.iter().any(|w| w.uid == one.uid)))
}

/// The object with the hash of itself.
fn stamped(mut value: Value) -> Value {
    let hash = format!("{:08x}", crc32c::crc32c(value.to_string().as_bytes()));
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        let annotations =
            metadata.entry("annotations").or_insert_with(|| Value::Object(serde_json::Map::new()));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(DECLARED.to_owned(), Value::String(hash));
        }
    }
    value
}

/// Whether a field that is declared has another value in the object. Fields that are not declared
/// are other people's, or the API server's defaults.
fn differs(declared: &Value, present: &Value) -> bool {
    match (declared, present) {
        (Value::Object(declared), Value::Object(present)) => declared.iter().any(|(name, value)| {
            match present.get(name) {
                Some(other) => differs(value, other),
                // The API server leaves out what is empty.
                None => !is_empty(value),
            }
        }),
        (Value::Array(declared), Value::Array(present)) => {
            declared.len() != present.len()
                || declared.iter().zip(present).any(|(one, other)| differs(one, other))
        }
        // Quantities are written anew by the API server: 1000m becomes 1. The hash tells whether
        // another one was declared.
        (Value::String(declared), Value::String(present)) => {
            declared != present && !(reads_as_quantity(declared) && reads_as_quantity(present))
        }
        (declared, present) => declared != present,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn reads_as_quantity(text: &str) -> bool {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).unwrap_or_default();
    let units = ["", "n", "u", "m", "k", "K", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit() || c == '.') && units.contains(&unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_declared_fields_are_compared() {
        let declared =
            json!({"spec": {"replicas": 3, "template": {"cpu": "1000m", "names": ["a"]}, "empty": {}}});
        let same = json!({"spec": {"replicas": 3, "template": {"cpu": "1", "names": ["a"], "default": 1}}});
        assert!(!differs(&declared, &same));
        let scaled = json!({"spec": {"replicas": 4, "template": {"cpu": "1", "names": ["a"]}}});
        assert!(differs(&declared, &scaled));
        let longer = json!({"spec": {"replicas": 3, "template": {"cpu": "1", "names": ["a", "b"]}}});
        assert!(differs(&declared, &longer));
    }

    #[test]
    fn the_hash_tells_what_comparing_cannot() {
        let stamp = |cpu: &str| stamped(json!({"metadata": {"name": "a"}, "spec": {"cpu": cpu}}));
        assert!(differs(&stamp("2"), &stamp("1")), "another quantity was declared");
        let fewer = stamped(json!({"metadata": {"name": "a"}, "spec": {}}));
        assert!(differs(&fewer, &stamp("1")), "a field is declared no longer");
        assert!(!differs(&stamp("1"), &stamp("1")));
    }
}
