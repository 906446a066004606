//! Reads everything that a decision about a cluster rests on: the cached objects, and the data
//! plane's own view. It decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crds::annotations::{CLUSTER_ID, FIRST_CLAIM, INPUTS_HASH, NODE_ID, POOL};
use crds::{ByteQuantity, KVCluster};
use futures::future::join_all;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;
use placement::{ClusterId, NodeId};

use super::marks::{FAILED_INPUTS, GOOD_INPUTS};
use super::objects::{names, pod::CONTAINER, ports::GRPC};
use super::observed::{Claim, Identity, Machine, Observed, Pod, Seat, Set};
use crate::dataplane::{Answered, DataPlane, Link, Links, Where, told};
use crate::runtime::caches::{self, Caches};

/// The zone that a machine says it is in.
const ZONE: &str = "topology.kubernetes.io/zone";
/// A pod that is younger than this, in seconds, may be another than its name suggests.
const YOUNG: i64 = 120;

/// How many nodes are asked one by one for the meta group's view, all at once.
const MEMBERS_ASKED: usize = 5;
/// After so many restarts a container is taken for one that crashes.
const CRASHES: i32 = 2;

/// What was found, with what carrying a plan out needs besides.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// What planning sees.
    pub observed: Observed,
    /// The `StatefulSets` themselves, by pool.
    pub sets: BTreeMap<String, Arc<StatefulSet>>,
    /// The gRPC address of each pod that has one.
    pub addresses: BTreeMap<String, String>,
    /// The id of the cluster: what the claims say, or else the object's own.
    pub cluster_id: ClusterId,
    /// What the data plane said when it did not answer.
    pub silence: String,
}

impl Found {
    /// The image that the pools run by an earlier decision.
    pub fn image(&self) -> Option<&str> {
        let templates = self.sets.values().filter_map(|set| set.spec.as_ref()?.template.spec.as_ref());
        let containers = templates.flat_map(|template| &template.containers);
        containers.filter(|container| container.name == CONTAINER).find_map(|node| node.image.as_deref())
    }
}

/// Reads the cached objects of a cluster. Nothing is asked.
pub fn objects(caches: &Caches, cluster: &KVCluster, now: i64) -> Found {
    let which = caches::which(cluster);
    let own = cluster.metadata.uid.as_deref().and_then(|uid| uid.parse().ok()).unwrap_or_default();
    let pods = caches::of_cluster(&caches.pods, &which);
    let claims = caches::of_cluster(&caches.claims, &which);
    let sets = caches::of_cluster(&caches.sets, &which);
    let machines = caches.machines.state();
    let classes = caches.classes.state();

    let mut claims: Vec<Claim> =
        claims.iter().filter_map(|claim| claim_of(&which.name, claim, &classes)).collect();
    claims.sort_by(|one, other| one.seat.cmp(&other.seat));
    let cluster_id = cluster_id(&claims).unwrap_or(own);
    let addresses = pods.iter().filter_map(|pod| Some((pod.name_any(), address(pod)?))).collect();
    let mut pods: Vec<Pod> = pods.iter().filter_map(|pod| pod_of(&which.name, pod)).collect();
    pods.sort_by(|one, other| one.seat.cmp(&other.seat));
    let sets: BTreeMap<String, Arc<StatefulSet>> = sets
        .into_iter()
        .filter(|set| set.metadata.deletion_timestamp.is_none())
        .filter_map(|set| Some((set.labels().get(POOL)?.clone(), set)))
        .collect();
    let machines = machines.iter().map(|machine| {
        let zone = machine.labels().get(ZONE).cloned().unwrap_or_default();
        (machine.name_any(), Machine { zone, ready: caches::is_ready(machine) })
    });
    let observed = Observed {
        now,
        pods,
        claims,
        sets: sets.iter().map(|(pool, set)| (pool.clone(), set_of(set))).collect(),
        machines: machines.collect(),
        data: DataPlane::Unknown,
    };
    Found { observed, sets, addresses, cluster_id, silence: String::new() }
}

/// Asks the data plane how it is. What does not answer stays unknown.
pub async fn ask(links: &Links, which: &Where, found: &mut Found) {
    if found.addresses.is_empty() {
        "no pod has an address yet".clone_into(&mut found.silence);
        return;
    }
    let link = match links.to(which, endpoints(found)) {
        Ok(link) => link,
        Err(error) => {
            found.silence = told(&error);
            return;
        }
    };
    match link.observe().await {
        Ok(Some(view)) => found.observed.data = DataPlane::Known(Box::new(view)),
        Ok(None) => found.observed.data = DataPlane::Uninitialised,
        Err(error) => {
            tracing::debug!(cluster = which.name, %error, "the data plane does not say how it is");
            found.silence = told(&error);
        }
    }
    identify(&link, found).await;
    if found.observed.data.known().is_none() {
        look_through_members(&link, found).await;
    }
    if let DataPlane::Known(view) = &found.observed.data
        && view.cluster != found.cluster_id
    {
        found.silence = format!("what answers is cluster {}, not {}", view.cluster, found.cluster_id);
        let stranger = Identity::Stranger(view.cluster);
        for pod in found.observed.pods.iter_mut().filter(|pod| matches!(pod.identity, Identity::Node(_))) {
            pod.identity = stranger;
        }
        found.observed.data = DataPlane::Unknown;
        return;
    }
    if found.observed.data.known().is_some() {
        links.follow(which);
        bury(links, which, found).await;
    }
}

/// The pods to ask: those that are ready, since they have joined; else all.
fn endpoints(found: &Found) -> Vec<String> {
    let of = |ready: bool| -> Vec<String> {
        let pods = found.observed.pods.iter().filter(|pod| pod.ready || !ready);
        pods.filter_map(|pod| found.addresses.get(&pod.name).cloned()).collect()
    };
    let ready = of(true);
    if ready.is_empty() { of(false) } else { ready }
}

/// Finds out who lives in each pod. A pod whose name, claim and age leave no doubt is not asked.
async fn identify(link: &Link, found: &mut Found) {
    let view = found.observed.data.known();
    let answers = found.observed.pods.iter().map(|pod| async {
        let claimed = found.observed.claim(&pod.seat).and_then(|claim| claim.node);
        let known = view.and_then(|view| view.named(&pod.name)).filter(|node| {
            node.alive && claimed == Some(node.id) && pod.ready && found.observed.now - pod.created > YOUNG
        });
        if let Some(node) = known {
            return Identity::Node(node.id);
        }
        let Some(address) = found.addresses.get(&pod.name) else { return Identity::Unknown };
        match link.who(address).await {
            Ok(Answered::Nobody) => Identity::Nobody,
            Ok(Answered::Node(node, cluster)) if cluster == found.cluster_id => Identity::Node(node),
            Ok(Answered::Node(_, cluster)) => Identity::Stranger(cluster),
            Err(error) => {
                tracing::debug!(pod = pod.name, %error, "a pod does not say who lives in it");
                Identity::Unknown
            }
        }
    });
    let answers = join_all(answers).await;
    for (pod, identity) in found.observed.pods.iter_mut().zip(answers) {
        pod.identity = identity;
    }
}

/// Whoever was asked first may belong to no cluster while others do.
async fn look_through_members(link: &Link, found: &mut Found) {
    let members = found.observed.pods.iter().filter(|pod| matches!(pod.identity, Identity::Node(_)));
    let addresses = members.filter_map(|pod| found.addresses.get(&pod.name).cloned());
    // Each of them asks the meta leader, so a few are as good as all.
    let addresses: Vec<String> = addresses.take(MEMBERS_ASKED).collect();
    if !addresses.is_empty() {
        found.observed.data = DataPlane::Unknown;
    }
    for answer in join_all(addresses.iter().map(|address| link.observe_at(address))).await {
        match answer {
            Ok(Some(view)) => {
                found.observed.data = DataPlane::Known(Box::new(view));
                return;
            }
            Ok(None) => {}
            Err(error) => found.silence = told(&error),
        }
    }
}

/// Asks for the tombstones of nodes that claims and pods name and that are not listed.
async fn bury(links: &Links, which: &Where, found: &mut Found) {
    let claimed = found.observed.claims.iter().filter_map(|claim| claim.node);
    let living = found.observed.pods.iter().filter_map(|pod| match pod.identity {
        Identity::Node(node) => Some(node),
        _ => None,
    });
    let named: BTreeSet<NodeId> = claimed.chain(living).collect();
    let DataPlane::Known(view) = &mut found.observed.data else { return };
    let unlisted = named.into_iter().filter(|node| !view.nodes.contains_key(node)).collect();
    match links.removed(which, unlisted).await {
        Ok(removed) => view.tombstones = removed,
        // They stay unknown, and so does what depends on them.
        Err(error) => tracing::debug!(%error, "it is not known which nodes were removed"),
    }
}

fn cluster_id(claims: &[Claim]) -> Option<ClusterId> {
    let held = claims.iter().find(|claim| claim.node.is_some()).and_then(|claim| claim.cluster);
    held.or_else(|| claims.iter().find(|claim| claim.first).and_then(|claim| claim.cluster))
}

/// The seat that a name stands for, which must be that of the pool that the label names.
fn seat(prefix: &str, pool: &str, name: &str) -> Option<Seat> {
    let ordinal = name.strip_prefix(prefix)?.parse().ok()?;
    Some(Seat { pool: pool.to_owned(), ordinal })
}

/// A pod as deciding sees it; none where it is not one of the cluster's.
pub(super) fn pod_of(cluster: &str, pod: &core::Pod) -> Option<Pod> {
    let pool = pod.labels().get(POOL)?;
    let name = pod.name_any();
    let status = pod.status.as_ref();
    let condition = |name: &str| {
        let conditions = status.and_then(|status| status.conditions.as_ref());
        conditions.and_then(|all| all.iter().find(|one| one.type_ == name))
    };
    let readiness = condition("Ready");
    let ready = readiness.is_some_and(|ready| ready.status == "True");
    let turned = readiness.filter(|_| !ready).and_then(|unready| unready.last_transition_time.as_ref());
    let (never_ran, trouble) = trouble(status, condition("PodScheduled"));
    Some(Pod {
        seat: seat(&format!("{}-", names::stateful_set(cluster, pool)), pool, &name)?,
        uid: pod.uid().unwrap_or_default(),
        machine: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        inputs: pod.annotations().get(INPUTS_HASH).cloned().unwrap_or_default(),
        created: pod.creation_timestamp().map_or(0, |time| time.0.as_second()),
        ready,
        unready_since: turned.map_or(0, |time| time.0.as_second()),
        never_ran,
        trouble,
        deleting: pod.metadata.deletion_timestamp.is_some(),
        identity: Identity::Unknown,
        name,
    })
}

/// Whether the container of a pod has never come up, and what Kubernetes says is wrong.
fn trouble(status: Option<&core::PodStatus>, scheduled: Option<&core::PodCondition>) -> (bool, String) {
    if let Some(unscheduled) = scheduled.filter(|condition| condition.status == "False") {
        let why = unscheduled.message.clone().or_else(|| unscheduled.reason.clone()).unwrap_or_default();
        return (true, format!("no machine takes it: {why}"));
    }
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    let Some(node) = containers.and_then(|all| all.iter().find(|one| one.name == CONTAINER)) else {
        let pending = status.is_none_or(|status| status.phase.as_deref() == Some("Pending"));
        return (pending, String::new());
    };
    let last = node.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let ended = last.map_or_else(String::new, |last| {
        let why = last.message.clone().unwrap_or_default();
        format!("it ended with status {} {}", last.exit_code, why.trim()).trim_end().to_owned()
    });
    let Some(waiting) = node.state.as_ref().and_then(|state| state.waiting.as_ref()) else {
        // Between two crashes it runs for a moment, and what is wrong with it is the same.
        let crashes = !node.ready && node.restart_count >= CRASHES && !ended.is_empty();
        return (false, if crashes { format!("CrashLoopBackOff: {ended}") } else { String::new() });
    };
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let detail = waiting.message.as_deref().unwrap_or_default();
    match reason {
        "" | "ContainerCreating" | "PodInitializing" => (node.restart_count == 0, String::new()),
        // Kubernetes says these in turn, with the same cause in both.
        "ErrImagePull" | "ImagePullBackOff" => {
            let cause = detail.split_once("ErrImagePull: ").map_or(detail, |(_, cause)| cause);
            (true, format!("ImagePullBackOff: {cause}"))
        }
        // What it says besides is how long it waits this time.
        "CrashLoopBackOff" => (true, format!("CrashLoopBackOff: {ended}")),
        other => (true, format!("{other}: {detail}")),
    }
}

fn claim_of(
    cluster: &str,
    claim: &core::PersistentVolumeClaim,
    classes: &[Arc<StorageClass>],
) -> Option<Claim> {
    let pool = claim.labels().get(POOL)?;
    let name = claim.name_any();
    let spec = claim.spec.as_ref()?;
    let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let requested = requests.and_then(|requests| requests.get("storage"));
    let class = spec.storage_class_name.as_ref();
    let class = class.and_then(|name| classes.iter().find(|class| class.name_any() == *name));
    let label = |name: &str| claim.labels().get(name);
    let first_claim = names::claim(cluster, pool, 0);
    Some(Claim {
        seat: seat(first_claim.strip_suffix('0')?, pool, &name)?,
        uid: claim.uid().unwrap_or_default(),
        cluster: label(CLUSTER_ID).and_then(|id| id.parse().ok()),
        node: label(NODE_ID).and_then(|id| id.parse().ok()),
        first: label(FIRST_CLAIM).is_some_and(|value| value == "true"),
        requested: requested.and_then(|size| ByteQuantity::new(&size.0).bytes().ok()).unwrap_or_default(),
        growable: class.map(|class| class.allow_volume_expansion == Some(true)),
        resize_trouble: resize_trouble(claim),
        deleting: claim.metadata.deletion_timestamp.is_some(),
        name,
    })
}

fn resize_trouble(claim: &core::PersistentVolumeClaim) -> String {
    let conditions = claim.status.as_ref().and_then(|status| status.conditions.as_ref());
    let failed = conditions.and_then(|all| {
        all.iter().find(|one| {
            matches!(one.type_.as_str(), "ControllerResizeError" | "NodeResizeError") && one.status == "True"
        })
    });
    failed.map_or_else(String::new, |one| one.message.clone().unwrap_or_else(|| one.type_.clone()))
}

fn set_of(set: &StatefulSet) -> Set {
    let spec = set.spec.as_ref();
    let template = spec.and_then(|spec| spec.template.metadata.as_ref());
    let inputs = template.and_then(|metadata| metadata.annotations.as_ref()?.get(INPUTS_HASH).cloned());
    let note = |name: &str| set.annotations().get(name).cloned();
    Set {
        replicas: spec
            .and_then(|spec| spec.replicas)
            .map_or(0, |replicas| u32::try_from(replicas).unwrap_or(0)),
        inputs: inputs.unwrap_or_default(),
        good_inputs: note(GOOD_INPUTS),
        failed_inputs: note(FAILED_INPUTS),
    }
}

/// Where a pod's gRPC door is.
pub(super) fn address(pod: &core::Pod) -> Option<String> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let ip = pod.status.as_ref()?.pod_ip.as_ref().filter(|ip| !ip.is_empty())?;
    Some(if ip.contains(':') { format!("[{ip}]:{}", GRPC.number) } else { format!("{ip}:{}", GRPC.number) })
}

#[cfg(test)]
mod tests;
