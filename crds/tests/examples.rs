//! The samples in `examples/` say nothing that the types do not know.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::Path;

use crds::{KVCluster, KVTable};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Everything that was given is there after a way through the types, unchanged.
fn holds(given: &Value, kept: &Value) -> bool {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            given.iter().all(|(name, value)| kept.get(name).is_some_and(|kept| holds(value, kept)))
        }
        (Value::Array(given), Value::Array(kept)) => {
            given.len() == kept.len() && given.iter().zip(kept).all(|(given, kept)| holds(given, kept))
        }
        _ => given == kept,
    }
}

fn read<T: DeserializeOwned + Serialize>(given: &Value) -> T {
    let read: T = serde_json::from_value(given.clone()).unwrap();
    let kept = serde_json::to_value(&read).unwrap();
    assert!(holds(given, &kept), "something is not known:\n{given:#}\n{kept:#}");
    read
}

fn sample(file: &str) -> (KVCluster, KVTable) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let documents: Vec<Value> = serde_yaml::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).unwrap())
        .collect();
    let [cluster, table] = documents.as_slice() else { panic!("{file} has a cluster and a table") };
    (read(cluster), read(table))
}

#[test]
fn samples_say_nothing_unknown() {
    for file in ["smallest.yaml", "three-zones.yaml", "development.yaml"] {
        let (cluster, table) = sample(file);
        assert_eq!(Some(&table.spec.cluster), cluster.metadata.name.as_ref(), "{file}");
        let nodes: i32 = cluster.spec.pools.iter().map(|pool| pool.replicas).sum();
        assert!(table.spec.replicas <= nodes, "{file}");
    }
}

#[test]
fn something_unknown_would_be_found() {
    let given = serde_json::json!({ "metadata": { "name": "a" }, "spec": { "cluster": "a", "ttl": "1h" } });
    let kept = serde_json::to_value(serde_json::from_value::<KVTable>(given.clone()).unwrap()).unwrap();
    assert!(!holds(&given, &kept));
}
