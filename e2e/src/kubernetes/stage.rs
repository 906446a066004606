//! A scenario under way: a namespace of its own, and everything that it may ask for.

use std::fmt::{Debug, Display};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crds::{KVCluster, KVTable};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::conditions::{Conditioned, is_settled};
use super::objects::MANAGER;
use super::pods::{self, Uids};
use super::watchman::Watchman;
use super::witness::Witness;
use super::{Kubernetes, chart, events, objects};
use crate::until::until_every;

const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long the witness may take to start.
const WITNESS_WITHIN: Duration = Duration::from_secs(30);

/// A scenario under way.
pub struct Stage {
    /// The cluster that it runs on.
    pub kube: Kubernetes,
    /// Its namespace.
    pub namespace: String,
    /// What it measured.
    pub figures: Vec<(String, String)>,
    name: &'static str,
    began: Instant,
}

impl Stage {
    /// Begins, in a new namespace, in which only pods may run that are restricted as far as
    /// Kubernetes' pod security standards go.
    pub async fn begin(kube: Kubernetes, name: &'static str) -> anyhow::Result<Self> {
        let namespace = format!("e2e-{name}-{:04x}", rand::random::<u16>());
        let api: Api<Namespace> = Api::all(kube.client.clone());
        let made: Namespace = serde_json::from_value(json!({
            "metadata": {
                "name": namespace,
                "labels": { "pod-security.kubernetes.io/enforce": "restricted", "trilith-e2e": name },
            },
        }))?;
        api.create(&PostParams::default(), &made).await.with_context(|| format!("namespace {namespace}"))?;
        let stage = Self { kube, namespace, figures: Vec::new(), name, began: Instant::now() };
        stage.say(format_args!("in namespace {}", stage.namespace));
        Ok(stage)
    }

    /// Prints what happens, with the time since the beginning.
    pub fn say(&self, what: impl Display) {
        eprintln!("[{} {:6.1} s] {what}", self.name, self.began.elapsed().as_secs_f64());
    }

    /// Notes something that was measured.
    pub fn figure(&mut self, name: &str, much: impl Display) {
        self.say(format_args!("{name}: {much}"));
        self.figures.push((name.to_owned(), much.to_string()));
    }

    /// Installs the operator with the chart's defaults, where it is not.
    pub async fn operator(&self) -> anyhow::Result<()> {
        chart::ensure_installed(&self.kube).await
    }

    /// Applies the resources of a YAML text.
    pub async fn apply(&self, yaml: &str) -> anyhow::Result<()> {
        objects::apply(&self.kube.client, &self.namespace, yaml).await
    }

    /// Applies a resource.
    pub async fn declare<K>(&self, resource: &K) -> anyhow::Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug,
        K::DynamicType: Default,
    {
        let how = PatchParams::apply(MANAGER).force();
        let name = resource.name_any();
        let applied = self.api::<K>().patch(&name, &how, &Patch::Apply(resource)).await;
        applied.with_context(|| format!("cannot declare {name}"))?;
        Ok(())
    }

    /// Merges a patch into a resource.
    pub async fn patch<K>(&self, name: &str, patch: &Value) -> anyhow::Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
        K::DynamicType: Default,
    {
        let how = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patched = self.api::<K>().patch(name, &how, &Patch::Merge(patch)).await;
        patched.with_context(|| format!("cannot patch {name}"))?;
        Ok(())
    }

    /// Deletes a resource, and returns at once.
    pub async fn delete<K>(&self, name: &str) -> anyhow::Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
        K::DynamicType: Default,
    {
        let deleted = self.api::<K>().delete(name, &DeleteParams::default()).await;
        deleted.with_context(|| format!("cannot delete {name}"))?;
        Ok(())
    }

    /// Waits until a resource is there no more.
    pub async fn await_gone<K>(&self, name: &str, within: Duration) -> anyhow::Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
        K::DynamicType: Default,
    {
        let api = self.api::<K>();
        until_every(&format!("{name} is gone"), within, LOOK_EVERY, async || {
            let held = api.get_opt(name).await?.map(|object| object.finalizers().to_vec());
            anyhow::ensure!(held.is_none(), "it is there, with the finalizers {held:?}");
            Ok(())
        })
        .await
    }

    /// Waits until a resource is as a look finds it should be.
    pub async fn await_that<K, T>(
        &self,
        what: &str,
        name: &str,
        within: Duration,
        look: impl Fn(&K) -> anyhow::Result<T>,
    ) -> anyhow::Result<T>
    where
        K: Resource<Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
        K::DynamicType: Default,
    {
        let api = self.api::<K>();
        until_every(&format!("{name}: {what}"), within, LOOK_EVERY, async || look(&api.get(name).await?))
            .await
    }

    /// Waits until a condition of a resource holds or does not.
    pub async fn await_condition<K>(
        &self,
        name: &str,
        type_: &str,
        status: &str,
        within: Duration,
    ) -> anyhow::Result<()>
    where
        K: Conditioned + Resource<Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
        K::DynamicType: Default,
    {
        let what = format!("{} with {type_} {status}", K::KIND);
        self.await_that(&what, name, within, |resource: &K| resource.has(type_, status)).await
    }

    /// The same, for a reason and with a message that says so.
    pub async fn await_reason<K>(
        &self,
        name: &str,
        (type_, status, reason, phrase): (&str, &str, &str, &str),
        within: Duration,
    ) -> anyhow::Result<()>
    where
        K: Conditioned + Resource<Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
        K::DynamicType: Default,
    {
        let what = format!("{} with {type_} {status} because of {reason}", K::KIND);
        let look = |resource: &K| resource.has_because(type_, status, reason, phrase);
        self.await_that(&what, name, within, look).await
    }

    /// Waits until a cluster is as declared and nothing is under way.
    pub async fn await_settled(&self, name: &str, within: Duration) -> anyhow::Result<()> {
        self.await_that("it is as declared, and nothing is under way", name, within, is_settled).await
    }

    /// Declares a cluster with a table, by an operator that is there, and waits until both are as declared and a
    /// witness, which writes and reads from then on, has written.
    pub async fn serving(
        &self,
        cluster: &KVCluster,
        table: &KVTable,
        within: Duration,
    ) -> anyhow::Result<Witness> {
        self.operator().await?;
        self.declare(cluster).await?;
        self.declare(table).await?;
        let (cluster, table) = (cluster.name_any(), table.name_any());
        let witness = self.witness(&cluster, &table).await?;
        self.await_ready(&cluster, &table, within).await?;
        self.await_settled(&cluster, within).await?;
        witness.await_first_write(within).await?;
        Ok(witness)
    }

    /// Waits until a cluster and a table are ready.
    pub async fn await_ready(&self, cluster: &str, table: &str, within: Duration) -> anyhow::Result<()> {
        self.await_condition::<KVCluster>(cluster, "Ready", "True", within).await?;
        self.await_condition::<KVTable>(table, "Ready", "True", within).await
    }

    /// Waits until an Event about a resource of this name has a reason and says so.
    pub async fn await_event(&self, name: &str, phrase: &str, within: Duration) -> anyhow::Result<String> {
        until_every(&format!("an Event of {name} says {phrase:?}"), within, LOOK_EVERY, async || {
            let told = events::about(&self.kube.client, &self.namespace, name).await?;
            let found = told.iter().find(|line| line.contains(phrase)).cloned();
            found.with_context(|| format!("they say: {}", told.join("; ")))
        })
        .await
    }

    /// The storage pods of a cluster, by name.
    pub async fn pods(&self, cluster: &str) -> anyhow::Result<Vec<Pod>> {
        let mut pods = pods::of_cluster(&self.kube.client, &self.namespace, cluster).await?;
        pods.sort_by_key(|pod| pod.name_any());
        Ok(pods)
    }

    /// One storage pod.
    pub async fn pod(&self, name: &str) -> anyhow::Result<Pod> {
        self.api::<Pod>().get(name).await.with_context(|| format!("pod {name}"))
    }

    /// The UIDs of the storage pods of a cluster.
    pub async fn pod_uids(&self, cluster: &str) -> anyhow::Result<Uids> {
        Ok(pods::uids(&self.pods(cluster).await?))
    }

    /// The claims of a cluster.
    pub async fn claims(&self, cluster: &str) -> anyhow::Result<Vec<PersistentVolumeClaim>> {
        pods::claims(&self.kube.client, &self.namespace, cluster).await
    }

    /// Starts a witness on the machine that is left alone.
    pub async fn witness(&self, cluster: &str, table: &str) -> anyhow::Result<Witness> {
        let endpoint = format!("{cluster}.{}.svc:7400", self.namespace);
        let machine = self.kube.quiet_machine()?.to_owned();
        let arguments = vec!["--endpoint".to_owned(), endpoint, "--table".to_owned(), table.to_owned()];
        self.start_witness("witness", &machine, arguments).await
    }

    /// Starts a reader on a machine that asks one node by its address.
    pub async fn lonely_reader(&self, machine: &str, address: &str, table: &str) -> anyhow::Result<Witness> {
        let endpoint = format!("{address}:7400");
        let arguments = ["--lonely", "--endpoint", &endpoint, "--table", table].map(str::to_owned);
        self.start_witness("lonely", machine, arguments.into()).await
    }

    async fn start_witness(
        &self,
        name: &str,
        machine: &str,
        arguments: Vec<String>,
    ) -> anyhow::Result<Witness> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": 1,
                "nodeSelector": { "kubernetes.io/hostname": machine },
                "securityContext": {
                    "runAsNonRoot": true,
                    "runAsUser": 10001,
                    "seccompProfile": { "type": "RuntimeDefault" },
                },
                "containers": [{
                    "name": "witness",
                    "image": self.kube.image("trilith-witness", chart::TAG),
                    "imagePullPolicy": "IfNotPresent",
                    "args": arguments,
                    "ports": [{ "name": "http", "containerPort": 8080 }],
                    "readinessProbe": { "tcpSocket": { "port": "http" }, "periodSeconds": 1 },
                    "securityContext": {
                        "allowPrivilegeEscalation": false,
                        "readOnlyRootFilesystem": true,
                        "capabilities": { "drop": ["ALL"] },
                    },
                }],
            },
        }))?;
        self.api::<Pod>()
            .create(&PostParams::default(), &pod)
            .await
            .with_context(|| format!("pod {name}"))?;
        let witness = Witness::new(self.kube.client.clone(), &self.namespace, name);
        witness.await_door(WITNESS_WITHIN).await?;
        Ok(witness)
    }

    /// Sees to it that nothing of a cluster is deleted too early.
    pub fn watchman(&self, cluster: &str, witness: &Witness) -> Watchman {
        Watchman::begin(&self.kube.client, &self.namespace, cluster, witness)
    }

    /// Ends the scenario's stay: whatever it left behind goes.
    pub async fn leave(&self) -> anyhow::Result<()> {
        let api: Api<Namespace> = Api::all(self.kube.client.clone());
        api.delete(&self.namespace, &DeleteParams::background()).await?;
        // Nobody needs its pods to end well any more, and the next scenario needs what they use.
        let at_once = DeleteParams::default().grace_period(0);
        self.api::<Pod>().delete_collection(&at_once, &ListParams::default()).await?;
        Ok(())
    }

    /// Waits until nothing that the scenario declared is there any more, and nothing that ran.
    /// Kubernetes takes half a minute longer for the empty namespace, which is in nobody's way.
    pub async fn await_left(&self, within: Duration) -> anyhow::Result<()> {
        let all = ListParams::default();
        until_every(&format!("{} is empty", self.namespace), within, LOOK_EVERY, async || {
            let (clusters, tables) = (
                self.api::<KVCluster>().list(&all).await?.items,
                self.api::<KVTable>().list(&all).await?.items,
            );
            let mut left: Vec<String> =
                self.api::<Pod>().list(&all).await?.iter().map(|pod| pod.name_any()).collect();
            left.extend(
                clusters.iter().map(|cluster| format!("{} {:?}", cluster.name_any(), cluster.finalizers())),
            );
            left.extend(tables.iter().map(|table| format!("{} {:?}", table.name_any(), table.finalizers())));
            anyhow::ensure!(left.is_empty(), "there are {}", left.join(", "));
            Ok(())
        })
        .await
    }

    /// How long it has been going on.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The resources of a kind in the scenario's namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.kube.client.clone(), &self.namespace)
    }
}
