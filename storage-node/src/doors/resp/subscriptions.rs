//! What a Redis client subscribes to: notifications of what happens to keys. Other channels there
//! are none.
//!
//! ```text
//!   __keyspace@0__:KEY      says what happened to the key: set, del, expired
//!   __keyevent@0__:EVENT    says which key it happened to
//! ```
//!
//! For the table `default` the number is 0; other tables have their name there. They are told of
//! the table that is selected when the first is asked for.

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};
use proto::v1::event::Kind;
use proto::v1::interest::Which;
use proto::v1::{Event, Interest};

use super::DEFAULT_TABLE;
use super::commands::glob;
use super::reply::Reply;

/// How many a connection may have.
pub const MOST: usize = 1_000;

/// What a connection is subscribed to.
#[derive(Debug, Default)]
pub struct Subscriptions {
    channels: BTreeSet<Bytes>,
    patterns: BTreeSet<Bytes>,
}

/// A message for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The pattern that it was found by; none: the channel itself was asked for.
    pub pattern: Option<Bytes>,
    /// The channel.
    pub channel: Bytes,
    /// What is said.
    pub said: Bytes,
}

impl Message {
    /// As it is sent.
    pub fn reply(self) -> Reply {
        let (channel, said) = (Reply::Bulk(self.channel), Reply::Bulk(self.said));
        Reply::Push(match self.pattern {
            Some(pattern) => vec![Reply::bulk("pmessage"), Reply::Bulk(pattern), channel, said],
            None => vec![Reply::bulk("message"), channel, said],
        })
    }
}

/// Whether anything is ever told on a channel, for those who follow that table.
pub fn is_told(channel: &[u8], table: &str) -> bool {
    ["keyspace", "keyevent"].iter().any(|sort| channel.starts_with(&prefix(sort, table)))
}

impl Subscriptions {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }

    /// Subscribes to a channel, or to all that a pattern meets.
    pub fn add(&mut self, channel: Bytes, pattern: bool) {
        if pattern {
            self.patterns.insert(channel)
        } else {
            self.channels.insert(channel)
        };
    }

    /// Does not any more.
    pub fn remove(&mut self, channel: &Bytes, pattern: bool) {
        if pattern {
            self.patterns.remove(channel)
        } else {
            self.channels.remove(channel)
        };
    }

    /// All of one sort.
    pub fn all(&self, pattern: bool) -> Vec<Bytes> {
        let all = if pattern { &self.patterns } else { &self.channels };
        all.iter().cloned().collect()
    }

    /// What of a table must be followed to tell all of it.
    pub fn interests(&self, table: &str) -> Vec<Interest> {
        let space = prefix("keyspace", table);
        let of_channel = |channel: &Bytes| {
            channel.strip_prefix(&space[..]).map(|key| Which::Key(Bytes::copy_from_slice(key)))
        };
        let of_pattern = |pattern: &Bytes| {
            let rest = pattern.strip_prefix(&space[..])?;
            let plain = rest.iter().position(|byte| b"*?[\\".contains(byte)).unwrap_or(rest.len());
            Some(Which::Prefix(Bytes::copy_from_slice(rest.get(..plain)?)))
        };
        let all = || Which::Prefix(Bytes::new());
        let channels = self.channels.iter().map(|channel| of_channel(channel).unwrap_or_else(all));
        let patterns = self.patterns.iter().map(|pattern| of_pattern(pattern).unwrap_or_else(all));
        let which: BTreeSet<(u8, Bytes)> = channels.chain(patterns).map(sorted).collect();
        let interest = |(id, (kind, bytes)): (usize, (u8, Bytes))| Interest {
            id: id as u64,
            which: Some(if kind == 0 { Which::Key(bytes) } else { Which::Prefix(bytes) }),
            without_values: true,
            before: false,
        };
        which.into_iter().enumerate().map(interest).collect()
    }

    /// What an event of a table is to those who subscribed.
    pub fn messages(&self, table: &str, event: &Event) -> Vec<Message> {
        let name = match event.kind() {
            Kind::Put => "set",
            Kind::Delete => "del",
            Kind::Expire => "expired",
            // Redis says nothing of FLUSHDB.
            Kind::Clear | Kind::Item => return Vec::new(),
        };
        let name = Bytes::from_static(name.as_bytes());
        let channel = |sort, last: &[u8]| Bytes::from([&prefix(sort, table)[..], last].concat());
        let both = [
            (channel("keyspace", &event.key), name.clone()),
            (channel("keyevent", &name), event.key.clone()),
        ];
        let mut messages = Vec::new();
        for (channel, said) in both {
            if self.channels.contains(&channel) {
                messages.push(Message { pattern: None, channel: channel.clone(), said: said.clone() });
            }
            for pattern in self.patterns.iter().filter(|pattern| glob::matches(pattern, &channel)) {
                let pattern = Some(pattern.clone());
                messages.push(Message { pattern, channel: channel.clone(), said: said.clone() });
            }
        }
        messages
    }
}

/// How a channel of that sort begins.
fn prefix(sort: &str, table: &str) -> Bytes {
    let table = if table == DEFAULT_TABLE { "0" } else { table };
    let mut prefix = BytesMut::with_capacity(table.len() + 16);
    prefix.put_slice(b"__");
    prefix.put_slice(sort.as_bytes());
    prefix.put_u8(b'@');
    prefix.put_slice(table.as_bytes());
    prefix.put_slice(b"__:");
    prefix.freeze()
}

fn sorted(which: Which) -> (u8, Bytes) {
    match which {
        Which::Key(key) => (0, key),
        Which::Prefix(prefix) => (1, prefix),
        Which::Range(range) => (1, range.start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: Kind, key: &'static str) -> Event {
        Event { kind: kind.into(), key: key.into(), ..Event::default() }
    }

    fn told(subscriptions: &Subscriptions, kind: Kind, key: &'static str) -> Vec<String> {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let messages = subscriptions.messages(DEFAULT_TABLE, &event(kind, key));
        messages
            .iter()
            .map(|message| {
                let pattern = message.pattern.as_ref().map(text).unwrap_or_default();
                format!("{pattern} {} {}", text(&message.channel), text(&message.said))
            })
            .collect()
    }

    #[test]
    fn keys_and_events_are_told_by_channel_and_by_pattern() {
        let mut all = Subscriptions::default();
        all.add("__keyspace@0__:a".into(), false);
        all.add("__keyevent@0__:expired".into(), false);
        all.add("__key*__:a*".into(), true);
        assert_eq!(told(&all, Kind::Put, "a"), [" __keyspace@0__:a set", "__key*__:a* __keyspace@0__:a set"]);
        assert_eq!(told(&all, Kind::Expire, "b"), [" __keyevent@0__:expired b"]);
        assert_eq!(told(&all, Kind::Delete, "b"), [""; 0]);
        all.remove(&"__key*__:a*".into(), true);
        assert_eq!((told(&all, Kind::Delete, "a").len(), all.count()), (1, 2));
    }

    #[test]
    fn only_what_can_be_met_is_followed() {
        let mut some = Subscriptions::default();
        some.add("__keyspace@0__:a".into(), false);
        some.add("__keyspace@0__:user:*".into(), true);
        let which = |subscriptions: &Subscriptions, table| -> Vec<Which> {
            subscriptions.interests(table).into_iter().filter_map(|interest| interest.which).collect()
        };
        assert_eq!(which(&some, DEFAULT_TABLE), [Which::Key("a".into()), Which::Prefix("user:".into())]);
        some.add("__keyevent@0__:del".into(), false);
        assert!(which(&some, DEFAULT_TABLE).contains(&Which::Prefix(Bytes::new())));
        let mut other = Subscriptions::default();
        other.add("__keyspace@orders__:a".into(), false);
        assert_eq!(which(&other, "orders"), [Which::Key("a".into())]);
    }
}
