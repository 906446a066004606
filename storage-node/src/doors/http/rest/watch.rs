//! Changes as they happen, as server-sent events. A browser's `EventSource` goes on by itself where
//! its connection broke: the id of each event is the token that follows it.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::Request;
use axum::response::IntoResponse as _;
use axum::response::sse::{self, Sse};
use base64::Engine as _;
use bytes::Bytes;
use futures::stream::{self, Stream};
use proto::v1::event::Kind as Happened;
use proto::v1::interest::Which;
use proto::v1::{BeginWatch, Event, Failure, Interest, KeyRange, WatchResponse};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::address::{self, BASE64_URL, Query};
use super::documents::WatchProblems;
use super::problem::Problem;
use super::values::{self, ItemShown, show_key};
use super::{Answer, Api};
use crate::router::failure;
use crate::watch::Watch;

/// How often something is sent while nothing happens, so that nobody takes the connection for dead.
const QUIET: Duration = Duration::from_secs(10);
/// By what a browser says where it stood.
const LAST_EVENT: &str = "last-event-id";

/// What is followed.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub struct WatchAsked {
    /// Only this key, percent-decoded to bytes.
    #[param(min_length = 1)]
    pub key: Option<String>,
    /// Only keys that begin so.
    pub prefix: Option<String>,
    /// The first key that is wanted.
    pub start_key: Option<String>,
    /// The first key that is no longer wanted.
    pub end_key: Option<String>,
    /// The id of the last event that was seen, in base64url: what follows it. The header
    /// `Last-Event-ID` says the same.
    pub token: Option<String>,
    /// Without a token: first all items that there are.
    pub items: Option<bool>,
    /// Without values.
    pub keys_only: Option<bool>,
    /// Also what was there before, where the table keeps it.
    pub before: Option<bool>,
}

/// A change. The name of the event is `put`, `delete`, `expire`, `clear` or, of what was there when
/// the watch began, `item`; its id is the token that follows it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangeShown {
    /// The key, where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The key in base64url, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key64: Option<String>,
    /// What is there now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<ItemShown>,
    /// What was there before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<ItemShown>,
    /// Of `clear`: everything went from this slot
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_slot: Option<u32>,
    /// up to and with this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_slot: Option<u32>,
    /// Grows from change to change of a key.
    pub revision: u64,
    /// The partition.
    pub partition: u64,
    /// When it happened by the partition's clock, in milliseconds since 1970.
    pub time: u64,
}

/// The routes, for the table that stands before them.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(watch))
}

/// Follow changes as they happen
///
/// The answer has no end. Besides changes there are the events `items-sent`, once all items that
/// there were have been sent, `mark`, which only says how far the watch is, and `problem`, after which
/// nothing comes.
#[utoipa::path(
    get, path = "/watch", tag = "keys", operation_id = "watch",
    params(WatchAsked),
    responses(
        (status = 200, body = ChangeShown, content_type = "text/event-stream", description = "Changes"),
        WatchProblems,
    )
)]
async fn watch(api: Api, request: Request) -> Answer {
    let (parts, _) = request.into_parts();
    let expected = ["key", "key64", "prefix", "startKey", "endKey", "token", "items", "keysOnly", "before"];
    let query = Query::of(&parts, &expected)?;
    let keys_only = query.flag("keysOnly")?;
    let interest =
        Interest { id: 0, which: which(&query)?, without_values: keys_only, before: query.flag("before")? };
    let last = parts.headers.get(LAST_EVENT).map(|id| BASE64_URL.decode(id.as_bytes()));
    let last = last.transpose().map_err(|error| {
        Problem::invalid(format!("the header Last-Event-ID is no id of an event: {error}"))
    })?;
    // A browser that connects again sends the address that it was given, and where it stood.
    let token = last.map(Bytes::from).or(query.base64("token")?).unwrap_or_default();
    let begin = BeginWatch {
        table: address::table_in(address::path_of(&parts))?,
        with_items: query.flag("items")? && token.is_empty(),
        token,
        interests: vec![interest],
        progress_ms: u64::try_from(QUIET.as_millis()).unwrap_or(u64::MAX),
        // Each has an id of its own.
        most_events: 1,
    };
    let member = api.member()?;
    let watch = Watch::begin(&member.router, &api.context(), begin).await?;
    Ok(Sse::new(events(watch, member.closing(), !keys_only)).into_response())
}

fn which(query: &Query) -> Result<Option<Which>, Problem> {
    let named = [query.bytes("key"), query.base64("key64")?].into_iter().flatten().next();
    let (prefix, start, end) = (query.bytes("prefix"), query.bytes("startKey"), query.bytes("endKey"));
    match (named, prefix, start.is_some() || end.is_some()) {
        (Some(key), None, false) => Ok(Some(Which::Key(key))),
        (None, Some(prefix), false) => Ok(Some(Which::Prefix(prefix))),
        (None, None, true) => {
            let (start, end) = (start.unwrap_or_default(), end.unwrap_or_default());
            Ok(Some(Which::Range(KeyRange { start, end })))
        }
        (None, None, false) => Ok(None),
        _ => Err(Problem::invalid("give a key, a prefix, or startKey and endKey: not several")),
    }
}

/// What the watch has, for as long as it is read.
fn events(
    watch: Watch,
    closing: CancellationToken,
    values: bool,
) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    let begun = Some((watch, closing, Vec::new().into_iter()));
    stream::unfold(begun, move |running| async move {
        let (mut watch, closing, mut waiting) = running?;
        loop {
            if let Some(event) = waiting.next() {
                return Some((Ok(event), Some((watch, closing, waiting))));
            }
            let response = tokio::select! {
                () = closing.cancelled() => Err(failure::retry_after("this node is shutting down", 50)),
                response = watch.next() => response,
            };
            match response {
                Ok(response) => waiting = shown(response, values).into_iter(),
                Err(failure) => return Some((Ok(problem(failure)), None)),
            }
        }
    })
}

fn shown(response: WatchResponse, values: bool) -> Vec<sse::Event> {
    // In the middle of items there is nowhere to go on from.
    let id = Some(response.token).filter(|token| !token.is_empty());
    let changes =
        response.events.iter().map(|event| made(name(event.kind()), id.clone(), &change(event, values)));
    let mut events: Vec<_> = changes.collect();
    if response.items_sent {
        events.push(made("items-sent", id, &()));
    } else if events.is_empty() {
        events.push(made("mark", id, &()));
    }
    events
}

fn change(event: &Event, values: bool) -> ChangeShown {
    let clear = event.kind() == Happened::Clear;
    let (key, key64) = if clear { (None, None) } else { show_key(&event.key) };
    ChangeShown {
        key,
        key64,
        item: event.item.as_ref().map(|item| values::show(item, values)),
        before: event.before.as_ref().map(|item| values::show(item, values)),
        first_slot: clear.then_some(event.first_slot),
        last_slot: clear.then_some(event.last_slot),
        revision: event.revision,
        partition: event.partition,
        time: event.clock_ms,
    }
}

fn made(name: &str, id: Option<Bytes>, data: &impl Serialize) -> sse::Event {
    let event = sse::Event::default().event(name);
    let event = match id {
        Some(id) => event.id(BASE64_URL.encode(id)),
        None => event,
    };
    // JSON has no line breaks of its own, and what is here can always be written.
    event.data(serde_json::to_string(data).unwrap_or_default())
}

fn problem(failure: Failure) -> sse::Event {
    made("problem", None, &Problem::from(failure).to_json())
}

fn name(kind: Happened) -> &'static str {
    match kind {
        Happened::Put => "put",
        Happened::Delete => "delete",
        Happened::Expire => "expire",
        Happened::Clear => "clear",
        Happened::Item => "item",
    }
}
