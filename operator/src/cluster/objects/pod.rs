//! A node as a pod.

use crds::annotations::INPUTS_HASH;
use crds::cluster::ImagePullPolicy;
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction,
    ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, SeccompProfile,
    SecurityContext, TopologySpreadConstraint, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::validate::{ValidCluster, ValidPool};
use super::ports::{self, GRPC, HTTP, PEER};
use super::{config_map, inputs, labels, names};

/// The container in which a node runs.
pub const CONTAINER: &str = "node";
/// Where a node keeps its data.
pub const DATA_FOLDER: &str = "/var/lib/trilith";
/// The label of machines, and of pods that are on them, that names their zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// The label of machines that names them.
pub const HOST: &str = "kubernetes.io/hostname";
/// The user and group of the image. Fixed, so that volumes stay readable whatever image comes next.
const USER: i64 = 10_001;
/// Handing over leaders takes 5 s at most and answering what is under way 9 s; flushing is the rest.
const GRACE_SECONDS: i64 = 60;

/// What the pods of a pool are made from.
pub fn template(cluster: &ValidCluster, pool: &ValidPool) -> PodTemplateSpec {
    let spec = &pool.spec;
    let mut labels = spec.pod_labels.clone();
    labels.extend(labels::of_pool(&cluster.name, &spec.name));
    let mut annotations = spec.pod_annotations.clone();
    annotations.insert(INPUTS_HASH.to_owned(), inputs::hash(cluster, pool));
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(pod(cluster, pool)),
    }
}

fn pod(cluster: &ValidCluster, pool: &ValidPool) -> PodSpec {
    let spec = &pool.spec;
    let mut node_selector = spec.node_selector.clone();
    node_selector.extend(spec.zone.clone().map(|zone| (ZONE.to_owned(), zone)));
    let account = cluster.service_account.name.clone();
    PodSpec {
        service_account_name: Some(account.unwrap_or_else(|| names::service_account(&cluster.name))),
        automount_service_account_token: Some(false),
        // Variables for Services of this namespace could be taken for settings of the node.
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        image_pull_secrets: some_if_any(&cluster.image_pull_secrets),
        node_selector: (!node_selector.is_empty()).then_some(node_selector),
        affinity: spec.affinity.clone(),
        tolerations: some_if_any(&spec.tolerations),
        topology_spread_constraints: match &spec.topology_spread_constraints {
            Some(given) => some_if_any(given),
            None => Some([ZONE, HOST].map(|topology| spread(&cluster.name, topology)).into()),
        },
        priority_class_name: spec.priority_class_name.clone(),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            // Walking through a large volume at each start would take minutes.
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        containers: vec![container(cluster, pool)],
        volumes: Some(vec![Volume {
            name: "config".to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: config_map::name(cluster),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        }]),
        ..PodSpec::default()
    }
}

fn container(cluster: &ValidCluster, pool: &ValidPool) -> Container {
    let mount = |name: &str, path: &str| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    };
    let port = |port: ports::Port| ContainerPort {
        name: Some(port.name.to_owned()),
        container_port: port.number,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    Container {
        name: CONTAINER.to_owned(),
        image: Some(cluster.image.clone()),
        image_pull_policy: Some(pull_policy(cluster.image_pull_policy).to_owned()),
        env: Some(environment(cluster, pool)),
        ports: Some(ports::all(&cluster.doors).into_iter().map(port).collect()),
        resources: Some(pool.spec.resources.clone()),
        volume_mounts: Some(vec![
            mount(names::DATA, DATA_FOLDER),
            VolumeMount { read_only: Some(true), ..mount("config", config_map::FOLDER) },
        ]),
        // The HTTP door opens once the node has gone through its log, which after a crash may take minutes.
        startup_probe: Some(probe("/livez", 1, 1, 900)),
        liveness_probe: Some(probe("/livez", 10, 5, 6)),
        readiness_probe: Some(probe("/readyz", 2, 2, 3)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

/// What a node is told besides its settings. It is told no cluster to join: the operator creates the cluster on one
/// node and makes the others join it, each once it knows who lives in it. A node that was removed and started again
/// would otherwise come back by itself.
fn environment(cluster: &ValidCluster, pool: &ValidPool) -> Vec<EnvVar> {
    let text =
        |name: &str, value: String| EnvVar { name: name.to_owned(), value: Some(value), ..EnvVar::default() };
    let field = |name: &str, path: &str| EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { field_path: path.to_owned(), api_version: None }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    // Kubernetes replaces $(POD_NAME) by the value of the variable above it.
    let host = names::pod_host(&cluster.namespace, &cluster.name, "$(POD_NAME)");
    let advertised = |name: &str, port: ports::Port| text(name, format!("{host}:{}", port.number));
    let mut variables = vec![
        field("POD_NAME", "metadata.name"),
        text("TRILITH_NAME", "$(POD_NAME)".to_owned()),
        text("TRILITH_DATA", DATA_FOLDER.to_owned()),
        text("TRILITH_CONFIG", format!("{}/{}", config_map::FOLDER, config_map::FILE)),
        field("TRILITH_HOST", "spec.nodeName"),
        match &pool.spec.zone {
            Some(zone) => text("TRILITH_ZONE", zone.clone()),
            // From 1.35 on Kubernetes puts the zone of its machine on each pod. Before, it is empty, and the operator
            // tells the cluster what it reads from the machine.
            None => field("TRILITH_ZONE", &format!("metadata.labels['{ZONE}']")),
        },
    ];
    let listens = |port: ports::Port| text(port.variable, format!("0.0.0.0:{}", port.number));
    variables.extend(ports::all(&cluster.doors).into_iter().map(listens));
    variables.extend(ports::closed(&cluster.doors).map(|port| text(port.variable, "off".to_owned())));
    variables.extend([
        advertised("TRILITH_ADVERTISE_GRPC", GRPC),
        advertised("TRILITH_ADVERTISE_PEER", PEER),
        advertised("TRILITH_ADVERTISE_HTTP", HTTP),
    ]);
    variables.extend(pool.spec.env.iter().cloned());
    variables
}

fn probe(path: &str, period: i32, timeout: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(HTTP.name.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(timeout),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// Spreads the pods of the whole cluster, not only of the pool, and rather starts a pod in a bad place than not at all:
/// the cluster places replicas by where nodes turn out to be.
fn spread(cluster: &str, topology: &str) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: topology.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(labels::matching(labels::pods(cluster))),
        ..TopologySpreadConstraint::default()
    }
}

fn pull_policy(policy: ImagePullPolicy) -> &'static str {
    match policy {
        ImagePullPolicy::Always => "Always",
        ImagePullPolicy::IfNotPresent => "IfNotPresent",
        ImagePullPolicy::Never => "Never",
    }
}

fn some_if_any<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}
