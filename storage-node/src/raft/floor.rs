//! A new replica of a partition that was split takes nothing from before that.
//!
//! The log before the split writes keys that the other part owns since, whose replica may be on this
//! very node. So a replica that has nothing begins after it, by a snapshot, and refuses all else; its
//! leader drops that part of its log before it adds anybody. One that has state was there when the
//! partition was whole, and applies the split as the others do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use futures::stream::BoxStream;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse, VoteRequest,
    VoteResponse,
};

use super::network::endpoint::Endpoint;
use super::network::snapshot_files::SnapshotFiles;
use super::state_machine::Applied;
use super::type_config::{LogId, SnapshotMeta, TypeConfig, Vote};

const BEFORE_SPLIT: &str = "this replica begins after the partition was split: it needs a snapshot";

/// Refuses what came before the last split, as long as the replica has nothing.
pub struct FloorEndpoint<E> {
    inner: E,
    floor: Arc<Floor>,
}

struct Floor {
    applied: Arc<Applied>,
    /// The entry of the split; 0: nothing is refused any more.
    entry: AtomicU64,
}

impl Floor {
    /// Whether an entry of that index is from before the split, or is it.
    fn refuses(&self, index: Option<u64>) -> bool {
        let floor = self.entry.load(Ordering::Acquire);
        if floor == 0 {
            return false;
        }
        if self.applied.progress().applied.is_some() {
            self.entry.store(0, Ordering::Release);
            return false;
        }
        index.is_none_or(|index| index <= floor)
    }

    fn refuses_entries(&self, request: &AppendEntriesRequest<TypeConfig>) -> bool {
        request.entries.first().is_some_and(|first| self.refuses(Some(first.log_id.index())))
    }
}

impl<E: Endpoint> FloorEndpoint<E> {
    /// The endpoint of a replica that has applied what is said there.
    pub fn new(inner: E, applied: Arc<Applied>) -> Self {
        let since = applied.descriptor().map_or(0, |owned| owned.since);
        let floor = Arc::new(Floor { applied, entry: AtomicU64::new(since) });
        Self { inner, floor }
    }
}

#[tonic::async_trait]
impl<E: Endpoint> Endpoint for FloorEndpoint<E> {
    fn append_stream(
        &self,
        input: BoxStream<'static, AppendEntriesRequest<TypeConfig>>,
    ) -> BoxStream<'static, Result<StreamAppendResult<TypeConfig>, String>> {
        let floor = Arc::clone(&self.floor);
        if !floor.refuses(None) {
            return self.inner.append_stream(input);
        }
        // The pipeline ends at what is refused, and its sender begins another.
        let allowed = input.take_while(move |request| std::future::ready(!floor.refuses_entries(request)));
        let floor = Arc::clone(&self.floor);
        let refusal = futures::stream::once(async move { floor.refuses(None) });
        let refusal =
            refusal.filter_map(|refuses| std::future::ready(refuses.then(|| Err(BEFORE_SPLIT.to_owned()))));
        self.inner.append_stream(allowed.boxed()).chain(refusal).boxed()
    }

    async fn append(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> Result<StreamAppendResult<TypeConfig>, String> {
        if self.floor.refuses_entries(&request) {
            return Err(BEFORE_SPLIT.to_owned());
        }
        self.inner.append(request).await
    }

    async fn vote(&self, request: VoteRequest<TypeConfig>) -> Result<VoteResponse<TypeConfig>, String> {
        self.inner.vote(request).await
    }

    async fn pre_vote(&self, request: VoteRequest<TypeConfig>) -> Result<VoteResponse<TypeConfig>, String> {
        self.inner.pre_vote(request).await
    }

    async fn transfer_leader(
        &self,
        request: TransferLeaderRequest<TypeConfig>,
    ) -> Result<TransferLeaderResponse<TypeConfig>, String> {
        self.inner.transfer_leader(request).await
    }

    async fn install_snapshot(
        &self,
        vote: Vote,
        meta: SnapshotMeta,
        files: SnapshotFiles,
    ) -> Result<Vote, String> {
        let last = meta.last_log_id.as_ref().map(LogId::index);
        // The split itself may be the last of it.
        if self.floor.refuses(last.map(|last| last + 1)) {
            return Err("this snapshot is from before the partition was split".to_owned());
        }
        self.inner.install_snapshot(vote, meta, files).await
    }

    async fn sleep(&self, vote: Vote, last: LogId) -> Result<bool, String> {
        self.inner.sleep(vote, last).await
    }
}
