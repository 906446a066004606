//! The network that openraft sees.

use std::sync::Arc;

use futures::{Stream, StreamExt};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption, RPCTypes,
    RaftNetworkFactory,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse, VoteRequest,
    VoteResponse,
};
use openraft::storage::Snapshot;
use openraft::type_config::alias::SnapshotOf;
use proto::v1::message::Body;

use super::contacts::Contacts;
use super::lane::{LaneKind, Route, backoff};
use super::peers::{Peer, Peers};
use super::pipeline::{AppendResult, Pipeline, unreachable};
use super::session::CallError;
use super::snapshot_files::SnapshotFiles;
use super::snapshot_sender::{SendError, SnapshotSender};
use super::wire;
use crate::raft::type_config::{ReplicaPlace, TypeConfig, Vote};
use crate::seams::clock;

/// What a replica reaches the others of its group by.
#[derive(Clone)]
pub struct NetworkFactory {
    peers: Arc<Peers>,
    group: u64,
    from: u64,
    contacts: Arc<Contacts>,
}

impl NetworkFactory {
    pub(super) fn new(peers: Arc<Peers>, group: u64, from: u64) -> Self {
        Self { peers, group, from, contacts: Arc::default() }
    }

    /// When each follower was last known to follow.
    pub fn contacts(&self) -> Arc<Contacts> {
        Arc::clone(&self.contacts)
    }

    fn network(&self, appends: LaneKind, to: u64, place: ReplicaPlace) -> Network {
        let route = Route { group: self.group, from: self.from, to };
        let contacts = Arc::clone(&self.contacts);
        Network { peer: self.peers.peer(place.node), route, appends, contacts }
    }
}

impl RaftNetworkFactory<TypeConfig> for NetworkFactory {
    type Network = Network;

    async fn new_client(&mut self, target: u64, node: &ReplicaPlace) -> Network {
        self.network(LaneKind::Log, target, *node)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &ReplicaPlace) -> Network {
        self.network(LaneKind::Control, target, *node)
    }

    // A snapshot opens a connection of its own whichever client sends it.
    async fn new_snapshot_client(&mut self, target: u64, node: &ReplicaPlace) -> Network {
        self.network(LaneKind::Log, target, *node)
    }
}

/// The way to one other replica.
pub struct Network {
    peer: Arc<Peer>,
    route: Route,
    /// The lane for appends: that of control for the client that sends heartbeats.
    appends: LaneKind,
    contacts: Arc<Contacts>,
}

impl Network {
    /// Asks over the control lane, within the time that openraft gives it.
    async fn ask(
        &self,
        what: RPCTypes,
        body: Body,
        option: &RPCOption,
    ) -> Result<Body, RPCError<TypeConfig>> {
        let timeout = option.hard_ttl();
        let call = self.peer.lane(LaneKind::Control).call(self.route, body);
        match tokio::time::timeout(timeout, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                let Route { group, to, .. } = self.route;
                tracing::debug!(group, to, ?what, %error, "a replica was not asked");
                Err(unreachable(error))
            }
            Err(_) => {
                Err(Timeout { action: what, id: self.route.from, target: self.route.to, timeout }.into())
            }
        }
    }

    async fn heartbeat(&self, append: AppendEntriesRequest<TypeConfig>, option: &RPCOption) -> AppendResult {
        let body = Body::Append(wire::append_out(&append, 0, 0));
        let sent = clock::now();
        match self.ask(RPCTypes::AppendEntries, body, option).await? {
            Body::AppendAnswer(answer) => {
                let result = wire::append_result_in(answer).map_err(unreachable)?.map_err(unreachable)?;
                if result.is_ok() {
                    self.contacts.note(self.route.to, append.vote.leader_id().term, sent);
                }
                Ok(result)
            }
            _ => Err(other_answer()),
        }
    }
}

impl NetBackoff<TypeConfig> for Network {
    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new((1..).map(backoff)))
    }
}

impl NetStreamAppend<TypeConfig> for Network {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, AppendResult>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        Box::pin(async move {
            let results: BoxStream<'s, _> = match self.appends {
                LaneKind::Control => Box::pin(heartbeats(self, input, option)),
                LaneKind::Log | LaneKind::Operations => {
                    let patience = self.peer.shared.settings.append_patience.max(option.soft_ttl());
                    let lane = self.peer.lane(self.appends);
                    match Pipeline::open(lane, self.route, input, patience, Arc::clone(&self.contacts)) {
                        Ok(pipeline) => Box::pin(pipeline),
                        Err((input, error)) => Box::pin(refused(input, error)),
                    }
                }
            };
            Ok(results)
        })
    }
}

/// The results where there is no way to the peer. openraft waits out its backoff before it gives
/// an append, and not before it opens a stream: a stream that is refused without an append being
/// taken from it is opened again at once, for as long as the peer is away.
fn refused<S>(mut input: S, error: CallError) -> impl Stream<Item = AppendResult> + Send
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    futures::stream::once(async move {
        input.next().await;
        Err(unreachable(error))
    })
}

/// Heartbeats come one to a stream, so one after the other is as good as a pipeline and
/// leaves nothing behind at the receiver.
fn heartbeats<S>(
    network: &Network,
    input: S,
    option: RPCOption,
) -> impl Stream<Item = AppendResult> + Send + '_
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    futures::stream::unfold(Some((input, option)), move |state| async move {
        let (mut input, option) = state?;
        let append = input.next().await?;
        let result = network.heartbeat(append, &option).await;
        let go_on = matches!(result, Ok(Ok(_)));
        Some((result, go_on.then_some((input, option))))
    })
}

impl NetVote<TypeConfig> for Network {
    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let body = Body::Vote(wire::vote_request_out(&request));
        match self.ask(RPCTypes::Vote, body, &option).await? {
            Body::VoteAnswer(answer) => wire::vote_answer_in(answer).map_err(unreachable),
            _ => Err(other_answer()),
        }
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let body = Body::PreVote(wire::vote_request_out(&request));
        match self.ask(RPCTypes::Vote, body, &option).await? {
            Body::PreVoteAnswer(answer) => wire::vote_answer_in(answer).map_err(unreachable),
            _ => Err(other_answer()),
        }
    }
}

impl NetTransferLeader<TypeConfig> for Network {
    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let body = Body::Transfer(wire::transfer_out(&request));
        match self.ask(RPCTypes::TransferLeader, body, &option).await? {
            Body::TransferAnswer(answer) => wire::transfer_answer_in(answer, &request).map_err(unreachable),
            _ => Err(other_answer()),
        }
    }
}

impl NetSnapshot<TypeConfig> for Network {
    type SnapshotData = SnapshotFiles;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotFiles>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        const PIECE: (usize, usize) = (256 << 10, 1 << 20);
        let sender = SnapshotSender {
            shared: Arc::clone(&self.peer.shared),
            to: self.peer.node(),
            route: self.route,
            piece: option.snapshot_chunk_size().unwrap_or(PIECE.1).clamp(PIECE.0, PIECE.1),
        };
        let Snapshot { meta, snapshot } = snapshot;
        let sent = tokio::select! {
            biased;
            closed = cancel => return Err(StreamingError::Closed(closed)),
            sent = sender.send(vote, &meta, snapshot) => sent,
        };
        sent.map(SnapshotResponse::new).map_err(|error| match error {
            // openraft takes a storage error for the end of the whole replica. A scratch
            // folder that is full is not: the next attempt may find space.
            SendError::Files(_) | SendError::NotTaken { .. } | SendError::Stalled(_) => {
                let mut text = error.to_string();
                if let Some(source) = std::error::Error::source(&error) {
                    text = format!("{text}: {source}");
                }
                tracing::warn!(
                    group = self.route.group,
                    to = self.route.to,
                    why = text,
                    "a snapshot did not arrive"
                );
                StreamingError::Unreachable(Unreachable::from_string(text))
            }
        })
    }
}

fn other_answer() -> RPCError<TypeConfig> {
    unreachable("the peer answered something else")
}
