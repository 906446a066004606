//! A table's keys: one call, one operation.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::v1::{
    DeleteRequest, DeleteResponse, ExistsRequest, Item, ModifyRequest, ModifyResponse, PutResponse, QueryPlan,
};

use crate::attempts::{Attempts, Place, unary};
use crate::batch::{self, BatchOutcome};
use crate::client::Client;
use crate::core::kv_client;
use crate::error::Error;
use crate::operation::{Condition, GetOptions, Operation, Patch, PutOptions, get_request, put_request};
use crate::query::{self, Query, QueryOptions};
use crate::retry::Effect;
use crate::scan::{Scan, ScanOptions};
use crate::txn::{self, Txn, TxnOutcome};
use crate::watch::{Watch, WatchOptions};

/// A table's keys. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Table {
    client: Client,
    name: Arc<str>,
    deadline: Duration,
}

impl Table {
    pub(crate) fn new(client: Client, name: &str) -> Self {
        let deadline = client.shared().options.deadline;
        Self { client, name: name.into(), deadline }
    }

    /// The same table with another deadline for each call.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The item of a key, as of now: it shows every write that was acknowledged before.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<Item>, Error> {
        self.get_with(key, GetOptions::default()).await
    }

    /// The item of a key from any replica, possibly an older one.
    pub async fn get_stale(&self, key: impl Into<Bytes>) -> Result<Option<Item>, Error> {
        self.get_with(key, GetOptions { stale: true, ..GetOptions::default() }).await
    }

    /// Writes a key. Whether the condition held is in the answer.
    pub async fn put(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        options: PutOptions,
    ) -> Result<PutResponse, Error> {
        let (key, value) = (key.into(), value.into());
        unary(self.attempts(&key, Effect::Sequenced), |attempt| {
            let retry = attempt.retry.clone();
            let message = put_request(self.name.to_string(), key.clone(), value.clone(), &options, retry);
            async move { kv_client(attempt.channel.clone()).put(attempt.request(message)).await }
        })
        .await
    }

    /// Changes parts of a value that is JSON, in one step with looking at it. Whether the condition
    /// held is in the answer.
    pub async fn patch(
        &self,
        key: impl Into<Bytes>,
        patch: Patch,
        condition: Option<Condition>,
    ) -> Result<ModifyResponse, Error> {
        let key = key.into();
        unary(self.attempts(&key, Effect::Sequenced), |attempt| {
            let message = ModifyRequest {
                table: self.name.to_string(),
                key: key.clone(),
                change: Some(patch.clone().into()),
                condition: condition.map(Into::into),
                retry: attempt.retry.clone(),
                ..ModifyRequest::default()
            };
            async move { kv_client(attempt.channel.clone()).modify(attempt.request(message)).await }
        })
        .await
    }

    /// Deletes a key. Whether there was one, and whether the condition held, is in the
    /// answer.
    pub async fn delete(
        &self,
        key: impl Into<Bytes>,
        condition: Option<Condition>,
    ) -> Result<DeleteResponse, Error> {
        let key = key.into();
        unary(self.attempts(&key, Effect::Sequenced), |attempt| {
            let message = DeleteRequest {
                table: self.name.to_string(),
                key: key.clone(),
                condition: condition.map(Into::into),
                retry: attempt.retry.clone(),
            };
            async move { kv_client(attempt.channel.clone()).delete(attempt.request(message)).await }
        })
        .await
    }

    /// Whether there is such a key.
    pub async fn exists(&self, key: impl Into<Bytes>) -> Result<bool, Error> {
        let key = key.into();
        let answer = unary(self.attempts(&key, Effect::Repeatable), |attempt| {
            let message = ExistsRequest { table: self.name.to_string(), key: key.clone(), stale: false };
            async move { kv_client(attempt.channel.clone()).exists(attempt.request(message)).await }
        })
        .await?;
        Ok(answer.exists)
    }

    /// Does many operations, each by itself. The list may be of any length: it is split
    /// by partition and by size, and the parts run side by side. Operations on one key
    /// are done in their order.
    pub async fn batch(&self, operations: Vec<Operation>) -> BatchOutcome {
        batch::independent(&self.client, &self.name, operations, self.deadline).await
    }

    /// Does all operations or none. All keys must be of one slot, and the list within the
    /// limits of a batch. When a condition does not hold, nothing is written, which the
    /// outcome says.
    pub async fn batch_atomic(&self, operations: Vec<Operation>) -> Result<BatchOutcome, Error> {
        batch::atomic(&self.client, &self.name, operations, self.deadline).await
    }

    /// Compares, then does one of two lists, atomically, on keys of one slot.
    pub async fn txn(&self, txn: Txn) -> Result<TxnOutcome, Error> {
        txn::run(&self.client, &self.name, &txn, self.deadline).await
    }

    /// Items in key order over the whole table.
    pub fn scan(&self, options: ScanOptions) -> Scan {
        Scan::new(self.client.clone(), &self.name, &options, self.deadline)
    }

    /// Items by what an index says of them, in its order over the whole table.
    pub fn query(&self, index: &str, options: &QueryOptions) -> Query {
        Query::new(self.client.clone(), &self.name, index, options, self.deadline)
    }

    /// How many items a query would give; its limit and cursor count for nothing. How that was found
    /// is said where the options ask for it.
    pub async fn query_count(
        &self,
        index: &str,
        options: &QueryOptions,
    ) -> Result<(u64, Option<QueryPlan>), Error> {
        query::count(self.client.clone(), &self.name, index, options, self.deadline).await
    }

    /// Changes as they happen.
    pub fn watch(&self, options: WatchOptions) -> Watch {
        Watch::new(self.client.clone(), &self.name, options, self.deadline)
    }

    /// The name of the table, as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The item of a key, or parts of it. One path that leads nowhere leaves the value empty, which
    /// no JSON is.
    pub async fn get_with(&self, key: impl Into<Bytes>, options: GetOptions) -> Result<Option<Item>, Error> {
        let key = key.into();
        let answer = unary(self.attempts(&key, Effect::Repeatable), |attempt| {
            let message = get_request(self.name.to_string(), key.clone(), &options);
            async move { kv_client(attempt.channel.clone()).get(attempt.request(message)).await }
        })
        .await?;
        Ok(answer.item)
    }

    fn attempts(&self, key: &Bytes, effect: Effect) -> Attempts {
        let place = Place::Key { table: Arc::clone(&self.name), key: key.clone() };
        Attempts::new(&self.client, place, effect, self.deadline)
    }
}
