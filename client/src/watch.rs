//! Watches: changes as they happen, over broken connections.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::v1::interest::Which;
use proto::v1::watch_request::Request as Ask;
use proto::v1::{BeginWatch, Event, KeyRange, WatchRequest, WatchResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::attempts::{Attempts, Place, once, timed_out};
use crate::client::Client;
use crate::core::kv_client;
use crate::error::Error;
use crate::retry::{Effect, Trouble};
use crate::route::Address;

/// Requests that wait to be sent on a stream.
const ASKS: usize = 64;

/// Which keys are followed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Keys {
    /// All of the table.
    #[default]
    All,
    /// This one.
    Key(Bytes),
    /// Those that begin so.
    Prefix(Bytes),
    /// From the first on, before the second, which may be left empty.
    Range(Bytes, Bytes),
}

/// Keys that are followed, and what is told of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interest {
    /// Events say by which interests they were found.
    pub id: u64,
    /// Which keys.
    pub keys: Keys,
    /// With values.
    pub values: bool,
    /// With what was there before, where the table keeps it.
    pub before: bool,
}

/// How a watch begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchOptions {
    /// What is followed at first.
    pub interests: Vec<Interest>,
    /// Where an earlier watch of the table stood: what follows it. Empty: from now on.
    pub token: Bytes,
    /// Without a token: first all items that there are, then what changes them.
    pub with_items: bool,
    /// Where what follows is no longer kept, begin again with all items instead of an error.
    pub begin_again: bool,
    /// How often it is said how far the watch is while nothing happens.
    pub progress: Duration,
    /// Events that are given at once, at most, so that one may stop after any of so many.
    pub most_events: Option<u32>,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            interests: vec![Interest::new(0, Keys::All)],
            token: Bytes::new(),
            with_items: false,
            begin_again: false,
            progress: Duration::from_secs(5),
            most_events: None,
        }
    }
}

/// What a watch gives at once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// In their order for each key.
    pub events: Vec<Event>,
    /// Goes on after them; empty as long as not all items were given.
    pub token: Bytes,
    /// All items that there were have been given.
    pub items_given: bool,
    /// The watch has begun again with all items: whatever was known before counts no more.
    pub begun_again: bool,
}

/// A watch under way. A stream that breaks is replaced, and the watch goes on where it was: no
/// event is lost and none comes twice.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    table: String,
    options: WatchOptions,
    deadline: Duration,
    /// The stream, from which node, and the way to ask more of it.
    open: Option<Open>,
    /// The items are not all given yet.
    in_items: bool,
    /// Some were given.
    given_items: bool,
    begun_again: bool,
}

#[derive(Debug)]
struct Open {
    address: Address,
    responses: Streaming<WatchResponse>,
    asks: mpsc::Sender<WatchRequest>,
}

impl Interest {
    /// These keys, with values.
    pub fn new(id: u64, keys: Keys) -> Self {
        Self { id, keys, values: true, before: false }
    }

    fn to_wire(&self) -> proto::v1::Interest {
        let which = match &self.keys {
            Keys::All => None,
            Keys::Key(key) => Some(Which::Key(key.clone())),
            Keys::Prefix(prefix) => Some(Which::Prefix(prefix.clone())),
            Keys::Range(start, end) => {
                Some(Which::Range(KeyRange { start: start.clone(), end: end.clone() }))
            }
        };
        proto::v1::Interest { id: self.id, which, without_values: !self.values, before: self.before }
    }
}

impl Watch {
    pub(crate) fn new(client: Client, table: &Arc<str>, options: WatchOptions, deadline: Duration) -> Self {
        let in_items = options.with_items;
        Self {
            client,
            table: table.to_string(),
            options,
            deadline,
            open: None,
            in_items,
            given_items: false,
            begun_again: false,
        }
    }

    /// Begins at a node now, and not only with the first changes: what happens after this returns
    /// is among them.
    pub async fn begin(&mut self) -> Result<(), Error> {
        let mut attempts = Attempts::new(&self.client, Place::Any, Effect::Repeatable, self.deadline);
        while self.open.is_none() {
            self.connect(&mut attempts).await?;
        }
        Ok(())
    }

    /// What comes next. Without events it says how far the watch is. After an error the next call
    /// tries again. The deadline counts for each outage by itself.
    pub async fn next(&mut self) -> Result<Changes, Error> {
        let core = Arc::clone(self.client.shared());
        let mut attempts = Attempts::new(&self.client, Place::Any, Effect::Repeatable, self.deadline);
        loop {
            let Some(open) = &mut self.open else {
                self.connect(&mut attempts).await?;
                continue;
            };
            let patience = self.options.progress * 2 + core.options.attempt_timeout;
            let trouble = match tokio::time::timeout(patience, open.responses.message()).await {
                Ok(Ok(Some(response))) => {
                    attempts.done();
                    return Ok(self.take(response));
                }
                Ok(Ok(None)) => Trouble::Broken("the node ended the watch".to_owned()),
                Ok(Err(status)) => Trouble::of(&status),
                Err(_) => timed_out(&open.address, patience),
            };
            if trouble.gave_no_answer() {
                core.channels.suspect(&open.address);
            }
            self.open = None;
            if !self.begin_again_after(&trouble)? {
                attempts.after(&trouble).await?;
            }
        }
    }

    /// Follows more, from about now on.
    pub async fn add(&mut self, interest: Interest) {
        self.ask(Ask::Add(interest.to_wire())).await;
        self.options.interests.push(interest);
    }

    /// Follows an interest no longer. Some of its events may still be on their way.
    pub async fn remove(&mut self, id: u64) {
        self.options.interests.retain(|interest| interest.id != id);
        self.ask(Ask::Remove(id)).await;
    }

    /// A stream that cannot be asked any more has broken, and the next one begins with all that is
    /// followed by then.
    async fn ask(&self, request: Ask) {
        if let Some(open) = &self.open {
            let _ = open.asks.send(WatchRequest { request: Some(request) }).await;
        }
    }

    fn take(&mut self, response: WatchResponse) -> Changes {
        let WatchResponse { events, token, items_sent, .. } = response;
        if items_sent {
            self.in_items = false;
        }
        self.given_items |= self.in_items && !events.is_empty();
        if !token.is_empty() {
            self.options.token = token.clone();
        }
        let begun_again = std::mem::take(&mut self.begun_again);
        Changes { events, token, items_given: items_sent, begun_again }
    }

    /// Items that were given in part cannot be gone on with, and what is no longer kept neither.
    /// Returns whether the next attempt can be made at once.
    fn begin_again_after(&mut self, trouble: &Trouble) -> Result<bool, Error> {
        if let Trouble::Refused(failure) = trouble
            && let error @ Error::Compacted { .. } = Error::from_failure(failure)
        {
            if !self.options.begin_again {
                return Err(error);
            }
            self.options.token = Bytes::new();
            (self.in_items, self.given_items, self.begun_again) = (true, false, true);
            return Ok(true);
        }
        if self.in_items && std::mem::take(&mut self.given_items) {
            self.begun_again = true;
        }
        Ok(false)
    }

    async fn connect(&mut self, attempts: &mut Attempts) -> Result<(), Error> {
        let begin = BeginWatch {
            table: self.table.clone(),
            token: self.options.token.clone(),
            with_items: self.in_items,
            interests: self.options.interests.iter().map(Interest::to_wire).collect(),
            progress_ms: u64::try_from(self.options.progress.as_millis()).unwrap_or(u64::MAX),
            most_events: self.options.most_events.unwrap_or(0),
        };
        let attempt = attempts.next()?;
        let address = Address::clone(&attempt.address);
        let (asks, requests) = mpsc::channel(ASKS);
        // There is room for the first.
        let _ = asks.try_send(WatchRequest { request: Some(Ask::Begin(begin)) });
        let requests = std::sync::Mutex::new(Some(requests));
        let send = |attempt: crate::attempts::Attempt| {
            let requests = requests.lock().ok().and_then(|mut requests| requests.take());
            async move {
                let requests = requests.ok_or_else(|| tonic::Status::internal("sent twice"))?;
                // No deadline travels with it: it goes on for as long as somebody listens.
                kv_client(attempt.channel).watch(ReceiverStream::new(requests)).await
            }
        };
        match once(attempt, &send).await {
            Ok(responses) => {
                self.open = Some(Open { address, responses, asks });
                Ok(())
            }
            Err(trouble) => {
                if self.begin_again_after(&trouble)? {
                    Ok(())
                } else {
                    attempts.after(&trouble).await
                }
            }
        }
    }
}
