//! A watch over gRPC.

use futures::stream::{self, Stream};
use proto::v1::{Failure, WatchRequest, WatchResponse, watch_request::Request as Asked};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::status;
use crate::router::failure;
use crate::watch::Watch;

struct Running {
    watch: Watch,
    /// None: the client has said all that it will, and listens.
    requests: Option<Streaming<WatchRequest>>,
    closing: CancellationToken,
}

/// Gives what a watch has, and takes what its client asks meanwhile. Nothing is read from the
/// partitions that the client has not taken.
pub fn run(
    watch: Watch,
    requests: Streaming<WatchRequest>,
    closing: CancellationToken,
) -> impl Stream<Item = Result<WatchResponse, Status>> {
    let running = Running { watch, requests: Some(requests), closing };
    stream::unfold(Some(running), |running| async move {
        let mut running = running?;
        match running.next().await {
            Ok(response) => Some((Ok(response), Some(running))),
            Err(refused) => Some((Err(refused), None)),
        }
    })
}

impl Running {
    async fn next(&mut self) -> Result<WatchResponse, Status> {
        loop {
            tokio::select! {
                biased;
                () = self.closing.cancelled() => {
                    return Err(status(failure::retry_after("this node is shutting down: watch by another", 50)));
                }
                asked = next_request(&mut self.requests) => match asked? {
                    Some(asked) => self.take(asked).map_err(status)?,
                    None => self.requests = None,
                },
                response = self.watch.next() => return response.map_err(status),
            }
        }
    }

    fn take(&mut self, asked: WatchRequest) -> Result<(), Failure> {
        match asked.request {
            Some(Asked::Add(interest)) => self.watch.add(interest),
            Some(Asked::Remove(id)) => self.watch.remove(id),
            Some(Asked::Begin(_)) => Err(failure::invalid("this watch has begun already")),
            None => Err(failure::invalid("this node does not know what is asked of the watch")),
        }
    }
}

async fn next_request(
    requests: &mut Option<Streaming<WatchRequest>>,
) -> Result<Option<WatchRequest>, Status> {
    match requests {
        Some(requests) => requests.message().await,
        None => std::future::pending().await,
    }
}
