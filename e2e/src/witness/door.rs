//! How a scenario asks the witness: over HTTP, through the API server's proxy.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use placement::{Leaders, Move, PartitionId, PartitionMap, Policy, after, plan};
use proto::convert;
use proto::v1::r#move::Kind;
use proto::v1::{ListMovesRequest, MoveStatus, NodeState, NodeStatus, PartitionEntry, StatusRequest};
use serde::Serialize;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::lonely::Lonely;
use super::many;
use super::report::{ClusterReport, MoveReport, NodeReport, PartitionReport, Sight, Verdict};
use super::run::Work;

/// After so many plans the planner should long have been done.
const MOST_PLANS: usize = 30;

/// What the door leads to.
#[derive(Clone)]
pub struct Door {
    /// The witness.
    pub work: Arc<Work>,
    /// Told when it should end.
    pub end: Arc<Notify>,
    /// The verdict, once there is one.
    pub verdict: watch::Receiver<Option<Verdict>>,
}

type Answer = Result<String, (StatusCode, String)>;

/// The witness's door.
pub fn of_witness(door: Door) -> Router {
    Router::new()
        .route("/report", get(async |State(door): State<Door>| json(&door.work.report())))
        .route("/mark", post(async |State(door): State<Door>| json(&door.work.mark())))
        .route("/cluster", get(cluster))
        .route("/forecast", get(forecast))
        // A reader on another machine may have seen very much.
        .route("/stale", post(stale).layer(DefaultBodyLimit::disable()))
        .route("/load", post(load))
        .route("/find", post(find))
        .route("/end", post(end))
        .with_state(door)
}

/// The lonely reader's door.
pub fn of_lonely(lonely: Arc<Lonely>) -> Router {
    let sights = async |State(lonely): State<Arc<Lonely>>| json(&lonely.seen());
    Router::new().route("/sights", get(sights)).with_state(lonely)
}

async fn cluster(State(door): State<Door>) -> Answer {
    look(&door).await.map_err(failed).and_then(|report| json(&report))
}

async fn forecast(State(door): State<Door>) -> Answer {
    moves_needed(&door).await.map_err(failed).and_then(|moves| json(&moves))
}

async fn stale(State(door): State<Door>, body: Bytes) -> Answer {
    let sights: Vec<Sight> = serde_json::from_slice(&body).map_err(|error| failed(error.into()))?;
    json(&door.work.stale(&sights))
}

async fn load(State(door): State<Door>, body: Bytes) -> Answer {
    let load = serde_json::from_slice(&body).map_err(|error| failed(error.into()))?;
    many::load(door.work.client(), &load).await.map_err(failed).and_then(|()| json(&()))
}

async fn find(State(door): State<Door>, body: Bytes) -> Answer {
    let question = serde_json::from_slice(&body).map_err(|error| failed(error.into()))?;
    many::find(door.work.client(), &question).await.map_err(failed).and_then(|found| json(&found))
}

/// Ends the witness, and answers with the verdict.
async fn end(State(mut door): State<Door>) -> Answer {
    door.end.notify_one();
    let verdict = door.verdict.wait_for(Option::is_some).await;
    let verdict = verdict.map_err(|error| failed(error.into()))?.clone();
    json(&verdict)
}

async fn look(door: &Door) -> anyhow::Result<ClusterReport> {
    let admin = door.work.client().admin();
    let status = admin.status(StatusRequest {}).await.context("the cluster's status")?;
    let map = admin.map().await.context("the map")?;
    let moves = admin.list_moves(ListMovesRequest {}).await.context("the moves")?.moves;
    let leader = status.nodes.iter().filter_map(|node| node.entry.as_ref());
    let leader = leader.clone().find(|entry| entry.node == status.meta_leader);
    Ok(ClusterReport {
        cluster: id(&status.cluster),
        meta_leader: leader.map(|entry| entry.name.clone()),
        nodes: status.nodes.iter().map(node).collect(),
        moves: moves.iter().map(moving).collect(),
        partitions: map
            .partitions
            .iter()
            .map(|partition| PartitionReport {
                id: partition.partition,
                nodes: partition.replicas.iter().map(|replica| id(&replica.node)).collect(),
                leader: (!partition.leader.is_empty()).then(|| id(&partition.leader)),
            })
            .collect(),
        balanced: status.balanced,
        under_replicated: status.partitions_under_replicated,
        without_leader: status.partitions_without_leader,
    })
}

/// How many copies the planner moves until a plan is empty. A plan changes the copies of a partition
/// at most once, so there may be several.
async fn moves_needed(door: &Door) -> anyhow::Result<usize> {
    let response = door.work.client().admin().map().await.context("the map")?;
    let mut map = PartitionMap::try_from(&response)?;
    let led = |entry: &PartitionEntry| Some((PartitionId(entry.partition), convert::leader_of(entry)?));
    let mut leaders: Leaders = response.partitions.iter().filter_map(led).collect();
    let mut needed = 0;
    for _ in 0..MOST_PLANS {
        let mut moves = plan(&map, &leaders, &Policy::default());
        moves.retain(Move::moves_replica);
        if moves.is_empty() {
            return Ok(needed);
        }
        needed += moves.len();
        map = after(&map, &moves);
        leaders.retain(|partition, node| {
            map.partitions.get(partition).is_some_and(|held| held.replica_on(*node).is_some())
        });
    }
    bail!("the planner's plans do not come to an end")
}

fn node(node: &NodeStatus) -> NodeReport {
    let entry = node.entry.clone().unwrap_or_default();
    let load = node.load.unwrap_or_default();
    let state = NodeState::try_from(entry.state).map_or("UNKNOWN", |state| state.as_str_name());
    NodeReport {
        id: id(&entry.node),
        name: entry.name,
        state: state.to_owned(),
        alive: node.alive,
        zone: entry.zone,
        host: entry.host,
        replicas: load.replicas,
        leaders: load.leaders,
    }
}

fn moving(status: &MoveStatus) -> MoveReport {
    let kind = status.r#move.as_ref().and_then(|order| order.kind.as_ref());
    MoveReport {
        id: status.id,
        moves_replica: !matches!(kind, Some(Kind::Transfer(_))),
        stage: status.stage().as_str_name().to_owned(),
        line: status.line.clone(),
    }
}

fn id(bytes: &[u8]) -> String {
    Uuid::from_slice(bytes).map(|id| id.to_string()).unwrap_or_default()
}

fn json(told: &impl Serialize) -> Answer {
    serde_json::to_string(told).map_err(|error| failed(error.into()))
}

fn failed(error: anyhow::Error) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}"))
}
