//! What comes in from peers: streams of frames whose messages go to local replicas, each at
//! that replica's own pace.
//!
//! The loop that reads frames never waits for a replica. Appends of a pipeline go into a
//! queue with room for as many as the sender keeps without an answer; everything else is
//! answered by a task of its own, of which there are boundedly many. Answers gather in an
//! outbox and leave as frames, like questions do.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt};
use openraft::raft::AppendEntriesRequest;
use placement::ClusterId;
use prost::Message as _;
use proto::v1::error_detail::Detail;
use proto::v1::message::Body;
use proto::v1::{
    AppendRequest, Failure, ForwardAnswer, Frame, Hello, Message, Refused, RetryAfter, SleepAnswer,
    SnapshotAnswer, SnapshotPiece, WrongCluster, result,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Code, Request, Response, Status, Streaming};

use super::counters::Counters;
use super::endpoint::{Endpoint, Replicas};
use super::forward::Forwarded;
use super::lane::Route;
use super::liveness::Liveness;
use super::outbox::{Bounds, Frames, Outbox};
use super::peers::{Identity, PeerSettings};
use super::pipeline::MOST_IN_FLIGHT;
use super::scratch::Scratch;
use super::snapshot_receiver::SnapshotReceiver;
use super::wire;
use crate::raft::type_config::{TypeConfig, Vote};

/// Operations, and as many votes and heartbeats, under way for one stream. Over it an
/// operation is answered with a retry-after and the rest is refused.
const MOST_CALLS: usize = 4096;
/// Answers that wait for a slow peer. Over it operations are answered with a retry-after.
const ANSWERS: Bounds = Bounds { bytes: 64 << 20, messages: 65_536 };
/// A peer says who it is at once.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Takes what peers send.
pub struct Inbound {
    shared: Arc<Shared>,
    snapshots: SnapshotReceiver,
}

struct Shared {
    identity: Identity,
    replicas: Arc<dyn Replicas>,
    forwarded: Arc<dyn Forwarded>,
    liveness: Arc<Liveness>,
    counters: Arc<Counters>,
    closing: CancellationToken,
}

impl Inbound {
    /// Takes messages for these replicas, and forwarded operations. Snapshots lie under
    /// `scratch` until they are installed.
    pub fn new(
        identity: Identity,
        replicas: Arc<dyn Replicas>,
        forwarded: Arc<dyn Forwarded>,
        settings: PeerSettings,
        scratch: Arc<Scratch>,
        liveness: Arc<Liveness>,
        counters: Arc<Counters>,
    ) -> Self {
        let snapshots =
            SnapshotReceiver::new(identity, Arc::clone(&replicas), settings, scratch, Arc::clone(&counters));
        let closing = CancellationToken::new();
        Self {
            shared: Arc::new(Shared { identity, replicas, forwarded, liveness, counters, closing }),
            snapshots,
        }
    }

    /// The `Exchange` call.
    pub async fn exchange(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<AnswerStream>, Status> {
        let mut frames = request.into_inner();
        let first = tokio::time::timeout(HELLO_TIMEOUT, frames.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("the stream did not say whose it is"))??;
        let hello = first.and_then(|frame| frame.hello);
        let hello = hello.ok_or_else(|| Status::invalid_argument("a stream begins with its hello"))?;
        self.shared.check(&hello)?;
        let (outbox, answers) = Outbox::new(ANSWERS, None, Arc::clone(&self.shared.counters));
        outbox.open();
        let ended = self.shared.closing.child_token();
        let exchange = Exchange {
            shared: Arc::clone(&self.shared),
            outbox,
            ended: ended.clone(),
            calls: Arc::new(Semaphore::new(MOST_CALLS)),
            pipelines: HashMap::new(),
            newest: HashMap::new(),
        };
        tokio::spawn(exchange.run(frames));
        Ok(Response::new(AnswerStream { answers, _ended: ended.drop_guard() }))
    }

    /// The `Snapshot` call.
    pub async fn snapshot(
        &self,
        request: Request<Streaming<SnapshotPiece>>,
    ) -> Result<Response<SnapshotAnswer>, Status> {
        let closing = self.shared.closing.clone();
        let received = closing.run_until_cancelled(self.snapshots.receive(request)).await;
        received.unwrap_or_else(|| Err(Status::unavailable("this node is shutting down")))
    }

    /// Ends every stream, which a graceful shutdown of the server would wait for.
    pub fn close(&self) {
        self.shared.closing.cancel();
    }
}

impl Shared {
    fn check(&self, hello: &Hello) -> Result<(), Status> {
        if hello.cluster[..] != self.identity.cluster.to_bytes() {
            return Err(wrong_cluster(self.identity.cluster, &hello.cluster));
        }
        if hello.to_node[..] != self.identity.node.to_bytes() {
            let here = self.identity.node;
            return Err(Status::not_found(format!("another node was expected here; this is node {here}")));
        }
        Ok(())
    }
}

/// The refusal of another cluster's node.
pub(super) fn wrong_cluster(expected: ClusterId, actual: &[u8]) -> Status {
    let actual = actual.to_vec().into();
    let detail = WrongCluster { expected: expected.to_bytes().to_vec().into(), actual };
    let message = format!("this node belongs to cluster {expected}, the caller to another");
    Failure::new(Code::FailedPrecondition, message, Some(Detail::WrongCluster(detail))).into_status()
}

/// The frames that go back. When the connection drops them, the stream is over on this side.
pub struct AnswerStream {
    answers: Frames,
    _ended: DropGuard,
}

impl Stream for AnswerStream {
    type Item = Result<Frame, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.answers).poll_next(context).map(|frame| frame.map(Ok))
    }
}

/// One stream from a peer.
struct Exchange {
    shared: Arc<Shared>,
    outbox: Outbox,
    ended: CancellationToken,
    calls: Arc<Semaphore>,
    pipelines: HashMap<u64, OpenPipeline>,
    /// The newest pipeline of two replicas; it takes the place of one before it.
    newest: HashMap<Route, u64>,
}

/// The appends of one pipeline, on their way into a replica.
struct OpenPipeline {
    route: Route,
    next_place: u64,
    appends: mpsc::Sender<AppendEntriesRequest<TypeConfig>>,
}

impl Exchange {
    async fn run(mut self, mut frames: Streaming<Frame>) {
        let ended = self.ended.clone();
        ended
            .run_until_cancelled(async {
                // An error is the peer's or the network's; either way the peer starts again.
                while let Ok(Some(frame)) = frames.message().await {
                    self.shared.counters.frame_received(frame.messages.len());
                    for message in frame.messages {
                        self.dispatch(message);
                    }
                }
            })
            .await;
        self.ended.cancel();
        self.outbox.close();
    }

    fn dispatch(&mut self, message: Message) {
        let Message { group, from_replica: from, to_replica: to, id, body } = message;
        let route = Route { group, from, to };
        match body {
            Some(Body::Append(append)) if append.pipeline != 0 => self.pipelined(route, append),
            Some(Body::PipelineEnd(end)) => self.end_pipeline(end.pipeline),
            Some(Body::Forward(request)) => {
                let permit = Arc::clone(&self.calls).try_acquire_owned().ok();
                let Some(permit) = permit.filter(|_| !self.outbox.is_full()) else {
                    return self.answer(route.answer(id, Body::ForwardAnswer(too_busy())));
                };
                let forwarded = Arc::clone(&self.shared.forwarded);
                self.answer_later(permit, route, id, async move {
                    Body::ForwardAnswer(forwarded.operate(request).await)
                });
            }
            Some(Body::Ping(_)) => self.answer(route.answer(id, Body::Pong(self.shared.liveness.pong()))),
            Some(body) => {
                let Ok(permit) = Arc::clone(&self.calls).try_acquire_owned() else {
                    return self.answer(route.answer(id, refused("too much is under way at the peer")));
                };
                let Some(endpoint) = self.shared.replicas.endpoint(group, to) else {
                    return self.answer(route.answer(id, refused(not_here(route))));
                };
                self.answer_later(permit, route, id, async move {
                    ask(&*endpoint, route, body).await.unwrap_or_else(refused)
                });
            }
            None => self.answer(route.answer(id, refused("this node does not know that kind of message"))),
        }
    }

    fn answer(&self, answer: Message) {
        // The stream is over when this fails, and nobody waits for the answer.
        let _ = self.outbox.push_answer(answer);
    }

    fn answer_later(
        &self,
        permit: OwnedSemaphorePermit,
        route: Route,
        id: u64,
        answer: impl Future<Output = Body> + Send + 'static,
    ) {
        let outbox = self.outbox.clone();
        let ended = self.ended.clone();
        tokio::spawn(async move {
            if let Some(body) = ended.run_until_cancelled(answer).await {
                let _ = outbox.push_answer(route.answer(id, body));
            }
            drop(permit);
        });
    }

    fn pipelined(&mut self, route: Route, append: AppendRequest) {
        let AppendRequest { pipeline, place, .. } = append;
        if let Err(why) = self.feed(route, append) {
            self.end_pipeline(pipeline);
            let broken = wire::append_result_out(pipeline, Err(why));
            self.answer(route.answer(place, Body::AppendAnswer(broken)));
        }
    }

    /// Puts an append into its pipeline, opening it with the first.
    fn feed(&mut self, route: Route, append: AppendRequest) -> Result<(), String> {
        let AppendRequest { pipeline, place, .. } = append;
        let append = wire::append_in(append).map_err(|error| error.to_string())?;
        from_sender(&append.vote, route)?;
        if place == 0 {
            self.open_pipeline(route, pipeline)?;
        }
        let open = self.pipelines.get_mut(&pipeline).filter(|open| open.route == route);
        let open = open.ok_or("no such pipeline")?;
        if open.next_place != place {
            return Err(format!("place {place} came where {} was due", open.next_place));
        }
        open.next_place += 1;
        open.appends.try_send(append).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => "more appends than may be under way".to_owned(),
            mpsc::error::TrySendError::Closed(_) => "the pipeline has ended".to_owned(),
        })
    }

    fn open_pipeline(&mut self, route: Route, pipeline: u64) -> Result<(), String> {
        let endpoint = self.shared.replicas.endpoint(route.group, route.to).ok_or_else(|| not_here(route))?;
        if let Some(older) = self.newest.insert(route, pipeline) {
            self.pipelines.remove(&older);
        }
        let (appends, input) = mpsc::channel(MOST_IN_FLIGHT);
        self.pipelines.insert(pipeline, OpenPipeline { route, next_place: 0, appends });
        let results = endpoint.append_stream(ReceiverStream::new(input).boxed());
        let outbox = self.outbox.clone();
        let ended = self.ended.clone();
        tokio::spawn(async move {
            ended
                .run_until_cancelled(results.enumerate().for_each(|(place, result)| {
                    let answer = Body::AppendAnswer(wire::append_result_out(pipeline, result));
                    // The stream is over when this fails, and so is this task, by its token.
                    let _ = outbox.push_answer(route.answer(place as u64, answer));
                    std::future::ready(())
                }))
                .await;
        });
        Ok(())
    }

    /// Takes no more appends for a pipeline. Those that came are still carried out.
    fn end_pipeline(&mut self, pipeline: u64) {
        if let Some(open) = self.pipelines.remove(&pipeline)
            && self.newest.get(&open.route) == Some(&pipeline)
        {
            self.newest.remove(&open.route);
        }
    }
}

/// Puts a question to a replica; an error is refused with its text.
async fn ask(endpoint: &dyn Endpoint, route: Route, body: Body) -> Result<Body, String> {
    let text = |error: wire::BadMessage| error.to_string();
    Ok(match body {
        Body::Append(append) => {
            let append = wire::append_in(append).map_err(text)?;
            from_sender(&append.vote, route)?;
            Body::AppendAnswer(wire::append_result_out(0, endpoint.append(append).await))
        }
        Body::Vote(request) => {
            let request = wire::vote_request_in(request).map_err(text)?;
            from_sender(&request.vote, route)?;
            Body::VoteAnswer(wire::vote_answer_out(&endpoint.vote(request).await?))
        }
        Body::PreVote(request) => {
            let request = wire::vote_request_in(request).map_err(text)?;
            from_sender(&request.vote, route)?;
            Body::PreVoteAnswer(wire::vote_answer_out(&endpoint.pre_vote(request).await?))
        }
        Body::Transfer(request) => {
            let request = wire::transfer_in(request).map_err(text)?;
            from_sender(request.from_leader(), route)?;
            Body::TransferAnswer(wire::transfer_answer_out(&endpoint.transfer_leader(request).await?))
        }
        Body::Sleep(request) => {
            let vote = wire::vote_in(request.vote).map_err(text)?;
            let last = request.last.ok_or("a request to sleep lacks the end of the log")?;
            from_sender(&vote, route)?;
            let asleep = endpoint.sleep(vote, wire::log_id_in(last)).await?;
            Body::SleepAnswer(SleepAnswer { asleep })
        }
        _ => return Err("that is no question".to_owned()),
    })
}

/// Every question carries the vote of the replica that asks it.
fn from_sender(vote: &Vote, route: Route) -> Result<(), String> {
    if vote.leader_id().voted_for == route.from {
        return Ok(());
    }
    Err(format!("replica {} sent a vote of another: {vote}", route.from))
}

fn not_here(route: Route) -> String {
    format!("replica {} of group {} is not here", route.to, route.group)
}

fn refused(why: impl Into<String>) -> Body {
    Body::Refused(Refused { why: why.into() })
}

fn too_busy() -> ForwardAnswer {
    let retry = Detail::RetryAfter(RetryAfter { milliseconds: 50 });
    let failure =
        Failure::new(Code::ResourceExhausted, "too many forwarded operations are under way", Some(retry));
    let result = proto::v1::Result { result: Some(result::Result::Failure(failure)) };
    ForwardAnswer { result: result.encode_to_vec().into(), ..ForwardAnswer::default() }
}
