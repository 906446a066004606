//! One line of a batch: a JSON object that is an operation.

use client::{Condition, Operation, PutOptions};
use serde::Deserialize;

use crate::duration::parse_duration;
use crate::json::Encoding;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    op: Op,
    key: String,
    value: Option<String>,
    ttl: Option<String>,
    #[serde(rename = "if")]
    condition: Option<If>,
    #[serde(default)]
    key_encoding: Encoding,
    #[serde(default)]
    value_encoding: Encoding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Op {
    Get,
    Put,
    Delete,
    Exists,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum If {
    Version(u64),
    Word(String),
}

/// The operation that a line is; none for an empty line.
pub fn parse_line(line: &[u8]) -> Result<Option<Operation>, String> {
    if line.is_empty() {
        return Ok(None);
    }
    let line: Line = serde_json::from_slice(line).map_err(|error| format!("not an operation: {error}"))?;
    let key = line.key_encoding.decode("key", line.key.into())?;
    let condition = line.condition.map(If::condition).transpose()?;
    if line.op != Op::Put && (line.value.is_some() || line.ttl.is_some()) {
        return Err("only a put has a value or a ttl".to_owned());
    }
    if matches!(line.op, Op::Get | Op::Exists) && condition.is_some() {
        return Err("only a put or a delete has a condition".to_owned());
    }
    let operation = match line.op {
        Op::Get => Operation::get(key),
        Op::Exists => Operation::exists(key),
        Op::Delete => Operation::delete(key, condition),
        Op::Put => {
            let value = line.value.ok_or("a put needs a value")?;
            let value = line.value_encoding.decode("value", value.into())?;
            let ttl = line.ttl.as_deref().map(parse_duration).transpose()?;
            Operation::put(key, value, PutOptions { ttl, condition, ..PutOptions::default() })
        }
    };
    Ok(Some(operation))
}

impl If {
    fn condition(self) -> Result<Condition, String> {
        match self {
            Self::Version(version) => Ok(Condition::Version(version)),
            Self::Word(word) if word == "absent" => Ok(Condition::Absent),
            Self::Word(word) if word == "exists" => Ok(Condition::Exists),
            Self::Word(word) => Err(format!("\"if\" is \"absent\", \"exists\" or a version, not {word:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parse(line: &str) -> Result<Option<Operation>, String> {
        parse_line(line.as_bytes())
    }

    #[test]
    fn lines_are_operations() {
        assert_eq!(parse(""), Ok(None));
        assert_eq!(parse(r#"{"op":"get","key":"k"}"#), Ok(Some(Operation::get("k"))));
        let options = PutOptions {
            ttl: Some(Duration::from_secs(10)),
            condition: Some(Condition::Absent),
            ..PutOptions::default()
        };
        assert_eq!(
            parse(r#"{"op":"put","key":"k","value":"v","ttl":"10s","if":"absent"}"#),
            Ok(Some(Operation::put("k", "v", options)))
        );
        assert_eq!(
            parse(r#"{"op":"delete","key":"/wA=","key_encoding":"base64","if":7}"#),
            Ok(Some(Operation::delete(vec![0xff, 0], Some(Condition::Version(7)))))
        );
    }

    #[test]
    fn wrong_lines_say_what_is_wrong() {
        for (line, part) in [
            ("{", "not an operation"),
            (r#"{"op":"fly","key":"k"}"#, "unknown variant"),
            (r#"{"op":"put","key":"k"}"#, "needs a value"),
            (r#"{"op":"get","key":"k","value":"v"}"#, "only a put"),
            (r#"{"op":"get","key":"k","if":"exists"}"#, "only a put or a delete"),
            (r#"{"op":"put","key":"k","value":"v","if":"maybe"}"#, "\"absent\""),
            (r#"{"op":"put","key":"k","value":"?","value_encoding":"base64"}"#, "not base64"),
            (r#"{"op":"put","key":"k","value":"v","tll":"1s"}"#, "unknown field"),
        ] {
            let why = parse(line).unwrap_err();
            assert!(why.contains(part), "{line}: {why}");
        }
    }
}
