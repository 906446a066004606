//! One watch for each kind of object. Whatever is read while deciding is read from here, and
//! whatever changes here makes the resource that it belongs to be looked at.

use std::fmt::Debug;
use std::hash::Hash;

use crds::annotations::PAUSED;
use crds::{KVCluster, KVTable};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Node, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;

use super::watch::{News, Seen, keep_each};
use crate::dataplane::Where;

/// By which the operator's own objects are found.
const OWN: &str = "app.kubernetes.io/managed-by=trilith-operator";
/// Names the cluster that an object belongs to.
const INSTANCE: &str = "app.kubernetes.io/instance";
/// The label of a machine that names its zone.
const ZONE: &str = "topology.kubernetes.io/zone";
/// How many looks may wait to be noticed. When it is full the watches wait.
const WAITING: usize = 1024;

/// What is watched: everything, or one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// All namespaces.
    All,
    /// This one.
    Namespace(String),
}

impl Watched {
    /// The way to a kind there.
    pub fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        match self {
            Self::All => Api::all(client.clone()),
            Self::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }
}

/// What belongs to no namespace. It is watched once, however many namespaces are.
#[derive(Clone)]
pub struct Ground {
    /// Machines.
    pub machines: Store<Node>,
    /// Classes of volumes.
    pub classes: Store<StorageClass>,
    turned: broadcast::Sender<String>,
}

/// A table, or all tables, of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    /// The cluster.
    pub of: Where,
    /// What clients call the table; none: all of them.
    pub named: Option<String>,
}

/// What is known of the objects in the namespaces that are watched.
#[derive(Clone)]
pub struct Caches {
    /// Clusters.
    pub clusters: Store<KVCluster>,
    /// Tables.
    pub tables: Store<KVTable>,
    /// The pools of clusters.
    pub sets: Store<StatefulSet>,
    /// Pods of clusters.
    pub pods: Store<Pod>,
    /// Claims of clusters.
    pub claims: Store<PersistentVolumeClaim>,
    /// Services of clusters.
    pub services: Store<Service>,
    /// Settings of clusters.
    pub config_maps: Store<ConfigMap>,
    /// `ServiceAccounts` of clusters.
    pub accounts: Store<ServiceAccount>,
    /// Budgets of clusters.
    pub budgets: Store<PodDisruptionBudget>,
    /// `NetworkPolicies` of clusters.
    pub policies: Store<NetworkPolicy>,
    /// Machines.
    pub machines: Store<Node>,
    /// Classes of volumes.
    pub classes: Store<StorageClass>,
}

/// What asks for a look at a cluster, and the tasks that keep the caches. The tasks end when this
/// is dropped.
pub struct Watches {
    /// Which clusters are to be looked at.
    pub clusters: mpsc::Receiver<Where>,
    /// Which tables are to be looked at.
    pub tables: mpsc::Receiver<Tables>,
    /// What keeps the caches. None of these tasks should end.
    pub tasks: JoinSet<()>,
}

impl Ground {
    /// Begins to watch, in tasks that should not end.
    pub fn start(client: &Client, tasks: &mut JoinSet<()>) -> Self {
        let (turned, _) = broadcast::channel(WAITING);
        let seen = Seen::default();
        let tell = turned.clone();
        let all = watcher::Config::default;
        // The images on each machine are most of what is said of it.
        let slim = |machine: &mut Node| {
            if let Some(status) = &mut machine.status {
                status.images = None;
            }
        };
        let machines = keep_each(tasks, Api::all(client.clone()), all(), slim, move |news| {
            let tell = tell.clone();
            // Machines report all the time, and only some of it matters.
            let name =
                seen.turned(&news, Node::name_any, |node| (is_ready(node), node.labels().get(ZONE).cloned()));
            async move {
                if let Some(name) = name {
                    // Nobody may have asked yet.
                    let _ = tell.send(name);
                }
            }
        });
        let classes = keep_each(tasks, Api::all(client.clone()), all(), |_| {}, async |_| {});
        Self { machines, classes, turned }
    }
}

impl Caches {
    /// Begins to watch.
    pub fn start(client: &Client, watched: &Watched, ground: &Ground) -> (Self, Watches) {
        let (look, clusters) = mpsc::channel(WAITING);
        let (look_at_tables, tables) = mpsc::channel(WAITING);
        let mut tasks = JoinSet::new();
        let own = || watcher::Config::default().labels(OWN).any_semantic();
        let all = watcher::Config::default;
        let pods = keep(&mut tasks, watched.api(client), own(), &look);
        tasks.spawn(look_at_machines(ground.turned.subscribe(), pods.clone(), look.clone()));
        let caches = Self {
            clusters: {
                let (seen, look, tables) = (Seen::default(), look.clone(), look_at_tables.clone());
                keep_each(
                    &mut tasks,
                    watched.api(client),
                    all(),
                    |_| {},
                    move |news| {
                        let changed = seen.turned(&news, which, what_tables_rest_on);
                        let (look, tables) = (look.clone(), tables.clone());
                        async move {
                            // Nobody listens any more only when everything ends.
                            if let News::There(cluster) | News::Gone(cluster) = news {
                                let _ = look.send(which(&cluster)).await;
                            }
                            if let Some(of) = changed {
                                let _ = tables.send(Tables { of, named: None }).await;
                            }
                        }
                    },
                )
            },
            tables: {
                let (seen, tell) = (Seen::default(), look_at_tables);
                keep_each(
                    &mut tasks,
                    watched.api(client),
                    all(),
                    |_| {},
                    move |news| {
                        let tell = tell.clone();
                        let own = |table: &KVTable| (table.namespace().unwrap_or_default(), table.name_any());
                        // Others that claim the same name are looked at when one comes, goes or is declared anew.
                        let changed = seen.turned(&news, own, |table| {
                            (
                                table.uid(),
                                table.metadata.generation,
                                table.metadata.deletion_timestamp.is_some(),
                            )
                        });
                        async move {
                            if let (Some(_), News::There(table) | News::Gone(table)) = (changed, news) {
                                let of = Where {
                                    namespace: table.namespace().unwrap_or_default(),
                                    name: table.spec.cluster.clone(),
                                };
                                let named = Some(table.table_name().to_owned());
                                let _ = tell.send(Tables { of, named }).await;
                            }
                        }
                    },
                )
            },
            sets: keep(&mut tasks, watched.api(client), own(), &look),
            claims: keep(&mut tasks, watched.api(client), own(), &look),
            services: keep(&mut tasks, watched.api(client), own(), &look),
            config_maps: keep(&mut tasks, watched.api(client), own(), &look),
            accounts: keep(&mut tasks, watched.api(client), own(), &look),
            budgets: keep(&mut tasks, watched.api(client), own(), &look),
            policies: keep(&mut tasks, watched.api(client), own(), &look),
            classes: ground.classes.clone(),
            machines: ground.machines.clone(),
            pods,
        };
        (caches, Watches { clusters, tables, tasks })
    }

    /// Returns once everything was listed.
    pub async fn filled(&self) -> Result<(), reflector::store::WriterDropped> {
        self.clusters.wait_until_ready().await?;
        self.tables.wait_until_ready().await?;
        self.sets.wait_until_ready().await?;
        self.pods.wait_until_ready().await?;
        self.claims.wait_until_ready().await?;
        self.services.wait_until_ready().await?;
        self.config_maps.wait_until_ready().await?;
        self.accounts.wait_until_ready().await?;
        self.budgets.wait_until_ready().await?;
        self.policies.wait_until_ready().await?;
        self.machines.wait_until_ready().await?;
        self.classes.wait_until_ready().await
    }

    /// A cluster.
    pub fn cluster(&self, which: &Where) -> Option<std::sync::Arc<KVCluster>> {
        self.clusters.get(&ObjectRef::new(&which.name).within(&which.namespace))
    }
}

/// The objects of one cluster in a cache.
pub fn of_cluster<K>(store: &Store<K>, which: &Where) -> Vec<std::sync::Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.state_filter(|object| belongs_to(object).as_ref() == Some(which))
}

/// Where a resource is.
pub fn which(resource: &impl ResourceExt) -> Where {
    Where { namespace: resource.namespace().unwrap_or_default(), name: resource.name_any() }
}

/// The cluster that an object belongs to, by its labels.
fn belongs_to<K: Resource>(object: &K) -> Option<Where> {
    let name = object.meta().labels.as_ref()?.get(INSTANCE)?.clone();
    Some(Where { namespace: object.meta().namespace.clone().unwrap_or_default(), name })
}

/// Looks at the clusters that have pods on a machine that has turned.
async fn look_at_machines(
    mut turned: broadcast::Receiver<String>,
    pods: Store<Pod>,
    look: mpsc::Sender<Where>,
) {
    loop {
        let concerned = match turned.recv().await {
            Ok(machine) => clusters_with(&pods, |pod| node_name(pod) == Some(&machine)),
            // Which ones is not known, so it may be any.
            Err(broadcast::error::RecvError::Lagged(_)) => clusters_with(&pods, |_| true),
            Err(broadcast::error::RecvError::Closed) => return,
        };
        for which in concerned {
            let _ = look.send(which).await;
        }
    }
}

fn node_name(pod: &Pod) -> Option<&String> {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref())
}

fn clusters_with(pods: &Store<Pod>, wanted: impl Fn(&Pod) -> bool) -> Vec<Where> {
    let pods = pods.state();
    let mut concerned: Vec<Where> =
        pods.iter().filter(|pod| wanted(pod)).filter_map(|pod| belongs_to(pod.as_ref())).collect();
    concerned.sort();
    concerned.dedup();
    concerned
}

/// What a decision about a table takes from its cluster. Everything else in a cluster's status moves while
/// work is under way, and would have all of its tables looked at every few seconds.
fn what_tables_rest_on(cluster: &KVCluster) -> impl Hash + use<> {
    let status = cluster.status.as_ref();
    let ready =
        status.and_then(|status| status.conditions.iter().find(|condition| condition.type_ == "Ready"));
    (
        cluster.uid(),
        cluster.metadata.generation,
        cluster.metadata.deletion_timestamp.is_some(),
        cluster.annotations().get(PAUSED).cloned(),
        ready.map(|ready| (ready.status.clone(), ready.reason.clone())),
    )
}

/// Whether Kubernetes hears of a machine.
pub fn is_ready(machine: &Node) -> bool {
    let conditions = machine.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
}

fn keep<K>(
    tasks: &mut JoinSet<()>,
    api: Api<K>,
    config: watcher::Config,
    look: &mpsc::Sender<Where>,
) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let look = look.clone();
    keep_each(
        tasks,
        api,
        config,
        |_| {},
        move |news| {
            let which = match &news {
                News::There(object) | News::Gone(object) => belongs_to(object),
                News::Anew => None,
            };
            let look = look.clone();
            async move {
                if let Some(which) = which {
                    let _ = look.send(which).await;
                }
            }
        },
    )
}

/// Whether a namespace is among what is watched.
pub fn of_namespace(watched: &Watched, namespace: &str) -> bool {
    match watched {
        Watched::All => true,
        Watched::Namespace(one) => one == namespace,
    }
}

#[cfg(test)]
mod tests {
    use crds::conditions::{ConditionType, Finding, Holds, Reason, merged};
    use crds::{KVClusterSpec, KVClusterStatus};
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn cluster(change: impl FnOnce(&mut KVClusterStatus)) -> News<KVCluster> {
        let mut cluster = KVCluster::new("kv", KVClusterSpec::of_pools(Vec::new()));
        cluster.metadata.namespace = Some("shop".to_owned());
        let mut status = KVClusterStatus::default();
        change(&mut status);
        cluster.status = Some(status);
        News::There(cluster)
    }

    fn ready(holds: Holds) -> impl FnOnce(&mut KVClusterStatus) {
        let message = "3 of 3".to_owned();
        let finding = Finding { type_: ConditionType::Ready, holds, reason: Reason::AsDeclared, message };
        move |status| status.conditions = merged(&[], &[finding], 1, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn tables_are_looked_at_when_their_cluster_turns_and_not_with_each_of_its_moves() {
        let seen = Seen::default();
        let turned = |news: &News<KVCluster>| seen.turned(news, which, what_tables_rest_on).is_some();
        assert!(turned(&cluster(|_| {})), "it came");
        assert!(!turned(&cluster(|status| status.summary = Some("Rebalancing: 3 moves".to_owned()))));
        assert!(turned(&cluster(ready(Holds::True))));
        assert!(!turned(&cluster(ready(Holds::True))));
        assert!(turned(&cluster(ready(Holds::False))));
    }
}
