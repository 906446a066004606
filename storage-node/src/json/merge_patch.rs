//! JSON Merge Patch (RFC 7396): what a patch says of a member replaces it, null removes it, and
//! whatever it does not name stays.

use super::patch::{Bounds, PatchError};
use super::text::{Json, Kind};
use super::tree::Tree;

/// The value that a patch makes of another, or of none.
pub fn merge(value: Option<Json<'_>>, patch: Json<'_>, bounds: Bounds) -> Result<Vec<u8>, PatchError> {
    let mut tree = value.map(Tree::Text);
    merge_into(&mut tree, patch);
    bounds.written(&tree.unwrap_or(Tree::Text(patch)))
}

/// A patch has as few levels as any value, and follows the value only as deep as it goes itself.
fn merge_into<'a>(target: &mut Option<Tree<'a>>, patch: Json<'a>) {
    if patch.kind() != Kind::Object {
        *target = Some(Tree::Text(patch));
        return;
    }
    let tree = target.get_or_insert_with(Tree::empty_object);
    // What says nothing leaves the text as it is.
    let is_object = match tree {
        Tree::Text(json) => json.kind() == Kind::Object,
        Tree::Array(_) => false,
        Tree::Object(_) => true,
    };
    if is_object && patch.members().next().is_none() {
        return;
    }
    if !is_object {
        *tree = Tree::empty_object();
    }
    tree.open();
    let Tree::Object(object) = tree else { return };
    for (name, change) in patch.members() {
        let said = name.as_string().unwrap_or_default();
        if change.kind() == Kind::Null {
            object.remove(&said);
        } else if let Some(value) = object.get_mut(&said) {
            let mut member = Some(std::mem::replace(value, Tree::Text(change)));
            merge_into(&mut member, change);
            if let Some(merged) = member {
                *value = merged;
            }
        } else {
            let mut member = None;
            merge_into(&mut member, change);
            if let Some(made) = member {
                object.set_written(name, made);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    const BOUNDS: Bounds = Bounds { most_bytes: 1 << 20 };

    fn merged(value: &str, patch: &str) -> String {
        let (value, patch) = (Json::parse(value.as_bytes()).unwrap(), Json::parse(patch.as_bytes()).unwrap());
        String::from_utf8(merge(Some(value), patch, BOUNDS).unwrap()).unwrap()
    }

    /// All of the RFC's appendix A.
    #[test]
    fn it_does_what_the_rfc_says() {
        let all = [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ];
        for (value, patch, expected) in all {
            assert_eq!(merged(value, patch), expected, "{value} {patch}");
        }
    }

    #[test]
    fn what_a_patch_does_not_name_keeps_its_bytes() {
        let value =
            r#"{ "n" : 1.10, "big":[ 12345678901234567890 ], "u":"\u00e9", "deep": { "x" :1e400, "y": 2 } }"#;
        let patched = merged(value, r#"{"deep":{"y":3},"new":null}"#);
        assert_eq!(
            patched,
            r#"{"n":1.10,"big":[ 12345678901234567890 ],"u":"\u00e9","deep":{"x":1e400,"y":3}}"#
        );
        assert_eq!(merged(value, "{}"), value);
        assert!(merged(value, r#"{"deep":{}}"#).contains(r#""deep":{ "x" :1e400, "y": 2 }"#));
    }

    #[test]
    fn without_a_value_it_begins_with_an_empty_object() {
        let made = merge(None, Json::parse(br#"{"a":{"b":null,"c":1}}"#).unwrap(), BOUNDS).unwrap();
        assert_eq!(made, br#"{"a":{"c":1}}"#);
    }

    #[test]
    fn a_value_does_not_grow_beyond_its_bound() {
        let value = Json::parse(br#"{"a":1}"#).unwrap();
        let refused =
            merge(Some(value), Json::parse(br#"{"b":"123456"}"#).unwrap(), Bounds { most_bytes: 18 });
        assert!(matches!(refused, Err(PatchError::TooLong)));
        assert!(
            merge(Some(value), Json::parse(br#"{"b":"12345"}"#).unwrap(), Bounds { most_bytes: 19 }).is_ok()
        );
    }

    /// The function of the RFC, on values.
    fn model(target: Value, patch: &Value) -> Value {
        let Value::Object(patch) = patch else { return patch.clone() };
        let mut object = match target {
            Value::Object(object) => object,
            _ => Map::new(),
        };
        for (name, change) in patch {
            if change.is_null() {
                object.remove(name);
            } else {
                let before = object.remove(name).unwrap_or(Value::Null);
                object.insert(name.clone(), model(before, change));
            }
        }
        Value::Object(object)
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), any::<u8>().prop_map(Value::from)];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                4 => prop::collection::btree_map("[abc]", inner, 0..4).prop_map(Value::from_iter),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_does_as_the_function_of_the_rfc(value in any_json(), patch in any_json()) {
            let done: Value = serde_json::from_str(&merged(&value.to_string(), &patch.to_string())).unwrap();
            prop_assert_eq!(done, model(value, &patch));
        }
    }
}
