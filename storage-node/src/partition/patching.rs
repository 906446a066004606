//! Patches of items whose values are JSON, evaluated where they are applied.

use bytes::Bytes;
use proto::v1::modify_request::Change;
use proto::v1::unsuitable::Why;
use proto::v1::{Failure, Unsuitable, error_detail::Detail};
use tonic::Code;

use crate::json::json_patch::JsonPatch;
use crate::json::merge_patch;
use crate::json::patch::{Bounds, PatchError};
use crate::json::text::Json;
use crate::storage::item::StoredItem;

/// Refuses a patch that is none, before anything is proposed.
pub fn check(change: &Change) -> Result<(), Failure> {
    match change {
        Change::MergePatch(patch) => parse_merge(patch).map(drop),
        Change::JsonPatch(patch) => parse_patch(patch).map(drop),
        _ => Ok(()),
    }
}

/// The value that a patch makes of an item's, or of nothing.
pub(super) fn patched(
    current: Option<&StoredItem>,
    change: &Change,
    most_bytes: usize,
) -> Result<Bytes, Failure> {
    let bounds = Bounds { most_bytes };
    let value = current.map(|item| Json::parse(&item.value)).transpose().map_err(PatchError::NotJson);
    let done = match change {
        Change::MergePatch(patch) => {
            let patch = parse_merge(patch)?;
            value.and_then(|value| merge_patch::merge(value, patch, bounds))
        }
        Change::JsonPatch(patch) => {
            let patch = parse_patch(patch)?;
            value.and_then(|value| patch.apply(value.ok_or(PatchError::NoSuchKey)?, bounds))
        }
        _ => return Err(invalid("this change is no patch")),
    };
    done.map(Bytes::from).map_err(|error| refusal(&error))
}

fn parse_merge(patch: &[u8]) -> Result<Json<'_>, Failure> {
    Json::parse(patch).map_err(|error| invalid(format!("the merge patch is not JSON: {error}")))
}

fn parse_patch(patch: &[u8]) -> Result<JsonPatch<'_>, Failure> {
    JsonPatch::parse(patch).map_err(invalid)
}

fn invalid(why: impl Into<String>) -> Failure {
    Failure::new(Code::InvalidArgument, why, None)
}

fn refusal(error: &PatchError) -> Failure {
    let why = match error {
        PatchError::NoSuchKey => Why::NoSuchKey,
        PatchError::NotJson(_) => Why::NotJson,
        PatchError::NoSuchPath { .. } => Why::NoSuchPath,
        PatchError::TestFailed { .. } => Why::TestFailed,
        PatchError::TooLong => Why::TooLong,
        PatchError::TooDeep => Why::TooDeep,
        PatchError::TooMuchWork => Why::TooMuchWork,
    };
    let detail = Detail::Unsuitable(Unsuitable { why: why.into() });
    Failure::new(Code::FailedPrecondition, error.to_string(), Some(detail))
}

#[cfg(test)]
#[path = "patching_tests.rs"]
mod tests;
