//! The indexes of a partition, kept with its items.
//!
//! ```text
//!   declared ─▶ building ─▶ ready           what is written meanwhile is indexed at once; the build
//!                  │                        walks what was there before, step by step
//!                  └─▶ failed               something there before cannot be indexed
//! ```
//!
//! The entries of an item are those of the JSON that it holds, so what must go is known from the item
//! as it was. Who has a value that may be had once is written beside the entries: only that must be
//! read before something is written. Everything here is told by the log, so all replicas have the same
//! entries; nobody builds by itself.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};
use placement::slot::partition_key;
use placement::{Bucket, BucketRange, PartitionId};
use prost::Message;
use proto::v1::index_record::State;
use proto::v1::{
    BuildIndex, Failure, IndexRecord, IndexReport, OverLimit, TableSettings, UniqueClash,
    error_detail::Detail, index_status,
};
use tonic::Code;

use super::descriptor::Descriptor;
use super::overlay::{Overlay, damaged};
use crate::index::Definition;
use crate::index::extract::{MOST_VALUES, Values, extract};
use crate::index::value::{MOST_STRING_BYTES, Value};
use crate::storage::item::StoredItem;
use crate::storage::keys::{self, KeyRange};
use crate::storage::state::{Changes, StateError, StateResult, StateView};

/// The item has other values in the index besides an entry's.
pub const ENTRY_IS_ONE_OF_MANY: u8 = 1;
/// The entry's value is a string that was cut.
pub const ENTRY_IS_CUT: u8 = 2;

/// The indexes of a partition.
#[derive(Debug)]
pub struct Indexes {
    group: PartitionId,
    /// By their ids.
    kept: Vec<Kept>,
    pending: Pending,
    changed: bool,
}

/// One of them.
#[derive(Debug)]
struct Kept {
    definition: Definition,
    record: IndexRecord,
}

/// What is not written yet.
#[derive(Debug, Default)]
struct Pending {
    changes: Changes,
    /// Who has values that may be had once.
    claims: BTreeMap<Bytes, Claim>,
    /// Buckets of which no claim that is written counts any more.
    cleared: BTreeSet<Bucket>,
    undo: Option<Undo>,
}

/// Who has a value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Claim {
    /// This key.
    Of(Bytes),
    /// Nobody any more.
    Free,
}

/// What leads back to where a command began.
#[derive(Debug)]
struct Undo {
    changes: usize,
    claims: Vec<(Bytes, Option<Claim>)>,
}

/// What a change of an item is seen against.
pub struct Around<'a> {
    /// What the partition owns.
    pub descriptor: &'a Descriptor,
    /// What is not written yet.
    pub overlay: &'a Overlay,
    /// What is written.
    pub state: &'a dyn StateView,
    /// The partition's clock.
    pub clock_ms: u64,
}

/// An item, before and after.
pub struct Replacement<'a> {
    /// Its bucket.
    pub bucket: Bucket,
    /// Its key.
    pub key: &'a Bytes,
    /// As it is, ended ones included.
    pub before: Option<&'a StoredItem>,
    /// As it will be.
    pub after: Option<&'a StoredItem>,
}

/// Why an item cannot be indexed.
enum Unfit {
    TooMany,
    TooLong,
    Clash(Bytes),
}

impl Indexes {
    /// As they were written.
    pub fn load(
        group: PartitionId,
        settings: Option<&TableSettings>,
        state: &dyn StateView,
    ) -> StateResult<Self> {
        let declared = settings.map(|settings| Definition::all(&settings.indexes)).unwrap_or_default();
        let mut kept = Vec::with_capacity(declared.len());
        for definition in declared {
            let record = read_record(group, definition.id, state)?.unwrap_or_default();
            kept.push(Kept { definition, record });
        }
        kept.sort_by_key(|kept| kept.definition.id);
        Ok(Self { group, kept, pending: Pending::default(), changed: true })
    }

    /// Whether there is something to keep.
    pub fn are_kept(&self) -> bool {
        self.kept.iter().any(Kept::counts)
    }

    /// How far it is with each, as it is written.
    pub fn records(&self) -> impl Iterator<Item = (Bytes, Bytes)> {
        let record = |kept: &Kept| {
            let key = keys::index_record(self.group, kept.definition.id);
            (key, kept.record.encode_to_vec().into())
        };
        self.kept.iter().map(record)
    }

    /// From here on, changes can be undone together.
    pub fn begin(&mut self) {
        self.pending.undo = Some(Undo { changes: self.pending.changes.count(), claims: Vec::new() });
    }

    /// The changes since [`Indexes::begin`] stay.
    pub fn keep(&mut self) {
        self.pending.undo = None;
    }

    /// The changes since [`Indexes::begin`] never happened.
    pub fn undo(&mut self) {
        let Some(undo) = self.pending.undo.take() else { return };
        self.pending.changes.truncate(undo.changes);
        for (claim, before) in undo.claims.into_iter().rev() {
            match before {
                Some(before) => self.pending.claims.insert(claim, before),
                None => self.pending.claims.remove(&claim),
            };
        }
    }

    /// Has entries follow an item, or says why the item must not become so; then nothing is done.
    pub fn replace(&mut self, it: &Replacement<'_>, around: &Around<'_>) -> StateResult<Result<(), Failure>> {
        let counting: Vec<&Kept> = self.kept.iter().filter(|kept| kept.counts()).collect();
        let definitions: Vec<&Definition> = counting.iter().map(|kept| &kept.definition).collect();
        let none = || vec![Values::default(); definitions.len()];
        let before = it.before.map_or_else(none, |item| extract(&definitions, &item.value));
        let after = match (it.before, it.after) {
            (Some(before_item), Some(item)) if before_item.value == item.value => before.clone(),
            (_, Some(item)) => extract(&definitions, &item.value),
            (_, None) => none(),
        };
        for (definition, values) in definitions.iter().zip(&after) {
            if let Err(unfit) = self.pending.fits(definition, it.bucket, it.key, values, around)? {
                return Ok(Err(unfit.refusal(definition)));
            }
        }
        let deadlines = [it.before, it.after].map(|item| item.map_or(0, |item| item.deadline_ms));
        for ((definition, before), after) in definitions.into_iter().zip(&before).zip(&after) {
            let table = around.descriptor.table;
            let key = |value: &Bytes| keys::index_entry(table, it.bucket, definition.id, value, it.key);
            let (old, new) = (entries(before, deadlines[0]), entries(after, deadlines[1]));
            for value in old.keys().filter(|value| !new.contains_key(*value)) {
                self.pending.changes.delete(key(value));
            }
            for (value, entry) in &new {
                if old.get(value) != Some(entry) {
                    self.pending.changes.put(key(value), entry.clone());
                }
            }
            if definition.unique {
                self.pending.pass_on(definition, it, before, after, around)?;
            }
        }
        Ok(Ok(()))
    }

    /// Everything in a run of buckets goes. It is not among what can be undone.
    pub fn clear(&mut self, buckets: BucketRange, descriptor: &Descriptor) {
        if self.kept.is_empty() {
            return;
        }
        for bucket in buckets.iter() {
            self.pending.delete_range(keys::indexes_of(descriptor.table, bucket));
            self.pending.cleared.insert(bucket);
        }
    }

    /// Takes what is declared from here on. What a partition without items declares is ready at once.
    pub fn configure(
        &mut self,
        settings: &TableSettings,
        descriptor: &Descriptor,
        empty: impl FnOnce() -> StateResult<bool>,
    ) -> StateResult<()> {
        let declared = Definition::all(&settings.indexes);
        let goes = |kept: &Kept| declared.iter().all(|definition| definition.id != kept.definition.id);
        let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.kept).into_iter().partition(goes);
        self.kept = kept;
        for Kept { definition, .. } in gone {
            self.pending.forget(definition.id, descriptor);
            self.pending.changes.delete(keys::index_record(self.group, definition.id));
            self.changed = true;
        }
        let known = |id: u32| self.kept.iter().any(|kept| kept.definition.id == id);
        let new: Vec<_> = declared.into_iter().filter(|definition| !known(definition.id)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let state = if empty()? { State::Ready } else { State::Building };
        for definition in new {
            let record = IndexRecord { state: state.into(), ..IndexRecord::default() };
            self.pending.note(self.group, definition.id, &record);
            self.kept.push(Kept { definition, record });
        }
        self.kept.sort_by_key(|kept| kept.definition.id);
        self.changed = true;
        Ok(())
    }

    /// Indexes some items that were there before. What was changed by earlier entries must be written:
    /// the walk goes over what is.
    pub fn build(&mut self, build: &BuildIndex, around: &Around<'_>) -> StateResult<()> {
        let group = self.group;
        let building =
            |kept: &&mut Kept| kept.definition.id == build.index && kept.record.state() == State::Building;
        let Some(kept) = self.kept.iter_mut().find(building) else { return Ok(()) };
        match kept.walk(build, &mut self.pending, around)? {
            Ok(true) => kept.record.set_state(State::Ready),
            Ok(false) => {}
            Err(why) => {
                kept.record.set_state(State::Failed);
                kept.record.failure = why;
                self.pending.forget(build.index, around.descriptor);
            }
        }
        self.pending.note(group, build.index, &kept.record);
        self.changed = true;
        Ok(())
    }

    /// How far it is with each, unless nothing has changed since the last call.
    pub fn take_changed(&mut self, descriptor: &Descriptor) -> Option<Vec<IndexReport>> {
        let report = |kept: &Kept| kept.report(descriptor);
        std::mem::take(&mut self.changed).then(|| self.kept.iter().map(report).collect())
    }

    /// About how much there is to write.
    pub fn bytes(&self) -> usize {
        self.pending.changes.bytes() + 64 * self.pending.claims.len()
    }

    /// Turns everything pending into changes.
    pub fn drain_into(&mut self, changes: &mut Changes) {
        changes.append(std::mem::take(&mut self.pending.changes));
        self.pending.cleared.clear();
        for (key, claim) in std::mem::take(&mut self.pending.claims) {
            match claim {
                Claim::Of(owner) => changes.put(key, owner),
                Claim::Free => changes.delete(key),
            }
        }
    }
}

impl Kept {
    /// Whether items must be in it.
    fn counts(&self) -> bool {
        self.record.state() != State::Failed
    }

    fn report(&self, descriptor: &Descriptor) -> IndexReport {
        let state = match self.record.state() {
            State::Building => index_status::State::Building,
            State::Ready => index_status::State::Ready,
            State::Failed => index_status::State::Failed,
        };
        IndexReport {
            index: self.definition.id,
            state: state.into(),
            percent: percent(&self.record, descriptor.buckets),
            failure: self.record.failure.clone(),
        }
    }

    /// Goes on with the build: whether it is at the end, or why there can be none.
    fn walk(
        &mut self,
        build: &BuildIndex,
        pending: &mut Pending,
        around: &Around<'_>,
    ) -> StateResult<Result<bool, String>> {
        let (definition, record) = (&self.definition, &mut self.record);
        let (table, buckets) = (around.descriptor.table, around.descriptor.buckets);
        let (mut items, mut bytes) = (0, 0);
        for bucket in buckets.iter() {
            // A partition that was split may find itself before or behind where it was.
            let place = u32::from(bucket.0);
            if record.begun && place < record.bucket {
                continue;
            }
            let mut range = keys::items_of(table, bucket);
            if record.begun && place == record.bucket && !record.after.is_empty() {
                range.start = [&keys::item(table, bucket, &record.after)[..], &[0]].concat().into();
            } else {
                (record.begun, record.bucket, record.after) = (true, place, Bytes::new());
            }
            let mut walk = around.state.iterate(&range, false)?;
            while let Some((key, value)) = walk.current() {
                if items == build.items || bytes >= build.bytes {
                    return Ok(Ok(false));
                }
                let key = Bytes::copy_from_slice(keys::user_key(key));
                items += 1;
                record.items += 1;
                bytes = bytes.saturating_add(u32::try_from(value.len()).unwrap_or(u32::MAX));
                let item = StoredItem::decode(Bytes::copy_from_slice(value))
                    .map_err(|why| damaged(table, &key, &why))?;
                if !item.is_due(around.clock_ms)
                    && let Err(unfit) = index_one(definition, pending, bucket, &key, &item, around)?
                {
                    return Ok(Err(unfit.words(&key)));
                }
                record.after = key;
                walk.advance()?;
            }
        }
        Ok(Ok(true))
    }
}

/// Puts an item that was there before into an index.
fn index_one(
    definition: &Definition,
    pending: &mut Pending,
    bucket: Bucket,
    key: &Bytes,
    item: &StoredItem,
    around: &Around<'_>,
) -> StateResult<Result<(), Unfit>> {
    let values = extract(&[definition], &item.value).pop().unwrap_or_default();
    if let Err(unfit) = pending.fits(definition, bucket, key, &values, around)? {
        return Ok(Err(unfit));
    }
    let table = around.descriptor.table;
    for (value, entry) in entries(&values, item.deadline_ms) {
        pending.changes.put(keys::index_entry(table, bucket, definition.id, &value, key), entry);
    }
    if definition.unique {
        for value in values.values.iter().filter(|value| !value.is_missing()) {
            let claim = keys::index_claim(table, bucket, definition.id, partition_key(key), &value.encoded);
            pending.claim(claim, Claim::Of(key.clone()));
        }
    }
    Ok(Ok(()))
}

impl Pending {
    /// Whether an item with those values may be in the index.
    fn fits(
        &self,
        definition: &Definition,
        bucket: Bucket,
        key: &Bytes,
        values: &Values,
        around: &Around<'_>,
    ) -> StateResult<Result<(), Unfit>> {
        if values.too_many {
            return Ok(Err(Unfit::TooMany));
        }
        if !definition.unique {
            return Ok(Ok(()));
        }
        if values.values.iter().any(|value| value.whole.is_some()) {
            return Ok(Err(Unfit::TooLong));
        }
        let table = around.descriptor.table;
        for value in values.values.iter().filter(|value| !value.is_missing()) {
            let claim = keys::index_claim(table, bucket, definition.id, partition_key(key), &value.encoded);
            let Some(owner) = self.owner(&claim, bucket, around)?.filter(|owner| owner != key) else {
                continue;
            };
            // One that has ended has it no more, although its removal is still to come.
            let item = around.overlay.get(&owner, bucket, table, around.state)?;
            if item.is_some_and(|item| !item.is_due(around.clock_ms)) {
                return Ok(Err(Unfit::Clash(owner)));
            }
        }
        Ok(Ok(()))
    }

    /// Has what an item may have alone follow it.
    fn pass_on(
        &mut self,
        definition: &Definition,
        it: &Replacement<'_>,
        before: &Values,
        after: &Values,
        around: &Around<'_>,
    ) -> StateResult<()> {
        let there = |values: &Values| -> BTreeSet<Bytes> {
            let there = values.values.iter().filter(|value| !value.is_missing());
            there.map(|value| value.encoded.clone()).collect()
        };
        let (before, after) = (there(before), there(after));
        let tag = partition_key(it.key);
        let claim =
            |value: &Bytes| keys::index_claim(around.descriptor.table, it.bucket, definition.id, tag, value);
        for value in before.difference(&after) {
            let claim = claim(value);
            // Another may have it since this one ended.
            if self.owner(&claim, it.bucket, around)?.as_ref() == Some(it.key) {
                self.claim(claim, Claim::Free);
            }
        }
        for value in &after {
            let claim = claim(value);
            if self.owner(&claim, it.bucket, around)?.as_ref() != Some(it.key) {
                self.claim(claim, Claim::Of(it.key.clone()));
            }
        }
        Ok(())
    }

    fn owner(&self, claim: &Bytes, bucket: Bucket, around: &Around<'_>) -> StateResult<Option<Bytes>> {
        match self.claims.get(claim) {
            Some(Claim::Of(owner)) => Ok(Some(owner.clone())),
            Some(Claim::Free) => Ok(None),
            None if self.cleared.contains(&bucket) => Ok(None),
            None => around.state.get(claim),
        }
    }

    fn claim(&mut self, key: Bytes, claim: Claim) {
        let before = self.claims.insert(key.clone(), claim);
        if let Some(undo) = &mut self.undo {
            undo.claims.push((key, before));
        }
    }

    fn note(&mut self, group: PartitionId, index: u32, record: &IndexRecord) {
        self.changes.put(keys::index_record(group, index), record.encode_to_vec().into());
    }

    /// Everything of an index goes.
    fn forget(&mut self, index: u32, descriptor: &Descriptor) {
        for bucket in descriptor.buckets.iter() {
            self.delete_range(keys::index_of(descriptor.table, bucket, index));
        }
    }

    fn delete_range(&mut self, range: KeyRange) {
        self.claims.retain(|claim, _| *claim < range.start || *claim >= range.end);
        self.changes.delete_range(range);
    }
}

impl Unfit {
    fn refusal(self, definition: &Definition) -> Failure {
        let name = &definition.name;
        match self {
            Self::TooMany => {
                let message = format!("the item has more than {MOST_VALUES} values in index {name}");
                let limit = OverLimit {
                    what: "values of an item in an index".to_owned(),
                    limit: MOST_VALUES as u64,
                    actual: MOST_VALUES as u64 + 1,
                };
                Failure::new(Code::InvalidArgument, message, Some(Detail::OverLimit(limit)))
            }
            Self::TooLong => {
                let message = format!(
                    "index {name} is unique, and the item's value there has more than {MOST_STRING_BYTES} bytes"
                );
                Failure::new(Code::InvalidArgument, message, None)
            }
            Self::Clash(key) => {
                let message = format!(
                    "key {:?} has the same value in the unique index {name}",
                    String::from_utf8_lossy(&key)
                );
                let clash = UniqueClash { index: name.clone(), key };
                Failure::new(Code::AlreadyExists, message, Some(Detail::UniqueClash(clash)))
            }
        }
    }

    /// Why there can be no index over an item that is there.
    fn words(&self, key: &Bytes) -> String {
        let key = String::from_utf8_lossy(key);
        match self {
            Self::TooMany => format!("key {key:?} has more than {MOST_VALUES} values"),
            Self::TooLong => {
                format!(
                    "the value of key {key:?} has more than {MOST_STRING_BYTES} bytes, too many to be unique"
                )
            }
            Self::Clash(other) => {
                format!("keys {key:?} and {:?} have the same value", String::from_utf8_lossy(other))
            }
        }
    }
}

/// What is kept with the entry of each value of an item.
fn entries(values: &Values, deadline_ms: u64) -> BTreeMap<Bytes, Bytes> {
    let many = if values.values.len() > 1 { ENTRY_IS_ONE_OF_MANY } else { 0 };
    let entry = |value: &Value| {
        let flags = many | if value.whole.is_some() { ENTRY_IS_CUT } else { 0 };
        let mut out = BytesMut::new();
        if flags != 0 || deadline_ms > 0 {
            out.put_u8(flags);
        }
        if deadline_ms > 0 {
            out.put_u64(deadline_ms);
        }
        (value.encoded.clone(), out.freeze())
    };
    values.values.iter().map(entry).collect()
}

/// The flags of an entry and when its item ends (0: never).
pub fn parse_entry(entry: &[u8]) -> (u8, u64) {
    match entry.split_first() {
        None => (0, 0),
        Some((flags, rest)) => {
            (*flags, rest.first_chunk::<8>().map_or(0, |deadline| u64::from_be_bytes(*deadline)))
        }
    }
}

/// How far a group is with an index; none: it knows of none.
pub fn read_record(
    group: PartitionId,
    index: u32,
    state: &dyn StateView,
) -> StateResult<Option<IndexRecord>> {
    let Some(bytes) = state.get(&keys::index_record(group, index))? else { return Ok(None) };
    IndexRecord::decode(bytes).map(Some).map_err(|why| StateError::Damaged {
        what: format!("the record of index {index} of partition {group}"),
        why: why.to_string(),
    })
}

/// How much of an index is built.
pub fn percent(record: &IndexRecord, buckets: BucketRange) -> u32 {
    if record.state() == State::Ready {
        return 100;
    }
    if !record.begun {
        return 0;
    }
    let all = u32::from(buckets.last.0 - buckets.first.0) + 1;
    let done = record.bucket.saturating_sub(u32::from(buckets.first.0)).min(all);
    (done * 100 / all).min(99)
}

#[cfg(test)]
#[path = "indexes_tests.rs"]
mod tests;
