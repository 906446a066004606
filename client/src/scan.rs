//! Scans: items in key order, page by page, over broken connections.

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use proto::v1::{Item, ScanRequest, ScanResponse};
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use crate::client::Client;
use crate::core::kv_client;
use crate::error::Error;
use crate::operation::whole_ms;
use crate::pages::{Paged, Pages};

/// What to scan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanOptions {
    /// The first key wanted; empty: from the beginning.
    pub start: Bytes,
    /// The first key no longer wanted; empty: to the end.
    pub end: Bytes,
    /// Only keys that begin with this.
    pub prefix: Bytes,
    /// The most items; none: as many as there are.
    pub limit: Option<u64>,
    /// From the last key to the first.
    pub reverse: bool,
    /// Leave the values out.
    pub keys_only: bool,
    /// Where to go on: a page's cursor. The other fields must be as they were.
    pub cursor: Bytes,
    /// From any replica, possibly older items.
    pub stale: bool,
    /// All pages are of one moment of each partition, which is held for so long from the first page on.
    /// A scan that takes longer ends with [`Error::SnapshotExpired`].
    pub snapshot: Option<Duration>,
    /// Only items whose values are JSON and of which this holds, as in `$.age >= 18`; empty: all.
    pub filter: String,
    /// Of the values only what these paths lead to; none: the whole values.
    pub paths: Vec<String>,
}

/// Some items, and where the next ones begin.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The items, in order.
    pub items: Vec<Item>,
    /// Goes on after them; empty when there is no more.
    pub cursor: Bytes,
}

/// A scan under way. A page is read when it is asked for; a connection that breaks is
/// replaced, and the scan goes on after the last page that arrived.
#[derive(Debug)]
pub struct Scan {
    pages: Pages<ScanRequest>,
    left: Option<u64>,
}

impl Scan {
    pub(crate) fn new(client: Client, table: &str, options: &ScanOptions, deadline: Duration) -> Self {
        let mut pages = Pages::new(client, request(table, options), deadline);
        pages.ended = options.limit == Some(0);
        Self { pages, left: options.limit }
    }

    /// The next page; none at the end. The deadline counts for each page by itself.
    pub async fn next_page(&mut self) -> Option<Result<Page, Error>> {
        while let Some(answer) = self.pages.next().await {
            match answer {
                Ok(answer) => {
                    let page = self.take(answer);
                    if !page.items.is_empty() || self.pages.ended {
                        return Some(Ok(page));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }

    /// The pages as a stream, which ends after an error.
    pub fn pages(self) -> impl Stream<Item = Result<Page, Error>> + Send {
        futures::stream::unfold(self, |mut scan| async move {
            let page = scan.next_page().await?;
            Some((page, scan))
        })
    }

    /// The items as a stream, which ends after an error.
    pub fn items(self) -> impl Stream<Item = Result<Item, Error>> + Send {
        self.pages().flat_map(|page| {
            let items = match page {
                Ok(page) => page.items.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            };
            futures::stream::iter(items)
        })
    }

    /// Takes over where an answer leaves the scan.
    fn take(&mut self, answer: ScanResponse) -> Page {
        let items = self.pages.take(&mut self.left, answer.items, &answer.cursor);
        self.pages.request.limit = self.left.unwrap_or(0);
        Page { items, cursor: answer.cursor }
    }
}

impl Paged for ScanRequest {
    type Answer = ScanResponse;

    async fn send(self, channel: Channel) -> Result<Response<Streaming<ScanResponse>>, Status> {
        kv_client(channel).scan(self).await
    }

    fn cursor_mut(&mut self) -> &mut Bytes {
        &mut self.cursor
    }
}

fn request(table: &str, options: &ScanOptions) -> ScanRequest {
    ScanRequest {
        table: table.to_owned(),
        start: options.start.clone(),
        end: options.end.clone(),
        prefix: options.prefix.clone(),
        limit: options.limit.unwrap_or(0),
        reverse: options.reverse,
        keys_only: options.keys_only,
        cursor: options.cursor.clone(),
        stale: options.stale,
        filter: options.filter.clone(),
        paths: options.paths.clone(),
        snapshot_ms: options.snapshot.map_or(0, whole_ms),
    }
}
