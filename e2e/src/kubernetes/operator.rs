//! The operator as a running program: what it costs, and how it is made to end.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::Request;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::chart::{self, Choice, NAMESPACE, RELEASE};
use super::{Kubernetes, pods};
use crate::until::until_every;

const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long one operator may take to come or to go.
const COMES_WITHIN: Duration = Duration::from_secs(60);
/// How long a kubelet may take to look at its pods once more.
const COUNTED_WITHIN: Duration = Duration::from_secs(60);
/// The status with which the operator ends at a fault point.
const FAULT_STATUS: i32 = 86;
/// By which operators agree on the one that acts.
const LEASE: &str = "trilith-operator";
const SELECTOR: &str = "app.kubernetes.io/name=trilith-operator,app.kubernetes.io/component=operator";

/// Requests to the API server by verb.
pub type Requests = BTreeMap<String, u64>;

impl Kubernetes {
    /// The operator's pods.
    pub async fn operator_pods(&self) -> anyhow::Result<Vec<Pod>> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        Ok(api.list(&ListParams::default().labels(SELECTOR)).await?.items)
    }

    /// The operator's one pod, once it is ready and its predecessors are gone.
    pub async fn operator_pod(&self) -> anyhow::Result<Pod> {
        until_every("one operator is there, and ready", COMES_WITHIN, LOOK_EVERY, async || {
            let mut all = self.operator_pods().await?;
            ensure!(all.len() == 1, "{} are there", all.len());
            all.pop().filter(pods::is_ready).context("it is not ready")
        })
        .await
    }

    /// How many requests the operator made since it started, by its own count.
    pub async fn operator_requests(&self) -> anyhow::Result<Requests> {
        let name = self.operator_pod().await?.name_any();
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}:8080/proxy/metrics");
        let text = self.client.request_text(Request::get(path).body(Vec::new())?).await?;
        let counts = text.lines().filter_map(|line| {
            let (verb, count) =
                line.strip_prefix("trilith_operator_api_requests_total{verb=\"")?.split_once("\"} ")?;
            Some((verb.to_owned(), count.parse().ok()?))
        });
        Ok(counts.collect())
    }

    /// How many writes of custom resources the API server has seen, whoever made them.
    pub async fn writes_of_custom_resources(&self) -> anyhow::Result<u64> {
        let text = self.client.request_text(Request::get("/metrics").body(Vec::new())?).await?;
        let writes = text.lines().filter(|line| {
            line.starts_with("apiserver_request_total{")
                && line.contains("group=\"kv.trilith.dev\"")
                && ["PATCH", "APPLY", "PUT", "POST"]
                    .iter()
                    .any(|verb| line.contains(&format!("verb=\"{verb}\"")))
        });
        Ok(writes.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>() as u64)
    }

    /// The memory that the operator's pod uses now, as its kubelet counts it.
    pub async fn operator_memory(&self) -> anyhow::Result<u64> {
        let pod = self.operator_pod().await?;
        let (name, machine) = (pod.name_any(), pods::machine(&pod)?);
        let path = format!("/api/v1/nodes/{machine}/proxy/stats/summary");
        let asked = Timestamp::now();
        until_every("the kubelet counts the operator's memory", COUNTED_WITHIN, LOOK_EVERY * 5, async || {
            let request = Request::get(path.as_str()).body(Vec::new())?;
            let summary: Value = self.client.request(request).await?;
            let all = summary.get("pods").and_then(Value::as_array).context("it tells of no pods")?;
            let named =
                |other: &&Value| other.pointer("/podRef/name").and_then(Value::as_str) == Some(name.as_str());
            let memory = all.iter().find(named).and_then(|own| own.get("memory"));
            let memory = memory.context("it does not tell what the operator uses")?;
            let counted =
                memory.get("time").and_then(Value::as_str).context("it does not tell when it looked")?;
            let counted: Timestamp = counted.parse().context("it tells a time that is none")?;
            ensure!(counted >= asked, "it looked last at {counted}, before it was asked");
            memory.get("workingSetBytes").and_then(Value::as_u64).context("it counts no working set")
        })
        .await
    }

    /// Puts an operator in the place of the one that runs, which ends at a fault point.
    pub async fn set_fault(&self, fault: &str) -> anyhow::Result<()> {
        self.stop_operator().await?;
        let values = vec![
            "operator.extraEnv[0].name=TRILITH_OPERATOR_FAULT".to_owned(),
            format!("operator.extraEnv[0].value={fault}"),
        ];
        chart::install(self, &Choice { values, returns_at_once: true, without_hooks: true }).await
    }

    /// Stops the operator. One that died holds its Lease still, and the next would wait until it has
    /// run out; so it is deleted too, when nobody is left who might believe to hold it.
    pub async fn stop_operator(&self) -> anyhow::Result<()> {
        *self.installed.lock() = None;
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), NAMESPACE);
        let nobody = json!({ "spec": { "replicas": 0 } });
        let stopped = deployments.patch(RELEASE, &PatchParams::default(), &Patch::Merge(&nobody)).await;
        stopped.context("the operator's Deployment cannot be scaled down")?;
        until_every("the operator is gone", COMES_WITHIN, LOOK_EVERY, async || {
            let left = self.operator_pods().await?.len();
            ensure!(left == 0, "{left} are there");
            Ok(())
        })
        .await?;
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), NAMESPACE);
        match leases.delete(LEASE, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error).context("the operator's Lease cannot be deleted"),
        }
    }

    /// Waits until the operator ended at its fault point.
    pub async fn await_fault(&self, fault: &str, within: Duration) -> anyhow::Result<()> {
        until_every(&format!("the operator ends at {fault}"), within, LOOK_EVERY, async || {
            let pods = self.operator_pods().await?;
            let with_fault = pods.iter().filter(|pod| has_fault(pod, fault));
            let ended = with_fault.clone().any(ended_by_fault);
            ensure!(ended, "{} pods have the fault, and none ended by it", with_fault.count());
            Ok(())
        })
        .await
    }
}

/// What was asked since an earlier count. It fails where the count began anew.
pub fn requests_since(before: &Requests, now: &Requests) -> anyhow::Result<Requests> {
    let mut since = Requests::new();
    for (verb, count) in now {
        let more = count.checked_sub(before.get(verb).copied().unwrap_or_default());
        let more = more.context("the operator was started anew meanwhile")?;
        if more > 0 {
            since.insert(verb.clone(), more);
        }
    }
    Ok(since)
}

fn has_fault(pod: &Pod, fault: &str) -> bool {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut variables = containers.flat_map(|container| container.env.iter().flatten());
    variables
        .any(|variable| variable.name == "TRILITH_OPERATOR_FAULT" && variable.value.as_deref() == Some(fault))
}

fn ended_by_fault(pod: &Pod) -> bool {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let states = statuses.flat_map(|status| [&status.state, &status.last_state]);
    let ends = states.filter_map(|state| state.as_ref()?.terminated.as_ref());
    ends.into_iter().any(|ended| ended.exit_code == FAULT_STATUS)
}
