//! A DNS name for each node, and an address for applications.

use crds::cluster::{ExternalTrafficPolicy, ServiceType};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::validate::ValidCluster;
use super::ports::{self, Port};
use super::{labels, names, owned};

/// The headless Service of the nodes. It publishes addresses of pods that are not ready: nodes have to find each
/// other in order to become so.
pub fn nodes(cluster: &ValidCluster) -> Service {
    let mut metadata = owned(cluster, names::nodes_service(&cluster.name));
    let component = (labels::COMPONENT.to_owned(), labels::NODES.to_owned());
    metadata.labels.get_or_insert_default().extend([component]);
    Service {
        metadata,
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(labels::pods(&cluster.name)),
            ports: Some(ports::all(&cluster.doors).into_iter().map(service_port).collect()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The Service that applications connect to. Only ready nodes are behind it.
pub fn client(cluster: &ValidCluster) -> Service {
    let wanted = &cluster.doors.service;
    let mut metadata = owned(cluster, names::client_service(&cluster.name));
    if !wanted.annotations.is_empty() {
        metadata.annotations = Some(wanted.annotations.clone());
    }
    let outside = wanted.type_ != ServiceType::ClusterIP;
    let balanced = wanted.type_ == ServiceType::LoadBalancer;
    let sources = &wanted.load_balancer_source_ranges;
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(service_type(wanted.type_).to_owned()),
            selector: Some(labels::pods(&cluster.name)),
            ports: Some(ports::for_clients(&cluster.doors).into_iter().map(service_port).collect()),
            load_balancer_class: wanted.load_balancer_class.clone().filter(|_| balanced),
            load_balancer_source_ranges: (balanced && !sources.is_empty()).then(|| sources.clone()),
            external_traffic_policy: wanted.external_traffic_policy.filter(|_| outside).map(traffic_policy),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn service_port(port: Port) -> ServicePort {
    ServicePort {
        name: Some(port.name.to_owned()),
        port: port.number,
        target_port: Some(IntOrString::String(port.name.to_owned())),
        protocol: Some("TCP".to_owned()),
        app_protocol: Some(port.protocol.to_owned()),
        ..ServicePort::default()
    }
}

fn service_type(type_: ServiceType) -> &'static str {
    match type_ {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    }
}

fn traffic_policy(policy: ExternalTrafficPolicy) -> String {
    match policy {
        ExternalTrafficPolicy::Cluster => "Cluster".to_owned(),
        ExternalTrafficPolicy::Local => "Local".to_owned(),
    }
}
