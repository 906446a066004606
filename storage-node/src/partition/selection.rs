//! Which items a scan wants, and what of them.
//!
//! To find out whether an item is wanted its value is read, whether it is shown or not. So a page
//! ends after so much work too, and says how far it looked.

use bytes::Bytes;
use proto::v1::{ContentKind, Failure, ScanPageRequest};
use tonic::Code;

use super::parts;
use crate::json::filter::Filter;
use crate::json::projection::Projection;
use crate::storage::item::StoredItem;

/// The most items that one partition looks at for a page.
const MOST_ITEMS: u64 = 10_000;
/// The most bytes of values that it reads through for one, but for the last item.
const MOST_WORK: usize = 16 << 20;

/// What a scan wants, and what it may cost.
#[derive(Debug, Default)]
pub struct Selection {
    filter: Option<Filter>,
    projection: Option<Projection>,
    items: u64,
    work: usize,
}

impl Selection {
    /// Understands what is asked for.
    pub fn of(filter: &str, paths: &[String]) -> Result<Self, Failure> {
        let invalid = |why: String| Failure::new(Code::InvalidArgument, why, None);
        let filter = match filter {
            "" => None,
            text => Some(Filter::parse(text).map_err(|error| invalid(error.to_string()))?),
        };
        Ok(Self { filter, projection: parts::projection_of(paths)?, items: 0, work: 0 })
    }

    /// What a page of a scan asks for.
    pub fn of_page(request: &ScanPageRequest) -> Result<Self, Failure> {
        Self::of(&request.filter, &request.paths)
    }

    /// Whether anything but whole items is asked for.
    pub fn is_on(&self) -> bool {
        self.filter.is_some() || self.projection.is_some()
    }

    /// Whether no other item may be looked at for this page.
    pub fn has_done_enough(&self) -> bool {
        self.items >= MOST_ITEMS || self.work >= MOST_WORK
    }

    /// What of an item is shown; none: it is not wanted.
    pub fn pick(&mut self, item: StoredItem) -> Option<StoredItem> {
        self.items += 1;
        let length = item.value.len();
        if let Some(filter) = &self.filter {
            self.work = self.work.saturating_add(filter.work(length));
            if !filter.holds(&item.value) {
                return None;
            }
        }
        let Some(projection) = &self.projection else { return Some(item) };
        self.work = self.work.saturating_add(projection.work(length));
        Some(match projection.of(&item.value) {
            Ok(part) if !part.is_empty() => parts::part_of(item, part),
            _ => StoredItem { value: Bytes::new(), content: ContentKind::Bytes, ..item },
        })
    }
}
