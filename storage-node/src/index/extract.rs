//! The values of an item for all indexes of its table, read from its JSON in one pass that keeps
//! nothing else of it.

use std::cell::RefCell;

use proto::v1::IndexType;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::definition::Definition;
use super::value::Value;
use crate::json::path::Step;

/// How many values an item may have in an index.
pub const MOST_VALUES: usize = 64;

/// The values of an item in one index, sorted, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Values {
    /// The values, or the missing one alone.
    pub values: Vec<Value>,
    /// There are more than may be: these are some of them.
    pub too_many: bool,
}

/// The values in each index of an item with that value. What is not JSON has none.
pub fn extract(definitions: &[&Definition], json: &[u8]) -> Vec<Values> {
    let found = RefCell::new(vec![Values::default(); definitions.len()]);
    // Most values that are not JSON are told by their first byte.
    let may_be = json
        .iter()
        .find(|byte| !byte.is_ascii_whitespace())
        .is_some_and(|first| matches!(first, b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n'));
    let text = if may_be { std::str::from_utf8(json).ok() } else { None };
    let Some(text) = text.filter(|_| !definitions.is_empty()) else { return found.into_inner() };
    let at = (0..definitions.len()).map(|index| (index, 0)).collect();
    let walk = Walk { definitions, found: &found, at };
    let mut reader = serde_json::Deserializer::from_str(text);
    let whole = walk.deserialize(&mut reader).and_then(|()| reader.end());
    let mut found = found.into_inner();
    if whole.is_err() {
        return vec![Values::default(); definitions.len()];
    }
    for (values, definition) in found.iter_mut().zip(definitions) {
        values.values.sort_unstable();
        values.values.dedup();
        if values.values.is_empty() && !definition.sparse {
            values.values.push(Value::missing());
        }
    }
    found
}

/// A place in the JSON, with the indexes whose path leads through it and how many of its steps did.
struct Walk<'a> {
    definitions: &'a [&'a Definition],
    found: &'a RefCell<Vec<Values>>,
    at: Vec<(usize, usize)>,
}

impl Walk<'_> {
    /// The next step of an index's path from here.
    fn step(&self, (index, taken): (usize, usize)) -> Option<&Step> {
        self.definitions.get(index)?.path.steps().get(taken)
    }

    /// Those that go on where `takes` says so.
    fn onward(&self, takes: impl Fn(&Step) -> bool) -> Self {
        let goes = |at: &&(usize, usize)| self.step(**at).is_some_and(&takes);
        let at = self.at.iter().filter(goes).map(|(index, taken)| (*index, taken + 1)).collect();
        Self { definitions: self.definitions, found: self.found, at }
    }

    /// Takes a value where paths end.
    fn take(&self, json: &RawValue) {
        for (index, _) in self.at.iter().filter(|at| self.step(**at).is_none()) {
            let kind = self.definitions.get(*index).map_or(IndexType::String, |definition| definition.kind);
            let Some(value) = Value::of_json(kind, json) else { continue };
            if let Some(found) = self.found.borrow_mut().get_mut(*index)
                && !found.values.contains(&value)
            {
                found.too_many |= found.values.len() == MOST_VALUES;
                if !found.too_many {
                    found.values.push(value);
                }
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        if self.at.is_empty() {
            return reader.deserialize_ignored_any(IgnoredAny).map(|_| ());
        }
        let ends = self.at.iter().any(|at| self.step(*at).is_none());
        if !ends {
            return reader.deserialize_any(self);
        }
        let json: &RawValue = serde::Deserialize::deserialize(reader)?;
        self.take(json);
        let on = Self { at: self.at.iter().copied().filter(|at| self.step(*at).is_some()).collect(), ..self };
        if on.at.is_empty() {
            return Ok(());
        }
        on.deserialize(&mut serde_json::Deserializer::from_str(json.get())).map_err(D::Error::custom)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("JSON")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<(), M::Error> {
        while let Some(inner) = members.next_key_seed(Name(&self))? {
            members.next_value_seed(inner)?;
        }
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut elements: S) -> Result<(), S::Error> {
        let mut place = 0;
        loop {
            let inner = self.onward(|step| match step {
                Step::Element(at) => *at == place,
                Step::All => true,
                Step::Member(_) => false,
            });
            if elements.next_element_seed(inner)?.is_none() {
                return Ok(());
            }
            place += 1;
        }
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

/// A member's name: where the walk goes on with its value. Of members with one name, which JSON
/// advises against, the last counts.
struct Name<'a, 'b>(&'a Walk<'b>);

impl<'de, 'b> DeserializeSeed<'de> for Name<'_, 'b> {
    type Value = Walk<'b>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Walk<'b>, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'b> Visitor<'_> for Name<'_, 'b> {
    type Value = Walk<'b>;

    fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Walk<'b>, E> {
        let walk = self.0.onward(|step| match step {
            Step::Member(wanted) => wanted == name,
            Step::All => true,
            Step::Element(_) => false,
        });
        Ok(Walk { definitions: self.0.definitions, found: self.0.found, at: walk.at })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::v1::IndexSettings;

    use super::*;

    fn index(path: &str, kind: IndexType, sparse: bool) -> Definition {
        let settings = IndexSettings {
            name: "i".to_owned(),
            path: path.to_owned(),
            r#type: kind.into(),
            sparse,
            ..IndexSettings::default()
        };
        Definition::parse(&settings).unwrap()
    }

    fn strings(definitions: &[Definition], json: &str) -> Vec<Vec<String>> {
        let definitions: Vec<_> = definitions.iter().collect();
        let shown = |value: &Value| match value.is_missing() {
            true => "missing".to_owned(),
            false => String::from_utf8(value.encoded[1..value.encoded.len() - 2].to_vec()).unwrap(),
        };
        let values = extract(&definitions, json.as_bytes());
        values.iter().map(|values| values.values.iter().map(shown).collect()).collect()
    }

    #[test]
    fn one_pass_finds_what_all_paths_lead_to() {
        let paths = ["$.name", "$.tags[*]", "$.stops[*].city", "$.stops[1].city", "$.by.*", "$.stops", "$"];
        let definitions: Vec<_> =
            paths.into_iter().map(|path| index(path, IndexType::String, true)).collect();
        let json = r#" {"name": "A\u006en", "tags": ["b", "a", 7, "b"], "by": {"x": "1", "y": {"z": "2"}},
            "other": {"name": "no"}, "stops": [{"city": "Bern"}, {"city": "Genf"}, "x"]} "#;
        let found = strings(&definitions, json);
        let wanted: [&[&str]; 7] = [&["Ann"], &["a", "b"], &["Bern", "Genf"], &["Genf"], &["1"], &[], &[]];
        assert_eq!(found, wanted);
        assert_eq!(strings(&definitions, "\"whole\"").last().unwrap(), &["whole"]);
    }

    #[test]
    fn what_is_not_json_has_no_values_and_json_without_one_is_missing() {
        let definitions = [index("$.a", IndexType::String, false), index("$.a", IndexType::String, true)];
        for json in ["{\"a\":\"x\"", "{\"a\":\"x\"} y", "x", "", "{\"a\":\"x\",}", "\u{1}"] {
            assert_eq!(strings(&definitions, json), [Vec::<String>::new(), Vec::new()], "{json}");
        }
        for json in ["{}", "{\"a\":1}", "{\"a\":null}", "[]", "1", "true", "\"a\"", "-1.5e3"] {
            assert_eq!(strings(&definitions, json), [vec!["missing".to_owned()], Vec::new()], "{json}");
        }
    }

    #[test]
    fn too_many_values_are_noticed() {
        let definition = index("$[*]", IndexType::Number, true);
        let of = |count: usize| {
            let json = serde_json::to_vec(&(0..count).collect::<Vec<_>>()).unwrap();
            extract(&[&definition], &json).remove(0)
        };
        assert_eq!((of(MOST_VALUES).values.len(), of(MOST_VALUES).too_many), (MOST_VALUES, false));
        assert!(of(MOST_VALUES + 1).too_many);
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i16>().prop_map(Into::into),
            "[ab\\\\\"]{0,3}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::hash_map("[ab]", inner, 0..3)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// The pass finds what following the path in the parsed value finds.
        #[test]
        fn the_pass_agrees_with_the_path(json in any_json(), path in r"\$(\.a|\.b|\[0\]|\[1\]|\[\*\]){0,3}") {
            let definition = index(&path, IndexType::String, true);
            let text = serde_json::to_string(&json).unwrap();
            let found = extract(&[&definition], text.as_bytes()).remove(0).values;
            let mut wanted: Vec<_> = definition.path.select(&json).into_iter()
                .filter_map(|value| Value::of_text(IndexType::String, value.as_str()?).ok()).collect();
            wanted.sort();
            wanted.dedup();
            prop_assert_eq!(found, wanted);
        }
    }
}
