//! Queries: items by what an index says of them, in its order.

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use proto::v1::query_request::Which;
use proto::v1::{IndexRange, IndexValues, Item, QueryPlan, QueryRequest, QueryResponse};
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use crate::client::Client;
use crate::core::kv_client;
use crate::error::Error;
use crate::operation::whole_ms;
use crate::pages::{Paged, Pages};
use crate::scan::Page;

/// What is asked of an index. Values are written as text, which is read as the index's type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Everything in it.
    #[default]
    All,
    /// Items with this value.
    Equals(String),
    /// Items with one of these.
    In(Vec<String>),
    /// Items whose value begins so; of an index of strings.
    Prefix(String),
    /// Items from the first value, up to but without the second.
    Range(Option<String>, Option<String>),
    /// Items without a value.
    Missing,
}

/// How it is asked.
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryOptions {
    /// What is wanted.
    pub wanted: Wanted,
    /// From the greatest value to the least.
    pub reverse: bool,
    /// The most items; none: as many as there are.
    pub limit: Option<u64>,
    /// Leave the values out, which need then not be read.
    pub keys_only: bool,
    /// Where to go on: a page's cursor. What is wanted must be as it was.
    pub cursor: Bytes,
    /// From any replica, possibly older items.
    pub stale: bool,
    /// All pages are of one moment of each partition, which is held for so long from the first page on.
    pub snapshot: Option<Duration>,
    /// Also say how each page came about.
    pub explain: bool,
}

/// A query under way. A page is read when it is asked for; a connection that breaks is replaced, and
/// the query goes on after the last page that arrived.
#[derive(Debug)]
pub struct Query {
    pages: Pages<QueryRequest>,
    left: Option<u64>,
    plan: Option<QueryPlan>,
}

impl Query {
    pub(crate) fn new(
        client: Client,
        table: &str,
        index: &str,
        options: &QueryOptions,
        deadline: Duration,
    ) -> Self {
        let mut pages = Pages::new(client, request(table, index, options), deadline);
        pages.ended = options.limit == Some(0);
        Self { pages, left: options.limit, plan: None }
    }

    /// The next page; none at the end. The deadline counts for each page by itself.
    pub async fn next_page(&mut self) -> Option<Result<Page, Error>> {
        while let Some(answer) = self.pages.next().await {
            match answer {
                Ok(answer) => {
                    let items = self.pages.take(&mut self.left, answer.items, &answer.cursor);
                    self.pages.request.limit = self.left.unwrap_or(0);
                    self.plan = answer.plan.or(self.plan.take());
                    if !items.is_empty() || self.pages.ended {
                        return Some(Ok(Page { items, cursor: answer.cursor }));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }

    /// How the last page came about, where that was asked for.
    pub fn plan(&self) -> Option<&QueryPlan> {
        self.plan.as_ref()
    }

    /// The items as a stream, which ends after an error.
    pub fn items(self) -> impl Stream<Item = Result<Item, Error>> + Send {
        let pages = futures::stream::unfold(self, |mut query| async move {
            let page = query.next_page().await?;
            Some((page, query))
        });
        pages.flat_map(|page| {
            let items = match page {
                Ok(page) => page.items.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            };
            futures::stream::iter(items)
        })
    }
}

/// How many items there are, and how that was found, where that was asked for.
pub(crate) async fn count(
    client: Client,
    table: &str,
    index: &str,
    options: &QueryOptions,
    deadline: Duration,
) -> Result<(u64, Option<QueryPlan>), Error> {
    let request =
        QueryRequest { count: true, limit: 0, cursor: Bytes::new(), ..request(table, index, options) };
    match Pages::new(client, request, deadline).next().await {
        Some(answer) => answer.map(|answer| (answer.count, answer.plan)),
        None => Err(Error::Internal("a count had no answer".to_owned())),
    }
}

impl Paged for QueryRequest {
    type Answer = QueryResponse;

    async fn send(self, channel: Channel) -> Result<Response<Streaming<QueryResponse>>, Status> {
        kv_client(channel).query(self).await
    }

    fn cursor_mut(&mut self) -> &mut Bytes {
        &mut self.cursor
    }
}

fn request(table: &str, index: &str, options: &QueryOptions) -> QueryRequest {
    let which = match options.wanted.clone() {
        Wanted::All => None,
        Wanted::Equals(value) => Some(Which::Equals(value)),
        Wanted::In(values) => Some(Which::In(IndexValues { values })),
        Wanted::Prefix(prefix) => Some(Which::Prefix(prefix)),
        Wanted::Range(from, to) => Some(Which::Range(IndexRange { from, to })),
        Wanted::Missing => Some(Which::Missing(true)),
    };
    QueryRequest {
        table: table.to_owned(),
        index: index.to_owned(),
        which,
        reverse: options.reverse,
        limit: options.limit.unwrap_or(0),
        keys_only: options.keys_only,
        count: false,
        cursor: options.cursor.clone(),
        stale: options.stale,
        snapshot_ms: options.snapshot.map_or(0, whole_ms),
        explain: options.explain,
    }
}
