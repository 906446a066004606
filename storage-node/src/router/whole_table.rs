//! What concerns a whole table without being a scan in key order: counting, clearing, and
//! walking it bucket by bucket.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use placement::{Bucket, BucketRange};
use proto::v1::{
    ClearRequest, Failure, ScanPage, ScanPageRequest, error_detail::Detail, operation::Operation as Kind,
};

use super::context::Context;
use super::failure;
use super::operations::Router;
use super::pages::{ASKED_AT_ONCE, PageError};
use super::scan;
use crate::seams::runtime;

impl Router {
    /// How many items a table has, or the part of it that this node leads. They are counted, each
    /// partition at a moment of its own.
    pub async fn count(
        self: &Arc<Self>,
        context: &Context,
        table: &str,
        only_led_here: bool,
    ) -> Result<u64, Failure> {
        loop {
            let id = self.known_table(context, table).await?.id;
            let map = self.map();
            let all = map.map().partitions_of(id);
            let wanted = all.iter().map(|partition| (partition.id, partition.buckets));
            let asks: Vec<_> = wanted
                .filter(|(id, _)| !only_led_here || self.leader_of(*id) == Some(self.parts.node))
                .collect();
            let counts = stream::iter(asks.into_iter().map(|(partition, buckets)| {
                let ask = ScanPageRequest { count_only: true, ..scan::ask_of(partition, buckets) };
                let (router, context) = (Arc::clone(self), context.clone());
                async move { router.ask(&context, ask).await.map(|page| page.count) }
            }));
            let all: Result<Vec<u64>, PageError> = counts.buffer_unordered(ASKED_AT_ONCE).try_collect().await;
            match all {
                Ok(counts) => return Ok(counts.into_iter().sum()),
                Err(PageError::Failed(failure)) => return Err(failure),
                Err(PageError::Remap) => pause(context).await?,
            }
        }
    }

    /// Keys of one bucket, in their order, after the first with that hash: see
    /// [`crate::partition::read::key_hash`].
    pub async fn keys_of_bucket(
        self: &Arc<Self>,
        context: &Context,
        table: &str,
        bucket: Bucket,
        from: FromKey,
        limit: u64,
    ) -> Result<ScanPage, Failure> {
        loop {
            let id = self.known_table(context, table).await?.id;
            let map = self.map();
            let Some(partition) = map.owner_of(id, bucket) else {
                pause(context).await?;
                continue;
            };
            let (start, after_hash) = match &from {
                FromKey::First => (bytes::Bytes::new(), None),
                FromKey::At(key) => (key.clone(), None),
                FromKey::AfterHash(hash) => (bytes::Bytes::new(), Some(*hash)),
            };
            let ask = ScanPageRequest {
                start,
                after_hash,
                keys_only: true,
                limit,
                max_bytes: self.limits().page_bytes,
                bucket: Some(bucket.0.into()),
                ..scan::ask_of(partition.id, BucketRange { first: bucket, last: bucket })
            };
            match self.ask(context, ask).await {
                Ok(page) => return Ok(page),
                Err(PageError::Failed(failure)) => return Err(failure),
                Err(PageError::Remap) => pause(context).await?,
            }
        }
    }

    /// Removes everything in a table, partition by partition.
    pub async fn clear(self: &Arc<Self>, context: &Context, table: &str) -> Result<(), Failure> {
        loop {
            let id = self.known_table(context, table).await?.id;
            let map = self.map();
            let runs: Vec<_> =
                map.map().partitions_of(id).iter().map(|partition| partition.buckets).collect();
            let clears = runs.into_iter().map(|buckets| {
                let clear = ClearRequest {
                    table: table.to_owned(),
                    first_bucket: buckets.first.0.into(),
                    last_bucket: buckets.last.0.into(),
                };
                self.run(context, Kind::Clear(clear))
            });
            let cleared: Result<Vec<_>, Failure> =
                stream::iter(clears).buffer_unordered(ASKED_AT_ONCE).try_collect().await;
            match cleared {
                Ok(_) => return Ok(()),
                // A partition was split. What was cleared already is cleared once more.
                Err(failure) if matches!(failure.reason(), Some(Detail::WrongEpoch(_))) => {
                    pause(context).await?;
                }
                Err(failure) => return Err(failure),
            }
        }
    }
}

/// Where a walk through a bucket begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromKey {
    /// At its first key.
    First,
    /// At this key or the next one.
    At(bytes::Bytes),
    /// After the first key with this hash.
    AfterHash(u64),
}

impl FromKey {
    /// Behind this key.
    pub fn after(key: &[u8]) -> Self {
        Self::At(scan::next_key(key))
    }
}

async fn pause(context: &Context) -> Result<(), Failure> {
    if context.left().is_zero() {
        return Err(failure::retry_after("the partition map changed in the middle: try again", 50));
    }
    tokio::time::sleep(Duration::from_millis(runtime::random_between(5, 20))).await;
    Ok(())
}
