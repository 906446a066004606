//! One call, from its first attempt to its outcome.
//!
//! [`Attempts`] holds what a call knows of its own past and carries out what
//! [`crate::retry`] decides. Unary calls run in [`unary`]; batches and pipelines, whose
//! attempts look different, drive it themselves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::v1::Retry;
use proto::v1::error_detail::Detail;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::client::Client;
use crate::core::Core;
use crate::error::Error;
use crate::retry::{self, Decision, Effect, History, Trouble, Wait};
use crate::route::Address;
use crate::sequence::Ticket;

/// A write is not sent again once it is this old: nodes keep its answer for ten minutes of
/// their own clocks, and the margin is for clocks that differ.
const OLDEST_WRITE: Duration = Duration::from_secs(5 * 60);

/// Who should be asked.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// Any node.
    Any,
    /// The leader of this key, or any node where it is not known.
    Key { table: Arc<str>, key: Bytes },
    /// This node and no other.
    Node(Address),
}

/// The past of one call and what follows from it.
#[derive(Debug)]
pub(crate) struct Attempts {
    core: Arc<Core>,
    place: Place,
    effect: Effect,
    ticket: Option<Ticket>,
    started: Instant,
    deadline: Instant,
    history: History,
    /// Who was asked last.
    asked: Option<Address>,
    /// Whom the last answer named.
    named: Option<Address>,
    /// Whether who was asked last wants to be left alone for now: it cannot reach the leader, or
    /// is full. Another node may be neither.
    busy: bool,
}

/// One attempt: whom to ask, and what the request must carry.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) address: Address,
    pub(crate) channel: Channel,
    pub(crate) retry: Option<Retry>,
    pub(crate) timeout: Duration,
}

impl Attempt {
    /// A request that tells the node how long somebody waits for it.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }
}

impl Attempts {
    pub(crate) fn new(client: &Client, place: Place, effect: Effect, within: Duration) -> Self {
        let started = Instant::now();
        let within = if effect == Effect::Sequenced { within.min(OLDEST_WRITE) } else { within };
        Self {
            core: Arc::clone(client.shared()),
            place,
            effect,
            ticket: (effect == Effect::Sequenced).then(|| client.sequences().begin()),
            started,
            deadline: started + within,
            history: History::default(),
            asked: None,
            named: None,
            busy: false,
        }
    }

    /// The next attempt.
    pub(crate) fn next(&mut self) -> Result<Attempt, Error> {
        let address = self.choose()?;
        let channel = self.core.channels.get(&address)?;
        self.asked = Some(Address::clone(&address));
        let left = self.deadline.saturating_duration_since(Instant::now());
        let timeout = match (self.effect, &self.place) {
            // Nothing is gained by breaking off what cannot be sent again.
            (Effect::Once, _) | (_, Place::Node(_)) => left,
            _ => left.min(self.core.options.attempt_timeout),
        };
        let age = self.started.elapsed();
        let retry = self.ticket.as_ref().map(|ticket| ticket.retry(self.history.ambiguous, age));
        Ok(Attempt { address, channel, retry, timeout })
    }

    /// Learns from an attempt without an outcome. Returns when it is time for the next one,
    /// or the error when there will be none.
    pub(crate) async fn after(&mut self, trouble: &Trouble) -> Result<(), Error> {
        self.history.note(trouble);
        self.learn(trouble).await;
        let wait = match retry::decide(self.effect, &self.history, trouble) {
            Decision::GiveUp(error) => return Err(error),
            Decision::Again(wait) => wait,
        };
        let pause = retry::pause(self.history.failed, rand::random());
        let wait = match wait {
            Wait::No => Duration::ZERO,
            Wait::Pause => pause,
            Wait::AtLeast(least) => least.max(pause),
        };
        if Instant::now() + wait >= self.deadline {
            return Err(retry::final_error(self.effect, &self.history, trouble));
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }

    fn choose(&mut self) -> Result<Address, Error> {
        let named = self.named.take();
        let choice = match &self.place {
            Place::Node(address) => Some(Address::clone(address)),
            Place::Key { table, key } => named.or_else(|| {
                let leader = self.core.leader_of(table, key);
                leader.filter(|leader| !self.busy || self.asked.as_ref() != Some(leader))
            }),
            Place::Any => named,
        };
        let avoid = self.asked.as_ref().filter(|_| self.history.failed > 0);
        choice.or_else(|| self.core.any(avoid)).ok_or_else(|| Error::Unreachable {
            endpoints: "(none)".to_owned(),
            why: "no endpoint was given".to_owned(),
        })
    }

    async fn learn(&mut self, trouble: &Trouble) {
        if let Some(asked) = self.asked.as_ref().filter(|_| trouble.gave_no_answer()) {
            self.core.channels.suspect(asked);
        }
        self.busy = false;
        let Trouble::Refused(failure) = trouble else { return };
        match failure.reason() {
            Some(Detail::NotLeader(hint)) => {
                self.core.learn_leader(hint);
                let address = Address::from(hint.leader_address.as_str());
                let usable = !address.is_empty() && self.core.channels.check(&address).is_ok();
                self.named = (usable && !self.core.channels.is_suspect(&address)).then_some(address);
            }
            Some(Detail::WrongEpoch(news)) => self.core.learn_entries(news),
            Some(Detail::UnknownTable(_)) => self.core.refresh_map().await,
            Some(Detail::RetryAfter(_)) => self.busy = true,
            _ => {}
        }
    }

    /// The node that was asked last has answered.
    pub(crate) fn done(&self) {
        if let Some(asked) = &self.asked {
            self.core.channels.trust(asked);
        }
    }
}

/// Runs a unary call to its outcome. `send` makes one attempt.
pub(crate) async fn unary<A, F, Fut>(mut attempts: Attempts, send: F) -> Result<A, Error>
where
    F: Fn(Attempt) -> Fut,
    Fut: Future<Output = Result<Response<A>, Status>>,
{
    loop {
        let attempt = attempts.next()?;
        match once(attempt, &send).await {
            Ok(answer) => {
                attempts.done();
                return Ok(answer);
            }
            Err(trouble) => attempts.after(&trouble).await?,
        }
    }
}

/// Makes one attempt, and gives it up when its time is over.
pub(crate) async fn once<A, F, Fut>(attempt: Attempt, send: &F) -> Result<A, Trouble>
where
    F: Fn(Attempt) -> Fut,
    Fut: Future<Output = Result<Response<A>, Status>>,
{
    let (timeout, address) = (attempt.timeout, Address::clone(&attempt.address));
    match tokio::time::timeout(timeout, send(attempt)).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(Trouble::of(&status)),
        Err(_) => Err(timed_out(&address, timeout)),
    }
}

/// The trouble of an attempt that got no answer in its time.
pub(crate) fn timed_out(address: &Address, timeout: Duration) -> Trouble {
    Trouble::Broken(format!("{address} did not answer within {} ms", timeout.as_millis()))
}
