//! Asking a partition's indexes, outside the log.
//!
//! The runs of values are walked one after the other, each merged from one sorted run per bucket, as a
//! scan is. An entry alone says what a query of keys or of a count wants to know, but for items with
//! several values and for long strings: there the item is looked at.

use bytes::Bytes;
use proto::v1::{ContentKind, IndexHit, IndexPage, IndexPageRequest, IndexPlace, Item};

use super::descriptor::Descriptor;
use super::indexes::{ENTRY_IS_CUT, ENTRY_IS_ONE_OF_MANY, parse_entry};
use super::overlay::read_item;
use crate::index::extract::extract;
use crate::index::value::length_in;
use crate::index::{Definition, Run};
use crate::storage::item::{StoredItem, is_due};
use crate::storage::keys;
use crate::storage::state::{StateError, StateIterator, StateResult, StateView};

/// A page ends after so many entries, whatever became of them.
const MOST_ENTRIES: u64 = 50_000;

/// A question of an index.
pub struct Question<'a> {
    /// The index.
    pub definition: &'a Definition,
    /// What is wanted of it, in the order of the values.
    pub runs: &'a [Run],
    /// How.
    pub request: &'a IndexPageRequest,
    /// What has ended by this clock is passed over.
    pub clock_ms: u64,
}

/// One page of the partition's part of the answer, in the order of the values and then of the keys.
pub fn index_page(
    state: &dyn StateView,
    descriptor: &Descriptor,
    question: &Question<'_>,
) -> StateResult<IndexPage> {
    let mut page = IndexPage::default();
    let mut bytes = 0;
    for run in question.runs_left() {
        let mut walks = question.walks(state, descriptor, &run)?;
        while let Some(next) = front(&walks, question.request.reverse) {
            let Some(walk) = walks.get_mut(next) else { break };
            if let Some((entry, value)) = walk.current() {
                let request = question.request;
                let full = page.hits.len() as u64 == request.limit || bytes >= request.max_bytes;
                if page.entries == MOST_ENTRIES || (full && !request.count_only) {
                    page.more = true;
                    return Ok(page);
                }
                page.entries += 1;
                let place = question.place(keys::parse_index_entry(entry), descriptor)?;
                if let Some(item) = question.answer(state, descriptor, &place, value, &mut page.items)? {
                    page.count += 1;
                    if !request.count_only {
                        bytes += (item.key.len() + item.value.len()) as u64 + 32;
                        page.hits.push(IndexHit { value: place.value.clone(), item: Some(item) });
                    }
                }
                page.last = Some(place);
            }
            walk.advance()?;
            if walk.current().is_none() {
                drop(walks.swap_remove(next));
            }
        }
    }
    Ok(page)
}

impl Question<'_> {
    /// The runs that are still to be walked, as bounds of entries, in the order of the walk.
    fn runs_left(&self) -> Vec<(Bytes, Bytes)> {
        let after = self.request.after.as_ref().map(|place| [&place.value[..], &place.key[..]].concat());
        let mut runs: Vec<(Bytes, Bytes)> =
            self.runs.iter().map(|run| (run.start.clone(), run.end.clone())).collect();
        // Long strings that differ only behind where they are cut are one run.
        runs.dedup();
        if self.request.reverse {
            runs.reverse();
        }
        for (start, end) in &mut runs {
            match &after {
                Some(after) if self.request.reverse => *end = end.clone().min(after.clone().into()),
                Some(after) => *start = start.clone().max([after, &[0][..]].concat().into()),
                None => {}
            }
        }
        runs.retain(|(start, end)| start < end);
        runs
    }

    /// A walk over a run in each bucket that has something of it.
    fn walks<'s>(
        &self,
        state: &'s dyn StateView,
        descriptor: &Descriptor,
        (start, end): &(Bytes, Bytes),
    ) -> StateResult<Vec<Box<dyn StateIterator + 's>>> {
        let mut walks = Vec::new();
        for bucket in descriptor.buckets.iter() {
            let range = keys::index_entries(descriptor.table, bucket, self.definition.id, start, end);
            let walk = state.iterate(&range, self.request.reverse)?;
            if walk.current().is_some() {
                walks.push(walk);
            }
        }
        Ok(walks)
    }

    fn place(&self, entry: &[u8], descriptor: &Descriptor) -> StateResult<IndexPlace> {
        let length = length_in(self.definition.kind, entry);
        let (value, key) =
            length.and_then(|length| entry.split_at_checked(length)).ok_or_else(|| StateError::Damaged {
                what: format!("an entry of index {} of table {}", self.definition.name, descriptor.table),
                why: "its value has no end".to_owned(),
            })?;
        Ok(IndexPlace { value: Bytes::copy_from_slice(value), key: Bytes::copy_from_slice(key) })
    }

    /// The item of an entry, as far as it is wanted; none: it is not among the answers, or at another
    /// of its values.
    fn answer(
        &self,
        state: &dyn StateView,
        descriptor: &Descriptor,
        place: &IndexPlace,
        entry: &[u8],
        read: &mut u64,
    ) -> StateResult<Option<Item>> {
        let (flags, deadline_ms) = parse_entry(entry);
        if is_due(deadline_ms, self.clock_ms) {
            return Ok(None);
        }
        let look = flags & (ENTRY_IS_ONE_OF_MANY | ENTRY_IS_CUT) != 0;
        let whole = !self.request.keys_only && !self.request.count_only;
        let key = place.key.clone();
        if !look && !whole {
            let item =
                StoredItem { version: 0, deadline_ms, content: ContentKind::Bytes, value: Bytes::new() };
            return Ok(Some(item.show(key, self.clock_ms)));
        }
        *read += 1;
        let bucket = descriptor.bucket_count.bucket_of_key(&key);
        let Some(item) = read_item(state, descriptor.table, bucket, &key)? else {
            return Err(StateError::Damaged {
                what: format!("an entry of index {} of table {}", self.definition.name, descriptor.table),
                why: format!("there is no key {:?}", String::from_utf8_lossy(&key)),
            });
        };
        if look && !self.is_answered_at(place, &item) {
            return Ok(None);
        }
        Ok(Some(if whole { item.show(key, self.clock_ms) } else { item.outline(key, self.clock_ms) }))
    }

    /// Whether this is the first of an item's values that answers the question, in its order.
    fn is_answered_at(&self, place: &IndexPlace, item: &StoredItem) -> bool {
        let values = extract(&[self.definition], &item.value).pop().unwrap_or_default().values;
        let mut wanted = values.iter().filter(|value| self.runs.iter().any(|run| run.holds(value)));
        let first = if self.request.reverse { wanted.next_back() } else { wanted.next() };
        first.is_some_and(|value| value.encoded == place.value)
    }
}

/// The walk whose entry comes next.
fn front(walks: &[Box<dyn StateIterator + '_>], reverse: bool) -> Option<usize> {
    let entries = walks.iter().enumerate();
    let placed = entries.filter_map(|(at, walk)| Some((keys::parse_index_entry(walk.current()?.0), at)));
    if reverse { placed.max().map(|(_, at)| at) } else { placed.min().map(|(_, at)| at) }
}
