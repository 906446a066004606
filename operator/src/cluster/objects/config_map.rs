//! The settings of the nodes, as the file that they read at their start.
//!
//! A `ConfigMap` is named for what is in it and never changes. The template of a pool names the one that it was made with,
//! so that an older template that is put back brings its own settings back with it. One that neither a template nor a pod
//! names may go.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::super::validate::{Setting, ValidCluster};
use super::{inputs, owned};

/// The file with the settings.
pub const FILE: &str = "node.yaml";
/// Where it is in a pod.
pub const FOLDER: &str = "/etc/trilith";

/// What the `ConfigMap`s of a cluster are called, up to the hash of what is in them.
pub fn name_prefix(cluster: &str) -> String {
    format!("{cluster}-config-")
}

/// The `ConfigMap` with the present settings.
pub fn config_map(cluster: &ValidCluster) -> ConfigMap {
    ConfigMap {
        metadata: owned(cluster, name(cluster)),
        immutable: Some(true),
        data: Some([(FILE.to_owned(), file(cluster))].into()),
        ..ConfigMap::default()
    }
}

/// What it is called.
pub fn name(cluster: &ValidCluster) -> String {
    format!("{}{}", name_prefix(&cluster.name), inputs::hash_of(&settings(cluster)))
}

/// What a node is told in its file. The throttle stands there for the next start; a node that runs is told
/// by a call, so changing it restarts nothing.
fn settings(cluster: &ValidCluster) -> BTreeMap<String, Setting> {
    let throttle = i64::try_from(cluster.rebalance.bytes_per_second).unwrap_or(i64::MAX);
    let mut settings = cluster.config.clone();
    settings.insert("snapshot_bytes_per_second".to_owned(), Setting::Number(throttle));
    settings
}

/// JSON is YAML, and strings that look like something else stay strings in it; one setting a line is what people read.
fn file(cluster: &ValidCluster) -> String {
    let line = |(name, value): (String, Setting)| match value {
        Setting::Bool(truth) => format!("{name}: {truth}\n"),
        Setting::Number(number) => format!("{name}: {number}\n"),
        Setting::Text(text) => format!("{name}: {}\n", serde_json::Value::from(text)),
    };
    settings(cluster).into_iter().map(line).collect()
}
