//! What moves between nodes: the plan that would balance the cluster, and what is under way.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use proto::v1::{
    CancelMoveRequest, CancelMoveResponse, ListMovesRequest, ListMovesResponse, MoveStage, MoveStatus,
    PlanRebalanceRequest, PlanRebalanceResponse, StartMovesRequest, StartMovesResponse,
};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::doors::http::rest::address::{self, Query};
use crate::doors::http::rest::documents::{ChangeProblems, LookProblems};
use crate::doors::http::rest::problem::{Kind, Problem};
use crate::doors::http::rest::{Answer, Api, json};

/// How far a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = MoveStage)]
pub enum Stage {
    /// It waits for its turn.
    Queued,
    /// The new copy is being caught up.
    CatchingUp,
    /// The new copy takes the place of the old one.
    Switching,
    /// The old copy is being deleted.
    CleaningUp,
    /// It is done.
    Done,
    /// It could not be done.
    Failed,
    /// It was called off.
    Cancelled,
    /// This node's program does not know the word for it.
    Unknown,
}

/// A move.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Move)]
pub struct MoveShown {
    /// Its number.
    pub id: u64,
    /// Which partition moves.
    pub partition: u64,
    /// How far it is.
    pub stage: Stage,
    /// What it does, for people.
    pub description: String,
    /// Why it is where it is, where there is something to say.
    pub detail: String,
}

/// All moves.
#[derive(Debug, Serialize, ToSchema)]
pub struct Moves {
    /// Under way first, then the last that ended.
    pub moves: Vec<MoveShown>,
}

/// A plan.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Of the map that it was made on.
    pub map_revision: u64,
    /// Nothing would be gained by moving anything.
    pub balanced: bool,
    /// A line for each move.
    pub moves: Vec<String>,
}

/// A plan that is being carried out.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// Of the map that it was made on.
    pub map_revision: u64,
    /// A line for each move.
    pub moves: Vec<String>,
    /// The numbers of the moves, in the same order.
    pub started: Vec<u64>,
}

/// The move in the path.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct MoveInPath {
    /// Its number.
    pub id: u64,
}

/// The routes.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(cancel)).routes(routes!(plan, apply))
}

impl From<MoveStatus> for MoveShown {
    fn from(status: MoveStatus) -> Self {
        let stage = match MoveStage::try_from(status.stage) {
            Ok(MoveStage::Queued) => Stage::Queued,
            Ok(MoveStage::CatchingUp) => Stage::CatchingUp,
            Ok(MoveStage::Switching) => Stage::Switching,
            Ok(MoveStage::CleaningUp) => Stage::CleaningUp,
            Ok(MoveStage::Done) => Stage::Done,
            Ok(MoveStage::Failed) => Stage::Failed,
            Ok(MoveStage::Cancelled) => Stage::Cancelled,
            Err(_) => Stage::Unknown,
        };
        let partition = status.r#move.map_or(0, |order| order.partition);
        Self { id: status.id, partition, stage, description: status.line, detail: status.detail }
    }
}

/// List moves
#[utoipa::path(
    get, path = "/cluster/moves", tag = "cluster", operation_id = "listMoves",
    responses((status = 200, body = Moves, description = "Under way first, then the last that ended"), LookProblems)
)]
async fn list(api: Api, request: Request) -> Answer {
    Query::of(&request.into_parts().0, &[])?;
    let listed: ListMovesResponse = api.admin("ListMoves", &ListMovesRequest {}).await?;
    json(StatusCode::OK, &Moves { moves: listed.moves.into_iter().map(MoveShown::from).collect() })
}

/// Call a move off
#[utoipa::path(
    delete, path = "/cluster/moves/{id}", tag = "cluster", operation_id = "cancelMove",
    params(MoveInPath),
    responses((status = 204, description = "It is called off"), ChangeProblems)
)]
async fn cancel(api: Api, request: Request) -> Answer {
    let (parts, _) = request.into_parts();
    Query::of(&parts, &[])?;
    let segment = address::path_of(&parts).rsplit('/').next().unwrap_or_default();
    let id = address::segment_text(segment, "move")?;
    let id = id.parse().map_err(|_| Problem::invalid(format!("{id:?} is not the number of a move")))?;
    let CancelMoveResponse {} = api.admin("CancelMove", &CancelMoveRequest { id }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Plan what would balance the cluster
///
/// Nothing is moved by it.
#[utoipa::path(
    get, path = "/cluster/rebalance", tag = "cluster", operation_id = "planRebalance",
    responses((status = 200, body = Plan, description = "The plan"), LookProblems)
)]
async fn plan(api: Api, request: Request) -> Answer {
    Query::of(&request.into_parts().0, &[])?;
    let plan: PlanRebalanceResponse = api.admin("PlanRebalance", &PlanRebalanceRequest {}).await?;
    let balanced = plan.moves.is_empty();
    json(StatusCode::OK, &Plan { map_revision: plan.map_revision, balanced, moves: plan.lines })
}

/// Which plan is carried out.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub struct ApplyAsked {
    /// Only while the map has this revision, which is that of the plan that was looked at.
    #[param(minimum = 1)]
    pub map_revision: Option<u64>,
}

/// Balance the cluster
///
/// Plans anew and begins the moves, which are carried out whether or not the caller stays.
#[utoipa::path(
    post, path = "/cluster/rebalance", tag = "cluster", operation_id = "applyRebalance",
    params(ApplyAsked),
    responses((status = 202, body = Applied, description = "The moves have begun"), ChangeProblems)
)]
async fn apply(api: Api, request: Request) -> Answer {
    let query = Query::of(&request.into_parts().0, &["mapRevision"])?;
    let wanted = query.parsed::<u64>("mapRevision", "the revision of a map")?;
    let plan: PlanRebalanceResponse = api.admin("PlanRebalance", &PlanRebalanceRequest {}).await?;
    if let Some(wanted) = wanted.filter(|wanted| *wanted != plan.map_revision) {
        let detail =
            format!("the map has changed from {wanted} to {}: look at the plan again", plan.map_revision);
        return Err(Problem::new(Kind::NotPossibleNow, detail).with("mapRevision", plan.map_revision));
    }
    let mut applied = Applied { map_revision: plan.map_revision, moves: plan.lines, started: Vec::new() };
    if !plan.moves.is_empty() {
        let start = StartMovesRequest { moves: plan.moves, map_revision: plan.map_revision };
        let started: StartMovesResponse = api.admin("StartMoves", &start).await?;
        applied.started = started.moves;
    }
    json(StatusCode::ACCEPTED, &applied)
}
