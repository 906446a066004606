//! A replica that may sleep, as what comes in from peers reaches it.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse, VoteRequest,
    VoteResponse,
};

use super::Sleep;
use crate::raft::network::endpoint::Endpoint;
use crate::raft::network::snapshot_files::SnapshotFiles;
use crate::raft::type_config::{LogId, SnapshotMeta, TypeConfig, Vote};

/// Wakes the replica for what comes, and lets it sleep when its leader asks.
pub struct SleepyEndpoint<E> {
    awake: E,
    sleep: Arc<Sleep>,
}

impl<E: Endpoint> SleepyEndpoint<E> {
    /// An endpoint before that of a replica which is awake.
    pub fn new(awake: E, sleep: Arc<Sleep>) -> Self {
        Self { awake, sleep }
    }

    /// The answer to a candidate that nobody needs: the leader sleeps and is there. If it is
    /// this replica, it wakes and says so to all.
    async fn refuse(
        &self,
        request: &VoteRequest<TypeConfig>,
    ) -> Option<Result<VoteResponse<TypeConfig>, String>> {
        if request.leadership_transfer || !self.sleep.refuses_votes() {
            self.sleep.touch();
            return None;
        }
        if self.sleep.state.lock().is_some_and(|asleep| asleep.leader.is_none()) {
            self.sleep.touch();
        }
        let state =
            self.sleep.raft.with_raft_state(|state| (*state.vote_ref(), state.log_ids.last().copied())).await;
        Some(match state {
            Ok((vote, last)) => Ok(VoteResponse::new(vote, last, false)),
            Err(fatal) => Err(fatal.to_string()),
        })
    }
}

#[tonic::async_trait]
impl<E: Endpoint> Endpoint for SleepyEndpoint<E> {
    fn append_stream(
        &self,
        input: BoxStream<'static, AppendEntriesRequest<TypeConfig>>,
    ) -> BoxStream<'static, Result<StreamAppendResult<TypeConfig>, String>> {
        let sleep = Arc::clone(&self.sleep);
        self.awake.append_stream(input.inspect(move |_| sleep.touch()).boxed())
    }

    async fn append(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> Result<StreamAppendResult<TypeConfig>, String> {
        self.sleep.touch();
        self.awake.append(request).await
    }

    async fn vote(&self, request: VoteRequest<TypeConfig>) -> Result<VoteResponse<TypeConfig>, String> {
        match self.refuse(&request).await {
            Some(refusal) => refusal,
            None => self.awake.vote(request).await,
        }
    }

    async fn pre_vote(&self, request: VoteRequest<TypeConfig>) -> Result<VoteResponse<TypeConfig>, String> {
        match self.refuse(&request).await {
            Some(refusal) => refusal,
            None => self.awake.pre_vote(request).await,
        }
    }

    async fn transfer_leader(
        &self,
        request: TransferLeaderRequest<TypeConfig>,
    ) -> Result<TransferLeaderResponse<TypeConfig>, String> {
        self.sleep.touch();
        self.awake.transfer_leader(request).await
    }

    async fn install_snapshot(
        &self,
        vote: Vote,
        meta: SnapshotMeta,
        files: SnapshotFiles,
    ) -> Result<Vote, String> {
        self.sleep.touch();
        self.awake.install_snapshot(vote, meta, files).await
    }

    async fn sleep(&self, vote: Vote, last: LogId) -> Result<bool, String> {
        self.sleep.follow_to_sleep(vote, last).await
    }
}
