//! Changes that depend on what is there: evaluated where they are applied, so that nothing
//! comes between reading and writing.

use bytes::{Bytes, BytesMut};
use proto::v1::modify_request::Change;
use proto::v1::renew::Only;
use proto::v1::unsuitable::Why;
use proto::v1::{
    ContentKind, CopyRequest, CopyResponse, Failure, Item, Lifetime, ModifyRequest, ModifyResponse, Renew,
    Replace, Unsuitable, error_detail::Detail, lifetime::Lasts, result::Result as Outcome,
};
use tonic::Code;

use super::decimal::Decimal;
use super::operations::{Evaluation, holds, version_of};
use super::patching;
use crate::storage::item::StoredItem;
use crate::storage::state::StateResult;

/// What a change came to, or why nothing was done.
type Changed = Result<ModifyResponse, Failure>;

impl Evaluation<'_> {
    /// Changes one item by what it is.
    pub(super) fn modify(&mut self, modify: ModifyRequest) -> StateResult<Outcome> {
        let ModifyRequest { key, change, answer_before, most_bytes, default_ttl_ms, condition, .. } = modify;
        let current = self.item(&key)?;
        let before = match (&current, answer_before) {
            (Some(item), true) => match self.show(&key, item.clone()) {
                Ok(shown) => Some(shown),
                Err(refused) => return Ok(Outcome::Failure(refused)),
            },
            _ => None,
        };
        let met = condition.as_ref().is_none_or(|condition| holds(condition, current.as_ref()));
        let changed = match change {
            Some(change) if met => {
                let most = usize::try_from(most_bytes).unwrap_or(usize::MAX);
                self.changed(key, change, current, most, default_ttl_ms)?
            }
            Some(_) => Ok(unchanged(current.as_ref())),
            None => Err(unknown_change()),
        };
        Ok(match changed {
            Ok(response) => Outcome::Modify(ModifyResponse { before, ..response }),
            Err(refused) => Outcome::Failure(refused),
        })
    }

    fn changed(
        &mut self,
        key: Bytes,
        change: Change,
        current: Option<StoredItem>,
        most: usize,
        default_ttl_ms: u64,
    ) -> StateResult<Changed> {
        match change {
            Change::Replace(replace) => self.replace(key, replace, current.as_ref()),
            Change::Take(_) => self.take(key, current.as_ref()).map(Ok),
            Change::Renew(renew) => self.renew(key, &renew, current).map(Ok),
            Change::Add(by) => match added(current.as_ref(), by) {
                Ok(number) => {
                    let changed = self.rewrite(key, current, default_ttl_ms, number.to_string().into())?;
                    Ok(changed.map(|response| ModifyResponse { number, ..response }))
                }
                Err(why) => Ok(Err(unsuitable(why))),
            },
            Change::AddDecimal(by) => match added_decimal(current.as_ref(), by.as_bytes()) {
                Ok(decimal) if decimal.len() <= most => {
                    let changed = self.rewrite(key, current, default_ttl_ms, decimal.clone().into())?;
                    Ok(changed.map(|response| ModifyResponse { decimal, ..response }))
                }
                Ok(_) => Ok(Err(unsuitable(Why::TooLong))),
                Err(why) => Ok(Err(unsuitable(why))),
            },
            Change::Append(more) => {
                let value = current.as_ref().map(|item| item.value.clone()).unwrap_or_default();
                if value.len() + more.len() > most {
                    return Ok(Err(unsuitable(Why::TooLong)));
                }
                let mut longer = BytesMut::with_capacity(value.len() + more.len());
                longer.extend_from_slice(&value);
                longer.extend_from_slice(&more);
                self.rewrite(key, current, default_ttl_ms, longer.freeze())
            }
            Change::Overwrite(over) => {
                let offset = usize::try_from(over.offset).unwrap_or(usize::MAX);
                match overwritten(current.as_ref(), offset, &over.value, most) {
                    Ok(Some(value)) => self.rewrite(key, current, default_ttl_ms, value),
                    Ok(None) => Ok(Ok(unchanged(current.as_ref()))),
                    Err(why) => Ok(Err(unsuitable(why))),
                }
            }
            Change::MergePatch(_) | Change::JsonPatch(_) => {
                match patching::patched(current.as_ref(), &change, most) {
                    Ok(value) => {
                        let mut item = self.rewritten(current, default_ttl_ms, value);
                        item.content = ContentKind::Json;
                        self.write(key, item)
                    }
                    Err(refused) => Ok(Err(refused)),
                }
            }
        }
    }

    /// Copies or renames an item within the partition.
    pub(super) fn copy(&mut self, copy: CopyRequest) -> StateResult<CopyResponse> {
        let Some(item) = self.item(&copy.from)? else {
            return Ok(CopyResponse { source_absent: true, ..CopyResponse::default() });
        };
        if copy.from == copy.to {
            return Ok(CopyResponse {
                applied: copy.replace,
                version: item.version,
                ..CopyResponse::default()
            });
        }
        if !copy.replace && self.item(&copy.to)?.is_some() {
            return Ok(CopyResponse::default());
        }
        if copy.remove_source {
            self.next_version();
            self.set(copy.from, None)?;
        }
        let version = self.next_version();
        self.set(copy.to, Some(StoredItem { version, ..item }))?;
        Ok(CopyResponse { applied: true, source_absent: false, version })
    }

    fn replace(
        &mut self,
        key: Bytes,
        replace: Replace,
        current: Option<&StoredItem>,
    ) -> StateResult<Changed> {
        if replace.condition.as_ref().is_some_and(|condition| !holds(condition, current)) {
            return Ok(Ok(unchanged(current)));
        }
        let content = replace.content();
        let deadline_ms = match &replace.lifetime {
            None => 0,
            Some(lifetime) => self.deadline(lifetime, current.map_or(0, |item| item.deadline_ms)),
        };
        self.write(key, StoredItem { version: 0, deadline_ms, content, value: replace.value })
    }

    fn take(&mut self, key: Bytes, current: Option<&StoredItem>) -> StateResult<ModifyResponse> {
        if current.is_none() {
            return Ok(ModifyResponse::default());
        }
        self.next_version();
        self.set(key, None)?;
        Ok(ModifyResponse { applied: true, ..ModifyResponse::default() })
    }

    fn renew(
        &mut self,
        key: Bytes,
        renew: &Renew,
        current: Option<StoredItem>,
    ) -> StateResult<ModifyResponse> {
        let Some(item) = current else { return Ok(ModifyResponse::default()) };
        let lifetime = renew.lifetime.unwrap_or_default();
        let deadline_ms = self.deadline(&lifetime, item.deadline_ms);
        let endless = |deadline_ms: u64| if deadline_ms == 0 { u64::MAX } else { deadline_ms };
        let meant = match renew.only() {
            Only::Always => true,
            Only::WithoutEnd => item.deadline_ms == 0,
            Only::WithEnd => item.deadline_ms > 0,
            Only::ToLater => endless(deadline_ms) > endless(item.deadline_ms),
            Only::ToEarlier => endless(deadline_ms) < endless(item.deadline_ms),
            Only::WithEndToEarlier => item.deadline_ms > 0 && endless(deadline_ms) < item.deadline_ms,
        };
        if !meant {
            return Ok(unchanged(Some(&item)));
        }
        if renew.quietly {
            let renewed = self.renew_quietly(key, item, deadline_ms)?;
            return Ok(ModifyResponse { applied: true, ..unchanged(Some(&renewed)) });
        }
        self.write_as_it_is(key, StoredItem { deadline_ms, ..item })
    }

    /// The item with another value.
    fn rewrite(
        &mut self,
        key: Bytes,
        current: Option<StoredItem>,
        default_ttl_ms: u64,
        value: Bytes,
    ) -> StateResult<Changed> {
        let item = self.rewritten(current, default_ttl_ms, value);
        self.write(key, item)
    }

    /// An item with another value lives as long as before, a new one as the table says.
    fn rewritten(&self, current: Option<StoredItem>, default_ttl_ms: u64, value: Bytes) -> StoredItem {
        match current {
            Some(item) => StoredItem { value, ..item },
            None => {
                let deadline_ms = match default_ttl_ms {
                    0 => 0,
                    ttl_ms => self.progress.clock_ms.saturating_add(ttl_ms),
                };
                StoredItem { version: 0, deadline_ms, content: ContentKind::Bytes, value }
            }
        }
    }

    /// Writes an item, if its value is what the table demands.
    fn write(&mut self, key: Bytes, item: StoredItem) -> StateResult<Changed> {
        match self.demand.check(&item.value) {
            Ok(()) => self.write_as_it_is(key, item).map(Ok),
            Err(refused) => Ok(Err(refused)),
        }
    }

    /// Writes an item with a version of its own. One that has ended already is removed.
    fn write_as_it_is(&mut self, key: Bytes, item: StoredItem) -> StateResult<ModifyResponse> {
        let version = self.next_version();
        let size = item.value.len() as u64;
        let ended = item.is_due(self.progress.clock_ms);
        self.set(key, (!ended).then_some(StoredItem { version, ..item }))?;
        Ok(ModifyResponse { applied: true, version, size, ..ModifyResponse::default() })
    }

    /// When an item ends that lives so long from now on; 0: never.
    fn deadline(&self, lifetime: &Lifetime, before_ms: u64) -> u64 {
        match lifetime.lasts {
            Some(Lasts::TtlMs(ttl_ms)) => self.progress.clock_ms.saturating_add(ttl_ms),
            // The moment 0 has passed as well; as a deadline it would say that there is none.
            Some(Lasts::UntilMs(until_ms)) => until_ms.max(1),
            Some(Lasts::Unchanged(_)) => before_ms,
            Some(Lasts::Forever(_)) | None => 0,
        }
    }

    fn show(&mut self, key: &Bytes, item: StoredItem) -> Result<Item, Failure> {
        self.take_room(item.value.len())?;
        Ok(item.show(key.clone(), self.progress.clock_ms))
    }
}

fn unchanged(current: Option<&StoredItem>) -> ModifyResponse {
    ModifyResponse {
        applied: false,
        version: version_of(current),
        size: current.map_or(0, |item| item.value.len() as u64),
        ..ModifyResponse::default()
    }
}

/// A whole number as it is written shortest, and in no other way.
pub fn whole_number(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}

fn added(current: Option<&StoredItem>, by: i64) -> Result<i64, Why> {
    let number = match current {
        Some(item) => whole_number(&item.value).ok_or(Why::NotAnInteger)?,
        None => 0,
    };
    number.checked_add(by).ok_or(Why::Overflow)
}

fn added_decimal(current: Option<&StoredItem>, by: &[u8]) -> Result<String, Why> {
    let number = match current {
        Some(item) => Decimal::parse(&item.value).ok_or(Why::NotANumber)?,
        None => Decimal::parse(b"0").ok_or(Why::NotANumber)?,
    };
    let by = Decimal::parse(by).ok_or(Why::NotANumber)?;
    number.add(&by).map(|sum| sum.show()).ok_or(Why::NotFinite)
}

/// The value with a part of it written over; none where that changes nothing.
fn overwritten(
    current: Option<&StoredItem>,
    offset: usize,
    part: &[u8],
    most: usize,
) -> Result<Option<Bytes>, Why> {
    if part.is_empty() {
        return Ok(None);
    }
    let end = offset.checked_add(part.len()).filter(|end| *end <= most).ok_or(Why::TooLong)?;
    let mut value = current.map(|item| item.value.to_vec()).unwrap_or_default();
    value.resize(value.len().max(end), 0);
    if let Some(place) = value.get_mut(offset..end) {
        place.copy_from_slice(part);
    }
    Ok(Some(value.into()))
}

fn unknown_change() -> Failure {
    Failure::new(Code::InvalidArgument, "this node does not know the change", None)
}

fn unsuitable(why: Why) -> Failure {
    let message = match why {
        Why::NotAnInteger => "the value is not a whole number of 64 bits",
        Why::NotANumber => "the value is not a number",
        Why::Overflow => "the sum is not a whole number of 64 bits",
        Why::NotFinite => "the sum is not finite",
        Why::TooLong => "the value would become longer than values may be",
        _ => "the value is not of a kind that this can be done to",
    };
    let detail = Detail::Unsuitable(Unsuitable { why: why.into() });
    Failure::new(Code::FailedPrecondition, message, Some(detail))
}

#[cfg(test)]
#[path = "modify_tests.rs"]
mod tests;
