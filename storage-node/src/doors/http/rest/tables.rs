//! Tables: list, create, describe, alter, drop.

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse as _;
use placement::TableId;
use proto::v1::{
    AlterTableRequest, AlterTableResponse, CreateTableRequest, CreateTableResponse, DropTableRequest,
    DropTableResponse, ListTablesRequest, ListTablesResponse, TableEntry,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::demands::{DemandGiven, DemandShown};
use self::history::{HistoryGiven, HistoryShown};
use self::splitting::Splitting;
use super::address::{self, Query};
use super::body::{self, Media};
use super::documents::{ChangeProblems, LookProblems};
use super::indexes::{IndexDeclared, NamedIndexGiven};
use super::problem::Problem;
use super::stats::{self, StatsShown};
use super::values::{self, seconds};
use super::{Answer, Api, json};

mod demands;
mod history;
mod splitting;

/// The largest body that says something of a table.
pub const SMALL_BODY: usize = 64 << 10;
/// The same where a schema may be in it.
const TABLE_BODY: usize = SMALL_BODY + 2 * crate::json::schema::MOST_BYTES;

/// A table.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Table)]
pub struct TableShown {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: u32,
    /// Into how many buckets its keys fall.
    pub buckets: u32,
    /// Into how many partitions the buckets are divided.
    pub partitions: u32,
    /// How many there are to be, while partitions are being split; else null.
    pub wanted_partitions: Option<u32>,
    /// How many copies each partition has.
    pub replicas: u32,
    /// Seconds that items live unless they are written with another time; null: until they are
    /// deleted.
    pub ttl: Option<f64>,
    /// How long its changes are kept for those who watch it.
    pub history: HistoryShown,
    /// What it demands of values.
    pub demand: DemandShown,
    /// Seconds that a read gives an item that has an end, at least; null: a read leaves it as it is.
    #[serde(rename = "touchOnRead")]
    pub touch_on_read: Option<f64>,
    /// What its items can be found by besides their keys.
    pub indexes: Vec<IndexDeclared>,
    /// When its partitions are split by themselves; null: never.
    pub split: Option<Splitting>,
    /// Who declared it; null: nobody in particular.
    pub owner: Option<String>,
}

/// A new table. What is left out is chosen for it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewTable)]
pub struct TableGiven {
    /// Letters, digits, `.`, `_` and `-`, not beginning with `.` or `-`.
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
    name: String,
    /// 8 unless given.
    #[schema(minimum = 1, maximum = 1024)]
    partitions: Option<u32>,
    /// 1, 3, 5 or 7. Unless given 3, or as many as there are nodes for.
    #[schema(minimum = 1, maximum = 7)]
    replicas: Option<u32>,
    /// A power of two up to 1024; 64 unless given, or as many as there are partitions.
    #[schema(minimum = 1, maximum = 1024)]
    buckets: Option<u32>,
    /// Seconds that items live unless they are written with another time.
    #[schema(minimum = 0.001, maximum = 3_153_600_000.0_f64)]
    ttl: Option<f64>,
    /// How long its changes are kept for those who watch it.
    history: Option<HistoryGiven>,
    /// What it demands of values; anything unless given.
    demand: Option<DemandGiven>,
    /// Seconds that a read gives an item that has an end, at least.
    #[schema(minimum = 0.001, maximum = 3_153_600_000.0_f64)]
    #[serde(rename = "touchOnRead")]
    touch_on_read: Option<f64>,
    /// What its items can be found by besides their keys.
    #[serde(default)]
    #[schema(max_items = 16)]
    indexes: Vec<NamedIndexGiven>,
    /// When its partitions are split by themselves; unless given, never.
    split: Option<Splitting>,
}

/// What of a table is to be altered.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TableChange)]
pub struct ChangeGiven {
    /// Seconds that items live from now on unless they are written with another time; 0: until
    /// they are deleted.
    #[schema(minimum = 0, maximum = 3_153_600_000.0_f64)]
    ttl: Option<f64>,
    /// How many copies each partition is to have.
    #[schema(minimum = 1, maximum = 7)]
    replicas: Option<u32>,
    /// How many partitions there are to be, at most as many as there are buckets. They are split
    /// one after the other; the answer does not wait for that.
    #[schema(minimum = 1, maximum = 1024)]
    partitions: Option<u32>,
    /// How long its changes are kept from now on for those who watch it.
    history: Option<HistoryGiven>,
    /// What it demands of values from now on. Those that are there already stay as they are.
    demand: Option<DemandGiven>,
    /// Seconds that a read gives an item that has an end, at least; 0: a read leaves it as it is.
    #[schema(minimum = 0, maximum = 3_153_600_000.0_f64)]
    #[serde(rename = "touchOnRead")]
    touch_on_read: Option<f64>,
    /// When its partitions are split by themselves from now on; `{}`: never.
    split: Option<Splitting>,
}

/// All tables.
#[derive(Debug, Serialize, ToSchema)]
pub struct Tables {
    /// In the order of their numbers.
    pub tables: Vec<TableShown>,
}

/// The table in the path.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct TableInPath {
    /// The table's name.
    #[param(min_length = 1, max_length = 128)]
    pub table: String,
}

impl From<TableEntry> for TableShown {
    fn from(entry: TableEntry) -> Self {
        let settings = entry.settings.unwrap_or_default();
        Self {
            name: entry.name,
            id: entry.table,
            buckets: entry.buckets,
            partitions: entry.partitions,
            wanted_partitions: (entry.wanted_partitions > 0).then_some(entry.wanted_partitions),
            replicas: entry.replicas,
            ttl: (entry.default_ttl_ms > 0).then(|| seconds(entry.default_ttl_ms)),
            demand: DemandShown::of(settings.values.as_ref()),
            touch_on_read: (settings.touch_on_read_ms > 0).then(|| seconds(settings.touch_on_read_ms)),
            history: HistoryShown::of(settings.history),
            indexes: settings.indexes.into_iter().map(Into::into).collect(),
            split: entry.split.map(Into::into),
            owner: (!entry.owner.is_empty()).then_some(entry.owner),
        }
    }
}

/// The routes.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(describe, alter, drop_table))
}

/// List all tables
#[utoipa::path(
    get, path = "/tables", tag = "tables", operation_id = "listTables",
    responses((status = 200, body = Tables, description = "All tables"), LookProblems)
)]
async fn list(api: Api, request: Request) -> Answer {
    Query::of(&request.into_parts().0, &[])?;
    let listed: ListTablesResponse = api.admin("ListTables", &ListTablesRequest {}).await?;
    json(StatusCode::OK, &Tables { tables: listed.tables.into_iter().map(TableShown::from).collect() })
}

/// Create a table
///
/// Returns when each of its partitions has a leader. Where there is such a table already and
/// nothing differs, nothing is done.
#[utoipa::path(
    post, path = "/tables", tag = "tables", operation_id = "createTable",
    request_body(content = TableGiven, content_type = "application/json"),
    responses(
        (status = 201, body = TableShown, description = "The table is there",
            headers(("Location" = String, description = "Where it is described"))),
        ChangeProblems,
    )
)]
async fn create(api: Api, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    Query::of(&parts, &[])?;
    Media::must_be_json(&parts.headers)?;
    let body = body::read(&parts, body, TABLE_BODY).await?;
    let given: TableGiven = values::read_json(&body)?;
    if given.name.is_empty() {
        return Err(Problem::invalid("a table needs a name"));
    }
    if [given.partitions, given.replicas, given.buckets].contains(&Some(0)) {
        return Err(Problem::invalid("partitions, replicas and buckets are at least 1"));
    }
    let asked = CreateTableRequest {
        name: given.name,
        partitions: given.partitions.unwrap_or(0),
        replicas: given.replicas.unwrap_or(0),
        buckets: given.buckets.unwrap_or(0),
        default_ttl_ms: given.ttl.map(values::ttl_ms).transpose()?.unwrap_or(0),
        owner: String::new(),
        wait: true,
        history: given.history.map(HistoryGiven::settings).transpose()?,
        values: given.demand.map(DemandGiven::settings),
        touch_on_read_ms: given.touch_on_read.map(values::ttl_ms).transpose()?.unwrap_or(0),
        indexes: given.indexes.into_iter().map(NamedIndexGiven::settings).collect(),
        split: given.split.map(Into::into),
    };
    let created: CreateTableResponse = api.admin("CreateTable", &asked).await?;
    let table = created.table.unwrap_or_default();
    // So that whoever made it can use it at once, by this node.
    api.member()?.wait_for_table(TableId(table.table)).await;
    let place = HeaderValue::from_str(&format!("/api/v1/tables/{}", table.name));
    let mut response = json(StatusCode::CREATED, &TableShown::from(table))?;
    if let Ok(place) = place {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// Describe a table
#[utoipa::path(
    get, path = "/tables/{table}", tag = "tables", operation_id = "describeTable",
    params(TableInPath),
    responses((status = 200, body = StatsShown, description = "The table and its partitions"), LookProblems)
)]
async fn describe(api: Api, request: Request) -> Answer {
    let (parts, _) = request.into_parts();
    Query::of(&parts, &[])?;
    stats::describe(&api, address::table_in(address::path_of(&parts))?).await
}

/// Alter a table
#[utoipa::path(
    patch, path = "/tables/{table}", tag = "tables", operation_id = "alterTable",
    params(TableInPath),
    request_body(content = ChangeGiven, content_type = "application/json"),
    responses((status = 200, body = TableShown, description = "The table as it is now"), ChangeProblems)
)]
async fn alter(api: Api, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    Query::of(&parts, &[])?;
    let name = address::table_in(address::path_of(&parts))?;
    Media::must_be_json(&parts.headers)?;
    let body = body::read(&parts, body, TABLE_BODY).await?;
    let given: ChangeGiven = values::read_json(&body)?;
    let ttl_ms = |ttl: f64| if ttl == 0.0 { Ok(0) } else { values::ttl_ms(ttl) };
    let default_ttl_ms = given.ttl.map(ttl_ms).transpose()?;
    let history = given.history.map(HistoryGiven::settings).transpose()?;
    let touch_on_read_ms = given.touch_on_read.map(ttl_ms).transpose()?;
    let asked = AlterTableRequest {
        name,
        default_ttl_ms,
        replicas: given.replicas,
        history,
        partitions: given.partitions,
        split: given.split.map(Into::into),
        values: given.demand.map(DemandGiven::settings),
        touch_on_read_ms,
        ..AlterTableRequest::default()
    };
    let altered: AlterTableResponse = api.admin("AlterTable", &asked).await?;
    json(StatusCode::OK, &TableShown::from(altered.table.unwrap_or_default()))
}

/// Drop a table with everything in it
#[utoipa::path(
    delete, path = "/tables/{table}", tag = "tables", operation_id = "dropTable",
    params(TableInPath),
    responses((status = 204, description = "The table is gone"), ChangeProblems)
)]
async fn drop_table(api: Api, request: Request) -> Answer {
    let (parts, _) = request.into_parts();
    Query::of(&parts, &[])?;
    let name = address::table_in(address::path_of(&parts))?;
    let DropTableResponse {} = api.admin("DropTable", &DropTableRequest { name }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
