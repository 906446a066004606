//! Between JSON and what is stored. A string is stored as text, any other JSON with its bytes
//! as they were given, and bytes travel in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use proto::v1::{ContentKind, Item};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::address::{BASE64_URL, Query};
use super::problem::{Kind, Problem};
use crate::router::moments;

/// Levels of JSON that are read. Whoever reads an answer must get through them too.
const DEEPEST: usize = 128;
/// The longest time to live, 100 years: beyond it somebody has mistaken the unit.
const LONGEST_TTL_SECONDS: f64 = 3_153_600_000.0;

/// How a value that is not text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Base64 with padding.
    Base64,
}

/// A value as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its bytes.
    pub bytes: Bytes,
    /// What they are.
    pub content: ContentKind,
}

/// An item as it is shown.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Item)]
pub struct ItemShown {
    /// The key, where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The key in base64url, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key64: Option<String>,
    /// The value: JSON as it was stored, text as a string, and bytes that are not UTF-8 as a
    /// string in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = serde_json::Value)]
    pub value: Option<Box<RawValue>>,
    /// There where the value is base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// Grows with every change of the key, and is its entity tag. What only an index was read for has
    /// none.
    #[serde(skip_serializing_if = "is_none")]
    #[schema(required = false)]
    pub version: u64,
    /// Seconds that are left of its life; null: it has no end.
    pub ttl: Option<f64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_none(version: &u64) -> bool {
    *version == 0
}

/// A key as it is shown: as text where it is UTF-8, else in base64url.
pub fn show_key(key: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(key) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(BASE64_URL.encode(key))),
    }
}

/// An item as it is shown, with its value or without.
pub fn show(item: &Item, with_value: bool) -> ItemShown {
    let (key, key64) = show_key(&item.key);
    let (value, encoding) = match with_value {
        true => show_value(item),
        false => (None, None),
    };
    ItemShown { key, key64, value, encoding, version: item.version, ttl: item.ttl_ms.map(seconds) }
}

/// An item of which parts were asked for: without a value where no path led anywhere.
pub fn show_part(item: &Item, with_value: bool, by_path: bool) -> ItemShown {
    show(item, with_value && !(by_path && item.value.is_empty()))
}

fn show_value(item: &Item) -> (Option<Box<RawValue>>, Option<Encoding>) {
    let quoted = |text: &str| serde_json::value::to_raw_value(text).ok();
    match std::str::from_utf8(&item.value) {
        // Other doors take a client's word for it that a value is JSON.
        Ok(text) if item.content() == ContentKind::Json && check_depth(&item.value).is_ok() => {
            let json = serde_json::from_str::<&RawValue>(text).ok().map(ToOwned::to_owned);
            (json.or_else(|| quoted(text)), None)
        }
        Ok(text) => (quoted(text), None),
        Err(_) => (quoted(&STANDARD.encode(&item.value)), Some(Encoding::Base64)),
    }
}

/// A value from a request as it is stored.
pub fn store(value: &RawValue, encoding: Option<Encoding>) -> Result<Stored, Problem> {
    let json = value.get();
    if !json.starts_with('"') {
        return match encoding {
            None => Ok(Stored { bytes: Bytes::copy_from_slice(json.as_bytes()), content: ContentKind::Json }),
            Some(Encoding::Base64) => Err(Problem::invalid("a value in base64 must be a string")),
        };
    }
    let text: String = serde_json::from_str(json).map_err(bad_json)?;
    match encoding {
        None => Ok(Stored { bytes: text.into(), content: ContentKind::Text }),
        Some(Encoding::Base64) => {
            let bytes = STANDARD.decode(text);
            let bytes =
                bytes.map_err(|error| Problem::invalid(format!("the value is not base64: {error}")))?;
            Ok(Stored { bytes: bytes.into(), content: ContentKind::Bytes })
        }
    }
}

/// A time to live in seconds, of which parts down to a millisecond count.
pub fn ttl_ms(seconds: f64) -> Result<u64, Problem> {
    let good = (0.001..=LONGEST_TTL_SECONDS).contains(&seconds);
    good.then(|| (seconds * 1_000.0).round() as u64).ok_or_else(|| {
        Problem::invalid(format!(
            "a time to live is between 0.001 and {LONGEST_TTL_SECONDS} seconds; without an end, leave it out"
        ))
    })
}

/// For how many milliseconds a snapshot is to be held; 0: none.
pub fn snapshot_ms(query: &Query) -> Result<u64, Problem> {
    let Some(seconds) = query.parsed::<f64>("snapshot", "a number of seconds")? else { return Ok(0) };
    let longest = moments::LONGEST.as_secs_f64();
    let good = (0.001..=longest).contains(&seconds);
    good.then(|| (seconds * 1_000.0).round() as u64).ok_or_else(|| {
        Problem::invalid(format!(
            "a snapshot is held for between 0.001 and {longest} seconds; without one, leave it out"
        ))
    })
}

/// Milliseconds as seconds.
pub fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1_000.0
}

/// Reads the JSON of a body.
pub fn read_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    check_depth(body)?;
    let text = std::str::from_utf8(body)
        .map_err(|error| Problem::new(Kind::InvalidJson, format!("the body is not UTF-8: {error}")))?;
    serde_json::from_str(text).map_err(bad_json)
}

fn bad_json(error: serde_json::Error) -> Problem {
    Problem::new(Kind::InvalidJson, error.to_string())
}

/// Counts levels without following them, so that a million brackets cost no stack.
fn check_depth(json: &[u8]) -> Result<(), Problem> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            let detail = format!("the JSON has more than {DEEPEST} levels; store it as a string or as bytes");
            return Err(Problem::new(Kind::JsonTooDeep, detail).with("limit", DEEPEST));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(json: &str) -> Stored {
        store(read_json::<&RawValue>(json.as_bytes()).unwrap(), None).unwrap()
    }

    fn shown(value: &[u8], content: ContentKind) -> String {
        let (key, value) = (Bytes::from("k"), Bytes::copy_from_slice(value));
        let item =
            Item { key, value, version: 3, content: content.into(), ttl_ms: Some(1_500), ..Item::default() };
        serde_json::to_string(&show(&item, true)).unwrap()
    }

    #[test]
    fn json_is_kept_byte_by_byte() {
        let json = r#"{"b": 1.10,  "a":[1e3, "é"]}"#;
        assert_eq!(stored(json), Stored { bytes: json.to_owned().into(), content: ContentKind::Json });
        assert_eq!(stored("null").content, ContentKind::Json);
        assert_eq!(stored(r#""a\u00e9\n""#), Stored { bytes: "aé\n".into(), content: ContentKind::Text });
        let back = shown(json.as_bytes(), ContentKind::Json);
        assert_eq!(back, format!(r#"{{"key":"k","value":{json},"version":3,"ttl":1.5}}"#));
    }

    #[test]
    fn bytes_travel_in_base64() {
        let value = read_json::<&RawValue>(br#""/wA=""#).unwrap();
        let stored = store(value, Some(Encoding::Base64)).unwrap();
        assert_eq!((&stored.bytes[..], stored.content), (&[255, 0][..], ContentKind::Bytes));
        let back = shown(&[255, 0], ContentKind::Bytes);
        assert!(back.contains(r#""value":"/wA=","encoding":"base64""#), "{back}");
        assert!(shown(b"text", ContentKind::Bytes).contains(r#""value":"text""#));
        assert!(store(read_json::<&RawValue>(b"7").unwrap(), Some(Encoding::Base64)).is_err());
    }

    #[test]
    fn what_is_only_called_json_is_shown_as_text() {
        assert!(shown(b"{oops", ContentKind::Json).contains(r#""value":"{oops""#));
        let deep = "[".repeat(1_000_000);
        assert!(shown(deep.as_bytes(), ContentKind::Json).contains(r#""value":"[["#));
    }

    #[test]
    fn bad_json_is_refused_for_what_it_is() {
        let kind = |body: &[u8]| read_json::<&RawValue>(body).unwrap_err().kind;
        assert_eq!(kind(b"{"), Kind::InvalidJson);
        assert_eq!(kind(b"\"\xff\""), Kind::InvalidJson);
        assert_eq!(kind("[".repeat(1_000_000).as_bytes()), Kind::JsonTooDeep);
        assert!(store(read_json::<&RawValue>(br#""\ud800""#).unwrap(), None).is_err());
        let brackets_in_text = format!("\"{}\"", "[\\\"".repeat(1_000));
        assert!(read_json::<&RawValue>(brackets_in_text.as_bytes()).is_ok());
    }

    #[test]
    fn a_time_to_live_is_seconds_down_to_a_millisecond() {
        assert_eq!(ttl_ms(1.5), Ok(1_500));
        assert_eq!(ttl_ms(0.001), Ok(1));
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300] {
            assert!(ttl_ms(bad).is_err(), "{bad}");
        }
    }
}
