//! A lane to a peer: a connection of its own with one stream of frames, opened when somebody
//! has something to send.
//!
//! A lane that broke stays closed for a jittered while that doubles from 50 ms to 1 s;
//! whoever sends meanwhile is refused at once, and backs off by itself.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use placement::NodeId;
use proto::v1::message::Body;
use proto::v1::{Hello, Message};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::connect;
use super::counters::Counters;
use super::outbox::{Bounds, Frames, Outbox};
use super::peers::{AddressBook, Identity};
use super::session::{CallError, Session};
use crate::seams::{clock, runtime};

/// What a lane carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LaneKind {
    /// Appends of log entries.
    Log,
    /// Votes, heartbeats and transfers of leadership: small, and never behind bulk.
    Control,
    /// Operations on their way to a leader.
    Operations,
}

impl LaneKind {
    fn bounds(self) -> Bounds {
        match self {
            Self::Log | Self::Operations => Bounds { bytes: 64 << 20, messages: 65_536 },
            Self::Control => Bounds { bytes: 8 << 20, messages: 65_536 },
        }
    }
}

impl fmt::Display for LaneKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Log => "log",
            Self::Control => "control",
            Self::Operations => "operations",
        })
    }
}

/// The shortest and the longest time for which a broken lane refuses.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The replicas that a message is from and for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Route {
    /// The group.
    pub group: u64,
    /// The sending replica.
    pub from: u64,
    /// The receiving replica.
    pub to: u64,
}

impl Route {
    /// A message on this route.
    pub fn message(self, id: u64, body: Body) -> Message {
        Message { group: self.group, from_replica: self.from, to_replica: self.to, id, body: Some(body) }
    }

    /// An answer to a message that came on this route.
    pub fn answer(self, id: u64, body: Body) -> Message {
        Self { group: self.group, from: self.to, to: self.from }.message(id, body)
    }
}

/// What it takes to reach a peer.
#[derive(Clone)]
pub struct Dialer {
    /// Who calls.
    pub identity: Identity,
    /// Who is called.
    pub to: NodeId,
    /// Where that is.
    pub addresses: Arc<dyn AddressBook>,
    /// How long a connection may take to come up.
    pub timeout: Duration,
    /// What is counted.
    pub counters: Arc<Counters>,
}

/// A lane to a peer.
pub struct Lane {
    kind: LaneKind,
    dialer: Dialer,
    ids: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    live: Option<Live>,
    failures: u32,
    refuse_until: Option<Instant>,
    last_failure: String,
    closed: bool,
}

struct Live {
    session: Arc<Session>,
    task: AbortHandle,
}

impl Live {
    fn end(self, why: &str) {
        self.task.abort();
        self.session.break_all(why);
    }
}

/// How a session ended.
struct Ended {
    /// Whether the peer had taken the stream.
    accepted: bool,
    why: String,
}

impl Lane {
    /// A lane; it connects when it is first used.
    pub fn new(kind: LaneKind, dialer: Dialer) -> Arc<Self> {
        Arc::new(Self { kind, dialer, ids: AtomicU64::new(1), state: Mutex::default() })
    }

    /// A number that this lane has not used before; never 0.
    pub fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Asks the peer something and waits for the answer, without a limit in time.
    pub async fn call(self: &Arc<Self>, route: Route, body: Body) -> Result<Body, CallError> {
        let id = self.next_id();
        self.session()?.call(route.message(id, body))?.await
    }

    /// The session that is up or coming up; a new one when there is none and the lane does
    /// not refuse. Messages wait in it until the peer has taken the stream.
    pub fn session(self: &Arc<Self>) -> Result<Arc<Session>, CallError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(CallError::NotSent("this node is leaving its peers".to_owned()));
        }
        if let Some(live) = &state.live {
            return Ok(Arc::clone(&live.session));
        }
        if state.refuse_until.is_some_and(|until| clock::now() < until) {
            let why = format!("node {} cannot be reached now: {}", self.dialer.to, state.last_failure);
            return Err(CallError::NotSent(why));
        }
        let Identity { cluster, node } = self.dialer.identity;
        let hello = Hello {
            cluster: cluster.to_bytes().to_vec().into(),
            from_node: node.to_bytes().to_vec().into(),
            to_node: self.dialer.to.to_bytes().to_vec().into(),
        };
        let (outbox, frames) =
            Outbox::new(self.kind.bounds(), Some(hello), Arc::clone(&self.dialer.counters));
        let session = Arc::new(Session::new(outbox));
        let run = run(Arc::downgrade(self), self.dialer.clone(), Arc::clone(&session), frames);
        let task = tokio::spawn(run).abort_handle();
        state.live = Some(Live { session: Arc::clone(&session), task });
        Ok(session)
    }

    /// Ends the lane for good.
    pub fn close(&self) {
        let live = {
            let mut state = self.state.lock();
            state.closed = true;
            state.live.take()
        };
        if let Some(live) = live {
            live.end("this node is leaving its peers");
        }
    }

    /// Breaks the connection, as a network would. The lane comes back when it is next used
    /// after its backoff.
    #[cfg(test)]
    pub fn cut(&self) {
        let live = self.state.lock().live.take();
        if let Some(live) = live {
            live.end("cut by a test");
        }
    }

    fn ended(&self, session: &Arc<Session>, ended: &Ended) {
        let mut state = self.state.lock();
        // A session that was replaced or closed has no say any more.
        if !state.live.as_ref().is_some_and(|live| Arc::ptr_eq(&live.session, session)) {
            return;
        }
        state.live = None;
        state.failures = if ended.accepted { 1 } else { state.failures.saturating_add(1) };
        state.refuse_until = Some(clock::now() + backoff(state.failures));
        state.last_failure.clone_from(&ended.why);
        self.dialer.counters.session_broken();
        tracing::debug!(peer = %self.dialer.to, lane = %self.kind, why = ended.why, "lane broke");
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.close();
    }
}

/// A jittered pause before another attempt: half to all of a doubling time.
pub fn backoff(failures: u32) -> Duration {
    let (shortest, longest) = BACKOFF;
    let full = shortest.saturating_mul(1 << failures.saturating_sub(1).min(8)).min(longest);
    let full = full.as_micros() as u64;
    Duration::from_micros(runtime::random_between(full / 2, full))
}

/// The life of one session. It holds the lane weakly, so that dropping the lane ends it.
async fn run(lane: Weak<Lane>, dialer: Dialer, session: Arc<Session>, frames: Frames) {
    let ended = exchange(&dialer, &session, frames).await;
    // First the lane, so that whoever is told by the session and tries again at once finds
    // the lane refusing and not this session.
    if let Some(lane) = lane.upgrade() {
        lane.ended(&session, &ended);
    }
    session.break_all(&ended.why);
}

async fn exchange(dialer: &Dialer, session: &Session, frames: Frames) -> Ended {
    let refused = |why: String| Ended { accepted: false, why };
    let Some(address) = dialer.addresses.peer_address(dialer.to) else {
        return refused(format!("no address of node {} is known", dialer.to));
    };
    let opening = async {
        let channel = connect::connect(&address, dialer.timeout).await.map_err(|error| reason(&error))?;
        let answers = connect::client(channel).exchange(frames).await;
        answers.map_err(|status| status.message().to_owned())
    };
    // The handshake may take as long again as the connection.
    let answers = match tokio::time::timeout(dialer.timeout * 2, opening).await {
        Ok(Ok(answers)) => answers,
        Ok(Err(why)) => return refused(format!("{address}: {why}")),
        Err(_) => return refused(format!("{address}: no answer within {:?}", dialer.timeout * 2)),
    };
    dialer.counters.session_opened();
    session.outbox().open();
    let mut answers = answers.into_inner();
    loop {
        match answers.message().await {
            Ok(Some(frame)) => {
                dialer.counters.frame_received(frame.messages.len());
                session.receive(frame);
            }
            Ok(None) => return Ended { accepted: true, why: format!("{address} ended the stream") },
            Err(status) => {
                return Ended { accepted: true, why: format!("{address}: {}", status.message()) };
            }
        }
    }
}

/// An error with what caused it: tonic's own text alone is "transport error".
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_doubles_with_jitter_and_is_bounded() {
        for failures in 0..40 {
            let pause = backoff(failures);
            assert!(pause >= BACKOFF.0 / 2 && pause <= BACKOFF.1, "{pause:?} after {failures}");
        }
        assert!(backoff(1) <= BACKOFF.0);
        assert!(backoff(20) >= BACKOFF.1 / 2);
    }
}
