//! When two values of JSON are the same (RFC 6902, 4.6): numbers by what they say, strings letter
//! by letter, arrays in their order, objects whatever the order of their members.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;

use super::number;
use super::text::{Json, Kind};

/// Whether two values are the same.
pub fn equal(left: Json<'_>, right: Json<'_>) -> bool {
    if left.text() == right.text() {
        return true;
    }
    match (left.kind(), right.kind()) {
        (Kind::Number, Kind::Number) => number::compare(left.text(), right.text()) == Ordering::Equal,
        (Kind::String, Kind::String) => left.as_string() == right.as_string(),
        (Kind::Array, Kind::Array) => {
            let (mut left, mut right) = (left.elements(), right.elements());
            loop {
                match (left.next(), right.next()) {
                    (None, None) => return true,
                    (Some(left), Some(right)) if equal(left, right) => {}
                    _ => return false,
                }
            }
        }
        (Kind::Object, Kind::Object) => {
            let (left, right) = (named(left), named(right));
            let same = |(name, value): (&Cow<'_, str>, &Json<'_>)| {
                right.get(name).is_some_and(|other| equal(*value, *other))
            };
            left.len() == right.len() && left.iter().all(same)
        }
        (left, right) => left == right,
    }
}

/// The members by their names; of a name that stands twice the last counts.
fn named(object: Json<'_>) -> HashMap<Cow<'_, str>, Json<'_>> {
    object.members().map(|(name, value)| (name.as_string().unwrap_or_default(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_the_same_however_they_are_written() {
        let same = |left: &str, right: &str| {
            equal(Json::parse(left.as_bytes()).unwrap(), Json::parse(right.as_bytes()).unwrap())
        };
        assert!(same(r#"{"a":[1, 2.0],"b":"\u00e9"}"#, r#"{ "b":"é","a":[1.0,2] }"#));
        assert!(same(r#"{"a":1,"a":2}"#, r#"{"a":2}"#));
        assert!(same("[]", "[ ]"));
        for (left, right) in [
            ("1", "\"1\""),
            ("[1,2]", "[2,1]"),
            ("[1]", "[1,1]"),
            ("{}", "[]"),
            (r#"{"a":1}"#, r#"{"a":1,"b":null}"#),
            ("true", "false"),
            ("null", "0"),
            ("9007199254740993", "9007199254740992"),
        ] {
            assert!(!same(left, right) && !same(right, left), "{left} {right}");
        }
    }
}
