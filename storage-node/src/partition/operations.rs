//! The operations that a log entry may hold, evaluated where they are applied.

use bytes::Bytes;
use placement::{Bucket, BucketRange};
use proto::v1::{
    BatchRequest, BatchResponse, ClearRequest, ClearResponse, Compare, Condition, DeleteRequest,
    DeleteResponse, ExistsResponse, Failure, GetRequest, GetResponse, Operation, OverLimit, PutRequest,
    PutResponse, Result as OperationResult, RetryAfter, TxnRequest, TxnResponse, WrongEpoch, compare::That,
    condition::Is, error_detail::Detail, operation::Operation as Kind, result::Result as Outcome,
};
use tonic::Code;

use super::demand::Demand;
use super::descriptor::Descriptor;
use super::history::History;
use super::indexes::{Around, Indexes, Replacement};
use super::overlay::Overlay;
use super::parts;
use super::progress::Progress;
use crate::storage::change::{Happened, StoredChange};
use crate::storage::item::StoredItem;
use crate::storage::state::{StateResult, StateView};

/// So many bytes of values may one batch or transaction read.
pub const READ_BY_ONE: usize = 16 << 20;
/// So many may all that share an entry: their answers wait together. A part of the format, as
/// both are: every replica must come to the same answers.
pub const READ_BY_ENTRY: usize = 64 << 20;

/// Evaluates operations one after the other; each sees what the ones before it did.
pub struct Evaluation<'a> {
    /// What the partition owns.
    pub descriptor: &'a Descriptor,
    /// What is written.
    pub state: &'a dyn StateView,
    /// What is not written yet.
    pub overlay: &'a mut Overlay,
    /// The clock and the counter.
    pub progress: &'a mut Progress,
    /// What the table demands of values.
    pub demand: &'a Demand,
    /// Where changes are noted.
    pub history: &'a mut History,
    /// What items are found by besides their keys.
    pub indexes: &'a mut Indexes,
    /// Why an index lets an item not become what the operation would make of it.
    pub refused: Option<Failure>,
    /// How many bytes this operation may still read.
    pub room: usize,
    /// How many its entry may.
    pub room_of_entry: &'a mut usize,
}

/// Why one part of an atomic operation stopped it.
enum Stop {
    /// A condition did not hold: this is the part's result.
    Condition(OperationResult),
}

impl Evaluation<'_> {
    /// Does one operation. A failure is a result like any other, and leaves nothing behind.
    pub fn run(&mut self, operation: Kind) -> StateResult<OperationResult> {
        if let Some(refused) = refusal_of_foreign_key(self.descriptor, &operation) {
            return Ok(refused);
        }
        match operation {
            Kind::Batch(batch) => self.atomic_batch(batch),
            Kind::Txn(txn) => match self.demand.check_txn(&txn) {
                Ok(()) => self.unless_refused(|this| this.transaction(txn)),
                Err(refused) => Ok(OperationResult { result: Some(Outcome::Failure(refused)) }),
            },
            Kind::Clear(clear) => Ok(self.clear(&clear)),
            single => self.unless_refused(|this| this.single(single)),
        }
    }

    /// Does all of an operation, or none where an index refuses a part of it.
    fn unless_refused(
        &mut self,
        operate: impl FnOnce(&mut Self) -> StateResult<OperationResult>,
    ) -> StateResult<OperationResult> {
        if !self.indexes.are_kept() {
            return operate(self);
        }
        let began = self.begin();
        let result = operate(self)?;
        let Some(refused) = self.refused.take() else {
            self.keep();
            return Ok(result);
        };
        self.undo(began);
        Ok(OperationResult { result: Some(Outcome::Failure(refused)) })
    }

    /// From here on, changes can be undone together. Gives where the counter and the history are.
    fn begin(&mut self) -> (u64, usize) {
        self.overlay.begin();
        self.indexes.begin();
        (self.progress.counter, self.history.noted())
    }

    fn keep(&mut self) {
        self.overlay.keep();
        self.indexes.keep();
    }

    fn undo(&mut self, (counter, noted): (u64, usize)) {
        self.overlay.undo();
        self.indexes.undo();
        self.history.forget_after(noted);
        self.progress.counter = counter;
    }

    fn single(&mut self, operation: Kind) -> StateResult<OperationResult> {
        let outcome = match operation {
            Kind::Put(put) => self.put(put)?,
            Kind::Delete(delete) => Outcome::Delete(self.delete(delete)?),
            Kind::Get(get) => self.get(get)?,
            Kind::Exists(exists) => {
                Outcome::Exists(ExistsResponse { exists: self.item(&exists.key)?.is_some() })
            }
            Kind::Modify(modify) => self.modify(modify)?,
            Kind::Copy(copy) => Outcome::Copy(self.copy(copy)?),
            Kind::Batch(_) | Kind::Txn(_) | Kind::Clear(_) => {
                let message = "a batch or transaction cannot hold another";
                Outcome::Failure(Failure::new(Code::InvalidArgument, message, None))
            }
        };
        Ok(OperationResult { result: Some(outcome) })
    }

    fn get(&mut self, get: GetRequest) -> StateResult<Outcome> {
        let found = self.item(&get.key)?;
        let clock_ms = self.progress.clock_ms;
        if get.without_value {
            return Ok(Outcome::Get(GetResponse { item: found.map(|item| item.outline(get.key, clock_ms)) }));
        }
        if let Err(refused) = self.take_room(found.as_ref().map_or(0, |item| item.value.len())) {
            return Ok(Outcome::Failure(refused));
        }
        let found = found.map(|item| self.touch(&get, item)).transpose()?;
        let shown = found.map(|item| parts::show(item, &get, clock_ms)).transpose();
        Ok(shown.map_or_else(Outcome::Failure, |item| Outcome::Get(GetResponse { item })))
    }

    /// Gives an item that is read another end, where the read is to keep it alive and that is worth
    /// a write.
    fn touch(&mut self, get: &GetRequest, item: StoredItem) -> StateResult<StoredItem> {
        let left_ms = item.deadline_ms.saturating_sub(self.progress.clock_ms);
        if get.touch_ms == 0 || item.deadline_ms == 0 || !is_worth_a_touch(left_ms, get.touch_ms) {
            return Ok(item);
        }
        self.renew_quietly(get.key.clone(), item, self.progress.clock_ms.saturating_add(get.touch_ms))
    }

    /// Takes room in the answer for a value.
    pub(super) fn take_room(&mut self, bytes: usize) -> Result<(), Failure> {
        if bytes > self.room {
            return Err(reads_too_much((READ_BY_ONE - self.room + bytes) as u64));
        }
        if bytes > *self.room_of_entry {
            let detail = Detail::RetryAfter(RetryAfter { milliseconds: 50 });
            let message = "too much is read at once in this partition";
            return Err(Failure::new(Code::ResourceExhausted, message, Some(detail)));
        }
        self.room -= bytes;
        *self.room_of_entry -= bytes;
        Ok(())
    }

    /// Removes everything in a run of buckets, all of which the partition must own.
    fn clear(&mut self, clear: &ClearRequest) -> OperationResult {
        let owned = |bucket: u32| {
            u16::try_from(bucket).ok().map(Bucket).filter(|bucket| self.descriptor.buckets.contains(*bucket))
        };
        let (Some(first), Some(last)) = (owned(clear.first_bucket), owned(clear.last_bucket)) else {
            return wrong_epoch(b"");
        };
        let revision = self.next_version();
        let buckets = BucketRange { first, last };
        for bucket in buckets.iter() {
            self.history.note(bucket, StoredChange { revision, what: Happened::Cleared });
        }
        self.overlay.clear(buckets);
        self.indexes.clear(buckets, self.descriptor);
        OperationResult { result: Some(Outcome::Clear(ClearResponse {})) }
    }

    fn put(&mut self, put: PutRequest) -> StateResult<Outcome> {
        if let Some(condition) = &put.condition {
            let current = self.item(&put.key)?;
            if !holds(condition, current.as_ref()) {
                let version = version_of(current.as_ref());
                return Ok(Outcome::Put(PutResponse { applied: false, version }));
            }
        }
        if let Err(refused) = self.demand.check(&put.value) {
            return Ok(Outcome::Failure(refused));
        }
        let version = self.next_version();
        let deadline_ms = match put.ttl_ms {
            0 => 0,
            ttl_ms => self.progress.clock_ms.saturating_add(ttl_ms),
        };
        let item = StoredItem { version, deadline_ms, content: put.content(), value: put.value };
        self.set(put.key, Some(item))?;
        Ok(Outcome::Put(PutResponse { applied: true, version }))
    }

    fn delete(&mut self, delete: DeleteRequest) -> StateResult<DeleteResponse> {
        let current = self.item(&delete.key)?;
        let meant = delete.condition.as_ref().is_none_or(|condition| holds(condition, current.as_ref()));
        if !meant || current.is_none() {
            return Ok(DeleteResponse { deleted: false, version: version_of(current.as_ref()) });
        }
        // The change counts although nothing carries its number: a key that is put again has a
        // greater version than it ever had.
        self.next_version();
        self.set(delete.key, None)?;
        Ok(DeleteResponse { deleted: true, version: 0 })
    }

    fn atomic_batch(&mut self, batch: BatchRequest) -> StateResult<OperationResult> {
        let began = self.begin();
        let mut results = Vec::with_capacity(batch.operations.len());
        let mut applied = true;
        for operation in batch.operations {
            let Some(kind) = operation.operation else { continue };
            match self.part(kind)? {
                Ok(result) => results.push(result),
                Err(Stop::Condition(result)) => {
                    results.push(result);
                    applied = false;
                    break;
                }
            }
        }
        if applied {
            self.keep();
        } else {
            self.undo(began);
        }
        Ok(OperationResult { result: Some(Outcome::Batch(BatchResponse { results, applied })) })
    }

    /// One operation of an atomic batch.
    fn part(&mut self, operation: Kind) -> StateResult<Result<OperationResult, Stop>> {
        let conditional = match &operation {
            Kind::Put(put) => put.condition.is_some(),
            Kind::Delete(delete) => delete.condition.is_some(),
            _ => false,
        };
        let result = self.single(operation)?;
        if let Some(refused) = self.refused.take() {
            return Ok(Err(Stop::Condition(OperationResult { result: Some(Outcome::Failure(refused)) })));
        }
        let stopped = match &result.result {
            Some(Outcome::Put(put)) => conditional && !put.applied,
            Some(Outcome::Delete(delete)) => conditional && !delete.deleted,
            Some(Outcome::Failure(_)) => true,
            _ => false,
        };
        Ok(if stopped { Err(Stop::Condition(result)) } else { Ok(result) })
    }

    fn transaction(&mut self, txn: TxnRequest) -> StateResult<OperationResult> {
        let mut succeeded = true;
        for compare in &txn.compares {
            let current = self.item(&compare.key)?;
            succeeded &= compares(compare, current.as_ref());
        }
        let chosen = if succeeded { txn.then } else { txn.otherwise };
        let mut results = Vec::with_capacity(chosen.len());
        for operation in chosen {
            match operation.operation {
                // The door lets none in that holds another.
                Some(Kind::Txn(inner)) => results.push(self.transaction(inner)?),
                Some(kind) => results.push(self.single(kind)?),
                None => {}
            }
        }
        Ok(OperationResult { result: Some(Outcome::Txn(TxnResponse { succeeded, results })) })
    }

    /// The item of a key, unless it has ended.
    pub(super) fn item(&self, key: &[u8]) -> StateResult<Option<StoredItem>> {
        let Some(bucket) = self.descriptor.bucket_of(key) else { return Ok(None) };
        let found = self.overlay.get(key, bucket, self.descriptor.table, self.state)?;
        Ok(found.filter(|item| !item.is_due(self.progress.clock_ms)))
    }

    /// Sets or, with none, removes the item of a key; the counter is that of the change already. Where
    /// an index refuses it, nothing is set, and whoever began the operation undoes the rest.
    pub(super) fn set(&mut self, key: Bytes, item: Option<StoredItem>) -> StateResult<()> {
        // Ownership was checked before the operation began.
        let bucket = self.descriptor.bucket_of(&key).unwrap_or(Bucket(0));
        let found = match self.indexes.are_kept() || self.history.keeps_before() {
            true => self.overlay.get(&key, bucket, self.descriptor.table, self.state)?,
            false => None,
        };
        let it = Replacement { bucket, key: &key, before: found.as_ref(), after: item.as_ref() };
        if let Err(refused) = self.index(&it)? {
            self.refused.get_or_insert(refused);
            return Ok(());
        }
        if self.history.is_on() {
            let clock_ms = self.progress.clock_ms;
            let before = found.filter(|item| self.history.keeps_before() && !item.is_due(clock_ms));
            let what = match &item {
                Some(item) => Happened::Put { key: key.clone(), item: item.clone(), before },
                None => Happened::Gone { key: key.clone(), expired: false, before },
            };
            self.history.note(bucket, StoredChange { revision: self.progress.counter, what });
        }
        self.overlay.set(key, bucket, item);
        Ok(())
    }

    /// Gives an item another end without a change that counts: whoever goes by its version has
    /// nothing new to learn.
    pub(super) fn renew_quietly(
        &mut self,
        key: Bytes,
        item: StoredItem,
        deadline_ms: u64,
    ) -> StateResult<StoredItem> {
        let bucket = self.descriptor.bucket_of(&key).unwrap_or(Bucket(0));
        let renewed = StoredItem { deadline_ms, ..item.clone() };
        let it = Replacement { bucket, key: &key, before: Some(&item), after: Some(&renewed) };
        // Its value stays, which no index refuses.
        let _ = self.index(&it)?;
        self.overlay.set(key, bucket, Some(renewed.clone()));
        Ok(renewed)
    }

    /// Has the indexes follow an item, unless one refuses what it becomes.
    fn index(&mut self, it: &Replacement<'_>) -> StateResult<Result<(), Failure>> {
        if !self.indexes.are_kept() {
            return Ok(Ok(()));
        }
        let (descriptor, overlay, state) = (self.descriptor, &*self.overlay, self.state);
        let around = Around { descriptor, overlay, state, clock_ms: self.progress.clock_ms };
        self.indexes.replace(it, &around)
    }

    pub(super) fn next_version(&mut self) -> u64 {
        self.progress.counter += 1;
        self.progress.counter
    }
}

/// Whether giving an item that has so much left so much again gives it at least a tenth more: what
/// is read often is not to be written as often. A part of the format, as all that decides what is
/// applied.
pub fn is_worth_a_touch(left_ms: u64, touch_ms: u64) -> bool {
    touch_ms.saturating_sub(left_ms) > touch_ms / 10
}

/// What is answered where the partition does not own a key of the operation.
pub fn refusal_of_foreign_key(descriptor: &Descriptor, operation: &Kind) -> Option<OperationResult> {
    let keys = keys_of(operation);
    let foreign = keys.into_iter().find(|key| descriptor.bucket_of(key).is_none());
    foreign.map(|key| wrong_epoch(key))
}

/// The failure of a read in a batch or transaction that has read its fill.
pub fn reads_too_much(actual: u64) -> Failure {
    let limit = READ_BY_ONE as u64;
    let message = format!(
        "the batch or transaction reads {actual} bytes; the limit is {limit}: read the rest by another"
    );
    let what = "values read by a batch or transaction".to_owned();
    Failure::new(Code::InvalidArgument, message, Some(Detail::OverLimit(OverLimit { what, limit, actual })))
}

/// All keys that an operation touches.
pub fn keys_of(operation: &Kind) -> Vec<&Bytes> {
    fn inner<'a>(operations: &'a [Operation], keys: &mut Vec<&'a Bytes>) {
        for kind in operations.iter().filter_map(|operation| operation.operation.as_ref()) {
            collect(kind, keys);
        }
    }
    fn collect<'a>(operation: &'a Kind, keys: &mut Vec<&'a Bytes>) {
        match operation {
            Kind::Batch(batch) => inner(&batch.operations, keys),
            Kind::Txn(txn) => {
                keys.extend(txn.compares.iter().map(|compare| &compare.key));
                inner(&txn.then, keys);
                inner(&txn.otherwise, keys);
            }
            Kind::Copy(copy) => keys.extend([&copy.from, &copy.to]),
            single => keys.extend(key_of(single)),
        }
    }
    let mut keys = Vec::new();
    collect(operation, &mut keys);
    keys
}

/// The key of an operation that has just one.
pub fn key_of(operation: &Kind) -> Option<&Bytes> {
    match operation {
        Kind::Get(get) => Some(&get.key),
        Kind::Put(put) => Some(&put.key),
        Kind::Delete(delete) => Some(&delete.key),
        Kind::Exists(exists) => Some(&exists.key),
        Kind::Modify(modify) => Some(&modify.key),
        Kind::Batch(_) | Kind::Txn(_) | Kind::Copy(_) | Kind::Clear(_) => None,
    }
}

pub(super) fn holds(condition: &Condition, current: Option<&StoredItem>) -> bool {
    match condition.is {
        Some(Is::Absent(_)) => current.is_none(),
        Some(Is::Exists(_)) => current.is_some(),
        Some(Is::Version(version)) => current.is_some_and(|item| item.version == version),
        None => true,
    }
}

fn compares(compare: &Compare, current: Option<&StoredItem>) -> bool {
    match &compare.that {
        Some(That::Absent(_)) => current.is_none(),
        Some(That::Exists(_)) => current.is_some(),
        Some(That::VersionEquals(version)) => current.is_some_and(|item| item.version == *version),
        Some(That::VersionBelow(version)) => current.is_some_and(|item| item.version < *version),
        Some(That::ValueEquals(value)) => current.is_some_and(|item| item.value == *value),
        None => true,
    }
}

pub(super) fn version_of(current: Option<&StoredItem>) -> u64 {
    current.map_or(0, |item| item.version)
}

/// The partition does not own that key (any more). The router adds the entries that the
/// asker needs.
fn wrong_epoch(key: &[u8]) -> OperationResult {
    let message = format!("the partition does not own key {:?}", String::from_utf8_lossy(key));
    let failure = Failure::new(Code::Aborted, message, Some(Detail::WrongEpoch(WrongEpoch::default())));
    OperationResult { result: Some(Outcome::Failure(failure)) }
}
