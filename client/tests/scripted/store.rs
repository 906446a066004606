//! The store that the scripted nodes share: it applies a write once per sequence, as a
//! partition does.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use parking_lot::Mutex;
use proto::v1::operation::Operation as Op;
use proto::v1::result::Result as Found;
use proto::v1::{
    BatchRequest, BatchResponse, DeleteResponse, ExistsResponse, GetResponse, Item, MapResponse, PutResponse,
    Result as Answer, Retry, TxnResponse,
};
use tokio::sync::watch;

#[derive(Default)]
pub struct Store {
    inner: Mutex<Inner>,
    pub map: watch::Sender<MapResponse>,
}

#[derive(Default)]
struct Inner {
    items: BTreeMap<Bytes, Item>,
    sessions: HashMap<(Bytes, u64), Answer>,
    version: u64,
    applied: u64,
}

impl Store {
    /// Writes that were applied.
    pub fn applied(&self) -> u64 {
        self.inner.lock().applied
    }

    pub fn keys(&self) -> Vec<Bytes> {
        self.inner.lock().items.keys().cloned().collect()
    }

    /// Does an operation, or gives the answer that its sequence got before.
    pub fn apply(&self, operation: Op) -> Answer {
        let mut inner = self.inner.lock();
        let retry = match &operation {
            Op::Put(put) => put.retry.clone(),
            Op::Delete(delete) => delete.retry.clone(),
            Op::Batch(batch) => batch.retry.clone(),
            Op::Txn(txn) => txn.retry.clone(),
            Op::Modify(modify) => modify.retry.clone(),
            Op::Copy(copy) => copy.retry.clone(),
            Op::Get(_) | Op::Exists(_) | Op::Clear(_) => None,
        };
        inner.once(retry, |inner| inner.apply(operation))
    }
}

impl Inner {
    fn once(&mut self, retry: Option<Retry>, apply: impl FnOnce(&mut Self) -> Answer) -> Answer {
        let Some(retry) = retry else { return apply(self) };
        let session = (retry.client, retry.sequence);
        if let Some(answer) = self.sessions.get(&session) {
            return answer.clone();
        }
        let answer = apply(self);
        self.sessions.insert(session, answer.clone());
        answer
    }

    fn apply(&mut self, operation: Op) -> Answer {
        let found = match operation {
            Op::Get(get) => Found::Get(GetResponse { item: self.items.get(&get.key).cloned() }),
            Op::Exists(exists) => {
                Found::Exists(ExistsResponse { exists: self.items.contains_key(&exists.key) })
            }
            Op::Put(put) => {
                self.version += 1;
                self.applied += 1;
                let version = self.version;
                let item = Item { key: put.key.clone(), value: put.value, version, ..Item::default() };
                self.items.insert(put.key, item);
                Found::Put(PutResponse { applied: true, version })
            }
            Op::Delete(delete) => {
                self.applied += 1;
                let deleted = self.items.remove(&delete.key).is_some();
                Found::Delete(DeleteResponse { deleted, version: 0 })
            }
            Op::Batch(batch) => Found::Batch(self.batch(batch)),
            Op::Txn(txn) => {
                let results = txn.then.into_iter().filter_map(|op| op.operation).map(|op| self.apply(op));
                Found::Txn(TxnResponse { results: results.collect(), succeeded: true })
            }
            Op::Modify(_) | Op::Copy(_) | Op::Clear(_) => {
                panic!("the client does not send it: {operation:?}")
            }
        };
        Answer { result: Some(found) }
    }

    fn batch(&mut self, batch: BatchRequest) -> BatchResponse {
        let results = batch.operations.into_iter().filter_map(|op| op.operation).map(|op| self.apply(op));
        BatchResponse { results: results.collect(), applied: true }
    }
}
