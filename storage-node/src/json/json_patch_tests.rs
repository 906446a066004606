use super::*;

const BOUNDS: Bounds = Bounds { most_bytes: 1 << 20 };

fn patched_within(value: &str, patch: &str, bounds: Bounds) -> Result<String, PatchError> {
    let value = Json::parse(value.as_bytes()).unwrap();
    let patch = JsonPatch::parse(patch.as_bytes()).unwrap();
    patch.apply(value, bounds).map(|bytes| String::from_utf8(bytes).unwrap())
}

fn patched(value: &str, patch: &str) -> Result<String, PatchError> {
    patched_within(value, patch, BOUNDS)
}

fn refused(patch: &str) -> String {
    JsonPatch::parse(patch.as_bytes()).expect_err(patch)
}

/// The RFC's appendix A, and what its test-suite adds to it.
#[test]
fn it_does_what_the_rfc_says() {
    let all = [
        // A.1 to A.7
        (r#"{"foo":"bar"}"#, r#"[{"op":"add","path":"/baz","value":"qux"}]"#, r#"{"foo":"bar","baz":"qux"}"#),
        (
            r#"{"foo":["bar","baz"]}"#,
            r#"[{"op":"add","path":"/foo/1","value":"qux"}]"#,
            r#"{"foo":["bar","qux","baz"]}"#,
        ),
        (r#"{"baz":"qux","foo":"bar"}"#, r#"[{"op":"remove","path":"/baz"}]"#, r#"{"foo":"bar"}"#),
        (
            r#"{"foo":["bar","qux","baz"]}"#,
            r#"[{"op":"remove","path":"/foo/1"}]"#,
            r#"{"foo":["bar","baz"]}"#,
        ),
        (
            r#"{"baz":"qux","foo":"bar"}"#,
            r#"[{"op":"replace","path":"/baz","value":"boo"}]"#,
            r#"{"baz":"boo","foo":"bar"}"#,
        ),
        (
            r#"{"foo":{"bar":"baz","waldo":"fred"},"qux":{"corge":"grault"}}"#,
            r#"[{"op":"move","from":"/foo/waldo","path":"/qux/thud"}]"#,
            r#"{"foo":{"bar":"baz"},"qux":{"corge":"grault","thud":"fred"}}"#,
        ),
        (
            r#"{"foo":["all","grass","cows","eat"]}"#,
            r#"[{"op":"move","from":"/foo/1","path":"/foo/3"}]"#,
            r#"{"foo":["all","cows","eat","grass"]}"#,
        ),
        // A.8, A.10, A.11, A.14, A.16
        (
            r#"{"baz":"qux","foo":["a",2,"c"]}"#,
            r#"[{"op":"test","path":"/baz","value":"qux"},{"op":"test","path":"/foo/1","value":2}]"#,
            r#"{"baz":"qux","foo":["a",2,"c"]}"#,
        ),
        (
            r#"{"foo":"bar"}"#,
            r#"[{"op":"add","path":"/child","value":{"grandchild":{}}}]"#,
            r#"{"foo":"bar","child":{"grandchild":{}}}"#,
        ),
        (
            r#"{"foo":"bar"}"#,
            r#"[{"op":"add","path":"/baz","value":"qux","xyz":123}]"#,
            r#"{"foo":"bar","baz":"qux"}"#,
        ),
        (r#"{"/":9,"~1":10}"#, r#"[{"op":"test","path":"/~01","value":10}]"#, r#"{"/":9,"~1":10}"#),
        (
            r#"{"foo":["bar"]}"#,
            r#"[{"op":"add","path":"/foo/-","value":["abc","def"]}]"#,
            r#"{"foo":["bar",["abc","def"]]}"#,
        ),
        // The suite: the whole value, names that are empty, values that are null or equal in other words.
        ("{}", "[]", "{}"),
        (r#"{"foo":1}"#, r#"[{"op":"add","path":"","value":[1,2]}]"#, "[1,2]"),
        (r#"{"foo":1}"#, r#"[{"op":"replace","path":"","value":null}]"#, "null"),
        (r#"{"foo":1}"#, r#"[{"op":"add","path":"/","value":2}]"#, r#"{"foo":1,"":2}"#),
        (r#"{"foo":{}}"#, r#"[{"op":"add","path":"/foo/","value":1}]"#, r#"{"foo":{"":1}}"#),
        ("[]", r#"[{"op":"add","path":"/-","value":"hi"}]"#, r#"["hi"]"#),
        (r#"["foo"]"#, r#"[{"op":"add","path":"/0","value":"bar"}]"#, r#"["bar","foo"]"#),
        (r#"["foo"]"#, r#"[{"op":"add","path":"/1","value":"bar"}]"#, r#"["foo","bar"]"#),
        (r#"{"foo":null}"#, r#"[{"op":"test","path":"/foo","value":null}]"#, r#"{"foo":null}"#),
        (r#"{"foo":null}"#, r#"[{"op":"replace","path":"/foo","value":"truthy"}]"#, r#"{"foo":"truthy"}"#),
        (r#"{"foo":null}"#, r#"[{"op":"move","from":"/foo","path":"/bar"}]"#, r#"{"bar":null}"#),
        (r#"{"foo":null}"#, r#"[{"op":"copy","from":"/foo","path":"/bar"}]"#, r#"{"foo":null,"bar":null}"#),
        (r#"{"foo":1}"#, r#"[{"op":"move","from":"/foo","path":"/foo"}]"#, r#"{"foo":1}"#),
        (
            r#"{"foo":{"a":1,"b":[2]}}"#,
            r#"[{"op":"test","path":"/foo","value":{"b":[2.0],"a":1e0}}]"#,
            r#"{"foo":{"a":1,"b":[2]}}"#,
        ),
        (
            r#"{"baz":[{"qux":"hello"}],"bar":1}"#,
            r#"[{"op":"copy","from":"/baz/0","path":"/boo"}]"#,
            r#"{"baz":[{"qux":"hello"}],"bar":1,"boo":{"qux":"hello"}}"#,
        ),
        (r#"{"1":0}"#, r#"[{"op":"replace","path":"/1","value":2}]"#, r#"{"1":2}"#),
        (r#"{"e/f":1,"m~n":2}"#, r#"[{"op":"remove","path":"/e~1f"},{"op":"remove","path":"/m~0n"}]"#, "{}"),
        (
            "[1,2,3]",
            r#"[{"op":"remove","path":"/0"},{"op":"remove","path":"/0"},{"op":"add","path":"/1","value":4}]"#,
            "[3,4]",
        ),
        (r#"{"foo":1}"#, r#"[{"path":"/foo","value":7,"op":"replace"}]"#, r#"{"foo":7}"#),
        ("1", r#"[{"op":"test","path":"","value":1.0}]"#, "1"),
    ];
    for (value, patch, expected) in all {
        assert_eq!(patched(value, patch).as_deref(), Ok(expected), "{value} {patch}");
    }
}

#[test]
fn what_leads_nowhere_is_refused_and_names_the_operation() {
    let all = [
        (r#"{"foo":"bar"}"#, r#"[{"op":"add","path":"/baz/bat","value":"qux"}]"#, "there is no \"baz\""),
        (r#"["foo"]"#, r#"[{"op":"add","path":"/2","value":1}]"#, "has 1 elements"),
        (r#"["foo"]"#, r#"[{"op":"add","path":"/01","value":1}]"#, "not the number"),
        (r#"["foo"]"#, r#"[{"op":"add","path":"/bar","value":1}]"#, "not the number"),
        (r#"["foo"]"#, r#"[{"op":"add","path":"/-1","value":1}]"#, "not the number"),
        ("{}", r#"[{"op":"remove","path":"/a"}]"#, "there is no \"a\""),
        ("[1]", r#"[{"op":"remove","path":"/1"}]"#, "has 1 elements"),
        ("[1]", r#"[{"op":"remove","path":"/-"}]"#, "not the number"),
        ("[1]", r#"[{"op":"replace","path":"/1e0","value":2}]"#, "not the number"),
        ("{}", r#"[{"op":"replace","path":"/a","value":2}]"#, "there is no \"a\""),
        ("{}", r#"[{"op":"move","from":"/a","path":"/b"}]"#, "there is no \"a\""),
        ("{}", r#"[{"op":"copy","from":"/a","path":"/b"}]"#, "there is no \"a\""),
        ("{}", r#"[{"op":"test","path":"/a","value":null}]"#, "there is no \"a\""),
        (r#"{"a":1}"#, r#"[{"op":"add","path":"/a/b","value":2}]"#, "neither an object nor an array"),
        (r#"{"a":{"b":1}}"#, r#"[{"op":"add","path":"/a/b/c/d","value":2}]"#, "no container"),
        ("{}", r#"[{"op":"remove","path":""}]"#, "delete the key"),
    ];
    for (value, patch, why) in all {
        let error = patched(value, patch).expect_err(patch);
        assert!(matches!(error, PatchError::NoSuchPath { operation: 0, .. }), "{patch}: {error}");
        assert!(error.to_string().contains(why), "{patch}: {error}");
    }
    let second = patched("{}", r#"[{"op":"add","path":"/a","value":1},{"op":"remove","path":"/b"}]"#);
    let message = second.unwrap_err().to_string();
    assert!(message.starts_with("operation 1 (remove /b) cannot be done"), "{message}");
}

#[test]
fn a_test_that_does_not_hold_says_which() {
    for (value, patch) in [
        (r#"{"baz":"qux"}"#, r#"[{"op":"test","path":"/baz","value":"bar"}]"#),
        (r#"{"baz":10}"#, r#"[{"op":"test","path":"/baz","value":"10"}]"#),
        (r#"{"baz":[1,2]}"#, r#"[{"op":"test","path":"/baz","value":[1]}]"#),
        (r#"{"baz":{"a":1}}"#, r#"[{"op":"test","path":"/baz","value":{"a":1,"b":2}}]"#),
        // Opened containers are compared as well.
        (
            r#"{"baz":{"a":1}}"#,
            r#"[{"op":"add","path":"/baz/b","value":2},{"op":"test","path":"/baz","value":{"a":1}}]"#,
        ),
        (
            r#"{"baz":[1]}"#,
            r#"[{"op":"add","path":"/baz/-","value":2},{"op":"test","path":"/baz","value":[1]}]"#,
        ),
    ] {
        let error = patched(value, patch).expect_err(patch);
        assert!(matches!(&error, PatchError::TestFailed { path, .. } if path == "/baz"), "{patch}: {error}");
    }
}

#[test]
fn what_is_no_patch_is_refused() {
    for (patch, why) in [
        ("", "not JSON"),
        ("{}", "an array of operations"),
        ("[1]", "operation 0 of the patch: an operation is an object"),
        (r#"[{"op":"add","path":"/a"}]"#, "no `value`"),
        (r#"[{"path":"/a","value":1}]"#, "missing field `op`"),
        (r#"[{"op":"add","value":1}]"#, "missing field `path`"),
        (r#"[{"op":"add","path":null,"value":1}]"#, "invalid type"),
        (r#"[{"op":"copy","path":"/a"}]"#, "no `from`"),
        (r#"[{"op":"spam","path":"/a","value":1}]"#, "no operation \"spam\""),
        (r#"[{"op":"add","path":"a","value":1}]"#, "begins with /"),
        (r#"[{"op":"add","path":"/~2","value":1}]"#, "neither 0 nor 1"),
        (
            r#"[{"op":"test","path":"/","value":1},{"op":"move","from":"/a","path":"/a/b"}]"#,
            "operation 1 of the patch: a value cannot be moved into itself",
        ),
    ] {
        let error = refused(patch);
        assert!(error.contains(why), "{patch}: {error}");
    }
    let many = vec![r#"{"op":"test","path":"","value":1}"#; MOST_OPERATIONS + 1].join(",");
    assert!(refused(&format!("[{many}]")).contains("at most 1000"));
}

#[test]
fn what_is_not_touched_keeps_its_bytes() {
    let value = r#"{ "n" : 1.10, "list":[ 12345678901234567890 , {"x" : 1e400} ], "u":"\u00e9" }"#;
    let done = patched(value, r#"[{"op":"replace","path":"/n","value":2.50}]"#).unwrap();
    assert_eq!(done, r#"{"n":2.50,"list":[ 12345678901234567890 , {"x" : 1e400} ],"u":"\u00e9"}"#);
    let tests_only = r#"[{"op":"test","path":"/list/1/x","value":1e400}]"#;
    assert_eq!(patched(value, tests_only).unwrap(), value);
}

#[test]
fn a_value_does_not_grow_without_bound() {
    let add = r#"[{"op":"add","path":"/a","value":"12345"}]"#;
    assert_eq!(patched_within("{}", add, Bounds { most_bytes: 12 }), Err(PatchError::TooLong));
    assert!(patched_within("{}", add, Bounds { most_bytes: 13 }).is_ok());
    // Each copy doubles it.
    let copies = (0..60).map(|at| format!(r#"{{"op":"copy","from":"","path":"/{at}"}}"#)).collect::<Vec<_>>();
    let doubling = format!("[{}]", copies.join(","));
    assert_eq!(patched(r#"{"a":1}"#, &doubling), Err(PatchError::TooLong));
    // Each move puts it a level deeper.
    let deeper = vec![r#"{"op":"copy","from":"","path":"/a"}"#; 200].join(",");
    assert!(matches!(patched("{}", &format!("[{deeper}]")), Err(PatchError::TooDeep | PatchError::TooLong)));
}

#[test]
fn a_patch_does_not_hold_others_up() {
    let value = format!("[{}]", vec!["1"; 500_000].join(","));
    let fronts = vec![r#"{"op":"add","path":"/0","value":2}"#; 1_000].join(",");
    let bounds = Bounds { most_bytes: 8 << 20 };
    assert_eq!(patched_within(&value, &format!("[{fronts}]"), bounds), Err(PatchError::TooMuchWork));
}
