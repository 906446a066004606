//! `trilith.v1.Peer`: for the other nodes only, on a port of its own.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};
use placement::{ClusterId, NodeId, PartitionId, Revision};
use prost::Message;
use proto::v1::peer_server::Peer;
use proto::v1::{
    ChangeReplicasRequest, ChangeReplicasResponse, FollowRequest, FollowResponse, Frame, GroupStatusRequest,
    GroupStatusResponse, MetaCallRequest, MetaCallResponse, RegisterRequest, RegisterResponse, ReportRequest,
    ReportResponse, SnapshotAnswer, SnapshotPiece, TransferLeadersResponse, WatchPartitionRequest,
    WatchPartitionResponse,
};
use tonic::{Request, Response, Status, Streaming};

use super::{context_of, status};
use crate::control::{driver, follower, join, service};
use crate::node::{Member, Node};
use crate::seams::clock;
use crate::watch::away;
use crate::watch::leg::Leg;
use crate::watch::signal::Signal;

/// A follower hears at least this often.
const FOLLOW_AT_LEAST: Duration = Duration::from_secs(1);
const HAND_OVER: Duration = Duration::from_secs(5);

/// What other nodes ask.
#[derive(Clone)]
pub struct PeerDoor {
    node: Arc<Node>,
}

type Frames = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;
type Answers = Pin<Box<dyn Stream<Item = Result<FollowResponse, Status>> + Send>>;

impl PeerDoor {
    /// The door of a node.
    pub fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    fn member(&self) -> Result<Arc<Member>, Status> {
        self.node.member().map_err(status)
    }

    /// The member, for somebody who says which cluster it means.
    fn member_of(&self, cluster: &[u8]) -> Result<Arc<Member>, Status> {
        let member = self.member()?;
        match ClusterId::from_bytes(cluster) {
            Some(other) if other == member.cluster => Ok(member),
            other => Err(status(join::wrong_cluster(member.cluster, other.unwrap_or_default(), None))),
        }
    }
}

#[tonic::async_trait]
impl Peer for PeerDoor {
    type ExchangeStream = Frames;

    async fn exchange(&self, request: Request<Streaming<Frame>>) -> Result<Response<Frames>, Status> {
        let member = self.member()?;
        let answers = member.inbound.exchange(request).await?;
        Ok(answers.map(|frames| -> Frames { Box::pin(frames) }))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<SnapshotPiece>>,
    ) -> Result<Response<SnapshotAnswer>, Status> {
        self.member()?.inbound.snapshot(request).await
    }

    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        self.member()?.service.register(request.into_inner()).await.map(Response::new).map_err(status)
    }

    type FollowStream = Answers;

    async fn follow(&self, request: Request<FollowRequest>) -> Result<Response<Answers>, Status> {
        let request = request.into_inner();
        let member = self.member_of(&request.cluster)?;
        let not_leader = FollowResponse {
            not_leader: true,
            meta_leader_address: member.link.leader_address(),
            ..FollowResponse::default()
        };
        let refuse = || -> Answers { stream::once(std::future::ready(Ok(not_leader.clone()))).boxed() };
        // The first answer is linearizable: a deposed leader has none.
        let (Some(group), Ok(_)) = (member.meta.group(), member.meta.state().await) else {
            return Ok(Response::new(refuse()));
        };
        let changes = group.applied().meta();
        let begin = (changes, Revision(request.from_revision), true);
        let leads = Arc::clone(&member.link);
        let answers = stream::unfold(begin, move |(mut changes, known, first)| {
            let leads = Arc::clone(&leads);
            async move {
                if !first {
                    let _ = tokio::time::timeout(FOLLOW_AT_LEAST, changes.changed()).await;
                }
                if !leads.leads() {
                    return None;
                }
                let state = changes.borrow_and_update().clone()?;
                let answer = follower::answer(&state, known, String::new());
                let known = Revision(answer.revision);
                Some((Ok(answer), (changes, known, false)))
            }
        });
        let closing = member.closing();
        Ok(Response::new(answers.take_until(closing.cancelled_owned()).boxed()))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let request = request.into_inner();
        let member = self.member_of(&request.cluster)?;
        let Some(node) = NodeId::from_bytes(&request.node) else {
            return Err(Status::invalid_argument("a node id is a UUID: 16 bytes"));
        };
        let mut answer = member.meta.hear(node, request);
        if answer.not_leader {
            answer.meta_leader_address = member.link.leader_address();
        }
        Ok(Response::new(answer))
    }

    async fn change_replicas(
        &self,
        request: Request<ChangeReplicasRequest>,
    ) -> Result<Response<ChangeReplicasResponse>, Status> {
        let member = self.member()?;
        let request = request.into_inner();
        let Some(group) = member.groups.get(PartitionId(request.group)) else {
            let refused = "this node holds no replica of the partition".to_owned();
            return Ok(Response::new(ChangeReplicasResponse {
                refused,
                ..ChangeReplicasResponse::default()
            }));
        };
        Ok(Response::new(driver::change_replicas(&group, request).await))
    }

    async fn group_status(
        &self,
        request: Request<GroupStatusRequest>,
    ) -> Result<Response<GroupStatusResponse>, Status> {
        let group =
            self.member()?.groups.get(PartitionId(request.into_inner().group)).map(|group| group.report());
        Ok(Response::new(GroupStatusResponse { absent: group.is_none(), group }))
    }

    type WatchPartitionStream = Pin<Box<dyn Stream<Item = Result<WatchPartitionResponse, Status>> + Send>>;

    async fn watch_partition(
        &self,
        request: Request<WatchPartitionRequest>,
    ) -> Result<Response<Self::WatchPartitionStream>, Status> {
        let request = request.into_inner();
        let member = self.member_of(&request.cluster)?;
        let signal = Arc::new(Signal::default());
        let leg = Leg::for_another(&member.router, &request, &signal).map_err(status)?;
        let responses = away::serve(leg, signal).map(Ok);
        Ok(Response::new(responses.take_until(member.closing().cancelled_owned()).boxed()))
    }

    async fn meta_call(
        &self,
        request: Request<MetaCallRequest>,
    ) -> Result<Response<MetaCallResponse>, Status> {
        let context = context_of(request.metadata());
        let request = request.into_inner();
        let member = self.member_of(&request.cluster)?;
        if request.method == "TransferLeaders" {
            let (transferred, left) = member.groups.hand_over_all(&HashSet::new(), HAND_OVER).await;
            let answer = TransferLeadersResponse { transferred: transferred as u64, left: left as u64 };
            let response = answer.encode_to_vec().into();
            return Ok(Response::new(MetaCallResponse { response, ..MetaCallResponse::default() }));
        }
        let deadline = clock::now() + context.left();
        let answer = match member.service.answer(&request.method, request.request, deadline).await {
            Ok(response) => MetaCallResponse { response, ..MetaCallResponse::default() },
            Err(failure) if service::is_not_leader(&failure) => MetaCallResponse {
                not_leader: true,
                meta_leader_address: member.link.leader_address(),
                ..MetaCallResponse::default()
            },
            Err(failure) => MetaCallResponse { failure: Some(failure), ..MetaCallResponse::default() },
        };
        Ok(Response::new(answer))
    }
}
