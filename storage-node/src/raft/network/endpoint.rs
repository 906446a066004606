//! Local replicas, as what comes in from peers reaches them.

use std::sync::Arc;

use futures::stream::BoxStream;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse, VoteRequest,
    VoteResponse,
};

use super::snapshot_files::SnapshotFiles;
use crate::raft::type_config::{LogId, SnapshotMeta, TypeConfig, Vote};

/// The replicas that this node holds.
pub trait Replicas: Send + Sync + 'static {
    /// The endpoint of a local replica of a group. None: this node does not hold that
    /// replica, and the message is refused.
    fn endpoint(&self, group: u64, replica: u64) -> Option<Arc<dyn Endpoint>>;
}

/// A local replica. The error text of every method means that the replica cannot answer, now
/// or at all: it has stopped, or its disk failed.
#[tonic::async_trait]
pub trait Endpoint: Send + Sync + 'static {
    /// Appends one after the other, of which many may be under way. One result for each, in
    /// their order; the stream ends after a result that is not a success, or when the input
    /// does.
    fn append_stream(
        &self,
        input: BoxStream<'static, AppendEntriesRequest<TypeConfig>>,
    ) -> BoxStream<'static, Result<StreamAppendResult<TypeConfig>, String>>;

    /// One append by itself: a heartbeat.
    async fn append(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> Result<StreamAppendResult<TypeConfig>, String>;

    /// A candidate asks for a vote.
    async fn vote(&self, request: VoteRequest<TypeConfig>) -> Result<VoteResponse<TypeConfig>, String>;

    /// A replica asks whether it would get a vote.
    async fn pre_vote(&self, request: VoteRequest<TypeConfig>) -> Result<VoteResponse<TypeConfig>, String>;

    /// The leader hands leadership on, to this replica or another.
    async fn transfer_leader(
        &self,
        request: TransferLeaderRequest<TypeConfig>,
    ) -> Result<TransferLeaderResponse<TypeConfig>, String>;

    /// The leader sends its state. Returns the replica's vote, which is higher than the
    /// leader's when the leader is none any more and nothing was installed.
    async fn install_snapshot(
        &self,
        vote: Vote,
        meta: SnapshotMeta,
        files: SnapshotFiles,
    ) -> Result<Vote, String>;

    /// The leader asks whether the replica will sleep; its log should end there. A replica
    /// that cannot sleep does not.
    async fn sleep(&self, _vote: Vote, _last: LogId) -> Result<bool, String> {
        Ok(false)
    }
}
