//! Whole looks at a table, against an API server that writes the conversation down and a cluster that answers.

use std::net::SocketAddr;

use crds::conditions::{ConditionType, Finding, Holds, Reason, merged};
use crds::{KVCluster, KVClusterSpec, KVClusterStatus, KVTableSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::*;
use crate::dataplane::Where;
use crate::fixtures::{self, AdminDoor, ApiServer, address, caches, store};
use crate::runtime::caches::Caches;

const PATH: &str = "/apis/kv.trilith.dev/v1alpha1/namespaces/shop/kvtables/orders";
const UID: &str = "00000000-0000-0000-0000-0000000000a1";

fn now() -> Timestamp {
    Timestamp::from_second(1_780_000_000).unwrap()
}

/// A table as it is declared, with what the API server keeps of it besides.
fn declared(server: &ApiServer) -> KVTable {
    let mut table = KVTable::new("orders", KVTableSpec::of_cluster("kv"));
    table.metadata.namespace = Some("shop".to_owned());
    table.metadata.uid = Some(UID.to_owned());
    table.metadata.generation = Some(1);
    server.seed(PATH, &table);
    let kept = server.object(PATH).unwrap();
    table.metadata.finalizers = serde_json::from_value(kept["metadata"]["finalizers"].clone()).unwrap();
    table.status = serde_json::from_value(kept["status"].clone()).unwrap();
    table
}

fn deleted(mut table: KVTable) -> KVTable {
    table.metadata.deletion_timestamp = Some(Time(now()));
    table
}

/// A context in which the cluster is there and says this of itself; none: there is no cluster.
async fn context(server: &ApiServer, door: &AdminDoor, says: Option<Reason>) -> Context {
    let mut clusters = Vec::new();
    if let Some(reason) = says {
        let mut cluster = KVCluster::new("kv", KVClusterSpec::of_pools(Vec::new()));
        cluster.metadata.namespace = Some("shop".to_owned());
        let holds = Holds::from(reason == Reason::AsDeclared);
        let finding = Finding { type_: ConditionType::Ready, holds, reason, message: "so it is".to_owned() };
        let conditions = merged(&[], &[finding], 1, now());
        cluster.status = Some(KVClusterStatus { conditions, ..KVClusterStatus::default() });
        clusters.push(cluster);
    }
    let tables = vec![declared(server)];
    let caches = Caches { clusters: store(clusters), tables: store(tables), ..caches(server) };
    let context = fixtures::context(server, caches);
    let ip = address();
    door.open(SocketAddr::from((ip, 7400))).await;
    let which = Where { namespace: "shop".to_owned(), name: "kv".to_owned() };
    context.links.to(&which, vec![format!("{ip}:7400")]).unwrap();
    context
}

fn condition(server: &ApiServer, type_: &str) -> (String, String) {
    let status = server.object(PATH).unwrap()["status"].clone();
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.into_iter().find(|one| one["type"] == type_).unwrap_or(Value::Null);
    let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

#[tokio::test]
async fn a_table_is_created_and_then_left_alone() {
    let (server, door) = (ApiServer::default(), AdminDoor::default());
    let context = context(&server, &door, Some(Reason::AsDeclared)).await;
    for _ in 0..3 {
        look(&declared(&server), &context, now()).await.unwrap();
    }
    assert_eq!(door.told.lock().orders, ["create orders"]);
    assert_eq!(condition(&server, "Ready"), ("True".to_owned(), "AsDeclared".to_owned()));
    assert_eq!(server.object(PATH).unwrap()["status"]["size"], "8.0 MiB");
    server.conversation();
    for seconds in 0..600 {
        let later = now() + Duration::from_secs(seconds);
        assert_eq!(look(&declared(&server), &context, later).await.unwrap(), Action::requeue(RESYNC));
    }
    assert_eq!(server.conversation(), "", "with nothing to do nothing is written");
}

#[tokio::test]
async fn a_table_without_a_cluster_waits_and_says_so_once() {
    let (server, door) = (ApiServer::default(), AdminDoor::default());
    let context = context(&server, &door, None).await;
    let mut told = 0;
    for _ in 0..3 {
        look(&declared(&server), &context, now()).await.unwrap();
        told += server.conversation().matches("event ClusterNotFound").count();
    }
    assert_eq!(told, 1);
    assert_eq!(condition(&server, "Ready"), ("False".to_owned(), "ClusterNotFound".to_owned()));
}

#[tokio::test]
async fn nothing_is_asked_of_a_cluster_whose_first_nodes_are_coming() {
    let (server, door) = (ApiServer::default(), AdminDoor::default());
    let context = context(&server, &door, Some(Reason::Forming)).await;
    look(&declared(&server), &context, now()).await.unwrap();
    assert!(door.told.lock().orders.is_empty());
    assert_eq!(condition(&server, "Progressing"), ("False".to_owned(), "ClusterNotReady".to_owned()));
}

#[tokio::test]
async fn what_the_cluster_refuses_is_told_once_and_tried_later_and_later() {
    let (server, door) = (ApiServer::default(), AdminDoor::default());
    let context = context(&server, &door, Some(Reason::AsDeclared)).await;
    door.told.lock().refuses = Some("3 replicas need as many serving nodes, and there are 1".to_owned());
    let mut told = 0;
    let mut pauses = Vec::new();
    for _ in 0..3 {
        pauses.push(look(&declared(&server), &context, now()).await.unwrap());
        told += server.conversation().matches("event Refused").count();
    }
    assert_eq!(told, 1);
    assert_eq!(pauses, [2, 4, 8].map(|seconds| Action::requeue(Duration::from_secs(seconds))));
    assert_eq!(condition(&server, "Progressing"), ("False".to_owned(), "Refused".to_owned()));
}

#[tokio::test]
async fn a_table_is_dropped_before_its_resource_goes_where_the_policy_says_so() {
    let (server, door) = (ApiServer::default(), AdminDoor::default());
    let context = context(&server, &door, Some(Reason::AsDeclared)).await;
    let drops = |server: &ApiServer| {
        let mut table = declared(server);
        table.spec.deletion_policy = crds::cluster::Retention::Delete;
        table
    };
    for _ in 0..2 {
        look(&drops(&server), &context, now()).await.unwrap();
    }
    assert_eq!(server.object(PATH).unwrap()["metadata"]["finalizers"][0], FINALIZER);
    look(&deleted(drops(&server)), &context, now()).await.unwrap();
    assert_eq!(door.told.lock().orders, ["create orders", "drop orders"]);
    assert_eq!(server.object(PATH).unwrap()["metadata"]["finalizers"], serde_json::json!([]));
}

#[tokio::test]
async fn a_resource_that_is_wrong_can_be_deleted_all_the_same() {
    let (server, door) = (ApiServer::default(), AdminDoor::default());
    let context = context(&server, &door, Some(Reason::AsDeclared)).await;
    let mut wrong = deleted(declared(&server));
    wrong.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    wrong.spec.deletion_policy = crds::cluster::Retention::Delete;
    wrong.spec.buckets = 7;
    look(&wrong, &context, now()).await.unwrap();
    assert_eq!(server.object(PATH).unwrap()["metadata"]["finalizers"], serde_json::json!([]));
    wrong.spec.name = Some("no name at all".to_owned());
    wrong.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    server.conversation();
    look(&wrong, &context, now()).await.unwrap();
    assert!(server.conversation().starts_with(&format!("PATCH {PATH}")));
    assert!(door.told.lock().orders.is_empty());
}
