//! A replica that openraft runs, behind its restart guard.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use openraft::Raft;
use openraft::entry::RaftEntry;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::storage::{RaftStateMachine, Snapshot};

use super::endpoint::Endpoint;
use super::guard::Guard;
use super::snapshot_files::SnapshotFiles;
use crate::raft::type_config::{Entry, SnapshotMeta, TypeConfig, Vote};

/// What peers reach a replica by.
pub struct RaftEndpoint<SM>
where
    SM: RaftStateMachine<TypeConfig, SnapshotData = SnapshotFiles>,
{
    raft: Raft<TypeConfig, SM>,
    guard: Arc<Guard>,
}

impl<SM> RaftEndpoint<SM>
where
    SM: RaftStateMachine<TypeConfig, SnapshotData = SnapshotFiles>,
{
    /// The endpoint of a replica. The guard also has to keep it from standing: see
    /// [`Guard::keep_from_standing`].
    pub fn new(raft: Raft<TypeConfig, SM>, guard: Arc<Guard>) -> Self {
        Self { raft, guard }
    }

    async fn stored_vote(&self) -> Result<Vote, String> {
        self.raft.with_raft_state(|state| *state.vote_ref()).await.map_err(|fatal| fatal.to_string())
    }

    /// The answer of a replica that keeps still: its own vote and log, which tells the
    /// candidate of a higher term or a longer log as any other refusal would.
    async fn not_granted(&self) -> Result<VoteResponse<TypeConfig>, String> {
        let state =
            self.raft.with_raft_state(|state| (*state.vote_ref(), state.log_ids.last().copied())).await;
        let (vote, last) = state.map_err(|fatal| fatal.to_string())?;
        Ok(VoteResponse::new(vote, last, false))
    }

    async fn lift_guard(&self, request: &TransferLeaderRequest<TypeConfig>) -> Result<(), String> {
        if self.guard.stands() {
            self.guard.lift_by_transfer(request.from_leader(), &self.stored_vote().await?);
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl<SM> Endpoint for RaftEndpoint<SM>
where
    SM: RaftStateMachine<TypeConfig, SnapshotData = SnapshotFiles>,
{
    fn append_stream(
        &self,
        input: BoxStream<'static, AppendEntriesRequest<TypeConfig>>,
    ) -> BoxStream<'static, Result<StreamAppendResult<TypeConfig>, String>> {
        self.raft.stream_append(input).map(|result| result.map_err(|fatal| fatal.to_string())).boxed()
    }

    async fn append(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> Result<StreamAppendResult<TypeConfig>, String> {
        // The same as a stream of one, without the task that openraft starts for a stream.
        let previous = request.prev_log_id;
        let last = request.entries.last().map(Entry::log_id).or(previous);
        let answer = self.raft.append_entries(request).await.map_err(|error| error.to_string())?;
        match (answer, previous) {
            (AppendEntriesResponse::Success, _) => Ok(Ok(last)),
            (AppendEntriesResponse::PartialSuccess(upto), _) => Ok(Ok(upto)),
            (AppendEntriesResponse::HigherVote(vote), _) => Ok(Err(StreamAppendError::HigherVote(vote))),
            (AppendEntriesResponse::Conflict, Some(at)) => Ok(Err(StreamAppendError::Conflict(at))),
            (AppendEntriesResponse::Conflict, None) => Err("nothing comes before the first entry".to_owned()),
        }
    }

    async fn vote(&self, request: VoteRequest<TypeConfig>) -> Result<VoteResponse<TypeConfig>, String> {
        if self.guard.stands() {
            return self.not_granted().await;
        }
        self.raft.vote(request).await.map_err(|error| error.to_string())
    }

    async fn pre_vote(&self, request: VoteRequest<TypeConfig>) -> Result<VoteResponse<TypeConfig>, String> {
        if self.guard.stands() {
            return self.not_granted().await;
        }
        self.raft.pre_vote(request).await.map_err(|error| error.to_string())
    }

    async fn transfer_leader(
        &self,
        request: TransferLeaderRequest<TypeConfig>,
    ) -> Result<TransferLeaderResponse<TypeConfig>, String> {
        self.lift_guard(&request).await?;
        let answer =
            self.raft.handle_transfer_leader(request.clone()).await.map_err(|fatal| fatal.to_string())?;
        // openraft waits a while for the entries that the chosen replica still lacks; with
        // them comes the leader's vote where it was not stored yet.
        if answer.is_ok() {
            self.lift_guard(&request).await?;
        }
        Ok(answer)
    }

    async fn install_snapshot(
        &self,
        vote: Vote,
        meta: SnapshotMeta,
        files: SnapshotFiles,
    ) -> Result<Vote, String> {
        let installed = self.raft.install_full_snapshot(vote, Snapshot { meta, snapshot: files }).await;
        installed.map(|answer| answer.vote).map_err(|fatal| fatal.to_string())
    }
}
