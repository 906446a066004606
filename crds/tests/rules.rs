//! The rules of the schemas, evaluated as the API server does, and their defaults.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use crds::cluster::{Compression, Pool, RebalanceMode, Retention, Unavailability};
use crds::table::{Demand, Values};
use crds::table::{Index, IndexType};
use crds::{ByteQuantity, KVCluster, KVClusterSpec, KVTable, KVTableSpec, Switch, TimeSpan, definitions};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::core::cel::Validator;
use serde_json::{Value, json};

fn schema(definition: CustomResourceDefinition) -> JSONSchemaProps {
    definition.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap()
}

/// What the rules say to an object, and to its change from another.
fn said(definition: CustomResourceDefinition, object: &Value, before: Option<&Value>) -> Vec<String> {
    let schema = serde_json::to_value(schema(definition)).unwrap();
    match Validator::new().validate(&schema, object, before) {
        Ok(()) => Vec::new(),
        Err(errors) => vec![errors.to_string()],
    }
}

fn cluster(name: &str, pools: Vec<Pool>) -> KVCluster {
    KVCluster::new(name, KVClusterSpec::of_pools(pools))
}

fn cluster_says(cluster: &KVCluster, before: Option<&KVCluster>) -> String {
    let json = |cluster| serde_json::to_value(cluster).unwrap();
    said(definitions::kvclusters(), &json(cluster), before.map(json).as_ref()).join("\n")
}

fn table_says(table: &KVTable, before: Option<&KVTable>) -> String {
    let json = |table| serde_json::to_value(table).unwrap();
    said(definitions::kvtables(), &json(table), before.map(json).as_ref()).join("\n")
}

#[test]
fn a_cluster_of_defaults_is_good() {
    let good = cluster("orders", vec![Pool::new("a", 3), Pool::new("b", 0)]);
    assert_eq!(cluster_says(&good, None), "");
    assert_eq!(cluster_says(&good, Some(&good)), "");
}

#[test]
fn a_cluster_needs_a_node_and_has_at_most_a_hundred() {
    let none = cluster("orders", vec![Pool::new("a", 0)]);
    assert!(cluster_says(&none, None).contains("at least one pool needs a replica"));
    let many = cluster("orders", vec![Pool::new("a", 60), Pool::new("b", 41)]);
    assert!(cluster_says(&many, None).contains("at most 100 replicas"));
}

#[test]
fn names_fit_into_the_names_of_pods() {
    let long = cluster(&"c".repeat(40), vec![Pool::new("backup", 3)]);
    assert!(cluster_says(&long, None).contains("together at most 45"));
    let fits = cluster(&"c".repeat(39), vec![Pool::new("backup", 3)]);
    assert_eq!(cluster_says(&fits, None), "");
    let taken = cluster("orders-nodes", vec![Pool::new("a", 3)]);
    assert!(cluster_says(&taken, None).contains("does not end in -nodes"));
}

#[test]
fn a_version_and_an_image_exclude_each_other() {
    let mut both = cluster("orders", vec![Pool::new("a", 3)]);
    both.spec.version = Some("0.2.0".to_owned());
    assert_eq!(cluster_says(&both, None), "");
    both.spec.image = Some("registry.example/trilith-node:0.2.0".to_owned());
    assert!(cluster_says(&both, None).contains("not both"));
}

#[test]
fn memory_and_rates_are_enough_to_run_with() {
    let good = cluster("orders", vec![Pool::new("a", 3)]);
    let of = |memory: Option<&str>, cache: Option<&str>, rate: &str| {
        let mut cluster = good.clone();
        cluster.spec.engine.memory = memory.map(ByteQuantity::new);
        cluster.spec.engine.block_cache = cache.map(ByteQuantity::new);
        cluster.spec.engine.background_bytes_per_second = ByteQuantity::new(rate);
        cluster_says(&cluster, None)
    };
    for (memory, cache, rate) in
        [(Some("256Mi"), None, "0"), (Some("2Gi"), Some("1Gi"), "1Mi"), (None, Some("8Gi"), "50M")]
    {
        assert_eq!(of(memory, cache, rate), "", "{memory:?} {cache:?} {rate}");
    }
    assert!(of(Some("255Mi"), None, "0").contains("at least 256Mi"));
    assert!(of(Some("1Gi"), Some("1024Mi"), "0").contains("blockCache is a part of memory"));
    assert!(of(None, None, "1000k").contains("less than 1Mi a second"));
}

#[test]
fn a_setting_is_in_one_place() {
    let mut both = cluster("orders", vec![Pool::new("a", 3)]);
    both.spec.config = serde_json::from_value(json!({ "memory": "1GiB", "compression": "none" })).unwrap();
    assert_eq!(cluster_says(&both, None), "");
    both.spec.engine.memory = Some(ByteQuantity::new("1Gi"));
    assert!(cluster_says(&both, None).contains("not in both"));
    both.spec.engine.memory = None;
    both.spec.engine.compression = Compression::Zstd;
    assert!(cluster_says(&both, None).contains("not in both"));
}

#[test]
fn what_cannot_change_says_so() {
    let before = cluster("orders", vec![Pool::new("a", 3)]);
    let mut after = before.clone();
    after.spec.pools[0].storage.storage_class_name = Some("fast".to_owned());
    assert!(cluster_says(&after, Some(&before)).contains("the storage class of a pool never changes"));
    let mut after = before.clone();
    after.spec.pools[0].zone = Some("zone-1".to_owned());
    assert!(cluster_says(&after, Some(&before)).contains("the zone of a pool never changes"));
    let mut after = before.clone();
    after.spec.pools[0].storage.size = ByteQuantity::new("9Gi");
    assert!(cluster_says(&after, Some(&before)).contains("volumes grow but do not shrink"));
    after.spec.pools[0].storage.size = ByteQuantity::new("10240Mi");
    assert_eq!(cluster_says(&after, Some(&before)), "");
    after.spec.pools[0].storage.size = ByteQuantity::new("1Ti");
    assert_eq!(cluster_says(&after, Some(&before)), "");
}

#[test]
fn what_the_operator_sets_cannot_be_set() {
    let good = cluster("orders", vec![Pool::new("a", 3)]);
    for name in ["data", "listen_grpc", "advertise_peer", "snapshot_bytes_per_second"] {
        let mut bad = good.clone();
        bad.spec.config = serde_json::from_value(json!({ name: "x" })).unwrap();
        assert!(cluster_says(&bad, None).contains("follow from the cluster"), "{name}");
    }
    let mut bad = good.clone();
    bad.spec.pools[0].env =
        serde_json::from_value(json!([{ "name": "TRILITH_DATA", "value": "/" }])).unwrap();
    assert!(cluster_says(&bad, None).contains("settings of the node belong into config"));
    let mut bad = good.clone();
    bad.spec.pools[0].pod_labels = serde_json::from_value(json!({ "kv.trilith.dev/pool": "b" })).unwrap();
    assert!(cluster_says(&bad, None).contains("set by the operator"));
}

#[test]
fn a_table_has_no_more_partitions_than_buckets() {
    let mut table = KVTable::new("sessions", KVTableSpec::of_cluster("orders"));
    assert_eq!(table_says(&table, None), "");
    table.spec.partitions = 65;
    assert!(table_says(&table, None).contains("at most as many partitions as buckets"));
    table.spec.buckets = 128;
    assert_eq!(table_says(&table, None), "");
}

#[test]
fn a_table_stays_what_it_is() {
    let before = KVTable::new("sessions", KVTableSpec::of_cluster("orders"));
    let mut after = before.clone();
    after.spec.cluster = "others".to_owned();
    assert!(table_says(&after, Some(&before)).contains("never moves to another cluster"));
    let mut after = before.clone();
    after.spec.name = Some("other".to_owned());
    assert!(table_says(&after, Some(&before)).contains("the name of a table never changes"));
    let mut after = before.clone();
    after.spec.buckets = 128;
    assert!(table_says(&after, Some(&before)).contains("the buckets of a table never change"));
    let mut after = before.clone();
    (after.spec.partitions, after.spec.replicas) = (16, 5);
    after.spec.default_ttl = Some(TimeSpan::new("1h"));
    assert_eq!(table_says(&after, Some(&before)), "");
}

#[test]
fn an_index_is_declared_well_and_never_changes() {
    let index = |name: &str, path: &str| Index {
        name: name.to_owned(),
        path: path.to_owned(),
        kind: IndexType::String,
        unique: Switch::Disabled,
        sparse: Switch::Enabled,
    };
    let mut before = KVTable::new("people", KVTableSpec::of_cluster("orders"));
    before.spec.indexes = vec![index("city", "$.address.city"), index("age", "$.age")];
    assert_eq!(table_says(&before, None), "");
    let mut after = before.clone();
    // This validator holds the elements of lists against each other by their places; the API server
    // does it by their names.
    after.spec.indexes.push(index("mail", "$.mail"));
    assert_eq!(table_says(&after, Some(&before)), "");
    after.spec.indexes[0].path = "$.town".to_owned();
    assert!(table_says(&after, Some(&before)).contains("an index never changes"));
}

/// What is left out by a user is what the operator sees as default, and what the schema says to
/// whoever looks: the API server fills in the schema's defaults, one level after the other.
fn filled(schema: &JSONSchemaProps, value: &mut Value) {
    if let Value::Object(object) = value {
        for (name, property) in schema.properties.iter().flatten() {
            if let Some(default) = &property.default {
                object.entry(name.clone()).or_insert_with(|| default.0.clone());
            }
            if let Some(value) = object.get_mut(name) {
                filled(property, value);
            }
        }
    }
    if let (Value::Array(values), Some(JSONSchemaPropsOrArray::Schema(items))) = (value, &schema.items) {
        values.iter_mut().for_each(|value| filled(items, value));
    }
}

#[test]
fn the_defaults_of_the_schema_are_those_of_the_types() {
    let given = json!({ "spec": { "pools": [{ "name": "main" }] } });
    let mut by_schema = given.clone();
    filled(&schema(definitions::kvclusters()), &mut by_schema);
    let by_types: KVClusterSpec = serde_json::from_value(given["spec"].clone()).unwrap();
    assert_eq!(by_types, KVClusterSpec::of_pools(vec![Pool::new("main", 3)]));
    assert_eq!(serde_json::to_value(&by_types).unwrap(), by_schema["spec"]);

    let given = json!({ "spec": { "cluster": "orders" } });
    let mut by_schema = given.clone();
    filled(&schema(definitions::kvtables()), &mut by_schema);
    let by_types: KVTableSpec = serde_json::from_value(given["spec"].clone()).unwrap();
    assert_eq!(by_types, KVTableSpec::of_cluster("orders"));
    assert_eq!(serde_json::to_value(&by_types).unwrap(), by_schema["spec"]);
}

#[test]
fn defaults_keep_data_and_service() {
    let spec = KVClusterSpec::of_pools(vec![Pool::new("main", 3)]);
    assert_eq!(spec.claim_retention.when_deleted, Retention::Retain);
    assert_eq!(spec.claim_retention.when_scaled, Retention::Retain);
    assert_eq!(spec.updates.allow_unavailable, Unavailability::None);
    assert_eq!(spec.rebalance.mode, RebalanceMode::Auto);
    assert_eq!((spec.repair.mode, spec.hibernate), (Switch::Enabled, Switch::Disabled));
    assert_eq!(KVTableSpec::of_cluster("orders").deletion_policy, Retention::Retain);
}

/// Every field teaches, and what it is bounded by is said where rules look.
#[test]
fn every_field_of_a_spec_is_described() {
    fn undescribed(schema: &JSONSchemaProps, path: &str, found: &mut Vec<String>) {
        for (name, property) in schema.properties.iter().flatten() {
            let path = format!("{path}.{name}");
            if property.description.as_deref().unwrap_or_default().is_empty()
                && !path.starts_with(".metadata")
            {
                found.push(path.clone());
            }
            assert_eq!(property.nullable, None, "{path}");
            undescribed(property, &path, found);
            if let Some(JSONSchemaPropsOrArray::Schema(items)) = &property.items {
                undescribed(items, &path, found);
            }
        }
    }
    let mut found = Vec::new();
    definitions::all().map(schema).iter().for_each(|schema| undescribed(schema, "", &mut found));
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn names_kept_for_later_are_free() {
    let schema = schema(definitions::kvclusters());
    let spec = &schema.properties.unwrap()["spec"];
    let fields = spec.properties.as_ref().unwrap();
    assert!(["tls", "auth"].iter().all(|name| !fields.contains_key(*name)));
}

#[test]
fn a_schema_goes_with_a_table_that_demands_json() {
    let table = |demand, schema: Option<&str>| {
        let mut table = KVTable::new("orders", KVTableSpec::of_cluster("kv"));
        table.spec.values = Values { demand, schema: schema.map(str::to_owned) };
        table_says(&table, None)
    };
    assert_eq!(table(Demand::Any, None), "");
    assert_eq!(table(Demand::Json, None), "");
    assert_eq!(table(Demand::Json, Some("{}")), "");
    assert!(table(Demand::Any, Some("{}")).contains("a schema goes with demand: Json"));
}
