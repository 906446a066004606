//! JSON Schemas that values are checked against where they are written.
//!
//! A check happens while an entry is applied, so its cost must be known from the schema: a schema
//! refers only to itself, never in a circle, and is small once all references are followed; and
//! patterns are those of the `regex` crate, which takes linear time.

use std::collections::HashMap;
use std::fmt;

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

use super::text::Json;

/// The longest schema, in bytes.
pub const MOST_BYTES: usize = 64 << 10;
/// The most parts of a schema, those that it refers to counted wherever it does.
const MOST_PARTS: usize = 20_000;
/// The most levels of a schema, references followed.
const MOST_LEVELS: usize = 200;
/// The largest that the patterns of a schema may become in memory, each.
const PATTERN_BYTES: usize = 1 << 20;
/// How much is said of what is wrong.
const LONGEST_REASON: usize = 400;

/// A schema that was understood.
pub struct Schema {
    validator: Validator,
}

impl Schema {
    /// Understands a schema.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > MOST_BYTES {
            return Err(format!("the schema has {} bytes; the limit is {MOST_BYTES}", bytes.len()));
        }
        let json = Json::parse(bytes).map_err(|why| format!("the schema is not JSON: {why}"))?;
        let schema: Value =
            serde_json::from_str(json.text()).map_err(|why| format!("the schema is not JSON: {why}"))?;
        if !matches!(schema, Value::Object(_) | Value::Bool(_)) {
            return Err("a schema is an object, or true or false".to_owned());
        }
        let mut measure = Measure { root: &schema, known: HashMap::new(), under_way: Vec::new(), depth: 0 };
        measure.size(&schema, Members::OfRoot)?;
        let validator = jsonschema::options()
            .with_draft(draft_of(&schema)?)
            .with_pattern_options(
                PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES),
            )
            .offline()
            .build(&schema)
            .map_err(|error| {
                let place = place(error.instance_path().as_str());
                format!("the schema is none: {} ({place})", shortened(error.to_string()))
            })?;
        Ok(Self { validator })
    }

    /// Refuses a value that does not meet it, and says what does not meet what.
    pub fn check(&self, value: Json<'_>) -> Result<(), String> {
        let value: Value = serde_json::from_str(value.text())
            .map_err(|why| format!("the value cannot be checked against the schema: {why}"))?;
        self.validator.validate(&value).map_err(|error| {
            let (at, by) = (place(error.instance_path().as_str()), error.schema_path().as_str());
            // Without the value itself, which may be long, and is known to whoever sent it.
            let why = shortened(error.masked_with(format!("the value {at}")).to_string());
            format!("{why} (schema: {by})")
        })
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("Schema")
    }
}

fn draft_of(schema: &Value) -> Result<Draft, String> {
    let Some(named) = schema.get("$schema") else { return Ok(Draft::Draft202012) };
    let known = [
        ("json-schema.org/draft/2020-12/schema", Draft::Draft202012),
        ("json-schema.org/draft/2019-09/schema", Draft::Draft201909),
        ("json-schema.org/draft-07/schema", Draft::Draft7),
        ("json-schema.org/draft-06/schema", Draft::Draft6),
        ("json-schema.org/draft-04/schema", Draft::Draft4),
    ];
    let text = named.as_str().unwrap_or_default().trim_end_matches('#');
    let text = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let found = known.into_iter().find(|(name, _)| *name == text);
    found.map(|(_, draft)| draft).ok_or_else(|| {
        format!("$schema is {named}, which is none of the drafts 2020-12, 2019-09, 7, 6 and 4 of JSON Schema")
    })
}

fn place(pointer: &str) -> String {
    if pointer.is_empty() { "as a whole".to_owned() } else { format!("at {pointer}") }
}

fn shortened(mut text: String) -> String {
    if let Some((cut, _)) = text.char_indices().nth(LONGEST_REASON) {
        text.truncate(cut);
        text.push('…');
    }
    text
}

/// Counts the parts and the levels of a schema, following references.
struct Measure<'a> {
    root: &'a Value,
    known: HashMap<&'a str, Size>,
    under_way: Vec<&'a str>,
    depth: usize,
}

#[derive(Clone, Copy)]
struct Size {
    parts: usize,
    levels: usize,
}

/// What the members of an object are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Members {
    /// Keywords of the schema as a whole.
    OfRoot,
    /// Keywords.
    Keywords,
    /// Schemas, by names that mean nothing.
    Schemas,
}

impl<'a> Measure<'a> {
    fn size(&mut self, value: &'a Value, members: Members) -> Result<Size, String> {
        let mut size = Size { parts: 1, levels: 0 };
        self.depth += 1;
        self.check_levels(0)?;
        match value {
            Value::Array(elements) => {
                for element in elements {
                    size.add(self.size(element, Members::Keywords)?);
                }
            }
            Value::Object(named) => {
                for (name, member) in named {
                    size.add(match members {
                        Members::Schemas => self.size(member, Members::Keywords)?,
                        Members::Keywords | Members::OfRoot => self.keyword(name, member, members)?,
                    });
                }
            }
            _ => {}
        }
        self.depth -= 1;
        if size.parts > MOST_PARTS {
            return Err(format!(
                "the schema has more than {MOST_PARTS} parts, those counted that it refers to again and again"
            ));
        }
        Ok(Size { levels: size.levels + 1, ..size })
    }

    fn keyword(&mut self, name: &str, member: &'a Value, members: Members) -> Result<Size, String> {
        match (name, member) {
            // What stands there is data.
            ("const" | "enum" | "default" | "examples", _) => Ok(Size { parts: 1, levels: 1 }),
            (
                "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas"
                | "dependencies",
                _,
            ) => self.size(member, Members::Schemas),
            ("$ref", Value::String(target)) => self.target(target),
            ("$dynamicRef" | "$recursiveRef", Value::String(_)) => {
                Err(format!("{name} is not among what is offered here: use $ref"))
            }
            ("$id" | "id", Value::String(_)) if members != Members::OfRoot => {
                Err("only the schema as a whole may have an $id".to_owned())
            }
            _ => self.size(member, Members::Keywords),
        }
    }

    fn target(&mut self, target: &'a str) -> Result<Size, String> {
        if let Some(known) = self.known.get(target).copied() {
            self.check_levels(known.levels)?;
            return Ok(known);
        }
        let Some(pointer) = target.strip_prefix('#').filter(|rest| rest.is_empty() || rest.starts_with('/'))
        else {
            return Err(format!(
                "$ref {target:?} is not a place in the schema itself, such as \"#/$defs/address\""
            ));
        };
        // A place that stands in itself would be followed for ever.
        let within = |other: &&str| {
            let other = other.trim_start_matches('#');
            pointer == other || other.strip_prefix(pointer).is_some_and(|rest| rest.starts_with('/'))
        };
        if pointer.is_empty() || self.under_way.iter().any(within) {
            return Err(format!("$ref {target:?} leads in a circle, which is not offered here"));
        }
        let decoded = percent_encoding::percent_decode_str(pointer).decode_utf8_lossy();
        let root = self.root;
        let found = root.pointer(&decoded).ok_or_else(|| format!("$ref {target:?} leads nowhere"))?;
        self.under_way.push(target);
        let size = self.size(found, Members::Keywords)?;
        self.under_way.pop();
        self.known.insert(target, size);
        Ok(size)
    }

    /// Refuses a schema that goes so many levels deeper than where it stands, references followed:
    /// whoever compiles or applies it follows it by recursion.
    fn check_levels(&self, more: usize) -> Result<(), String> {
        if self.depth + more > MOST_LEVELS {
            return Err(format!("the schema has more than {MOST_LEVELS} levels, references followed"));
        }
        Ok(())
    }
}

impl Size {
    fn add(&mut self, inner: Self) {
        self.parts = self.parts.saturating_add(inner.parts);
        self.levels = self.levels.max(inner.levels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(schema: &str) -> String {
        Schema::parse(schema.as_bytes()).expect_err(schema)
    }

    fn check(schema: &str, value: &str) -> Result<(), String> {
        Schema::parse(schema.as_bytes()).unwrap().check(Json::parse(value.as_bytes()).unwrap())
    }

    const PERSON: &str = r##"{
        "type": "object", "required": ["name"],
        "properties": {
            "name": {"type": "string", "pattern": "^[A-Z]"},
            "age": {"type": "integer", "minimum": 0},
            "home": {"$ref": "#/$defs/address"}, "work": {"$ref": "#/$defs/address"}
        },
        "$defs": {"address": {"type": "object", "properties": {"city": {"type": "string"}}}}
    }"##;

    #[test]
    fn a_value_meets_a_schema_or_is_told_what_does_not() {
        assert_eq!(check(PERSON, r#"{"name":"Ann","age":42,"home":{"city":"Bern"}}"#), Ok(()));
        let why = |value| check(PERSON, value).unwrap_err();
        let missing = why("{}");
        assert!(
            missing.contains("\"name\" is a required property") && missing.contains("/required"),
            "{missing}"
        );
        let city = why(r#"{"name":"Ann","home":{"city":7}}"#);
        assert!(city.contains("at /home/city") && city.contains("/type"), "{city}");
        assert!(why(r#"{"name":"ann"}"#).contains("does not match"));
        assert!(why("[]").contains("as a whole"));
        assert!(why(r#"{"name":"Ann","age":1e400}"#).contains("out of range"));
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for (schema, why) in [
            ("", "not JSON"),
            ("[]", "an object, or true or false"),
            (r#"{"type":"strin"}"#, "the schema is none"),
            (r#"{"minimum":"1"}"#, "the schema is none"),
            (r#"{"pattern":"("}"#, "the schema is none"),
            (r#"{"pattern":"(?=a)"}"#, "the schema is none"),
            (r#"{"pattern":"(a{1000}){1000}"}"#, "the schema is none"),
            (r#"{"$schema":"https://example.com/mine"}"#, "none of the drafts"),
            (r#"{"$ref":"https://example.com/x"}"#, "not a place in the schema itself"),
            (r#"{"$ref":"other.json#/a"}"#, "not a place in the schema itself"),
            (r##"{"$ref":"#/$defs/no"}"##, "leads nowhere"),
            (r##"{"$ref":"#"}"##, "in a circle"),
            (r##"{"properties":{"a":{"$ref":"#"}}}"##, "in a circle"),
            (r##"{"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"items":{"$ref":"#/$defs/a"}}}}"##, "in a circle"),
            (r##"{"$defs":{"a":{"items":{"$ref":"#/$defs"}}}}"##, "in a circle"),
            (r##"{"$dynamicRef":"#x"}"##, "is not among"),
            (r#"{"properties":{"a":{"$id":"x"}}}"#, "only the schema as a whole"),
        ] {
            let error = refused(schema);
            assert!(error.contains(why), "{schema}: {error}");
        }
        assert!(
            refused(&format!(r#"{{"title":"{}"}}"#, "x".repeat(MOST_BYTES))).contains("the limit is 65536")
        );
    }

    #[test]
    fn a_schema_that_unfolds_without_end_is_refused() {
        let level = |at: usize| {
            format!(r##""a{at}":{{"allOf":[{{"$ref":"#/$defs/a{0}"}},{{"$ref":"#/$defs/a{0}"}}]}}"##, at + 1)
        };
        let levels: Vec<_> = (0..40).map(level).collect();
        let schema = format!(r##"{{"$ref":"#/$defs/a0","$defs":{{{},"a40":{{}}}}}}"##, levels.join(","));
        assert!(refused(&schema).contains("more than 20000 parts"));
    }

    #[test]
    fn a_schema_goes_only_so_deep() {
        let level = |at: usize| format!(r##""a{at}":{{"items":{{"$ref":"#/$defs/a{}"}}}}"##, at + 1);
        let chain = |levels: usize, order: fn(&mut Vec<String>)| {
            let mut levels: Vec<_> = (0..levels).map(level).chain([format!(r#""a{levels}":{{}}"#)]).collect();
            order(&mut levels);
            format!(r##"{{"$ref":"#/$defs/a0","$defs":{{{}}}}}"##, levels.join(","))
        };
        assert!(Schema::parse(chain(50, |_| {}).as_bytes()).is_ok());
        assert!(refused(&chain(1_000, |_| {})).contains("more than 200 levels"));
        assert!(refused(&chain(1_000, |levels| levels.reverse())).contains("more than 200 levels"));
    }

    #[test]
    fn names_of_members_are_no_keywords() {
        let schema = r##"{"properties":{"enum":{"items":{"$ref":"#/properties/enum"}}}}"##;
        assert!(refused(schema).contains("in a circle"));
        assert!(Schema::parse(br#"{"properties":{"id":{"type":"string"},"$id":{"const":1}}}"#).is_ok());
    }

    #[test]
    fn what_only_looks_like_a_reference_is_none() {
        let schema = r#"{"enum":[{"$ref":"https://example.com"}],"default":{"$ref":"x"}}"#;
        assert!(Schema::parse(schema.as_bytes()).is_ok());
        assert!(Schema::parse(br#"{"properties":{"$ref":{"type":"string"}}}"#).is_ok());
        assert!(Schema::parse(b"true").is_ok());
        assert!(check("false", "1").is_err());
    }
}
