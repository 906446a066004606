//! What is refused for its size or shape, before anything is done.

use bytes::Bytes;
use placement::Slot;
use prost::Message;
use proto::v1::{
    BatchRequest, Failure, Operation, Retry, TxnRequest, modify_request::Change, operation::Operation as Kind,
};

use super::failure;
use crate::partition::operations::{key_of, keys_of};
use crate::partition::{parts, patching};

/// The sizes that a node allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest key.
    pub key_bytes: usize,
    /// The longest value.
    pub value_bytes: usize,
    /// The most operations of a batch or transaction.
    pub batch_operations: usize,
    /// The most bytes of a batch or transaction.
    pub batch_bytes: usize,
    /// The most items of a page of a scan.
    pub page_items: u64,
    /// The most bytes of a page of a scan, but for its last item.
    pub page_bytes: u64,
}

impl Limits {
    /// Checks an operation with everything in it.
    pub fn check(&self, kind: &Kind) -> Result<(), Failure> {
        match kind {
            Kind::Batch(batch) => self.check_batch(batch),
            Kind::Txn(txn) => self.check_txn(kind, txn),
            single => self.check_single(single),
        }
    }

    /// Checks a key.
    pub fn check_key(&self, key: &[u8]) -> Result<(), Failure> {
        if key.is_empty() {
            return Err(failure::invalid("a key must not be empty"));
        }
        if key.len() > self.key_bytes {
            return Err(failure::over_limit(
                "length of the key in bytes",
                self.key_bytes as u64,
                key.len() as u64,
            ));
        }
        Ok(())
    }

    fn check_single(&self, kind: &Kind) -> Result<(), Failure> {
        if let Some(key) = key_of(kind) {
            self.check_key(key)?;
        }
        match kind {
            Kind::Get(get) => parts::projection_of(&get.paths).map(drop)?,
            Kind::Put(put) => self.check_value(&put.value)?,
            Kind::Modify(modify) => match &modify.change {
                Some(Change::Replace(replace)) => self.check_value(&replace.value)?,
                Some(Change::Append(value)) => self.check_value(value)?,
                Some(Change::Overwrite(over)) => self.check_value(&over.value)?,
                Some(Change::AddDecimal(by)) => self.check_value(by.as_bytes())?,
                Some(change @ (Change::MergePatch(patch) | Change::JsonPatch(patch))) => {
                    self.check_value(patch)?;
                    patching::check(change)?;
                }
                Some(Change::Take(_) | Change::Renew(_) | Change::Add(_)) => {}
                None => return Err(failure::invalid("the change is none that this node knows")),
            },
            Kind::Copy(copy) => {
                self.check_key(&copy.from)?;
                self.check_key(&copy.to)?;
                one_slot(kind)?;
            }
            _ => {}
        }
        check_retry(kind)
    }

    fn check_value(&self, value: &[u8]) -> Result<(), Failure> {
        if value.len() > self.value_bytes {
            let (limit, actual) = (self.value_bytes as u64, value.len() as u64);
            return Err(failure::over_limit("length of the value in bytes", limit, actual));
        }
        Ok(())
    }

    fn check_batch(&self, batch: &BatchRequest) -> Result<(), Failure> {
        check_client(batch.retry.as_ref())?;
        self.check_size(batch.operations.len(), batch.encoded_len())?;
        self.check_list(&batch.operations, (!batch.atomic).then_some(Inner::Transactions))?;
        if batch.atomic { one_slot_of(keys_of_all(&batch.operations)) } else { Ok(()) }
    }

    fn check_txn(&self, kind: &Kind, txn: &TxnRequest) -> Result<(), Failure> {
        check_client(txn.retry.as_ref())?;
        self.check_size(count_of(txn), txn.encoded_len())?;
        self.check_parts(txn, Some(Inner::Transactions))?;
        one_slot(kind)
    }

    fn check_parts(&self, txn: &TxnRequest, may_hold: Option<Inner>) -> Result<(), Failure> {
        if txn.compares.is_empty() && txn.then.is_empty() && txn.otherwise.is_empty() {
            return Err(failure::invalid("a transaction needs at least one compare or operation"));
        }
        for compare in &txn.compares {
            self.check_key(&compare.key)?;
        }
        self.check_list(&txn.then, may_hold)?;
        self.check_list(&txn.otherwise, may_hold)
    }

    fn check_size(&self, count: usize, bytes: usize) -> Result<(), Failure> {
        if count > self.batch_operations {
            let (limit, actual) = (self.batch_operations as u64, count as u64);
            return Err(failure::over_limit("number of operations", limit, actual));
        }
        if bytes > self.batch_bytes {
            return Err(failure::over_limit(
                "size of the batch in bytes",
                self.batch_bytes as u64,
                bytes as u64,
            ));
        }
        Ok(())
    }

    fn check_list(&self, operations: &[Operation], may_hold: Option<Inner>) -> Result<(), Failure> {
        for (at, operation) in operations.iter().enumerate() {
            match &operation.operation {
                None => return Err(failure::invalid(format!("operation {at} is none that this node knows"))),
                Some(kind @ Kind::Txn(txn)) if may_hold == Some(Inner::Transactions) => {
                    self.check_parts(txn, None)?;
                    one_slot(kind)?;
                }
                Some(Kind::Batch(_) | Kind::Txn(_)) => {
                    return Err(failure::invalid(
                        "a batch or transaction cannot hold another here: a batch that is not atomic may hold \
                         transactions, and so may a transaction, but those hold neither",
                    ));
                }
                Some(Kind::Clear(_)) => {
                    return Err(failure::invalid("a batch or transaction cannot hold a clear"));
                }
                Some(single) => self.check_single(single)?,
            }
        }
        Ok(())
    }
}

/// What a list of operations may hold besides operations on keys.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inner {
    Transactions,
}

fn count_of(txn: &TxnRequest) -> usize {
    let of_list = |operations: &[Operation]| {
        let inner = |operation: &Operation| match &operation.operation {
            Some(Kind::Txn(txn)) => 1 + txn.compares.len() + txn.then.len() + txn.otherwise.len(),
            _ => 1,
        };
        operations.iter().map(inner).sum::<usize>()
    };
    txn.compares.len() + of_list(&txn.then) + of_list(&txn.otherwise)
}

fn check_retry(kind: &Kind) -> Result<(), Failure> {
    match kind {
        Kind::Put(put) => check_client(put.retry.as_ref()),
        Kind::Delete(delete) => check_client(delete.retry.as_ref()),
        Kind::Modify(modify) => check_client(modify.retry.as_ref()),
        Kind::Copy(copy) => check_client(copy.retry.as_ref()),
        _ => Ok(()),
    }
}

/// A write whose client has no name that can be remembered would be applied again each time.
fn check_client(retry: Option<&Retry>) -> Result<(), Failure> {
    match retry {
        Some(retry) if retry.client.len() != 16 => {
            Err(failure::invalid("the client of a retry must be 16 bytes"))
        }
        _ => Ok(()),
    }
}

/// Transactions and atomic batches keep to one slot, whatever the number of partitions, so
/// that a split breaks nobody.
fn one_slot(kind: &Kind) -> Result<(), Failure> {
    one_slot_of(keys_of(kind).into_iter())
}

fn keys_of_all(operations: &[Operation]) -> impl Iterator<Item = &Bytes> {
    operations.iter().filter_map(|operation| operation.operation.as_ref()).flat_map(keys_of)
}

fn one_slot_of<'a>(keys: impl Iterator<Item = &'a Bytes>) -> Result<(), Failure> {
    let mut slots = keys.map(|key| Slot::of_key(key));
    let first = slots.next();
    if slots.all(|slot| Some(slot) == first) { Ok(()) } else { Err(failure::cross_slot()) }
}

#[cfg(test)]
mod tests {
    use proto::v1::{GetRequest, PutRequest, error_detail::Detail};

    use super::*;

    fn limits() -> Limits {
        Limits {
            key_bytes: 8,
            value_bytes: 16,
            batch_operations: 3,
            batch_bytes: 200,
            page_items: 10,
            page_bytes: 100,
        }
    }

    fn put(key: &str, value: &str) -> Kind {
        let (key, value) = (key.to_owned().into(), value.to_owned().into());
        Kind::Put(PutRequest { key, value, ..PutRequest::default() })
    }

    fn batch(atomic: bool, operations: Vec<Kind>) -> Kind {
        let operations = operations.into_iter().map(|kind| Operation { operation: Some(kind) }).collect();
        Kind::Batch(BatchRequest { operations, atomic, ..BatchRequest::default() })
    }

    #[test]
    fn sizes_are_refused_with_the_limit() {
        let over = |kind| match limits().check(&kind).unwrap_err().reason() {
            Some(Detail::OverLimit(over)) => (over.limit, over.actual),
            other => panic!("{other:?}"),
        };
        assert!(limits().check(&put("12345678", "1234567890123456")).is_ok());
        assert_eq!(over(put("123456789", "")), (8, 9));
        assert_eq!(over(put("k", "12345678901234567")), (16, 17));
        assert_eq!(over(batch(false, vec![put("a", ""), put("b", ""), put("c", ""), put("d", "")])), (3, 4));
        let empty = Kind::Get(GetRequest::default());
        assert!(limits().check(&empty).unwrap_err().message.contains("must not be empty"));
    }

    #[test]
    fn only_an_atomic_batch_keeps_to_one_slot() {
        let crossing = || vec![put("a", ""), put("b", "")];
        assert!(limits().check(&batch(false, crossing())).is_ok());
        let refused = limits().check(&batch(true, crossing())).unwrap_err();
        assert!(matches!(refused.reason(), Some(Detail::CrossSlot(_))));
        assert!(limits().check(&batch(true, vec![put("{t}a", ""), put("{t}b", "")])).is_ok());
    }

    #[test]
    fn batches_do_not_nest() {
        assert!(limits().check(&batch(false, vec![batch(false, vec![])])).is_err());
    }
}
