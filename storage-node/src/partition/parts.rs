//! Reads that ask for parts of values that are JSON.

use bytes::Bytes;
use proto::v1::unsuitable::Why;
use proto::v1::{ContentKind, Failure, GetRequest, Item, Unsuitable, error_detail::Detail};
use tonic::Code;

use crate::json::projection::Projection;
use crate::storage::item::StoredItem;

/// An item as a get asks for it.
pub fn show(item: StoredItem, get: &GetRequest, clock_ms: u64) -> Result<Item, Failure> {
    let key = get.key.clone();
    if get.without_value {
        return Ok(item.outline(key, clock_ms));
    }
    let projection = projection_of(&get.paths)?;
    match projection {
        None => Ok(item.show(key, clock_ms)),
        Some(projection) => {
            let part = projection.of(&item.value).map_err(|why| {
                let message = format!("the value is not JSON: {why}, so no path leads anywhere in it");
                let detail = Detail::Unsuitable(Unsuitable { why: Why::NotJson.into() });
                Failure::new(Code::FailedPrecondition, message, Some(detail))
            })?;
            Ok(part_of(item, part).show(key, clock_ms))
        }
    }
}

/// The item with a part of its value in place of the value.
pub fn part_of(item: StoredItem, part: Vec<u8>) -> StoredItem {
    StoredItem { value: Bytes::from(part), content: ContentKind::Json, ..item }
}

/// Understands the paths of a request.
pub fn projection_of(paths: &[String]) -> Result<Option<Projection>, Failure> {
    Projection::parse(paths).map_err(|why| Failure::new(Code::InvalidArgument, why, None))
}
