//! `trilith watch`

use std::ffi::OsString;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use clap::Args;
use client::{Changes, Event, EventKind, Interest, Keys, WatchOptions};
use serde_json::{Map, Value, json};

use super::bytes;
use crate::arguments::Global;
use crate::exit::{Exit, Usage};
use crate::json;
use crate::output::{Output, note};

const EXAMPLES: &str = "\
Examples:
  trilith watch                            every change of the table, as it happens
  trilith watch user:                      of keys that begin so
  trilith watch --key stock                of one key
  trilith watch --items                    first what there is, then what changes it
  trilith watch --from TOKEN               goes on where an earlier watch stood: nothing is missed
  trilith watch -o json --limit 1          the next change, and the token after it

A line is what happened, the key and the value, with tabs between. When it ends it says the token
where it stood. Of a table whose history is off there is nothing to watch.";

/// Print changes as they happen.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Watch {
    /// Only keys that begin with this.
    prefix: Option<OsString>,
    /// Only this key.
    #[arg(long, value_name = "KEY", conflicts_with_all = ["prefix", "start", "end"])]
    key: Option<OsString>,
    /// The first key wanted.
    #[arg(long, value_name = "KEY", conflicts_with = "prefix")]
    start: Option<OsString>,
    /// The first key no longer wanted.
    #[arg(long, value_name = "KEY", conflicts_with = "prefix")]
    end: Option<OsString>,
    /// Go on where an earlier watch of the table stood.
    #[arg(long, value_name = "TOKEN", conflicts_with = "items")]
    from: Option<String>,
    /// First all items that there are.
    #[arg(long)]
    items: bool,
    /// Where the changes are no longer kept, begin again with all items.
    #[arg(long)]
    begin_again: bool,
    /// Keys without values.
    #[arg(long)]
    keys_only: bool,
    /// Also what was there before, where the table keeps it; as JSON only.
    #[arg(long)]
    before: bool,
    /// End after so many changes.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

impl Watch {
    /// Watches until it is interrupted.
    pub async fn run(self, global: &Global, out: &mut Output) -> anyhow::Result<Exit> {
        let (values, limit) = (!self.keys_only, self.limit);
        let mut watch = global.open_table().await?.watch(self.options()?);
        let mut token = Bytes::new();
        let mut left = limit.unwrap_or(u64::MAX);
        let interrupted = tokio::signal::ctrl_c();
        tokio::pin!(interrupted);
        watch.begin().await?;
        while left > 0 {
            let changes = tokio::select! {
                changes = watch.next() => changes?,
                _ = &mut interrupted => break,
            };
            left = left.saturating_sub(changes.events.len() as u64);
            show(&changes, values, out)?;
            out.flush()?;
            token = changes.token;
        }
        if !token.is_empty() {
            note(format_args!("go on with: --from {}", URL_SAFE_NO_PAD.encode(&token)));
        }
        Ok(Exit::Done)
    }

    fn options(self) -> Result<WatchOptions, Usage> {
        let token = match self.from {
            Some(text) => URL_SAFE_NO_PAD
                .decode(&text)
                .map_err(|_| Usage(format!("{text:?} is not a token: give what an earlier watch printed")))?,
            None => Vec::new(),
        };
        let keys = match (self.key, self.prefix, self.start, self.end) {
            (Some(key), ..) => Keys::Key(bytes(key)),
            (_, Some(prefix), ..) => Keys::Prefix(bytes(prefix)),
            (_, _, None, None) => Keys::All,
            (_, _, start, end) => {
                Keys::Range(start.map(bytes).unwrap_or_default(), end.map(bytes).unwrap_or_default())
            }
        };
        let interest = Interest { id: 0, keys, values: !self.keys_only, before: self.before };
        Ok(WatchOptions {
            interests: vec![interest],
            token: token.into(),
            with_items: self.items,
            begin_again: self.begin_again,
            // So that it ends where the last of them is.
            most_events: self.limit.map(|_| 1),
            ..WatchOptions::default()
        })
    }
}

/// Prints the changes.
fn show(changes: &Changes, values: bool, out: &mut Output) -> anyhow::Result<()> {
    if changes.begun_again {
        match out.is_json() {
            true => out.json(&json!({"event": "begun-again"}))?,
            false => note("the changes are no longer kept: begun again with all items"),
        }
    }
    for (at, event) in changes.events.iter().enumerate() {
        if out.is_json() {
            let last = at + 1 == changes.events.len();
            out.json(&as_json(event, values, last.then_some(&changes.token)))?;
            continue;
        }
        out.raw(name(event.kind()).as_bytes())?;
        out.raw(b"\t")?;
        match (&event.item, event.kind()) {
            (_, EventKind::Clear) => {
                out.line(format!("slots {} to {}", event.first_slot, event.last_slot).as_bytes())?;
            }
            (Some(item), _) if values => {
                out.raw(&event.key)?;
                out.raw(b"\t")?;
                out.line(&item.value)?;
            }
            _ => out.line(&event.key)?,
        }
    }
    if changes.items_given && out.is_json() {
        out.json(&json!({"event": "items-given", "token": URL_SAFE_NO_PAD.encode(&changes.token)}))?;
    }
    Ok(())
}

fn as_json(event: &Event, values: bool, token: Option<&Bytes>) -> Value {
    let mut object = Map::new();
    object.insert("event".to_owned(), json!(name(event.kind())));
    if event.kind() == EventKind::Clear {
        object.insert("first_slot".to_owned(), json!(event.first_slot));
        object.insert("last_slot".to_owned(), json!(event.last_slot));
    } else {
        json::put_bytes(&mut object, "key", &event.key);
    }
    if let Some(item) = &event.item {
        object.insert("item".to_owned(), json::item(item, values));
    }
    if let Some(before) = &event.before {
        object.insert("before".to_owned(), json::item(before, values));
    }
    object.insert("revision".to_owned(), json!(event.revision));
    object.insert("partition".to_owned(), json!(event.partition));
    object.insert("clock_ms".to_owned(), json!(event.clock_ms));
    if let Some(token) = token.filter(|token| !token.is_empty()) {
        object.insert("token".to_owned(), json!(URL_SAFE_NO_PAD.encode(token)));
    }
    Value::Object(object)
}

fn name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Put => "put",
        EventKind::Delete => "delete",
        EventKind::Expire => "expire",
        EventKind::Clear => "clear",
        EventKind::Item => "item",
    }
}
