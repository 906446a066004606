//! What the operator notes on `StatefulSets`, so that it is found again by whoever comes next.

/// The hash of the last inputs with which every pod of the pool was ready.
pub const GOOD_INPUTS: &str = "kv.trilith.dev/good-inputs";
/// The template that was made of them, as JSON.
pub const GOOD_TEMPLATE: &str = "kv.trilith.dev/good-template";
/// The hash of inputs with which a pod did not become ready in time.
pub const FAILED_INPUTS: &str = "kv.trilith.dev/failed-inputs";
