//! How things look as JSON. Field names are stable.
//!
//! Bytes that are UTF-8 are a string. Others are base64, and a field beside them, named
//! `…_encoding`, says so.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::{ContentKind, Item};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// Adds bytes to an object.
pub fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        object.insert(name.to_owned(), json!(text));
    } else {
        object.insert(name.to_owned(), json!(STANDARD.encode(bytes)));
        object.insert(format!("{name}_encoding"), json!("base64"));
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
