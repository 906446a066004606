//! Answers that come in pages: read when they are asked for, from one node after another.

use std::time::Duration;

use bytes::Bytes;
use proto::v1::Item;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use crate::attempts::{Attempt, Attempts, Place, once, timed_out};
use crate::client::Client;
use crate::error::Error;
use crate::retry::{Effect, Trouble};
use crate::route::Address;

/// A request whose answers say where the next one goes on.
pub(crate) trait Paged: Clone + Send + Sync + 'static {
    /// One page.
    type Answer: Send + 'static;

    /// Asks a node.
    fn send(
        self,
        channel: Channel,
    ) -> impl Future<Output = Result<Response<Streaming<Self::Answer>>, Status>> + Send;

    /// Where it goes on; empty: at the beginning.
    fn cursor_mut(&mut self) -> &mut Bytes;
}

/// Pages under way. A connection that breaks is replaced, and they go on after the last that arrived.
#[derive(Debug)]
pub(crate) struct Pages<R: Paged> {
    client: Client,
    /// What is asked for from here on.
    pub request: R,
    deadline: Duration,
    /// Pages that a node is sending, and which node.
    open: Option<(Address, Streaming<R::Answer>)>,
    /// Whether the open stream has given a page.
    progressed: bool,
    /// There is no more, or no more is wanted.
    pub ended: bool,
}

impl<R: Paged> Pages<R> {
    /// Of a request, from its cursor on.
    pub fn new(client: Client, request: R, deadline: Duration) -> Self {
        Self { client, request, deadline, open: None, progressed: false, ended: false }
    }

    /// The next answer, after which [`Pages::take`] is to be called; none at the end.
    pub async fn next(&mut self) -> Option<Result<R::Answer, Error>> {
        while !self.ended {
            match self.read().await {
                Ok(Some(answer)) => return Some(Ok(answer)),
                Ok(None) => {}
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }

    /// Goes on after a page, of which at most so many items are wanted as are left.
    pub fn take(&mut self, left: &mut Option<u64>, mut items: Vec<Item>, cursor: &Bytes) -> Vec<Item> {
        *self.request.cursor_mut() = cursor.clone();
        if let Some(left) = left {
            items.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= items.len() as u64;
            self.ended = *left == 0;
        }
        self.ended |= cursor.is_empty();
        if self.ended {
            self.open = None;
        }
        items
    }

    /// The next answer of a node. None: a node ended its pages, and there may be more.
    async fn read(&mut self) -> Result<Option<R::Answer>, Error> {
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
                        self.ended = self.request.cursor_mut().is_empty() || !self.progressed;
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
            let request = self.request.clone();
            let send = |attempt: Attempt| {
                let request = request.clone();
                // No deadline travels with it: pages are read at the caller's pace.
                async move { request.send(attempt.channel).await }
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
}
