//! How things look as JSON. Field names are stable.
//!
//! Bytes that are UTF-8 are a string. Others are base64, and a field beside them, named
//! `…_encoding`, says so.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use client::{ContentKind, Item};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// How bytes are written as text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As they are: they are UTF-8.
    #[default]
    Text,
    /// In base64.
    Base64,
}

impl Encoding {
    /// Bytes as text, and how they are written.
    pub fn encode(bytes: &[u8]) -> (Cow<'_, str>, Self) {
        match std::str::from_utf8(bytes) {
            Ok(text) => (Cow::Borrowed(text), Self::Text),
            Err(_) => (Cow::Owned(STANDARD.encode(bytes)), Self::Base64),
        }
    }

    /// The bytes that a text stands for. `what` they are is named where it stands for none.
    pub fn decode(self, what: &str, text: Cow<'_, str>) -> Result<Bytes, String> {
        match self {
            Self::Text => Ok(Bytes::from(text.into_owned())),
            Self::Base64 => {
                let decoded = STANDARD.decode(text.as_bytes());
                decoded.map(Bytes::from).map_err(|error| format!("the {what} is not base64: {error}"))
            }
        }
    }

    /// The encoding of that name; without one it is text.
    pub fn named(name: &str) -> Result<Self, String> {
        match name {
            "" | "text" => Ok(Self::Text),
            "base64" => Ok(Self::Base64),
            _ => Err(format!("{name:?} is not an encoding: there are text and base64")),
        }
    }

    /// Its name; none for text, which need not be said.
    pub fn name_unless_text(self) -> &'static str {
        if self.is_text() { "" } else { "base64" }
    }

    /// Whether it is text. By reference, as serde asks.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
    pub fn is_text(&self) -> bool {
        *self == Self::Text
    }
}

/// Adds bytes to an object.
pub fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    let (text, encoding) = Encoding::encode(bytes);
    object.insert(name.to_owned(), json!(text));
    if !encoding.is_text() {
        object.insert(format!("{name}_encoding"), json!(encoding));
    }
}

/// An item. Without its value where only keys were asked for.
pub fn item(item: &Item, with_value: bool) -> Value {
    let mut object = Map::new();
    put_bytes(&mut object, "key", &item.key);
    if with_value {
        put_bytes(&mut object, "value", &item.value);
        object.insert("content".to_owned(), json!(content(item.content())));
    }
    object.insert("version".to_owned(), json!(item.version));
    if let Some(ttl) = item.ttl_ms {
        object.insert("ttl_ms".to_owned(), json!(ttl));
    }
    Value::Object(object)
}

/// The UUID that 16 bytes are, or nothing where nobody is named.
pub fn id(bytes: &[u8]) -> String {
    Uuid::from_slice(bytes).map(|id| id.to_string()).unwrap_or_default()
}

/// The name of a content kind; none for bytes, which need not be said.
pub fn content_unless_bytes(kind: ContentKind) -> Option<&'static str> {
    (kind != ContentKind::Bytes).then(|| content(kind))
}

/// The content kind of that name.
pub fn content_named(name: &str) -> Result<ContentKind, String> {
    let all = [ContentKind::Bytes, ContentKind::Text, ContentKind::Json];
    let found = all.into_iter().find(|kind| content(*kind) == name);
    found.ok_or_else(|| format!("{name:?} is not a kind of content: there are bytes, text and json"))
}

fn content(kind: ContentKind) -> &'static str {
    match kind {
        ContentKind::Bytes => "bytes",
        ContentKind::Text => "text",
        ContentKind::Json => "json",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_say_how_they_are_written() {
        let found = Item { key: "k".into(), value: vec![0xff, 0].into(), version: 3, ..Item::default() };
        assert_eq!(
            item(&found, true),
            json!({"key": "k", "value": "/wA=", "value_encoding": "base64", "version": 3, "content": "bytes"})
        );
        assert_eq!(item(&found, false), json!({"key": "k", "version": 3}));
    }
}
