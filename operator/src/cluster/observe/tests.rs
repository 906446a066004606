use serde_json::{Value, json};

use super::*;

fn pod(state: &Value, last: &Value, restarts: i32) -> Pod {
    let pod = json!({
        "metadata": { "name": "kv-a-1", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": { POOL: "a" } },
        "status": {
            "phase": "Pending",
            "conditions": [{ "type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:05:00Z" }],
            "containerStatuses": [{
                "name": "node", "image": "", "imageID": "", "ready": false, "restartCount": restarts,
                "state": state, "lastState": last,
            }],
        },
    });
    pod_of("kv", &serde_json::from_value(pod).unwrap()).unwrap()
}

fn trouble(state: &Value, last: &Value, restarts: i32) -> (bool, String) {
    let pod = pod(state, last, restarts);
    (pod.never_ran, pod.trouble)
}

#[test]
fn what_is_wrong_is_said_in_the_same_words_while_it_is_the_same() {
    let waiting =
        |reason: &str, message: &str| json!({ "waiting": { "reason": reason, "message": message } });
    let cause = "rpc error: code = NotFound desc = no such image";
    let first = trouble(&waiting("ErrImagePull", cause), &json!({}), 0);
    let detail = format!("Back-off pulling image \"x\": ErrImagePull: {cause}");
    assert_eq!(trouble(&waiting("ImagePullBackOff", &detail), &json!({}), 0), first);
    assert_eq!(first, (true, format!("ImagePullBackOff: {cause}")));

    let ended = json!({ "terminated": { "exitCode": 1, "message": "no such setting\n" } });
    let crashed = (true, "CrashLoopBackOff: it ended with status 1 no such setting".to_owned());
    assert_eq!(trouble(&waiting("CrashLoopBackOff", "back-off 10s"), &ended, 3), crashed);
    assert_eq!(trouble(&waiting("CrashLoopBackOff", "back-off 20s"), &ended, 4), crashed);
    let running = json!({ "running": {} });
    assert_eq!(trouble(&running, &ended, 4), (false, crashed.1));
    assert_eq!(trouble(&running, &ended, 1), (false, String::new()), "it restarted once, and may be well");
}

#[test]
fn one_that_is_about_to_start_never_ran_and_one_that_restarts_did() {
    let creating = json!({ "waiting": { "reason": "ContainerCreating" } });
    assert_eq!(trouble(&creating, &json!({}), 0), (true, String::new()));
    assert_eq!(trouble(&creating, &json!({}), 1), (false, String::new()));
}

#[test]
fn being_late_counts_from_when_it_ceased_to_be_ready() {
    let pod = pod(&json!({ "running": {} }), &json!({}), 0);
    assert_eq!(pod.unready_since - pod.created, 300);
    assert!(!pod.is_late(pod.created + 500, 300));
    assert!(pod.is_late(pod.created + 600, 300));
}

#[test]
fn ordinals_are_numbers_and_others_are_nobody() {
    let named = |name: &str| seat("kv-a-", "a", name).map(|seat| seat.ordinal);
    assert_eq!((named("kv-a-10"), named("kv-a-2")), (Some(10), Some(2)));
    assert!(seat("kv-a-", "a", "kv-a-10") > seat("kv-a-", "a", "kv-a-2"));
    assert_eq!((named("kv-a-x"), named("kv-b-1")), (None, None));
}
