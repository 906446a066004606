//! From a `KVCluster` as people write it to a cluster that cannot be wrong.
//!
//! The API server checks most of this by the schema's rules already. It is checked here all the same, because a
//! definition may be older than the operator, and because building objects from the result cannot fail.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crds::annotations::{APPROVED_PLAN, PAUSED};
use crds::cluster::{
    ClaimRetention, ClusterVersion, Doors, Engine, ImagePullPolicy, LONGEST_CLUSTER_NAME, LONGEST_NAMES,
    MOST_NODES, NODES_SUFFIX, NetworkAccess, Pool, Rebalance, RebalanceMode, Repair, Retention, Rollout,
    ServiceAccount, Unavailability, UpdatePolicy, WhenLeadersStay,
};
use crds::{ByteQuantity, KVCluster, KVClusterSpec, TimeSpan};
use k8s_openapi::api::core::v1::LocalObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;
use placement::ClusterId;

mod engine;

/// A cluster that cannot be wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidCluster {
    /// Its name: a DNS label that leaves room for those of pools.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The UID of the `KVCluster`. It is the id of the cluster that is created, unless older claims say another one.
    pub uid: ClusterId,
    /// What the objects of the cluster say they belong to.
    pub owner: OwnerReference,
    /// The generation of the spec.
    pub generation: i64,
    /// The image to run.
    pub image: String,
    /// When machines fetch it.
    pub image_pull_policy: ImagePullPolicy,
    /// With which secrets.
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// The pools, at least one of them with replicas, no two of one name, in the order of the spec.
    pub pools: Vec<ValidPool>,
    /// How applications come in.
    pub doors: Doors,
    /// Settings of the nodes, none of which the operator sets itself; those that the engine stands for are
    /// among them.
    pub config: BTreeMap<String, Setting>,
    /// How nodes use memory and disk, as it was declared.
    pub engine: Engine,
    /// Whether evictions are limited.
    pub disruption_budget: bool,
    /// How nodes are restarted.
    pub updates: Updates,
    /// Whether no pod should run.
    pub hibernate: bool,
    /// How replicas are spread.
    pub rebalance: Rebalancing,
    /// How long a node must be gone before it is replaced; none: for ever.
    pub repair_after: Option<Duration>,
    /// What becomes of claims.
    pub claim_retention: ClaimRetention,
    /// The `ServiceMonitor`, where one is wanted.
    pub service_monitor: Option<ServiceMonitoring>,
    /// Who may connect.
    pub network_policy: NetworkAccess,
    /// As whom pods run.
    pub service_account: ServiceAccount,
    /// Whether nothing may be done but to tell how the cluster is.
    pub paused: bool,
}

/// A pool that cannot be wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidPool {
    /// How many nodes it should have.
    pub replicas: u32,
    /// How large their volumes are, in bytes.
    pub storage_bytes: u64,
    /// All that was declared of it.
    pub spec: Pool,
}

/// The value of a setting. What reads as a number or a boolean is one, also where somebody quoted it, because a
/// node's settings have types.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
pub enum Setting {
    /// True or false.
    Bool(bool),
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
}

/// How nodes are restarted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Updates {
    /// Whether none is restarted for a change.
    pub paused: bool,
    /// How long one may take to be ready.
    pub timeout: Duration,
    /// Whether one is restarted although it still leads.
    pub proceed_with_leaders: bool,
    /// Whether partitions with one replica may be away meanwhile.
    pub allow_single_replica: bool,
    /// Who raises the cluster version.
    pub cluster_version: ClusterVersion,
}

/// How replicas and leaders are spread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebalancing {
    /// Who decides.
    pub mode: RebalanceMode,
    /// How many moves at once.
    pub concurrent_moves: u32,
    /// How fast a node sends copies; 0: as fast as it can.
    pub bytes_per_second: u64,
    /// The plan that somebody approved, by its id.
    pub approved_plan: Option<String>,
}

/// A `ServiceMonitor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceMonitoring {
    /// How often metrics are collected, as Prometheus writes times.
    pub interval: String,
    /// By which a Prometheus chooses it.
    pub labels: BTreeMap<String, String>,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field, such as `spec.pools[1].name`.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// All that is wrong with a spec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct Invalid(pub Vec<Problem>);

/// Settings that follow from the cluster and cannot be given.
const OWN_SETTINGS: [&str; 8] =
    ["data", "name", "zone", "host", "join", "port_offset", "exit_with_parent", "snapshot_bytes_per_second"];
/// A node that hands over its leaders and catches up cannot be quicker than this.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Checks a cluster.
///
/// `default_image` is what the operator was installed with. `recorded_image` is what the cluster runs by an earlier
/// decision (its status, or else its `StatefulSet`s say so): where the spec leaves the image open, it stays in force, so
/// that a newer operator restarts nothing.
pub fn validate(
    cluster: &KVCluster,
    default_image: &str,
    recorded_image: Option<&str>,
) -> Result<ValidCluster, Invalid> {
    let mut problems = Problems::default();
    let spec = &cluster.spec;
    let name = cluster.metadata.name.clone().unwrap_or_default();
    problems.cluster_name(&name);
    let pools = problems.pools(&name, &spec.pools);
    let config = problems.settings(&spec.config);
    let config = problems.engine(&spec.engine, &spec.pools, config);
    let updates = problems.updates(&spec.updates);
    let rebalance = problems.rebalance(&spec.rebalance, annotation(cluster, APPROVED_PLAN));
    let repair_after = problems.repair(&spec.repair);
    let service_monitor = problems.service_monitor(spec);
    let image = problems.image(spec, default_image, recorded_image);
    let uid = problems.uid(cluster.metadata.uid.as_deref());
    let owner = cluster.controller_owner_ref(&());
    let (Some(uid), Some(owner), []) = (uid, owner, problems.0.as_slice()) else {
        return Err(Invalid(problems.0));
    };
    Ok(ValidCluster {
        name,
        namespace: cluster.metadata.namespace.clone().unwrap_or_default(),
        uid,
        owner,
        generation: cluster.metadata.generation.unwrap_or_default(),
        image,
        image_pull_policy: spec.image_pull_policy,
        image_pull_secrets: spec.image_pull_secrets.clone(),
        pools,
        doors: spec.doors.clone(),
        config,
        engine: spec.engine.clone(),
        disruption_budget: spec.pod_disruption_budget.is_on(),
        updates,
        hibernate: spec.hibernate.is_on(),
        rebalance,
        repair_after,
        claim_retention: spec.claim_retention,
        service_monitor,
        network_policy: spec.network_policy.clone(),
        service_account: spec.service_account.clone(),
        paused: is_paused(&cluster.metadata),
    })
}

impl ValidCluster {
    /// The pool of that name.
    pub fn pool(&self, name: &str) -> Option<&ValidPool> {
        self.pools.iter().find(|pool| pool.spec.name == name)
    }

    /// How many nodes there should be.
    pub fn nodes(&self) -> u32 {
        self.pools.iter().map(|pool| pool.replicas).sum()
    }

    /// Whether all goes when the `KVCluster` does.
    pub fn deletes_claims(&self) -> bool {
        self.claim_retention.when_deleted == Retention::Delete
    }
}

/// Whether somebody told the operator to keep its hands off a resource.
pub fn is_paused(metadata: &ObjectMeta) -> bool {
    let annotations = metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(PAUSED)).is_some_and(|value| value != "false")
}

fn annotation<'a>(cluster: &'a KVCluster, name: &str) -> Option<&'a str> {
    cluster.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Whether a text is a label of DNS (RFC 1123).
fn is_dns_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&text.len())
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// What was found wrong so far. Each step gives a value in any case, so that all problems are told at once.
#[derive(Debug, Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { field: field.into(), message: message.into() });
    }

    fn cluster_name(&mut self, name: &str) {
        let field = "metadata.name";
        if !is_dns_label(name) || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            self.add(
                field,
                format!("{name:?} is no name for a cluster: use a-z, 0-9 and -, beginning with a letter"),
            );
        }
        if name.len() > LONGEST_CLUSTER_NAME {
            self.add(field, format!("{name:?} is longer than {LONGEST_CLUSTER_NAME} characters"));
        }
        if name.ends_with(NODES_SUFFIX) {
            self.add(field, format!("{name:?} ends in {NODES_SUFFIX}, as the Services of nodes do"));
        }
    }

    fn pools(&mut self, cluster: &str, pools: &[Pool]) -> Vec<ValidPool> {
        let mut names = BTreeSet::new();
        let mut valid = Vec::new();
        for (at, pool) in pools.iter().enumerate() {
            let field = |name: &str| format!("spec.pools[{at}].{name}");
            if !is_dns_label(&pool.name) {
                self.add(field("name"), format!("{:?} is no name for a pool: use a-z, 0-9 and -", pool.name));
            }
            if cluster.len() + pool.name.len() > LONGEST_NAMES {
                let message = format!(
                    "{cluster:?} and {:?} have together more than {LONGEST_NAMES} characters",
                    pool.name
                );
                self.add(field("name"), message);
            }
            if !names.insert(pool.name.as_str()) {
                self.add(field("name"), format!("there are two pools {:?}", pool.name));
            }
            let replicas = u32::try_from(pool.replicas).unwrap_or_else(|_| {
                self.add(field("replicas"), format!("{} is less than none", pool.replicas));
                0
            });
            let storage_bytes = self.bytes(field("storage.size"), &pool.storage.size);
            if storage_bytes == Some(0) {
                self.add(field("storage.size"), "a node needs some storage");
            }
            for variable in &pool.env {
                if variable.name.starts_with("TRILITH_") || variable.name == "POD_NAME" {
                    let message = format!("{} is set by the operator: use spec.config", variable.name);
                    self.add(field("env"), message);
                }
            }
            let storage_bytes = storage_bytes.unwrap_or_default();
            valid.push(ValidPool { replicas, storage_bytes, spec: pool.clone() });
        }
        let total: i64 = pools.iter().map(|pool| i64::from(pool.replicas)).sum();
        if total < 1 {
            self.add(
                "spec.pools",
                "at least one replica is needed, or there is no quorum; to stop all pods set hibernate",
            );
        } else if total > i64::from(MOST_NODES) {
            self.add("spec.pools", format!("{total} replicas are more than {MOST_NODES}"));
        }
        valid
    }

    fn settings(&mut self, given: &BTreeMap<String, IntOrString>) -> BTreeMap<String, Setting> {
        let mut settings = BTreeMap::new();
        for (name, value) in given {
            let field = || format!("spec.config[{name}]");
            let own = OWN_SETTINGS.contains(&name.as_str());
            if own || name.starts_with("listen_") || name.starts_with("advertise_") {
                self.add(field(), "is set by the operator");
            }
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if name.is_empty() || !name.chars().all(plain) {
                self.add(
                    field(),
                    "is not the name of a setting: they are those of the node's flags, with _ for -",
                );
            }
            settings.insert(name.clone(), Setting::from(value));
        }
        settings
    }

    fn updates(&mut self, given: &UpdatePolicy) -> Updates {
        let timeout = self.time("spec.updates.timeout", &given.timeout);
        if timeout < SHORTEST_TIMEOUT {
            let message = format!("no node is ready in less than {} s", SHORTEST_TIMEOUT.as_secs());
            self.add("spec.updates.timeout", message);
        }
        Updates {
            paused: given.rollout == Rollout::Paused,
            timeout,
            proceed_with_leaders: given.when_leaders_stay == WhenLeadersStay::Proceed,
            allow_single_replica: given.allow_unavailable == Unavailability::SingleReplica,
            cluster_version: given.cluster_version,
        }
    }

    fn rebalance(&mut self, given: &Rebalance, approved: Option<&str>) -> Rebalancing {
        let concurrent = u32::try_from(given.concurrent_moves).unwrap_or_default();
        if concurrent == 0 {
            self.add(
                "spec.rebalance.concurrentMoves",
                "at least one move must be possible; to make none set mode: Disabled",
            );
        }
        let bytes = self.bytes("spec.rebalance.bytesPerSecond".to_owned(), &given.bytes_per_second);
        Rebalancing {
            mode: given.mode,
            concurrent_moves: concurrent,
            bytes_per_second: bytes.unwrap_or_default(),
            approved_plan: approved.map(str::to_owned),
        }
    }

    fn repair(&mut self, given: &Repair) -> Option<Duration> {
        let delay = self.time("spec.repair.delay", &given.delay);
        given.mode.is_on().then_some(delay)
    }

    fn service_monitor(&mut self, spec: &KVClusterSpec) -> Option<ServiceMonitoring> {
        let given = &spec.monitoring;
        let interval = self.time("spec.monitoring.interval", &given.interval);
        if interval.is_zero() {
            self.add("spec.monitoring.interval", "metrics cannot be collected all the time");
        }
        given
            .service_monitor
            .is_on()
            .then(|| ServiceMonitoring { interval: given.interval.0.clone(), labels: given.labels.clone() })
    }

    fn image(&mut self, spec: &KVClusterSpec, default: &str, recorded: Option<&str>) -> String {
        match (&spec.image, &spec.version) {
            (Some(_), Some(_)) => {
                self.add("spec.image", "give image or version, not both");
                String::new()
            }
            (Some(image), None) => image.clone(),
            (None, Some(version)) => format!("{}:{version}", repository(default)),
            (None, None) => recorded.unwrap_or(default).to_owned(),
        }
    }

    fn uid(&mut self, uid: Option<&str>) -> Option<ClusterId> {
        let parsed = uid.and_then(|uid| uid.parse().ok());
        if parsed.is_none() {
            self.add("metadata.uid", "is not a UUID, and the cluster's id comes from it");
        }
        parsed
    }

    fn bytes(&mut self, field: String, given: &ByteQuantity) -> Option<u64> {
        given.bytes().map_err(|error| self.add(field, error.to_string())).ok()
    }

    fn time(&mut self, field: &str, given: &TimeSpan) -> Duration {
        given.duration().unwrap_or_else(|error| {
            self.add(field, error.to_string());
            // Passes every later check, so that one mistake is told once.
            Duration::from_secs(3_600)
        })
    }
}

impl From<&IntOrString> for Setting {
    fn from(value: &IntOrString) -> Self {
        match value {
            IntOrString::Int(number) => Self::Number((*number).into()),
            IntOrString::String(text) => match (text.parse(), text.parse()) {
                (Ok(number), _) => Self::Number(number),
                (_, Ok(truth)) => Self::Bool(truth),
                _ => Self::Text(text.clone()),
            },
        }
    }
}

/// An image without its tag and digest. A colon before the last slash is a registry's port.
fn repository(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    match image.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => image,
    }
}

#[cfg(test)]
mod tests;
