//! Indexes of a table: declared, dropped, asked.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use base64::Engine as _;
use proto::v1::query_request::Which;
use proto::v1::{
    AlterTableRequest, AlterTableResponse, DescribeTableRequest, DescribeTableResponse, IndexRange,
    IndexSettings, IndexStatus, IndexType, IndexValues, QueryPlan, QueryRequest, index_status,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::address::{self, BASE64_URL, Query};
use super::body::{self, Media};
use super::documents::{IndexChangeProblems, QueryProblems, Snapshot, Stale};
use super::problem::{Kind, Problem};
use super::tables::{SMALL_BODY, TableInPath};
use super::values::{self, ItemShown};
use super::{Answer, Api, json};

/// What an index's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TypeShown {
    /// Text, by its bytes.
    String,
    /// Numbers.
    Number,
    /// True and false.
    Bool,
    /// Points in time as RFC 3339 writes them.
    Timestamp,
}

/// An index to declare.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewIndex)]
pub struct IndexGiven {
    /// Where its values are in an item, such as `$.address.city` or `$.tags[*]`.
    #[schema(min_length = 1, max_length = 1024)]
    path: String,
    /// What they are. Others are not in the index.
    r#type: TypeShown,
    /// No two keys of one `{tag}` may have the same value.
    #[serde(default)]
    unique: bool,
    /// Items without a value are left out.
    #[serde(default)]
    sparse: bool,
}

/// An index to declare with its table.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NamedIndex)]
pub struct NamedIndexGiven {
    /// What queries call it.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_][A-Za-z0-9_-]*$")]
    name: String,
    /// Where its values are in an item, such as `$.address.city` or `$.tags[*]`.
    #[schema(min_length = 1, max_length = 1024)]
    path: String,
    /// What they are. Others are not in the index.
    r#type: TypeShown,
    /// No two keys of one `{tag}` may have the same value.
    #[serde(default)]
    unique: bool,
    /// Items without a value are left out.
    #[serde(default)]
    sparse: bool,
}

/// An index as it is declared.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IndexDeclared)]
pub struct IndexDeclared {
    /// What queries call it.
    pub name: String,
    /// Where its values are in an item.
    pub path: String,
    /// What they are.
    pub r#type: TypeShown,
    /// No two keys of one `{tag}` may have the same value.
    pub unique: bool,
    /// Items without a value are left out.
    pub sparse: bool,
}

/// An index, and how far the table is with it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Index)]
pub struct IndexShown {
    /// The index.
    #[serde(flatten)]
    pub index: IndexDeclared,
    /// Whether it can be asked.
    pub state: StateShown,
    /// How much of it is built.
    #[schema(maximum = 100)]
    pub percent: u32,
    /// Why it could not be built; null: nothing stood in the way.
    pub failure: Option<String>,
}

/// Whether an index can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StateShown {
    /// Not yet: what was there before it is still read.
    Building,
    /// It can.
    Ready,
    /// It never will.
    Failed,
}

/// All indexes of a table.
#[derive(Debug, Serialize, ToSchema)]
pub struct Indexes {
    /// In the order in which they were declared.
    pub indexes: Vec<IndexShown>,
}

/// The index in the path.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct IndexInPath {
    /// The index's name.
    #[param(min_length = 1, max_length = 64)]
    pub index: String,
}

/// What is asked of an index. At most one of `equals`, `in`, `prefix`, `missing` and the pair of `from` and
/// `to` is given; without any, everything in the index is meant.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub struct QueryAsked {
    /// Items with this value, written as the index's type.
    pub equals: Option<String>,
    /// Items with one of these values, with commas between.
    pub r#in: Option<String>,
    /// Items whose value begins so; of an index of strings.
    pub prefix: Option<String>,
    /// Items without a value.
    pub missing: Option<bool>,
    /// The first value that is wanted.
    pub from: Option<String>,
    /// The first value that is no longer wanted.
    pub to: Option<String>,
    /// From the greatest value to the least.
    pub reverse: Option<bool>,
    /// The most items of this page. The node's own limits may end it sooner.
    #[param(minimum = 1)]
    pub limit: Option<u64>,
    /// Goes on where the page that gave it ended. What is wanted must be as it was.
    pub cursor: Option<String>,
    /// Without values and versions: only the index is read.
    pub keys_only: Option<bool>,
    /// How many items there are, and nothing else.
    pub count: Option<bool>,
    /// Also say how it was done.
    pub explain: Option<bool>,
}

/// A page of what was found.
#[derive(Debug, Serialize, ToSchema)]
pub struct Found {
    /// The items, in the order of their values and then of their keys.
    pub items: Vec<ItemShown>,
    /// How many they are or, where only that was asked, how many there are.
    pub count: u64,
    /// Gives the next page; null: there is no more.
    pub cursor: Option<String>,
    /// How it was done, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanShown>,
}

/// How a page of a query came about.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = QueryPlan)]
pub struct PlanShown {
    /// The index.
    pub index: IndexDeclared,
    /// The values that are walked, in their order.
    pub values: Vec<String>,
    /// Partitions that were asked.
    pub partitions: u32,
    /// How often.
    pub asked: u32,
    /// Entries of the index that were looked at.
    pub entries: u64,
    /// Items that were read.
    pub items: u64,
    /// Items that were answered.
    pub answered: u64,
}

impl From<TypeShown> for IndexType {
    fn from(shown: TypeShown) -> Self {
        match shown {
            TypeShown::String => Self::String,
            TypeShown::Number => Self::Number,
            TypeShown::Bool => Self::Bool,
            TypeShown::Timestamp => Self::Timestamp,
        }
    }
}

impl NamedIndexGiven {
    /// As the cluster takes it.
    pub fn settings(self) -> IndexSettings {
        let Self { name, path, r#type, unique, sparse } = self;
        let kind = IndexType::from(r#type);
        IndexSettings { id: 0, name, path, r#type: kind.into(), unique, sparse }
    }
}

impl From<IndexSettings> for IndexDeclared {
    fn from(settings: IndexSettings) -> Self {
        let kind = match settings.r#type() {
            IndexType::String => TypeShown::String,
            IndexType::Number => TypeShown::Number,
            IndexType::Bool => TypeShown::Bool,
            IndexType::Timestamp => TypeShown::Timestamp,
        };
        let IndexSettings { name, path, unique, sparse, .. } = settings;
        Self { name, path, r#type: kind, unique, sparse }
    }
}

impl From<IndexStatus> for IndexShown {
    fn from(status: IndexStatus) -> Self {
        let state = match status.state() {
            index_status::State::Building => StateShown::Building,
            index_status::State::Ready => StateShown::Ready,
            index_status::State::Failed => StateShown::Failed,
        };
        Self {
            index: status.index.unwrap_or_default().into(),
            state,
            percent: status.percent,
            failure: (!status.failure.is_empty()).then_some(status.failure),
        }
    }
}

impl From<QueryPlan> for PlanShown {
    fn from(plan: QueryPlan) -> Self {
        Self {
            index: plan.index.unwrap_or_default().into(),
            values: plan.runs,
            partitions: plan.partitions,
            asked: plan.asked,
            entries: plan.entries,
            items: plan.items,
            answered: plan.answered,
        }
    }
}

/// The routes.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(describe, declare, drop_index))
        .routes(routes!(find))
}

/// List the indexes of a table
#[utoipa::path(
    get, path = "/tables/{table}/indexes", tag = "tables", operation_id = "listIndexes",
    params(TableInPath),
    responses((status = 200, body = Indexes, description = "All its indexes"), QueryProblems)
)]
async fn list(api: Api, request: Request) -> Answer {
    let (parts, _) = request.into_parts();
    Query::of(&parts, &[])?;
    let indexes = known(&api, address::table_in(address::path_of(&parts))?).await?;
    json(StatusCode::OK, &Indexes { indexes })
}

/// Describe an index
#[utoipa::path(
    get, path = "/tables/{table}/indexes/{index}", tag = "tables", operation_id = "describeIndex",
    params(TableInPath, IndexInPath),
    responses((status = 200, body = IndexShown, description = "The index, and how far it is"), QueryProblems)
)]
async fn describe(api: Api, request: Request) -> Answer {
    let (parts, _) = request.into_parts();
    Query::of(&parts, &[])?;
    let path = address::path_of(&parts);
    let (table, index) = (address::table_in(path)?, index_in(path)?);
    json(StatusCode::OK, &one(&api, table, &index).await?)
}

/// Declare an index
///
/// Where there is one of that name already and nothing differs, nothing is done; one that differs has to
/// be dropped first. What was there before it is indexed while the table is in use, and until then
/// it cannot be asked.
#[utoipa::path(
    put, path = "/tables/{table}/indexes/{index}", tag = "tables", operation_id = "declareIndex",
    params(TableInPath, IndexInPath),
    request_body(content = IndexGiven, content_type = "application/json"),
    responses((status = 200, body = IndexShown, description = "The index, and how far it is"), IndexChangeProblems)
)]
async fn declare(api: Api, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    Query::of(&parts, &[])?;
    let path = address::path_of(&parts);
    let (table, name) = (address::table_in(path)?, index_in(path)?);
    Media::must_be_json(&parts.headers)?;
    let body = body::read(&parts, body, SMALL_BODY).await?;
    let IndexGiven { path, r#type, unique, sparse } = values::read_json(&body)?;
    let settings = NamedIndexGiven { name: name.clone(), path, r#type, unique, sparse }.settings();
    let alter = AlterTableRequest {
        name: table.clone(),
        add_indexes: vec![settings],
        ..AlterTableRequest::default()
    };
    let _: AlterTableResponse = api.admin("AlterTable", &alter).await?;
    json(StatusCode::OK, &one(&api, table, &name).await?)
}

/// Drop an index
#[utoipa::path(
    delete, path = "/tables/{table}/indexes/{index}", tag = "tables", operation_id = "dropIndex",
    params(TableInPath, IndexInPath),
    responses((status = 204, description = "The index is gone"), IndexChangeProblems)
)]
async fn drop_index(api: Api, request: Request) -> Answer {
    let (parts, _) = request.into_parts();
    Query::of(&parts, &[])?;
    let path = address::path_of(&parts);
    let (table, name) = (address::table_in(path)?, index_in(path)?);
    one(&api, table.clone(), &name).await?;
    let alter = AlterTableRequest { name: table, drop_indexes: vec![name], ..AlterTableRequest::default() };
    let _: AlterTableResponse = api.admin("AlterTable", &alter).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Find items by an index
///
/// Values are written as the index's type: a string as it is, a number as JSON writes it, `true` or
/// `false`, a point in time as RFC 3339 writes it.
#[utoipa::path(
    get, path = "/tables/{table}/indexes/{index}/items", tag = "keys", operation_id = "query",
    params(TableInPath, IndexInPath, QueryAsked, Stale, Snapshot),
    responses((status = 200, body = Found, description = "A page of items"), QueryProblems)
)]
async fn find(api: Api, request: Request) -> Answer {
    let (parts, _) = request.into_parts();
    let path = address::path_of(&parts);
    let asked = query_of(&Query::of(&parts, &PARAMETERS)?, address::table_in(path)?, index_in(path)?)?;
    let page = api.query(&asked).await?;
    let items: Vec<_> = page.items.iter().map(|item| values::show(item, !asked.keys_only)).collect();
    let cursor = (!page.cursor.is_empty()).then(|| BASE64_URL.encode(&page.cursor));
    let found = Found { items, count: page.count, cursor, plan: page.plan.map(Into::into) };
    json(StatusCode::OK, &found)
}

const PARAMETERS: [&str; 14] = [
    "equals", "in", "prefix", "missing", "from", "to", "reverse", "limit", "cursor", "keysOnly", "count",
    "explain", "stale", "snapshot",
];

fn query_of(query: &Query, table: String, index: String) -> Result<QueryRequest, Problem> {
    let limit = query.parsed::<u64>("limit", "a number of items")?;
    if limit == Some(0) {
        return Err(Problem::invalid(
            "a limit of 0 asks for nothing: leave it out for as many as a page holds",
        ));
    }
    let (from, to) = (query.text("from")?, query.text("to")?);
    let range = (from.is_some() || to.is_some()).then_some(Which::Range(IndexRange { from, to }));
    let values = |text: String| IndexValues { values: text.split(',').map(str::to_owned).collect() };
    let given = [
        query.text("equals")?.map(Which::Equals),
        query.text("in")?.map(values).map(Which::In),
        query.text("prefix")?.map(Which::Prefix),
        query.flag("missing")?.then_some(Which::Missing(true)),
        range,
    ];
    let mut given = given.into_iter().flatten();
    let which = given.next();
    if given.next().is_some() {
        return Err(Problem::invalid(
            "give one of equals, in, prefix, missing and from with to, not several",
        ));
    }
    Ok(QueryRequest {
        table,
        index,
        which,
        reverse: query.flag("reverse")?,
        limit: limit.unwrap_or(0),
        keys_only: query.flag("keysOnly")?,
        count: query.flag("count")?,
        cursor: query.base64("cursor")?.unwrap_or_default(),
        stale: query.flag("stale")?,
        explain: query.flag("explain")?,
        snapshot_ms: values::snapshot_ms(query)?,
    })
}

/// The index that a path names.
fn index_in(path: &str) -> Result<String, Problem> {
    let rest = path.split_once("/indexes/").map(|(_, rest)| rest).unwrap_or_default();
    address::segment_text(rest.split('/').next().unwrap_or_default(), "index")
}

async fn known(api: &Api, name: String) -> Result<Vec<IndexShown>, Problem> {
    let described: DescribeTableResponse = api.admin("DescribeTable", &DescribeTableRequest { name }).await?;
    Ok(described.indexes.into_iter().map(IndexShown::from).collect())
}

async fn one(api: &Api, table: String, index: &str) -> Result<IndexShown, Problem> {
    let found = known(api, table).await?.into_iter().find(|known| known.index.name == index);
    found.ok_or_else(|| Problem::new(Kind::NoSuchIndex, format!("the table has no index {index:?}")))
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn asked(query: &str) -> Result<QueryRequest, Problem> {
        let request = Request::get(format!("/api/v1/tables/t/indexes/i/items?{query}")).body(()).unwrap();
        let query = Query::of(&request.into_parts().0, &PARAMETERS)?;
        query_of(&query, "t".to_owned(), "i".to_owned())
    }

    #[test]
    fn a_query_is_read_from_its_parameters() {
        let query = asked("in=Bern,Gen%C3%A8ve&reverse=true&limit=5").unwrap();
        let values = IndexValues { values: vec!["Bern".to_owned(), "Genève".to_owned()] };
        assert_eq!((query.which, query.reverse, query.limit), (Some(Which::In(values)), true, 5));
        let range = IndexRange { from: Some("1".to_owned()), to: None };
        assert_eq!(asked("from=1").unwrap().which, Some(Which::Range(range)));
        assert_eq!(asked("equals=").unwrap().which, Some(Which::Equals(String::new())));
        assert_eq!(asked("").unwrap().which, None);
        for bad in ["equals=1&from=2", "limit=0", "keys_only=true", "cursor=%2B"] {
            assert!(asked(bad).is_err(), "{bad}");
        }
        assert_eq!(index_in("/api/v1/tables/t/indexes/by%2Dcity/items").unwrap(), "by-city");
    }
}
