//! Who may connect to the nodes: each other, the operator, clients, and who collects metrics.

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::validate::ValidCluster;
use super::ports::{self, GRPC, HTTP, Port};
use super::{labels, owned};

/// The label of the operator's own pods, in whatever namespace they are.
pub const OPERATOR: (&str, &str) = ("app.kubernetes.io/name", "trilith-operator");

/// The policy of a cluster that wants one.
pub fn network_policy(cluster: &ValidCluster) -> Option<NetworkPolicy> {
    cluster.network_policy.mode.is_on().then(|| NetworkPolicy {
        metadata: owned(cluster, cluster.name.clone()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(labels::matching(labels::pods(&cluster.name))),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(rules(cluster)),
            ..NetworkPolicySpec::default()
        }),
    })
}

fn rules(cluster: &ValidCluster) -> Vec<NetworkPolicyIngressRule> {
    let anywhere = || Some(LabelSelector::default());
    let pods = |selector| NetworkPolicyPeer { pod_selector: Some(selector), ..NetworkPolicyPeer::default() };
    let (name, value) = OPERATOR;
    let operator = labels::matching([(name.to_owned(), value.to_owned())].into());
    let operator = NetworkPolicyPeer { namespace_selector: anywhere(), ..pods(operator) };
    let nodes = pods(labels::matching(labels::pods(&cluster.name)));
    let clients = &cluster.network_policy.clients;
    let clients = clients.clone().unwrap_or_else(|| vec![pods(LabelSelector::default())]);
    let mut rules = vec![rule(vec![nodes], &ports::all(&cluster.doors)), rule(vec![operator], &[GRPC, HTTP])];
    // A rule without anybody in it would let everybody in.
    if !clients.is_empty() {
        rules.push(rule(clients, &ports::for_clients(&cluster.doors)));
    }
    if cluster.service_monitor.is_some() {
        // Where a Prometheus runs is not known here, and it may read metrics only.
        let anybody = NetworkPolicyPeer { namespace_selector: anywhere(), ..NetworkPolicyPeer::default() };
        rules.push(rule(vec![anybody], &[HTTP]));
    }
    rules
}

fn rule(from: Vec<NetworkPolicyPeer>, to: &[Port]) -> NetworkPolicyIngressRule {
    let port = |port: &Port| NetworkPolicyPort {
        port: Some(IntOrString::String(port.name.to_owned())),
        protocol: Some("TCP".to_owned()),
        ..NetworkPolicyPort::default()
    };
    NetworkPolicyIngressRule { from: Some(from), ports: Some(to.iter().map(port).collect()) }
}
