//! What was told to people about resources.

use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client};

/// The Events about resources of this name: `Type Reason: note`, the oldest first.
pub async fn about(client: &Client, namespace: &str, name: &str) -> anyhow::Result<Vec<String>> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let mut events = api.list(&ListParams::default()).await?.items;
    events.retain(|event| regarding(event) == Some(name));
    events.sort_by_key(|event| event.metadata.creation_timestamp.clone());
    Ok(events.iter().map(line).collect())
}

/// All Events of a namespace, for evidence.
pub async fn all(client: &Client, namespace: &str) -> anyhow::Result<Vec<String>> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let mut events = api.list(&ListParams::default()).await?.items;
    events.sort_by_key(|event| event.metadata.creation_timestamp.clone());
    let named = |event: &Event| {
        let when = event.event_time.as_ref().map(|time| time.0.to_string()).unwrap_or_default();
        format!("{when} {} {}", regarding(event).unwrap_or_default(), line(event))
    };
    Ok(events.iter().map(named).collect())
}

fn regarding(event: &Event) -> Option<&str> {
    event.regarding.as_ref().and_then(|object| object.name.as_deref())
}

fn line(event: &Event) -> String {
    format!(
        "{} {}: {}",
        event.type_.as_deref().unwrap_or_default(),
        event.reason.as_deref().unwrap_or_default(),
        event.note.as_deref().unwrap_or_default()
    )
}
