//! A JSON object a line, named as `trilith scan -o json` names things.

use std::borrow::Cow;
use std::io::BufRead;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::lines::{Line, Lines};
use super::place::{Fault, Place, Spot};
use super::{FileItem, ItemReader, ItemWriter};
use crate::duration::parse_duration;
use crate::json::{self, Encoding};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Object<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Encoding::is_text")]
    key_encoding: Encoding,
    #[serde(borrow)]
    value: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Encoding::is_text")]
    value_encoding: Encoding,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    content: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
    /// As people and `trilith batch` write it.
    #[serde(borrow, default, skip_serializing)]
    ttl: Option<Cow<'a, str>>,
    /// What a scan prints has it. Versions are the cluster's, and none is given back.
    #[serde(default, skip_serializing, rename = "version")]
    _version: IgnoredAny,
}

/// Reads items.
#[derive(Debug)]
pub struct JsonLineReader<R> {
    lines: Lines<R>,
}

/// Writes items.
#[derive(Debug)]
pub struct JsonLineWriter;

impl<R: BufRead> JsonLineReader<R> {
    /// From an input that stands at this place.
    pub fn at(input: R, place: Place) -> Self {
        Self { lines: Lines::at(input, place) }
    }
}

impl<R: BufRead + Send> ItemReader for JsonLineReader<R> {
    fn next_item(&mut self) -> Result<Option<FileItem>, Fault> {
        loop {
            let at = Spot::Line(self.lines.place().number);
            match self.lines.next_line()? {
                Line::End => return Ok(None),
                Line::TooLong => {
                    return Err(Fault::Item { at, why: "the line is longer than any item".to_owned() });
                }
                Line::Text(text) if text.trim_ascii().is_empty() => {}
                Line::Text(text) => {
                    return parse(text.trim_ascii()).map(Some).map_err(|why| Fault::Item { at, why });
                }
            }
        }
    }

    fn place(&self) -> Place {
        self.lines.place()
    }
}

impl ItemWriter for JsonLineWriter {
    fn begin(&mut self, _out: &mut Vec<u8>) {}

    fn write(&mut self, item: &FileItem, out: &mut Vec<u8>) {
        let (key, key_encoding) = Encoding::encode(&item.key);
        let (value, value_encoding) = Encoding::encode(&item.value);
        let content = json::content_unless_bytes(item.content).map(Cow::Borrowed);
        let object = Object {
            key,
            key_encoding,
            value,
            value_encoding,
            content,
            ttl_ms: item.ttl_ms,
            ttl: None,
            _version: IgnoredAny,
        };
        serde_json::to_writer(&mut *out, &object).expect("strings and numbers are always written to memory");
        out.push(b'\n');
    }

    fn pause(&mut self, _out: &mut Vec<u8>) {}

    fn finish(&mut self, _out: &mut Vec<u8>) {}
}

fn parse(text: &[u8]) -> Result<FileItem, String> {
    let object: Object<'_> = serde_json::from_slice(text).map_err(|error| why_no_item(&error))?;
    let ttl_ms = match (object.ttl_ms, object.ttl) {
        (Some(_), Some(_)) => return Err("it has both a ttl and a ttl_ms".to_owned()),
        (None, Some(ttl)) => Some(parse_duration(&ttl)?.as_millis() as u64),
        (ttl_ms, None) => ttl_ms,
    };
    let content = object.content.as_deref().map(json::content_named).transpose()?.unwrap_or_default();
    let key = object.key_encoding.decode("key", object.key)?;
    let value = object.value_encoding.decode("value", object.value)?;
    FileItem { key, value, content, ttl_ms }.checked()
}

/// The reason without the line, which is always the first here and would be taken for the file's.
fn why_no_item(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at line ") {
        Some((why, _)) => format!("not an item: {why} at column {}", error.column()),
        None => format!("not an item: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use client::ContentKind;

    use super::*;

    fn read(text: &str) -> Vec<Result<FileItem, String>> {
        let mut reader = JsonLineReader::at(text.as_bytes(), Place::FIRST);
        let next = std::iter::from_fn(move || reader.next_item().transpose());
        next.map(|item| item.map_err(|fault| fault.to_string())).collect()
    }

    #[test]
    fn what_a_scan_prints_is_read() {
        let text = r#"{"key":"k","value":"v","content":"text","version":7,"ttl_ms":12}

{"key":"/wA=","key_encoding":"base64","value":"","ttl":"10s"}"#;
        let first =
            FileItem { key: "k".into(), value: "v".into(), content: ContentKind::Text, ttl_ms: Some(12) };
        let second = FileItem { key: vec![0xff, 0].into(), ttl_ms: Some(10_000), ..FileItem::default() };
        assert_eq!(read(text), [Ok(first), Ok(second)]);
    }

    #[test]
    fn a_wrong_line_is_named_and_the_next_is_read() {
        for (line, part) in [
            ("{", "line 1: not an item: EOF while parsing an object at column 1"),
            ("{\"key\":\"k}", "at column 10"),
            ("{\"key\":1}", "invalid type"),
            ("{\"key\":\"k\"}", "missing field `value`"),
            ("{\"key\":\"\",\"value\":\"v\"}", "the key is empty"),
            ("{\"key\":\"k\",\"value\":\"?\",\"value_encoding\":\"base64\"}", "not base64"),
            ("{\"key\":\"k\",\"value\":\"v\",\"content\":\"xml\"}", "xml"),
            ("{\"key\":\"k\",\"value\":\"v\",\"ttl\":\"1s\",\"ttl_ms\":1}", "both"),
            ("{\"key\":\"k\",\"value\":\"v\",\"tll\":\"1s\"}", "unknown field"),
            ("\u{0}\u{1}", "line 1: not an item"),
        ] {
            let found = read(&format!("{line}\n{{\"key\":\"k\",\"value\":\"v\"}}\n"));
            let why = found[0].clone().unwrap_err();
            assert!(why.contains(part) && !why.contains("at line"), "{line}: {why}");
            assert!(found[1].is_ok() && found.len() == 2, "{line}");
        }
    }

    #[test]
    fn plain_items_are_written_short() {
        let mut out = Vec::new();
        let item = FileItem { key: "k".into(), value: "ä\n".into(), ..FileItem::default() };
        JsonLineWriter.write(&item, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "{\"key\":\"k\",\"value\":\"ä\\n\"}\n");
    }
}
