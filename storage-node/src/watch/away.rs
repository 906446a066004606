//! What a partition that another node holds has for a watch.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};
use placement::{Bucket, BucketRange, ClusterId, NodeId};
use proto::v1::{Interest as Wire, WatchPartitionRequest, WatchPartitionResponse, WatchRun};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::leg::{Given, Leg, Next, Over, Place};
use super::signal::Signal;
use super::token::Run;
use crate::raft::network::peers::Peers;

/// Responses that wait for the watch.
const WAITING: usize = 4;
/// How often a node says how far it is while it has nothing.
const MARK: Duration = Duration::from_secs(1);
/// A replica that is behind is looked at again after this long.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A leg at another node.
pub struct Away {
    responses: mpsc::Receiver<WatchPartitionResponse>,
    task: AbortHandle,
    runs: Vec<Run>,
}

/// What is asked of the other node.
pub struct Asked {
    /// The cluster.
    pub cluster: ClusterId,
    /// The partition.
    pub place: Place,
    /// What is followed.
    pub interests: Vec<Wire>,
    /// Where the watch stands.
    pub runs: Vec<Run>,
    /// From which revision on all items are given first.
    pub items_from: Option<u64>,
}

impl Away {
    /// Begins to follow at a node.
    pub fn begin(peers: &Arc<Peers>, node: NodeId, asked: Asked, signal: &Arc<Signal>) -> Self {
        let (send, responses) = mpsc::channel(WAITING);
        let Asked { cluster, place, interests, runs, items_from } = asked;
        let request = WatchPartitionRequest {
            cluster: cluster.to_bytes().to_vec().into(),
            partition: place.partition.0,
            interests,
            runs: runs.iter().map(run_out).collect(),
            with_items: items_from.is_some(),
            items_from: items_from.unwrap_or(0),
        };
        let (peers, partition, signal) = (Arc::clone(peers), place.partition, Arc::clone(signal));
        let follow = async move {
            // Whatever ends it, the watch looks and finds that nothing more comes.
            let _told = Raised { signal: Arc::clone(&signal), partition };
            let Some(mut client) = peers.dial(node).await else { return };
            let Ok(answers) = client.watch_partition(request).await else { return };
            let mut answers = answers.into_inner();
            while let Ok(Some(answer)) = answers.message().await {
                if send.send(answer).await.is_err() {
                    return;
                }
                signal.raise(partition);
            }
        };
        Self { responses, task: tokio::spawn(follow).abort_handle(), runs }
    }

    /// Where the watch stands.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// What there is now; nothing: the signal will be raised.
    pub fn take(&mut self) -> Result<Given, Over> {
        match self.responses.try_recv() {
            Ok(WatchPartitionResponse { failure: Some(failure), .. }) => Err(Over::Failed(failure)),
            Ok(answer) => {
                let runs: Option<Vec<Run>> = answer.runs.iter().map(run_in).collect();
                self.runs = runs.ok_or(Over::Gone)?;
                let WatchPartitionResponse { events, items_given, .. } = answer;
                Ok(Given { events, items_given, next: Next::AtOnce, ..Given::default() })
            }
            Err(mpsc::error::TryRecvError::Empty) => Ok(Given::default()),
            Err(mpsc::error::TryRecvError::Disconnected) => Err(Over::Gone),
        }
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Raises the signal when it goes.
struct Raised {
    signal: Arc<Signal>,
    partition: placement::PartitionId,
}

impl Drop for Raised {
    fn drop(&mut self) {
        self.signal.raise(self.partition);
    }
}

/// What a leg here has, for a watch at another node.
pub fn serve(leg: Leg, signal: Arc<Signal>) -> impl Stream<Item = WatchPartitionResponse> {
    let response = |leg: &Leg, given: Given| WatchPartitionResponse {
        events: given.events,
        runs: leg.runs().iter().map(run_out).collect(),
        items_given: given.items_given,
        failure: None,
    };
    stream::unfold(Some((leg, signal)), move |state| async move {
        let (mut leg, signal) = state?;
        loop {
            match leg.take() {
                Ok(given) if !given.events.is_empty() || given.items_given => {
                    return Some((response(&leg, given), Some((leg, signal))));
                }
                Ok(given) if given.next == Next::AtOnce => tokio::task::yield_now().await,
                Ok(given) if given.next == Next::Later => tokio::time::sleep(LOOK_AGAIN).await,
                Ok(given) => {
                    if tokio::time::timeout(MARK, signal.take()).await.is_err() {
                        return Some((response(&leg, given), Some((leg, signal))));
                    }
                }
                Err(Over::Gone) => return None,
                Err(Over::Failed(failure)) => {
                    let failure = Some(failure);
                    return Some((WatchPartitionResponse { failure, ..Default::default() }, None));
                }
            }
        }
    })
    .boxed()
}

fn run_out(run: &Run) -> WatchRun {
    WatchRun {
        first_bucket: run.buckets.first.0.into(),
        last_bucket: run.buckets.last.0.into(),
        after: run.after,
    }
}

/// A run that another node sent.
pub fn run_in(run: &WatchRun) -> Option<Run> {
    let bucket = |number: u32| u16::try_from(number).ok().map(Bucket);
    let buckets = BucketRange { first: bucket(run.first_bucket)?, last: bucket(run.last_bucket)? };
    (buckets.first <= buckets.last).then_some(Run { buckets, after: run.after })
}
