//! A readable file for each object, and what must never change by accident.

use serde_json::{Value, json};

use super::super::validate::{ValidCluster, ValidPool, validate};
use super::stateful_set::{Standing, stateful_set};
use super::*;

fn cluster_of(spec: Value) -> ValidCluster {
    let cluster = serde_json::from_value(json!({
        "apiVersion": "kv.trilith.dev/v1alpha1",
        "kind": "KVCluster",
        "metadata": {
            "name": "orders",
            "namespace": "shop",
            "uid": "7a1c8f0e-52b4-4d0e-9c6f-2f1f0a3b4c5d",
            "generation": 1,
        },
        "spec": spec,
    }))
    .unwrap();
    validate(&cluster, "registry.example/trilith-node:0.1.0", None).unwrap()
}

fn smallest() -> ValidCluster {
    cluster_of(json!({ "pools": [{ "name": "main" }] }))
}

/// A cluster that says everything that can be said.
fn everything() -> ValidCluster {
    cluster_of(json!({
        "image": "registry.example/trilith-node@sha256:00",
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{ "name": "registry" }],
        "pools": [{
            "name": "a",
            "replicas": 2,
            "zone": "zone-1",
            "resources": { "requests": { "cpu": "2", "memory": "4Gi" }, "limits": { "memory": "4Gi" } },
            "storage": { "size": "100Gi", "storageClassName": "fast" },
            "nodeSelector": { "disk": "nvme" },
            "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
                { "matchExpressions": [{ "key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"] }] },
            ] } } },
            "tolerations": [{ "key": "storage", "operator": "Exists" }],
            "topologySpreadConstraints": [
                { "maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule" },
            ],
            "priorityClassName": "high",
            "podLabels": { "team": "shop" },
            "podAnnotations": { "note": "mine" },
            "env": [{ "name": "MALLOC_ARENA_MAX", "value": "2" }],
        }],
        "doors": {
            "redis": "Enabled",
            "redisCluster": "Enabled",
            "text": "Enabled",
            "service": {
                "type": "LoadBalancer",
                "annotations": { "cloud.example/internal": "true" },
                "loadBalancerClass": "cloud.example/l4",
                "loadBalancerSourceRanges": ["10.0.0.0/8"],
                "externalTrafficPolicy": "Local",
            },
        },
        "config": { "block_cache_bytes": "1GiB", "worker_threads": 2, "log_level": "info: \"all\"" },
        "rebalance": { "bytesPerSecond": "50Mi" },
        "monitoring": { "serviceMonitor": "Enabled", "interval": "15s", "labels": { "release": "prometheus" } },
        "networkPolicy": {
            "mode": "Enabled",
            "clients": [{ "podSelector": { "matchLabels": { "uses": "orders" } } }],
        },
        "serviceAccount": { "name": "storage" },
    }))
}

fn pool(cluster: &ValidCluster) -> &ValidPool {
    &cluster.pools[0]
}

fn standing(cluster: &ValidCluster) -> Standing {
    Standing { cluster_id: cluster.uid, replicas: pool(cluster).replicas, claim_size: None, template: None }
}

macro_rules! snapshot {
    ($name:literal, $object:expr) => {
        insta::with_settings!({ snapshot_path => "snapshots", prepend_module_to_snapshot => false }, {
            insta::assert_yaml_snapshot!($name, $object);
        });
    };
}

#[test]
fn services() {
    snapshot!("service_nodes", service::nodes(&smallest()));
    snapshot!("service_client", service::client(&smallest()));
    snapshot!("service_client_everything", service::client(&everything()));
}

#[test]
fn stateful_sets() {
    let cluster = smallest();
    snapshot!("stateful_set", stateful_set(&cluster, pool(&cluster), &standing(&cluster)));
    let cluster = everything();
    snapshot!("stateful_set_everything", stateful_set(&cluster, pool(&cluster), &standing(&cluster)));
}

#[test]
fn the_rest() {
    let (small, all) = (smallest(), everything());
    snapshot!("claim", claim::claim(&all, pool(&all), 10, all.uid, true));
    snapshot!("config_map", config_map::config_map(&all));
    snapshot!("disruption_budget", disruption_budget::disruption_budget(&small).unwrap());
    snapshot!("service_account", service_account::service_account(&small).unwrap());
    snapshot!("network_policy", network_policy::network_policy(&all).unwrap());
    snapshot!("service_monitor", service_monitor::service_monitor(&all).unwrap());
}

#[test]
fn what_is_not_wanted_is_not_there() {
    let small = smallest();
    assert!(network_policy::network_policy(&small).is_none());
    assert!(service_monitor::service_monitor(&small).is_none());
    assert!(service_account::service_account(&everything()).is_none());
    let one =
        cluster_of(json!({ "pools": [{ "name": "a", "replicas": 1 }, { "name": "b", "replicas": 0 }] }));
    assert!(disruption_budget::disruption_budget(&one).is_none());
    let asleep = cluster_of(json!({ "pools": [{ "name": "a" }], "hibernate": "Enabled" }));
    assert!(disruption_budget::disruption_budget(&asleep).is_none());
}

#[test]
fn a_policy_for_no_client_lets_none_in() {
    let none = cluster_of(
        json!({ "pools": [{ "name": "a" }], "networkPolicy": { "mode": "Enabled", "clients": [] } }),
    );
    let policy = network_policy::network_policy(&none).unwrap();
    let rules = policy.spec.unwrap().ingress.unwrap();
    assert!(rules.iter().all(|rule| rule.from.as_ref().is_some_and(|from| !from.is_empty())));
    assert_eq!(rules.len(), 2);
}

/// If this fails, every storage pod of every user restarts with the next operator.
#[test]
fn the_hash_of_inputs_is_the_same_in_every_version() {
    let (small, all) = (smallest(), everything());
    assert_eq!(inputs::hash(&small, pool(&small)), "7367494718");
    assert_eq!(inputs::hash(&all, pool(&all)), "b862f7b29a");
}

#[test]
fn what_needs_no_restart_changes_no_hash() {
    let of = |spec| {
        let cluster = cluster_of(spec);
        inputs::hash(&cluster, pool(&cluster))
    };
    let before = of(json!({ "pools": [{ "name": "main" }] }));
    for same in [
        json!({ "pools": [{ "name": "main", "replicas": 5, "storage": { "size": "20Gi" } }, { "name": "b" }] }),
        json!({ "pools": [{ "name": "main" }], "rebalance": { "mode": "Manual", "bytesPerSecond": "1Mi" } }),
        json!({ "pools": [{ "name": "main" }], "doors": { "service": { "type": "NodePort" } } }),
        json!({ "pools": [{ "name": "main" }], "updates": { "timeout": "1h" }, "repair": { "delay": "1h" } }),
        json!({ "pools": [{ "name": "main" }], "monitoring": { "serviceMonitor": "Enabled" } }),
        json!({ "pools": [{ "name": "main" }], "imagePullPolicy": "Never" }),
        json!({ "pools": [{ "name": "main" }], "engine": { "compression": "Lz4", "bloomBits": 10 } }),
    ] {
        assert_eq!(of(same.clone()), before, "{same}");
    }
    for other in [
        json!({ "pools": [{ "name": "main" }], "version": "0.2.0" }),
        json!({ "pools": [{ "name": "main" }], "config": { "worker_threads": 2 } }),
        json!({ "pools": [{ "name": "main" }], "engine": { "memory": "1Gi" } }),
        json!({ "pools": [{ "name": "main" }], "engine": { "compression": "Zstd" } }),
        json!({ "pools": [{ "name": "main" }], "doors": { "redis": "Enabled" } }),
        json!({ "pools": [{ "name": "main", "resources": { "requests": { "cpu": "2" } } }] }),
        json!({ "pools": [{ "name": "main", "env": [{ "name": "A", "value": "1" }] }] }),
    ] {
        assert_ne!(of(other.clone()), before, "{other}");
    }
}

#[test]
fn settings_come_back_with_an_older_template() {
    let before = cluster_of(json!({ "pools": [{ "name": "main" }], "config": { "worker_threads": 2 } }));
    let after = cluster_of(json!({ "pools": [{ "name": "main" }], "config": { "worker_threads": 4 } }));
    assert_ne!(config_map::name(&before), config_map::name(&after));
    let good = pod::template(&before, pool(&before));
    let back = Standing { template: Some(good.clone()), ..standing(&after) };
    let set = stateful_set(&after, pool(&after), &back).spec.unwrap();
    assert_eq!(set.template, good);
    let volume = &set.template.spec.unwrap().volumes.unwrap()[0];
    assert_eq!(volume.config_map.as_ref().unwrap().name, config_map::name(&before));
}

#[test]
fn what_can_never_change_does_not_follow_the_spec() {
    let before = smallest();
    let set = stateful_set(&before, pool(&before), &standing(&before)).spec.unwrap();
    let templates = set.volume_claim_templates.clone().unwrap();
    let size =
        templates[0].spec.as_ref().unwrap().resources.as_ref().unwrap().requests.as_ref().unwrap()["storage"]
            .clone();
    let mut grown = before.clone();
    grown.pools[0].spec.storage.size = crds::ByteQuantity::new("1Ti");
    let kept = Standing { claim_size: Some(size), ..standing(&grown) };
    let after = stateful_set(&grown, pool(&grown), &kept).spec.unwrap();
    assert_eq!(after.volume_claim_templates, set.volume_claim_templates);
    assert_eq!(after.selector, set.selector);
}

/// The longest names still make labels and host names that Kubernetes takes.
#[test]
fn the_longest_names_fit() {
    let (cluster, pool) = ("c".repeat(25), "p".repeat(20));
    // A StatefulSet appends a hash of up to ten characters to its name, as a label.
    assert!(names::stateful_set(&cluster, &pool).len() + 1 + 10 <= 63);
    assert!(names::pod(&cluster, &pool, 99).len() <= 63);
    let longest = "c".repeat(crds::cluster::LONGEST_CLUSTER_NAME);
    assert!(names::nodes_service(&longest).len() <= 63);
}
