//! Lanes and pipelines against a replica that records what it is asked.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt};
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::errors::RPCError;
use openraft::network::{NetStreamAppend, NetVote, RPCOption, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse, VoteRequest,
    VoteResponse,
};
use parking_lot::Mutex;
use placement::{ClusterId, PartitionId, ReplicaId};
use prost::Message as _;
use proto::v1::{ForwardRequest, GetRequest, Operation, operation, result};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::node::{Book, Node, node_id};
use super::{DEADLINE, eventually};
use crate::raft::network::endpoint::Endpoint;
use crate::raft::network::forward::ForwardError;
use crate::raft::network::raft_network::Network;
use crate::raft::network::snapshot_files::SnapshotFiles;
use crate::raft::type_config::{Entry, EntryData, LogId, ReplicaPlace, SnapshotMeta, TypeConfig, Vote};

/// A replica that takes whatever it is sent.
pub struct Recorder {
    /// Each append takes one permit.
    pub turns: Arc<Semaphore>,
    pub appended: AtomicUsize,
    /// Streams that are no more.
    pub streams_ended: Arc<AtomicUsize>,
    /// The files of each snapshot.
    pub installed: Mutex<Vec<Vec<Vec<u8>>>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            appended: AtomicUsize::new(0),
            streams_ended: Arc::default(),
            installed: Mutex::default(),
        }
    }
}

struct CountedWhenDropped(Arc<AtomicUsize>);

impl Drop for CountedWhenDropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[expect(clippy::unnecessary_wraps, reason = "it is what a replica answers")]
fn flushed(append: &AppendEntriesRequest<TypeConfig>) -> StreamAppendResult<TypeConfig> {
    Ok(append.entries.last().map(Entry::log_id).or(append.prev_log_id))
}

#[tonic::async_trait]
impl Endpoint for Recorder {
    fn append_stream(
        &self,
        input: BoxStream<'static, AppendEntriesRequest<TypeConfig>>,
    ) -> BoxStream<'static, Result<StreamAppendResult<TypeConfig>, String>> {
        let turns = Arc::clone(&self.turns);
        let counted = CountedWhenDropped(Arc::clone(&self.streams_ended));
        input
            .then(move |append| {
                let CountedWhenDropped(_) = &counted;
                let turns = Arc::clone(&turns);
                async move {
                    turns.acquire().await.map_err(|error| error.to_string())?.forget();
                    Ok(flushed(&append))
                }
            })
            .boxed()
    }

    async fn append(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> Result<StreamAppendResult<TypeConfig>, String> {
        self.appended.fetch_add(1, Ordering::Relaxed);
        Ok(flushed(&request))
    }

    async fn vote(&self, request: VoteRequest<TypeConfig>) -> Result<VoteResponse<TypeConfig>, String> {
        Ok(VoteResponse::new(request.vote, request.last_log_id, true))
    }

    async fn pre_vote(&self, request: VoteRequest<TypeConfig>) -> Result<VoteResponse<TypeConfig>, String> {
        Ok(VoteResponse::new(request.vote, None, false))
    }

    async fn transfer_leader(
        &self,
        _: TransferLeaderRequest<TypeConfig>,
    ) -> Result<TransferLeaderResponse<TypeConfig>, String> {
        Ok(Ok(()))
    }

    async fn install_snapshot(
        &self,
        vote: Vote,
        _: SnapshotMeta,
        files: SnapshotFiles,
    ) -> Result<Vote, String> {
        let SnapshotFiles::Received(received) = files else { return Err("not received".to_owned()) };
        let read = received.files().iter().map(std::fs::read).collect::<Result<_, _>>();
        self.installed.lock().push(read.map_err(|error| error.to_string())?);
        Ok(vote)
    }
}

fn option() -> RPCOption {
    RPCOption::new(Duration::from_secs(5))
}

fn append(index: u64, bytes: usize) -> AppendEntriesRequest<TypeConfig> {
    let payload = EntryPayload::Normal(EntryData(vec![0; bytes].into()));
    AppendEntriesRequest {
        vote: Vote::new_committed(1, 1),
        prev_log_id: index.checked_sub(1).map(|index| LogId::new_term_index(1, index)),
        entries: vec![Entry::new(LogId::new_term_index(1, index), payload)],
        leader_commit: None,
    }
}

/// What replica 1 on a node reaches replica 2 on node 2 by.
async fn to_second(node: &Node, group: u64) -> Network {
    let mut factory = node.peers.factory(PartitionId(group), ReplicaId(1));
    factory.new_client(2, &ReplicaPlace { node: node_id(2) }).await
}

async fn results(
    network: &mut Network,
    appends: Vec<AppendEntriesRequest<TypeConfig>>,
) -> Vec<Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>> {
    let stream = network.stream_append(futures::stream::iter(appends), option()).await;
    tokio::time::timeout(DEADLINE, stream.unwrap().collect()).await.unwrap()
}

#[tokio::test]
async fn appends_are_pipelined_answered_in_order_and_share_frames() {
    let book = Arc::new(Book::default());
    let (first, second) = (Node::start(1, &book).await, Node::start(2, &book).await);
    let recorder = Arc::new(Recorder::default());
    second.hold(1, 2, recorder.clone());
    let mut network = to_second(&first, 1).await;
    let answers = results(&mut network, (0..1000).map(|index| append(index, 100)).collect()).await;
    let indexes: Vec<_> =
        answers.into_iter().map(|answer| answer.unwrap().unwrap().unwrap().index()).collect();
    assert_eq!(indexes, (0..1000).collect::<Vec<_>>());
    let sent = first.peers.counters().read();
    assert!(sent.messages_sent >= 1000, "{sent:?}");
    assert!(sent.frames_sent * 2 < sent.messages_sent, "frames were not shared: {sent:?}");
    eventually("the receiver forgets the pipeline", || recorder.streams_ended.load(Ordering::Relaxed) == 1)
        .await;
}

/// An append that only tells how far to commit is told by the next one, and goes by itself only
/// where none follows.
#[tokio::test]
async fn a_commit_notice_rides_on_the_next_append() {
    let book = Arc::new(Book::default());
    let (first, second) = (Node::start(1, &book).await, Node::start(2, &book).await);
    second.hold(1, 2, Arc::new(Recorder::default()));
    let mut network = to_second(&first, 1).await;
    let (send, input) = tokio::sync::mpsc::channel(10);
    let notice = |index: u64| AppendEntriesRequest { entries: Vec::new(), ..append(index + 1, 0) };
    let input = tokio_stream::wrappers::ReceiverStream::new(input);
    let mut results = network.stream_append(input, option()).await.unwrap();
    let mut index = async || {
        let next = tokio::time::timeout(DEADLINE, results.next()).await.unwrap();
        next.map(|result| result.unwrap().unwrap().unwrap().index())
    };
    // The first ones look for where the logs meet.
    send.send(notice(0)).await.unwrap();
    assert_eq!(index().await, Some(0));
    for each in [notice(0), append(1, 10), notice(1), notice(1), append(2, 10)] {
        send.send(each).await.unwrap();
    }
    assert_eq!((index().await, index().await), (Some(1), Some(2)));
    send.send(notice(2)).await.unwrap();
    assert_eq!(index().await, Some(2), "nothing followed");
    send.send(notice(2)).await.unwrap();
    drop(send);
    assert_eq!((index().await, index().await), (Some(2), None), "the end does not swallow it");
}

#[tokio::test]
async fn appends_larger_than_a_message_arrive() {
    let book = Arc::new(Book::default());
    let (first, second) = (Node::start(1, &book).await, Node::start(2, &book).await);
    second.hold(1, 2, Arc::new(Recorder::default()));
    let mut large = append(0, 16 << 20);
    large.entries.extend((1..4).flat_map(|index| append(index, 9 << 20).entries));
    let answers = results(&mut to_second(&first, 1).await, vec![large]).await;
    let last = answers.into_iter().last().unwrap().unwrap().unwrap();
    assert_eq!(last, Some(LogId::new_term_index(1, 3)));
}

#[tokio::test]
async fn a_slow_replica_holds_up_no_other() {
    let book = Arc::new(Book::default());
    let (first, second) = (Node::start(1, &book).await, Node::start(2, &book).await);
    let slow = Arc::new(Recorder { turns: Arc::new(Semaphore::new(0)), ..Recorder::default() });
    second.hold(1, 2, slow.clone());
    second.hold(2, 2, Arc::new(Recorder::default()));
    let mut to_slow = to_second(&first, 1).await;
    let waiting = tokio::spawn(async move {
        results(&mut to_slow, (0..500).map(|index| append(index, 10)).collect()).await
    });
    eventually("the slow replica has its fill", || second.received.read().messages_received >= 64).await;
    let answers =
        results(&mut to_second(&first, 2).await, (0..500).map(|index| append(index, 10)).collect()).await;
    assert_eq!(answers.len(), 500);
    slow.turns.add_permits(500);
    assert_eq!(waiting.await.unwrap().into_iter().flatten().count(), 500);
}

#[tokio::test]
async fn a_pipeline_without_answers_ends_with_an_error() {
    let book = Arc::new(Book::default());
    let (first, second) = (Node::start(1, &book).await, Node::start(2, &book).await);
    second.hold(1, 2, Arc::new(Recorder { turns: Arc::new(Semaphore::new(1)), ..Recorder::default() }));
    let mut network = to_second(&first, 1).await;
    let brief = RPCOption::new(Duration::from_millis(100));
    let appends = futures::stream::iter((0..3).map(|index| append(index, 10)));
    let answers: Vec<_> = network.stream_append(appends, brief).await.unwrap().collect().await;
    assert_eq!(answers.len(), 2);
    assert!(matches!(&answers[..], [Ok(Ok(_)), Err(RPCError::Unreachable(_))]), "{answers:?}");
}

#[tokio::test]
async fn a_broken_connection_ends_what_waits_and_the_lane_comes_back() {
    let book = Arc::new(Book::default());
    let (first, second) = (Node::start(1, &book).await, Node::start(2, &book).await);
    let recorder = Arc::new(Recorder { turns: Arc::new(Semaphore::new(0)), ..Recorder::default() });
    second.hold(1, 2, recorder.clone());
    let mut network = to_second(&first, 1).await;
    let waiting = tokio::spawn(async move { results(&mut network, vec![append(0, 10)]).await });
    eventually("the append arrives", || second.received.read().messages_received >= 1).await;
    first.cut(second.id);
    assert!(matches!(waiting.await.unwrap()[..], [Err(RPCError::Unreachable(_))]));
    eventually("the receiver forgets the stream", || recorder.streams_ended.load(Ordering::Relaxed) == 1)
        .await;
    recorder.turns.add_permits(100);
    let answers = results(&mut to_second(&first, 1).await, vec![append(0, 10)]).await;
    assert!(matches!(answers[..], [Ok(Ok(Some(_)))]), "{answers:?}");
}

/// Otherwise openraft, whose backoff lies in what it gives, asks again as fast as it can.
#[tokio::test]
async fn a_peer_that_is_away_is_told_only_once_an_append_was_taken() {
    let book = Arc::new(Book::default());
    let first = Node::start(1, &book).await;
    let mut network = to_second(&first, 1).await;
    let answers = results(&mut network, vec![append(0, 10)]).await;
    assert!(matches!(answers[..], [Err(RPCError::Unreachable(_))]), "no address is known: {answers:?}");
    let (send, input) = tokio::sync::mpsc::channel(1);
    let input = tokio_stream::wrappers::ReceiverStream::new(input);
    let mut refused = network.stream_append(input, option()).await.unwrap();
    assert!(refused.next().now_or_never().is_none(), "nothing was taken yet");
    send.send(append(0, 10)).await.unwrap();
    let answer = tokio::time::timeout(DEADLINE, refused.next()).await.unwrap();
    assert!(matches!(answer, Some(Err(RPCError::Unreachable(_)))), "{answer:?}");
}

#[tokio::test]
async fn heartbeats_and_votes_go_over_the_control_lane() {
    let book = Arc::new(Book::default());
    let (first, second) = (Node::start(1, &book).await, Node::start(2, &book).await);
    let recorder = Arc::new(Recorder::default());
    second.hold(1, 2, recorder.clone());
    let place = ReplicaPlace { node: second.id };
    let mut factory = first.peers.factory(PartitionId(1), ReplicaId(1));
    let mut network = factory.new_heartbeat_client(2, &place).await;
    let heartbeat = AppendEntriesRequest { entries: Vec::new(), ..append(5, 0) };
    let answers = results(&mut network, vec![heartbeat]).await;
    assert!(matches!(answers[..], [Ok(Ok(Some(id)))] if id.index() == 4), "{answers:?}");
    assert_eq!(recorder.appended.load(Ordering::Relaxed), 1);
    let request = VoteRequest::new(Vote::new(2, 1), None);
    assert!(network.vote(request.clone(), option()).await.unwrap().vote_granted);
    assert!(!network.pre_vote(request, option()).await.unwrap().vote_granted);
    // A vote of somebody else than the sender is refused.
    let foreign = VoteRequest::new(Vote::new(2, 3), None);
    let refused = network.vote(foreign, option()).await.unwrap_err();
    assert!(refused.to_string().contains("of another"), "{refused}");
}

#[tokio::test]
async fn a_replica_that_is_not_there_is_refused() {
    let book = Arc::new(Book::default());
    let (first, _second) = (Node::start(1, &book).await, Node::start(2, &book).await);
    let mut network = to_second(&first, 1).await;
    let answers = results(&mut network, vec![append(0, 1)]).await;
    assert!(
        matches!(&answers[..], [Err(RPCError::Unreachable(why))] if why.to_string().contains("is not here"))
    );
    let vote = network.vote(VoteRequest::new(Vote::new(2, 1), None), option()).await;
    assert!(matches!(vote, Err(RPCError::Unreachable(_))), "{vote:?}");
}

fn get(key: &str, timeout: Duration) -> ForwardRequest {
    let get = GetRequest { key: key.to_owned().into(), ..Default::default() };
    let operation = Operation { operation: Some(operation::Operation::Get(get)) };
    ForwardRequest {
        operation: operation.encode_to_vec().into(),
        timeout_ms: u64::try_from(timeout.as_millis()).unwrap(),
        ..Default::default()
    }
}

#[tokio::test]
async fn another_cluster_and_another_node_are_refused_before_anything_is_delivered() {
    let book = Arc::new(Book::default());
    let first = Node::start(1, &book).await;
    let foreign = Node::start_in(ClusterId(Uuid::from_u128(9)), 2, &book).await;
    let refused = first.peers.forward(foreign.id, get("k", DEADLINE)).await.unwrap_err();
    assert!(
        matches!(&refused, ForwardError::NotSent { why, .. } if why.contains("belongs to cluster")),
        "{refused}"
    );
    // Node 3's address is one where node 4 answers.
    let fourth = Node::start(4, &book).await;
    let address = book.0.lock().get(&fourth.id).cloned().unwrap();
    book.0.lock().insert(node_id(3), address);
    let refused = first.peers.forward(node_id(3), get("k", DEADLINE)).await.unwrap_err();
    assert!(
        matches!(&refused, ForwardError::NotSent { why, .. } if why.contains("another node was expected")),
        "{refused}"
    );
    let unknown = first.peers.forward(node_id(77), get("k", DEADLINE)).await.unwrap_err();
    assert!(matches!(&unknown, ForwardError::NotSent { why, .. } if why.contains("no address")), "{unknown}");
}

#[tokio::test]
async fn forwarded_operations_are_answered_or_their_outcome_is_told_apart() {
    let book = Arc::new(Book::default());
    let (first, second) = (Node::start(1, &book).await, Node::start(2, &book).await);
    let keys: Vec<String> = (0..200).map(|number| format!("key {number}")).collect();
    let asked = keys.iter().map(|key| first.peers.forward(second.id, get(key, DEADLINE)));
    let answers = futures::future::join_all(asked).await;
    let answered: HashSet<_> = answers
        .into_iter()
        .map(|answer| match proto::v1::Result::decode(answer.unwrap().result).unwrap().result.unwrap() {
            result::Result::Get(get) => String::from_utf8(get.item.unwrap().key.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(answered, keys.into_iter().collect());

    let _closed = second.holds.gate.lock().await;
    let late = first.peers.forward(second.id, get("k", Duration::from_millis(50))).await;
    assert!(matches!(late, Err(ForwardError::Unknown { .. })), "{late:?}");
    let before = second.received.read().messages_received;
    let peers = Arc::clone(&first.peers);
    let waiting = tokio::spawn(async move { peers.forward(node_id(2), get("k", DEADLINE)).await });
    eventually("the operation arrives", || second.received.read().messages_received > before).await;
    first.cut(second.id);
    let broken = waiting.await.unwrap();
    assert!(matches!(broken, Err(ForwardError::Unknown { .. })), "{broken:?}");
}
