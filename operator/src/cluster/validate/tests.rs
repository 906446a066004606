use serde_json::json;

use super::*;

const DEFAULT: &str = "registry.example:5000/trilith-node:0.1.0";

fn cluster(spec: serde_json::Value) -> KVCluster {
    serde_json::from_value(json!({
        "apiVersion": "kv.trilith.dev/v1alpha1",
        "kind": "KVCluster",
        "metadata": {
            "name": "orders",
            "namespace": "shop",
            "uid": "7a1c8f0e-52b4-4d0e-9c6f-2f1f0a3b4c5d",
            "generation": 4,
        },
        "spec": spec,
    }))
    .unwrap()
}

fn problems(cluster: &KVCluster) -> Vec<String> {
    match validate(cluster, DEFAULT, None) {
        Ok(_) => Vec::new(),
        Err(Invalid(problems)) => problems.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_smallest_cluster_is_valid() {
    let valid = validate(&cluster(json!({ "pools": [{ "name": "a" }] })), DEFAULT, None).unwrap();
    assert_eq!((valid.nodes(), valid.image.as_str(), valid.generation), (3, DEFAULT, 4));
    assert_eq!(valid.pool("a").unwrap().storage_bytes, 10 << 30);
    assert_eq!(valid.repair_after, Some(Duration::from_secs(600)));
    assert_eq!(valid.owner.controller, Some(true));
    assert!(!valid.paused && valid.service_monitor.is_none() && valid.disruption_budget);
}

#[test]
fn all_problems_are_told_at_once() {
    let bad = cluster(json!({
        "version": "0.2.0",
        "image": "x",
        "pools": [
            { "name": "a", "replicas": 60, "storage": { "size": "0" } },
            { "name": "a", "replicas": 50, "env": [{ "name": "TRILITH_DATA" }] },
            { "name": "B_", "replicas": -1, "storage": { "size": "lots" } },
        ],
        "config": { "data": "/", "Worker-Threads": 2 },
        "updates": { "timeout": "1s" },
        "rebalance": { "concurrentMoves": 0 },
        "repair": { "delay": "soon" },
    }));
    insta::assert_snapshot!(problems(&bad).join("\n"));
}

#[test]
fn no_quorum_is_possible_without_a_node() {
    let none = cluster(json!({ "pools": [{ "name": "a", "replicas": 0 }] }));
    assert!(problems(&none)[0].starts_with("spec.pools: at least one replica is needed"));
}

#[test]
fn names_leave_room_for_pods() {
    let mut long = cluster(json!({ "pools": [{ "name": "backup" }] }));
    long.metadata.name = Some("c".repeat(40));
    assert!(problems(&long)[0].contains("together more than 45"));
    for name in ["", "-a", "1a", "A", "a.b", "orders-nodes"] {
        long.metadata.name = Some(name.to_owned());
        assert!(!problems(&long).is_empty(), "{name}");
    }
}

#[test]
fn an_open_image_stays_what_it_was() {
    let open = cluster(json!({ "pools": [{ "name": "a" }] }));
    let image = |cluster: &KVCluster, recorded| validate(cluster, DEFAULT, recorded).unwrap().image;
    assert_eq!(
        image(&open, Some("registry.example/trilith-node:0.0.9")),
        "registry.example/trilith-node:0.0.9"
    );
    let version = cluster(json!({ "version": "0.2.0", "pools": [{ "name": "a" }] }));
    assert_eq!(image(&version, Some("other:1")), "registry.example:5000/trilith-node:0.2.0");
    let named = cluster(json!({ "image": "mine@sha256:00", "pools": [{ "name": "a" }] }));
    assert_eq!(image(&named, Some("other:1")), "mine@sha256:00");
}

#[test]
fn a_repository_is_what_stands_before_tag_and_digest() {
    for (image, name) in
        [("a", "a"), ("a:1", "a"), ("r:5000/a", "r:5000/a"), ("r:5000/a:1@sha256:0", "r:5000/a")]
    {
        assert_eq!(repository(image), name, "{image}");
    }
}

#[test]
fn settings_have_types_also_where_they_are_quoted() {
    let given = json!({ "worker_threads": "2", "a": 3, "b": "true", "block_cache_bytes": "1GiB" });
    let valid =
        validate(&cluster(json!({ "pools": [{ "name": "a" }], "config": given })), DEFAULT, None).unwrap();
    let settings: Vec<_> = valid.config.into_values().collect();
    let text = Setting::Text("1GiB".to_owned());
    assert_eq!(settings, [Setting::Number(3), Setting::Bool(true), text, Setting::Number(2)]);
}

#[test]
fn an_engine_of_defaults_sets_nothing() {
    let said = json!({
        "compression": "Lz4",
        "bloomBits": 10,
        "memoryMappedReads": "Disabled",
        "backgroundBytesPerSecond": "0",
    });
    for engine in [json!({}), said] {
        let cluster = cluster(json!({ "pools": [{ "name": "a" }], "engine": engine }));
        assert!(validate(&cluster, DEFAULT, None).unwrap().config.is_empty());
    }
}

#[test]
fn an_engine_becomes_settings_of_the_nodes() {
    let given = cluster(json!({
        "pools": [{ "name": "a", "resources": { "limits": { "memory": "2Gi" } } }],
        "engine": {
            "memory": "1Gi",
            "blockCache": "512Mi",
            "compression": "Zstd",
            "bloomBits": 0,
            "memoryMappedReads": "Enabled",
            "backgroundBytesPerSecond": "20M",
        },
        "config": { "worker_threads": 2 },
    }));
    let told = validate(&given, DEFAULT, None).unwrap().config;
    let text = |text: &str| Setting::Text(text.to_owned());
    let expected = [
        ("background_bytes_per_second", Setting::Number(20_000_000)),
        ("block_cache_bytes", Setting::Number(512 << 20)),
        ("bloom_bits", Setting::Number(0)),
        ("compression", text("zstd")),
        ("memory", Setting::Number(1 << 30)),
        ("memory_mapped_reads", text("on")),
        ("worker_threads", Setting::Number(2)),
    ];
    assert_eq!(told.into_iter().collect::<Vec<_>>(), expected.map(|(name, value)| (name.to_owned(), value)));
}

#[test]
fn an_engine_that_cannot_be_is_refused() {
    let bad = cluster(json!({
        "pools": [{ "name": "a", "resources": { "limits": { "memory": "128Mi" } } }],
        "engine": { "memory": "200Mi", "bloomBits": 99, "backgroundBytesPerSecond": "1k", "compression": "None" },
        "config": { "compression": "zstd" },
    }));
    insta::assert_snapshot!(problems(&bad).join("\n"));
}

#[test]
fn annotations_pause_and_approve() {
    let mut paused = cluster(json!({ "pools": [{ "name": "a" }] }));
    let annotations = [(PAUSED, "true"), (APPROVED_PLAN, "1f2e")];
    paused.metadata.annotations = Some(annotations.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    let valid = validate(&paused, DEFAULT, None).unwrap();
    assert!(valid.paused);
    assert_eq!(valid.rebalance.approved_plan.as_deref(), Some("1f2e"));
}
