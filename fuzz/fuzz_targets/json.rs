//! What is done with values that are JSON: no path, filter or patch makes it panic, whatever the value;
//! what is written is JSON again, and JSON is what others take for it.

#![no_main]

use libfuzzer_sys::fuzz_target;

use self::json::filter::Filter;
use self::json::json_patch::JsonPatch;
use self::json::merge_patch::merge;
use self::json::patch::Bounds;
use self::json::projection::Projection;
use self::json::text::Json;

#[expect(dead_code, reason = "of each file the target has what a request comes to")]
#[path = "../../storage-node/src/json"]
mod json {
    pub mod equal;
    pub mod filter;
    pub mod json_patch;
    pub mod merge_patch;
    pub mod number;
    pub mod patch;
    pub mod path;
    pub mod pointer;
    pub mod projection;
    pub mod text;
    pub mod tree;
}

const BOUNDS: Bounds = Bounds { most_bytes: 1 << 16 };

fuzz_target!(|input: (&[u8], &[u8], &str, &str)| {
    let (value, patch, filter, path) = input;
    let parsed = Json::parse(value);
    if parsed.is_ok() {
        serde_json::from_slice::<serde::de::IgnoredAny>(value).expect("it is JSON for others too");
    }
    if let Ok(filter) = Filter::parse(filter) {
        let _ = filter.holds(value);
    }
    if let Ok(Some(shown)) = Projection::parse(&[path.to_owned(), "$".to_owned()])
        && let Ok(shown) = shown.of(value)
    {
        Json::parse(&shown).expect("what is shown is JSON");
    }
    if let Ok(patch) = Json::parse(patch)
        && let Ok(merged) = merge(parsed.as_ref().ok().copied(), patch, BOUNDS)
    {
        Json::parse(&merged).expect("what was merged is JSON");
        assert!(merged.len() <= BOUNDS.most_bytes);
    }
    if let (Ok(value), Ok(patch)) = (parsed, JsonPatch::parse(patch))
        && let Ok(patched) = patch.apply(value, BOUNDS)
    {
        Json::parse(&patched).expect("what was patched is JSON");
    }
});
