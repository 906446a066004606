//! What is told to people about a resource, as `kubectl describe` shows it.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

/// The name under which the operator tells.
const CONTROLLER: &str = "trilith-operator";
/// The longest note that the API server takes.
const LONGEST_NOTE: usize = 1024;
/// The longest action that it takes.
const LONGEST_ACTION: usize = 128;

/// Tells. What is told again becomes a count, not another Event.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl Events {
    /// Tells in the name of this operator.
    pub fn new(client: Client, identity: &str) -> Self {
        let reporter = Reporter { controller: CONTROLLER.to_owned(), instance: Some(identity.to_owned()) };
        Self { recorder: Recorder::new(client, reporter) }
    }

    /// Something was done.
    pub async fn did(&self, about: &ObjectReference, reason: &str, note: &str) {
        self.tell(EventType::Normal, about, reason, note).await;
    }

    /// Something is wrong.
    pub async fn warn(&self, about: &ObjectReference, reason: &str, note: &str) {
        self.tell(EventType::Warning, about, reason, note).await;
    }

    /// Nothing depends on an Event, so one that cannot be told is only logged.
    async fn tell(&self, type_: EventType, about: &ObjectReference, reason: &str, note: &str) {
        let event = event(type_, reason, note);
        // The version is another one after each status that is written, and the same resource is meant.
        let about = ObjectReference { resource_version: None, ..about.clone() };
        if let Err(error) = self.recorder.publish(&event, &about).await {
            tracing::warn!(%error, reason, "an event could not be told");
        }
    }
}

/// What is told again becomes a count by type, reason and action, and the first note stays. So the action says
/// what the note does, or the second of two pods would be told as a second time of the first.
fn event(type_: EventType, reason: &str, note: &str) -> Event {
    let action = if note.is_empty() { reason } else { note };
    Event {
        type_,
        reason: reason.to_owned(),
        note: Some(at_most(note, LONGEST_NOTE)),
        action: at_most(action, LONGEST_ACTION),
        secondary: None,
    }
}

/// As much of a text as fits, without breaking a character.
fn at_most(text: &str, bytes: usize) -> String {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told_apart_and_fits() {
        let one = event(EventType::Normal, "RestartPod", "Restart kv-a-0: it never ran");
        let other = event(EventType::Normal, "RestartPod", "Restart kv-a-1: it never ran");
        assert_ne!(one.action, other.action);
        let long = event(EventType::Warning, "Invalid", &"ü".repeat(2_000));
        assert_eq!((long.note.unwrap().len(), long.action.len()), (LONGEST_NOTE, LONGEST_ACTION));
    }
}
