//! What has an end: removing it when that has come, and finding what is due.

use bytes::Bytes;
use placement::Bucket;
use proto::v1::{
    Expire, ExpireAnswer, ExpireExtent, ExpiryPlace, Lifetime, lifetime::Lasts, modify_request::Change,
    operation::Operation as Kind,
};

use super::descriptor::Descriptor;
use super::indexes::{Around, Replacement};
use super::state::PartitionState;
use crate::storage::change::{Happened, StoredChange};
use crate::storage::keys;
use crate::storage::state::{StateResult, StateView};

impl PartitionState {
    /// Removes what is due, bucket by bucket, oldest first in each.
    pub(super) fn expire(&mut self, expire: &Expire, state: &dyn StateView) -> StateResult<ExpireAnswer> {
        let clock_ms = self.progress.clock_ms;
        let Some(extent) = &expire.extent else {
            // How many entries are out of date differs between replicas, so today's say how far they go.
            let mut left = expire.limit;
            return self.expire_until(clock_ms, state, |_| {
                let enough = left == 0;
                left = left.saturating_sub(1);
                enough
            });
        };
        let last = extent.up_to.as_ref().map(|place| {
            let bucket = Bucket(u16::try_from(place.bucket).unwrap_or(u16::MAX));
            keys::expiry(self.descriptor.table, bucket, place.deadline_ms, &place.key)
        });
        let enough = |entry: &[u8]| last.as_ref().is_some_and(|last| entry > &last[..]);
        let answer = self.expire_until(extent.due_ms.min(clock_ms), state, enough)?;
        // Where the extent ends there may be more, whether or not this replica has found it.
        Ok(ExpireAnswer { more: last.is_some(), ..answer })
    }

    /// Removes what is due by a time, until it is enough at an entry of the expiry index.
    fn expire_until(
        &mut self,
        due_ms: u64,
        state: &dyn StateView,
        mut enough: impl FnMut(&[u8]) -> bool,
    ) -> StateResult<ExpireAnswer> {
        let mut removed = 0;
        for bucket in self.descriptor.buckets.iter() {
            let due = keys::due_between(self.descriptor.table, bucket, self.nothing_due_before_ms, due_ms);
            let mut walk = state.iterate(&due, false)?;
            while let Some((entry, _)) = walk.current() {
                if enough(entry) {
                    return Ok(ExpireAnswer { removed, more: true });
                }
                removed += self.expire_entry(bucket, entry, state)?;
                walk.advance()?;
            }
        }
        self.nothing_due_before_ms = self.nothing_due_before_ms.max(due_ms);
        Ok(ExpireAnswer { removed, more: false })
    }

    /// Removes an entry of the expiry index, and its item; how many items that were.
    fn expire_entry(&mut self, bucket: Bucket, entry: &[u8], state: &dyn StateView) -> StateResult<u32> {
        let removed = match keys::parse_expiry(entry) {
            Some((deadline_ms, key)) => self.expire_key(bucket, deadline_ms, key, state)?,
            None => false,
        };
        self.direct.delete(Bytes::copy_from_slice(entry));
        Ok(u32::from(removed))
    }

    /// Removes an item, if it is still the one that the expiry entry was written for.
    fn expire_key(
        &mut self,
        bucket: Bucket,
        deadline_ms: u64,
        key: &[u8],
        state: &dyn StateView,
    ) -> StateResult<bool> {
        let found = self.overlay.get(key, bucket, self.descriptor.table, state)?;
        let Some(item) = found.filter(|item| item.deadline_ms == deadline_ms) else { return Ok(false) };
        let key = Bytes::copy_from_slice(key);
        if self.indexes.are_kept() {
            let (descriptor, overlay, clock_ms) = (&self.descriptor, &self.overlay, self.progress.clock_ms);
            let around = Around { descriptor, overlay, state, clock_ms };
            let it = Replacement { bucket, key: &key, before: Some(&item), after: None };
            // What goes is never refused.
            let _ = self.indexes.replace(&it, &around)?;
        }
        self.progress.counter += 1;
        let before = self.history.keeps_before().then_some(item);
        let what = Happened::Gone { key: key.clone(), expired: true, before };
        self.history.note(bucket, StoredChange { revision: self.progress.counter, what });
        self.overlay.set(key, bucket, None);
        Ok(true)
    }
}

/// What is due between two times as it is written, so much of the expiry index at most. Nothing is due
/// before the first.
pub fn due_extent(
    state: &dyn StateView,
    descriptor: &Descriptor,
    (from_ms, due_ms): (u64, u64),
    most: usize,
) -> StateResult<ExpireExtent> {
    let mut left = most;
    for bucket in descriptor.buckets.iter() {
        let mut walk = state.iterate(&keys::due_between(descriptor.table, bucket, from_ms, due_ms), false)?;
        while let Some((entry, _)) = walk.current() {
            left = left.saturating_sub(1);
            if left == 0
                && let Some((deadline_ms, key)) = keys::parse_expiry(entry)
            {
                let key = Bytes::copy_from_slice(key);
                let up_to = Some(ExpiryPlace { bucket: bucket.0.into(), deadline_ms, key });
                return Ok(ExpireExtent { due_ms, up_to });
            }
            walk.advance()?;
        }
    }
    Ok(ExpireExtent { due_ms, up_to: None })
}

/// The earliest deadline in a partition's expiry index, as it is written. None may be before
/// `from_ms`.
pub fn earliest_deadline(state: &dyn StateView, descriptor: &Descriptor, from_ms: u64) -> StateResult<u64> {
    let mut earliest = u64::MAX;
    for bucket in descriptor.buckets.iter() {
        let all = keys::due_between(descriptor.table, bucket, from_ms, u64::MAX);
        let walk = state.iterate(&all, false)?;
        if let Some((deadline_ms, _)) = walk.current().and_then(|(entry, _)| keys::parse_expiry(entry)) {
            earliest = earliest.min(deadline_ms);
        }
    }
    Ok(earliest)
}

/// How many entries a partition's expiry index has that are due, between two moments; it is not
/// counted further than a bound.
pub fn count_due(
    state: &dyn StateView,
    descriptor: &Descriptor,
    from_ms: u64,
    now_ms: u64,
) -> StateResult<u64> {
    const MOST: u64 = 100_000;
    let mut count = 0;
    for bucket in descriptor.buckets.iter() {
        let due = keys::due_between(descriptor.table, bucket, from_ms, now_ms);
        let mut walk = state.iterate(&due, false)?;
        while walk.current().is_some() && count < MOST {
            count += 1;
            walk.advance()?;
        }
    }
    Ok(count)
}

/// The earliest deadline that an operation may set. What a copy keeps is known already.
pub(super) fn earliest_deadline_of(kind: &Kind, clock_ms: u64) -> u64 {
    let of_all = |operations: &[proto::v1::Operation]| {
        let inner = operations.iter().filter_map(|inner| inner.operation.as_ref());
        inner.map(|kind| earliest_deadline_of(kind, clock_ms)).min().unwrap_or(u64::MAX)
    };
    match kind {
        Kind::Get(get) if get.touch_ms > 0 => clock_ms.saturating_add(get.touch_ms),
        Kind::Put(put) if put.ttl_ms > 0 => clock_ms.saturating_add(put.ttl_ms),
        Kind::Modify(modify) => match &modify.change {
            Some(Change::Replace(replace)) => deadline_of(replace.lifetime.as_ref(), clock_ms),
            Some(Change::Renew(renew)) => deadline_of(renew.lifetime.as_ref(), clock_ms),
            _ if modify.default_ttl_ms > 0 => clock_ms.saturating_add(modify.default_ttl_ms),
            _ => u64::MAX,
        },
        Kind::Batch(batch) => of_all(&batch.operations),
        Kind::Txn(txn) => of_all(&txn.then).min(of_all(&txn.otherwise)),
        _ => u64::MAX,
    }
}

fn deadline_of(lifetime: Option<&Lifetime>, clock_ms: u64) -> u64 {
    match lifetime.and_then(|lifetime| lifetime.lasts) {
        Some(Lasts::TtlMs(ttl_ms)) => clock_ms.saturating_add(ttl_ms),
        Some(Lasts::UntilMs(until_ms)) => until_ms,
        _ => u64::MAX,
    }
}
