//! Scans: items in key order, page by page, over broken connections.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use proto::v1::{Item, ScanRequest, ScanResponse};
use tonic::Streaming;

use crate::attempts::{Attempts, Place, once, timed_out};
use crate::client::Client;
use crate::core::kv_client;
use crate::error::Error;
use crate::retry::{Effect, Trouble};
use crate::route::Address;

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
    client: Client,
    table: String,
    options: ScanOptions,
    deadline: Duration,
    /// Pages that a node is sending, and which node.
    open: Option<(Address, Streaming<ScanResponse>)>,
    /// Whether the open stream has given a page.
    progressed: bool,
    ended: bool,
}

impl Scan {
    pub(crate) fn new(client: Client, table: &Arc<str>, options: ScanOptions, deadline: Duration) -> Self {
        let ended = options.limit == Some(0);
        Self { client, table: table.to_string(), options, deadline, open: None, progressed: false, ended }
    }

    /// The next page; none at the end. The deadline counts for each page by itself.
    pub async fn next_page(&mut self) -> Option<Result<Page, Error>> {
        while !self.ended {
            match self.read().await {
                Ok(Some(answer)) => {
                    let page = self.take(answer);
                    if !page.items.is_empty() || self.ended {
                        return Some(Ok(page));
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
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
        self.options.cursor = answer.cursor.clone();
        let mut items = answer.items;
        if let Some(left) = &mut self.options.limit {
            items.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= items.len() as u64;
            self.ended = *left == 0;
        }
        self.ended |= answer.cursor.is_empty();
        if self.ended {
            self.open = None;
        }
        Page { items, cursor: answer.cursor }
    }

    /// The next answer of a node. None: a node ended its pages, and there may be more.
    async fn read(&mut self) -> Result<Option<ScanResponse>, Error> {
        let core = self.client.shared();
        let mut attempts = Attempts::new(&self.client, Place::Any, Effect::Repeatable, self.deadline);
        loop {
            if let Some((address, pages)) = &mut self.open {
                let timeout = core.options.attempt_timeout;
                let trouble = match tokio::time::timeout(timeout, pages.message()).await {
                    Ok(Ok(Some(answer))) => {
                        self.progressed = true;
                        return Ok(Some(answer));
                    }
                    Ok(Ok(None)) => {
                        self.open = None;
                        // The last page may have said that there was more. A stream
                        // without any page says that there is none.
                        self.ended = self.options.cursor.is_empty() || !self.progressed;
                        return Ok(None);
                    }
                    Ok(Err(status)) => Trouble::of(&status),
                    Err(_) => timed_out(address, timeout),
                };
                if !matches!(trouble, Trouble::Refused(_)) {
                    core.channels.suspect(address);
                }
                self.open = None;
                attempts.after(&trouble).await?;
            }
            let attempt = attempts.next()?;
            let address = Address::clone(&attempt.address);
            let request = self.request();
            let send = |attempt: crate::attempts::Attempt| {
                let request = request.clone();
                // No deadline travels with it: pages are read at the caller's pace.
                async move { kv_client(attempt.channel).scan(request).await }
            };
            match once(attempt, &send).await {
                Ok(pages) => {
                    attempts.done();
                    self.open = Some((address, pages));
                    self.progressed = false;
                }
                Err(trouble) => attempts.after(&trouble).await?,
            }
        }
    }

    fn request(&self) -> ScanRequest {
        let options = &self.options;
        ScanRequest {
            table: self.table.clone(),
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
        }
    }
}
