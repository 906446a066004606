//! Pipelines: the fast way in. Operations travel in frames on one long stream to each
//! node, and what gathers while a frame is being sent becomes the next one.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use proto::v1;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use self::lane::{Lane, Queued, Reply};
use crate::attempts::{Attempt, Attempts, Place, timed_out};
use crate::client::Client;
use crate::error::Error;
use crate::operation::{Answer, Operation, answer_of};
use crate::retry::{Effect, Trouble};
use crate::route::Address;

mod lane;

/// Many operations under way at a time. Cloning it is cheap; clones share its streams and
/// its bound.
///
/// Each operation goes to the leader of its key and is retried like a call of its own. No
/// order is promised between operations that are under way together, those on one key
/// included: await the first before submitting what must come after it.
#[derive(Debug, Clone)]
pub struct Pipeline {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    table: Arc<str>,
    deadline: Duration,
    /// One for each operation that may be unanswered.
    permits: Arc<Semaphore>,
    lanes: Mutex<HashMap<Address, Arc<Lane>>>,
}

/// An operation that was submitted. It is on its way already; retries happen while this is
/// polled. Dropping it abandons the operation, which may still be done.
#[must_use = "retries happen only while it is polled"]
pub struct Pending {
    outcome: BoxFuture<'static, Result<Answer, Error>>,
}

/// An attempt that was handed to a lane.
struct Sent {
    lane: Option<Arc<Lane>>,
    address: Address,
    timeout: Duration,
    answer: oneshot::Receiver<Result<v1::Result, Trouble>>,
}

impl Pipeline {
    pub(crate) fn new(client: Client, table: &str) -> Self {
        let options = &client.shared().options;
        let (deadline, bound) = (options.deadline, options.max_in_flight.clamp(1, Semaphore::MAX_PERMITS));
        let permits = Arc::new(Semaphore::new(bound));
        let shared = Shared { client, table: table.into(), deadline, permits, lanes: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Sends an operation on its way. Waits while too many are unanswered by their nodes.
    pub async fn submit(&self, operation: Operation) -> Result<Pending, Error> {
        let shared = Arc::clone(&self.shared);
        // The semaphore is never closed, so a permit always comes.
        let permit = Arc::clone(&shared.permits).acquire_owned().await.ok();
        let effect = if operation.is_write() { Effect::Sequenced } else { Effect::Repeatable };
        let place = Place::Key { table: Arc::clone(&shared.table), key: operation.key().clone() };
        let mut attempts = Attempts::new(&shared.client, place, effect, shared.deadline);
        let mut sent = shared.send(&operation, attempts.next()?, permit);
        let outcome = async move {
            loop {
                let trouble = match shared.outcome(sent).await {
                    Ok(answer) => {
                        attempts.done();
                        return Ok(answer);
                    }
                    Err(trouble) => trouble,
                };
                attempts.after(&trouble).await?;
                sent = shared.send(&operation, attempts.next()?, None);
            }
        };
        Ok(Pending { outcome: Box::pin(outcome) })
    }
}

impl Shared {
    fn send(&self, operation: &Operation, attempt: Attempt, permit: Option<OwnedSemaphorePermit>) -> Sent {
        let (to, answer) = oneshot::channel();
        let reply = Reply { to, _permit: permit };
        let wire = operation.to_wire(&self.table, attempt.retry.clone());
        let mut queued = Queued { operation: wire, size: operation.size(), reply };
        let address = Address::clone(&attempt.address);
        let mut lanes = self.lanes.lock();
        // A lane that ended is replaced; the fresh one takes it.
        for _ in 0..2 {
            let lane = lanes
                .entry(Address::clone(&address))
                .or_insert_with(|| Arc::new(Lane::open(attempt.channel.clone())));
            match lane.push(queued) {
                Ok(()) => {
                    let lane = Some(Arc::clone(lane));
                    return Sent { lane, address, timeout: attempt.timeout, answer };
                }
                Err(back) => queued = back,
            }
            lanes.remove(&address);
        }
        // Dropping what could not be queued says that it was not sent.
        drop(queued);
        Sent { lane: None, address, timeout: attempt.timeout, answer }
    }

    async fn outcome(&self, sent: Sent) -> Result<Answer, Trouble> {
        let Sent { lane, address, timeout, answer } = sent;
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(Ok(result))) => answer_of(result).map_err(Trouble::Refused),
            Ok(Ok(Err(trouble))) => Err(trouble),
            Ok(Err(_)) => Err(Trouble::NotSent(format!("the stream to {address} ended before"))),
            Err(_) => {
                if let Some(lane) = lane {
                    self.retire(&address, &lane);
                }
                Err(timed_out(&address, timeout))
            }
        }
    }

    /// Gives up a lane that does not answer. Its answers come in order, so what is behind
    /// the one that is late is better sent again elsewhere.
    fn retire(&self, address: &Address, lane: &Arc<Lane>) {
        lane.close();
        let mut lanes = self.lanes.lock();
        if lanes.get(address).is_some_and(|current| Arc::ptr_eq(current, lane)) {
            lanes.remove(address);
        }
    }
}

impl Future for Pending {
    type Output = Result<Answer, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.outcome.as_mut().poll(context)
    }
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pending")
    }
}
