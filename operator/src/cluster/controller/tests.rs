//! Whole looks at a cluster, against an API server that writes the conversation down.

use std::fmt::Write as _;
use std::net::SocketAddr;

use crds::KVClusterSpec;
use crds::annotations::{INPUTS_HASH, NODE_ID, POOL};
use crds::cluster::Pool;
use insta::assert_snapshot;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use proto::v1;
use serde_json::json;

use super::*;
use crate::cluster::marks::{GOOD_INPUTS, GOOD_TEMPLATE};
use crate::fixtures::{self, AdminDoor, ApiServer, address, caches, store};
use crate::runtime::caches::Caches;

const UID: &str = "00000000-0000-0000-0000-0000000000c1";
const PODS: &str = "/api/v1/namespaces/shop/pods";
const SET: &str = "/apis/apps/v1/namespaces/shop/statefulsets/kv-a";
const CLAIMS: &str = "/api/v1/namespaces/shop/persistentvolumeclaims";
const PATH: &str = "/apis/kv.trilith.dev/v1alpha1/namespaces/shop/kvclusters/kv";

fn resource(replicas: i32) -> KVCluster {
    let mut resource = KVCluster::new("kv", KVClusterSpec::of_pools(vec![Pool::new("a", replicas)]));
    resource.metadata.namespace = Some("shop".to_owned());
    resource.metadata.uid = Some(UID.to_owned());
    resource.metadata.generation = Some(1);
    resource
}

fn context(server: &ApiServer, pods: Vec<Pod>, claims: Vec<PersistentVolumeClaim>) -> Context {
    server.seed(PATH, &resource(1));
    let caches = Caches { pods: store(pods), claims: store(claims), ..caches(server) };
    fixtures::context(server, caches)
}

fn node(ordinal: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(ordinal + 1)
}

/// A cluster as the API server has it after its first look, with pods that are ready and a data
/// plane in which all is well.
async fn settled(replicas: i32) -> (ApiServer, AdminDoor, Vec<Pod>, KVCluster, Timestamp) {
    let server = ApiServer::default();
    let now = Timestamp::from_second(1_780_000_000).unwrap();
    look(Arc::new(resource(replicas)), &context(&server, Vec::new(), Vec::new()), now).await.unwrap();
    let set = server.object(SET).expect("a StatefulSet");
    let inputs = &set["spec"]["template"]["metadata"]["annotations"][INPUTS_HASH];

    let ip = address();
    let door = AdminDoor::default();
    door.open(SocketAddr::from((ip, 7400))).await;
    let pods = (0..replicas).map(|ordinal| {
        serde_json::from_value(json!({
            "metadata": {
                "name": format!("kv-a-{ordinal}"), "namespace": "shop", "uid": format!("pod-{ordinal}"),
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": { POOL: "a", "app.kubernetes.io/instance": "kv" },
                "annotations": { INPUTS_HASH: inputs },
            },
            "spec": { "containers": [], "nodeName": "m1" },
            "status": { "podIP": ip.to_string(), "conditions": [{ "type": "Ready", "status": "True" }] },
        }))
        .expect("a pod")
    });
    let status = |ordinal: i32| v1::NodeStatus {
        entry: Some(v1::NodeEntry {
            node: node(ordinal as u128).as_bytes().to_vec().into(),
            name: format!("kv-a-{ordinal}"),
            ..v1::NodeEntry::default()
        }),
        load: Some(v1::NodeLoad { leaders: 2, replicas: 8, ..v1::NodeLoad::default() }),
        alive: true,
        holds_meta: true,
        ..v1::NodeStatus::default()
    };
    door.told.lock().status = v1::StatusResponse {
        cluster: uuid::Uuid::parse_str(UID).unwrap().as_bytes().to_vec().into(),
        this_node: node(0).as_bytes().to_vec().into(),
        meta_leader: node(0).as_bytes().to_vec().into(),
        nodes: (0..replicas).map(status).collect(),
        balanced: true,
        ..v1::StatusResponse::default()
    };
    let pods: Vec<Pod> = pods.collect();
    for pod in &pods {
        server.seed(&format!("{PODS}/{}", pod.name_any()), pod);
    }
    let mut resource = resource(replicas);
    // Looks until all is told and noted.
    for _ in 0..3 {
        resource.status = server.object(PATH).map(|it| serde_json::from_value(it["status"].clone()).unwrap());
        let context = context(&server, pods.clone(), claims(&server));
        look(Arc::new(resource.clone()), &context, now).await.unwrap();
    }
    resource.status = server.object(PATH).map(|it| serde_json::from_value(it["status"].clone()).unwrap());
    server.conversation();
    (server, door, pods, resource, now)
}

/// The claims, labelled with the nodes that are on them.
fn claims(server: &ApiServer) -> Vec<PersistentVolumeClaim> {
    let mut claims: Vec<PersistentVolumeClaim> = server.of_kind("persistentvolumeclaims");
    for (ordinal, claim) in claims.iter_mut().enumerate() {
        claim.labels_mut().insert(NODE_ID.to_owned(), node(ordinal as u128).to_string());
    }
    claims
}

#[tokio::test]
async fn a_new_cluster_gets_its_objects_then_claims_then_pods() {
    let server = ApiServer::default();
    let context = context(&server, Vec::new(), Vec::new());
    look(Arc::new(resource(2)), &context, Timestamp::now()).await.unwrap();
    assert_snapshot!(server.conversation());
}

/// Three pods that answer that they belong to no cluster, on claims that were made for them.
async fn unborn() -> (ApiServer, AdminDoor, Vec<Pod>) {
    let (server, door, pods, ..) = settled(3).await;
    door.told.lock().status = v1::StatusResponse::default();
    (server, door, pods)
}

#[tokio::test]
async fn a_cluster_is_created_on_the_marked_claim_once_its_pod_answers() {
    let (server, door, pods) = unborn().await;
    let claims = server.of_kind("persistentvolumeclaims");
    look(Arc::new(resource(3)), &context(&server, pods, claims), Timestamp::now()).await.unwrap();
    assert_eq!(door.told.lock().orders, ["init"]);
    assert!(server.conversation().contains("GET /api/v1/namespaces/shop/pods/kv-a-0\n"));
}

#[tokio::test]
async fn no_cluster_is_created_at_an_address_that_another_pod_has_by_now() {
    let (server, door, pods) = unborn().await;
    let claims = server.of_kind("persistentvolumeclaims");
    server.change(&format!("{PODS}/kv-a-0"), &json!({ "metadata": { "uid": "another" } }));
    let action =
        look(Arc::new(resource(3)), &context(&server, pods, claims), Timestamp::now()).await.unwrap();
    assert_eq!(action, Action::requeue(AGAIN));
    assert!(door.told.lock().orders.is_empty());
}

#[tokio::test]
async fn what_a_quota_refuses_is_told_and_the_rest_is_kept() {
    let server = ApiServer::default();
    server.refuse("POST /api/v1/namespaces/shop/persistentvolumeclaims", "exceeded quota: storage");
    let context = context(&server, Vec::new(), Vec::new());
    look(Arc::new(resource(2)), &context, Timestamp::now()).await.unwrap();
    let status = server.object(PATH).expect("a status");
    let told = serde_json::to_string(&status["status"]["conditions"]).unwrap();
    assert!(told.contains("exceeded quota: storage") && told.contains("ObjectRefused"), "{told}");
    assert!(!server.conversation().contains("statefulsets"), "no pod starts before its claim is there");
}

#[tokio::test]
async fn somebody_elses_service_is_left_alone() {
    let server = ApiServer::default();
    let path = "/api/v1/namespaces/shop/services/kv";
    let theirs = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "kv" }, "spec": {} });
    server.seed(path, &theirs);
    look(Arc::new(resource(2)), &context(&server, Vec::new(), Vec::new()), Timestamp::now()).await.unwrap();
    assert!(!server.conversation().contains(&format!("PATCH {path}\n")));
    assert!(server.object(PATH).unwrap()["status"].to_string().contains("ObjectTaken"));
}

#[tokio::test]
async fn an_invalid_spec_is_told_and_nothing_else_is_done() {
    let server = ApiServer::default();
    let mut wrong = resource(2);
    wrong.spec.pools.push(Pool::new("a", 1));
    look(Arc::new(wrong), &context(&server, Vec::new(), Vec::new()), Timestamp::now()).await.unwrap();
    assert_snapshot!(server.conversation());
}

#[tokio::test]
async fn with_nothing_to_do_nothing_is_asked_of_the_api_server_for_ten_minutes() {
    let (server, _door, pods, resource, began) = settled(3).await;
    let context = context(&server, pods, claims(&server));
    // The first look sees to monitoring once after a start.
    let mut now = began;
    let mut looks = 0;
    while now.as_second() - began.as_second() <= 600 {
        let action = look(Arc::new(resource.clone()), &context, now).await.unwrap();
        assert_eq!(action, Action::requeue(RESYNC), "an idle cluster is not looked at sooner");
        // A look for any other reason, such as an Event of a pod, writes nothing either.
        now += std::time::Duration::from_secs(20);
        looks += 1;
    }
    assert!(looks > 30);
    assert_eq!(server.conversation(), "");
}

#[tokio::test]
async fn figures_that_may_not_be_told_yet_bring_another_look() {
    let (server, door, pods, resource, began) = settled(3).await;
    let context = context(&server, pods, claims(&server));
    for node in &mut door.told.lock().status.nodes {
        node.load = Some(v1::NodeLoad { leaders: 7, replicas: 9, ..v1::NodeLoad::default() });
    }
    let told = resource.status.as_ref().and_then(|status| status.figures_at.as_ref()).unwrap().0;
    assert!(began.as_second() - told.as_second() < 60);
    let left = 60 - u64::try_from(began.as_second() - told.as_second()).unwrap();
    let action = look(Arc::new(resource), &context, began).await.unwrap();
    assert_eq!(action, Action::requeue(std::time::Duration::from_secs(left)));
}

/// Declares another image.
fn change_image(resource: &mut KVCluster) {
    resource.metadata.generation = Some(2);
    resource.spec.image = Some("trilith-node:2".to_owned());
}

fn lead_nothing(door: &AdminDoor) {
    for node in &mut door.told.lock().status.nodes {
        node.load = Some(v1::NodeLoad { leaders: 0, ..v1::NodeLoad::default() });
    }
}

fn of_verb<'a>(conversation: &'a str, verb: &str) -> Vec<&'a str> {
    conversation.lines().filter(|line| line.starts_with(verb)).collect()
}

#[tokio::test]
async fn a_pod_is_replaced_only_when_the_data_plane_allows_it() {
    let (server, door, pods, mut resource, now) = settled(3).await;
    change_image(&mut resource);
    door.told.lock().can_restart = v1::CanRestartResponse {
        yes: false,
        blocking: vec![4],
        reason: "partition 4 would be without a caught-up quorum".to_owned(),
    };
    lead_nothing(&door);
    let refused = context(&server, pods.clone(), claims(&server));
    look(Arc::new(resource.clone()), &refused, now).await.unwrap();
    let refused = server.conversation();
    assert!(!refused.contains("DELETE"), "{refused}");

    door.told.lock().can_restart = v1::CanRestartResponse { yes: true, ..v1::CanRestartResponse::default() };
    look(Arc::new(resource), &context(&server, pods, claims(&server)), now).await.unwrap();
    let deleted = server.conversation();
    let deletes = of_verb(&deleted, "DELETE");
    assert_eq!(deletes, ["DELETE /api/v1/namespaces/shop/pods/kv-a-1"], "one, and not the meta leader");
}

#[tokio::test]
async fn no_pod_is_replaced_while_leaders_stay_on_it() {
    let (server, door, pods, mut resource, now) = settled(3).await;
    change_image(&mut resource);
    door.told.lock().can_restart = v1::CanRestartResponse { yes: true, ..v1::CanRestartResponse::default() };
    door.told.lock().leaders_left = 3;
    look(Arc::new(resource.clone()), &context(&server, pods.clone(), claims(&server)), now).await.unwrap();
    assert!(of_verb(&server.conversation(), "DELETE").is_empty());
    let status = server.object(PATH).unwrap()["status"].to_string();
    assert!(status.contains("It still leads 3 groups."), "{status}");

    // Whoever would rather have an election than wait says so.
    resource.spec.updates.when_leaders_stay = crds::cluster::WhenLeadersStay::Proceed;
    look(Arc::new(resource), &context(&server, pods, claims(&server)), now).await.unwrap();
    assert_eq!(of_verb(&server.conversation(), "DELETE").len(), 1);
}

#[tokio::test]
async fn no_pod_is_replaced_while_another_one_ends_unseen() {
    let (server, door, pods, mut resource, now) = settled(3).await;
    change_image(&mut resource);
    lead_nothing(&door);
    door.told.lock().can_restart = v1::CanRestartResponse { yes: true, ..v1::CanRestartResponse::default() };
    // The cache and the data plane show it as well.
    let ending = json!({ "metadata": { "deletionTimestamp": "2026-01-02T00:00:00Z" } });
    server.change(&format!("{PODS}/kv-a-2"), &ending);
    let context = context(&server, pods, claims(&server));
    let action = look(Arc::new(resource), &context, now).await.unwrap();
    assert_eq!(action, Action::requeue(AGAIN));
    let conversation = server.conversation();
    assert!(of_verb(&conversation, "DELETE").is_empty(), "{conversation}");
    assert!(!conversation.contains("event Waiting"), "what is old is nobody's fault: {conversation}");
}

#[tokio::test]
async fn a_pod_that_started_after_all_is_not_taken_for_one_that_never_ran() {
    let (server, _door, mut pods, mut resource, now) = settled(3).await;
    change_image(&mut resource);
    let stuck = json!({
        "conditions": [{ "type": "Ready", "status": "False" }],
        "containerStatuses": [{
            "name": "node", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": "ImagePullBackOff" } },
        }],
    });
    pods[1].status = serde_json::from_value(stuck).unwrap();
    look(Arc::new(resource), &context(&server, pods, claims(&server)), now).await.unwrap();
    let conversation = server.conversation();
    assert!(conversation.contains("GET /api/v1/namespaces/shop/pods/kv-a-1"), "{conversation}");
    assert!(of_verb(&conversation, "DELETE").is_empty(), "{conversation}");
}

#[tokio::test]
async fn a_set_that_was_changed_meanwhile_is_not_written_over() {
    let (server, _door, pods, mut resource, now) = settled(3).await;
    resource.metadata.generation = Some(2);
    resource.spec.pools[0].replicas = 4;
    let context = context(&server, pods, claims(&server));
    // Somebody has scaled it already, and the cache does not show it yet.
    server.change(SET, &json!({ "spec": { "replicas": 6 } }));
    let action = look(Arc::new(resource), &context, now).await.unwrap();
    assert_eq!(action, Action::requeue(AGAIN));
    assert_eq!(server.object(SET).unwrap()["spec"]["replicas"], 6);
    assert!(!server.conversation().contains("event StepFailed"));
}

#[tokio::test]
async fn a_claim_that_cannot_grow_holds_nothing_else_up() {
    let (server, _door, pods, mut resource, now) = settled(3).await;
    resource.metadata.generation = Some(2);
    resource.spec.pools[0].replicas = 4;
    resource.spec.pools[0].storage.size = crds::ByteQuantity::new("20Gi");
    server.refuse(&format!("PATCH {CLAIMS}"), "exceeded quota: storage");
    look(Arc::new(resource), &context(&server, pods, claims(&server)), now).await.unwrap();
    assert_eq!(server.object(SET).unwrap()["spec"]["replicas"], 4);
    let told = server.object(PATH).unwrap()["status"]["conditions"].to_string();
    assert!(told.contains("exceeded quota: storage"), "{told}");
}

/// The template with which all pods became ready just now is the one to go back to, also where another one
/// is declared in the same moment.
#[tokio::test]
async fn what_was_good_last_is_noted_before_it_is_replaced() {
    let (server, door, pods, mut resource, now) = settled(3).await;
    lead_nothing(&door);
    let notes = |server: &ApiServer| server.object(SET).unwrap()["metadata"]["annotations"].clone();
    let good = notes(&server)[GOOD_INPUTS].clone();
    assert!(good.is_string());
    // As if it had not been noted yet.
    server.change(
        SET,
        &json!({ "metadata": { "annotations": { GOOD_INPUTS: "older", GOOD_TEMPLATE: "{}" } } }),
    );
    change_image(&mut resource);
    look(Arc::new(resource), &context(&server, pods, claims(&server)), now).await.unwrap();
    let noted = notes(&server);
    assert_eq!(noted[GOOD_INPUTS], good);
    assert!(noted[GOOD_TEMPLATE].as_str().unwrap().contains("trilith-node:1"));
    let image = server.object(SET).unwrap()["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    assert_eq!(image, "trilith-node:2", "and the new one is in place");
}

#[tokio::test]
async fn what_cannot_be_done_is_told_once() {
    let (server, door, pods, mut resource, now) = settled(3).await;
    door.told.lock().tables =
        vec![v1::TableEntry { name: "orders".to_owned(), replicas: 3, ..v1::TableEntry::default() }];
    resource.metadata.generation = Some(2);
    resource.spec.pools[0].replicas = 2;
    let mut told = 0;
    for _ in 0..3 {
        let context = context(&server, pods.clone(), claims(&server));
        look(Arc::new(resource.clone()), &context, now).await.unwrap();
        told += server.conversation().matches("event Blocked").count();
        resource.status = server.object(PATH).map(|it| serde_json::from_value(it["status"].clone()).unwrap());
    }
    assert_eq!(told, 1);
}

fn deleted(mut resource: KVCluster) -> KVCluster {
    resource.metadata.deletion_timestamp = resource.creation_timestamp().or(Some(
        k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::from_second(1_780_000_000).unwrap()),
    ));
    resource.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    resource.spec.claim_retention.when_deleted = crds::cluster::Retention::Delete;
    resource
}

#[tokio::test]
async fn a_cluster_is_held_until_its_claims_are_gone() {
    let (server, _door, _, resource, now) = settled(2).await;
    let resource = Arc::new(deleted(resource));
    let mut told = String::new();
    for _ in 0..2 {
        look(Arc::clone(&resource), &context(&server, Vec::new(), claims(&server)), now).await.unwrap();
        write!(told, "{}\n--\n", server.conversation()).unwrap();
    }
    // A claim that no cache shows yet.
    server.seed(&format!("{CLAIMS}/data-kv-a-9"), &json!({ "metadata": { "name": "data-kv-a-9" } }));
    look(Arc::clone(&resource), &context(&server, Vec::new(), Vec::new()), now).await.unwrap();
    write!(told, "{}\n--\n", server.conversation()).unwrap();
    server.remove(&format!("{CLAIMS}/data-kv-a-9"));
    look(resource, &context(&server, Vec::new(), Vec::new()), now).await.unwrap();
    assert_snapshot!(told + &server.conversation());
}

#[tokio::test]
async fn a_paused_cluster_keeps_its_data_although_it_is_deleted() {
    let (server, _door, pods, mut resource, now) = settled(2).await;
    resource.annotations_mut().insert(crds::annotations::PAUSED.to_owned(), "true".to_owned());
    let context = context(&server, pods, claims(&server));
    look(Arc::new(deleted(resource)), &context, now).await.unwrap();
    let conversation = server.conversation();
    assert!(of_verb(&conversation, "DELETE").is_empty(), "{conversation}");
    assert!(server.object(PATH).unwrap()["status"].to_string().contains("keeps its data"));
}
