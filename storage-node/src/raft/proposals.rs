//! Commands that wait for the same group become one entry.
//!
//! While entries are under way, what arrives gathers; when one is answered, all that has
//! gathered becomes the next. So a quiet group answers at once and a busy one in large
//! steps, and nothing waits for a timer. Entries are handed to Raft in the order of the
//! commands.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::stream::{FuturesOrdered, StreamExt};
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use parking_lot::Mutex;
use prost::Message;
use proto::v1::{Command, CommandBatch};
use tokio::sync::{Notify, oneshot};

use super::group::RaftHandle;
use super::type_config::{EntryData, ReplicaPlace, TypeConfig};
use crate::observability::metrics::Metrics;
use crate::partition::Answer;

/// An entry holds at most so much, or one command.
const ENTRY_BYTES: usize = 1 << 20;
/// So many entries of a group are under way at once; more would only make them smaller.
const UNDER_WAY: usize = 1;

/// Why a command has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProposeError {
    /// It was not proposed: this replica does not lead. Who does, where that is known.
    #[error("this replica does not lead")]
    NotLeader(Option<ReplicaPlace>),
    /// It was not proposed: the leader has lost touch with its quorum, or is handing over.
    #[error("the leader cannot propose at the moment")]
    NotNow,
    /// It may have been applied, or may yet be, or not.
    #[error("the outcome is unknown: {0}")]
    Unknown(&'static str),
}

type Reply = oneshot::Sender<Result<Answer, ProposeError>>;
type Written = Result<Vec<Answer>, ProposeError>;

/// What waits holds this until it is answered: the room that it takes on the node.
pub type Room = Option<Box<dyn Send>>;

struct Waiting {
    command: Command,
    bytes: usize,
    reply: Held,
}

/// Who is told, and the room that the command takes.
struct Held {
    reply: Reply,
    _room: Room,
}

/// The commands that wait for a group.
#[derive(Default)]
pub struct Proposals {
    waiting: Mutex<Queue>,
    arrived: Notify,
}

#[derive(Default)]
struct Queue {
    commands: VecDeque<Waiting>,
    closed: bool,
}

impl Proposals {
    /// Queues a command, in its place after all that came before. Dropping the receiver
    /// takes nothing back.
    pub fn push(&self, command: Command, room: Room) -> oneshot::Receiver<Result<Answer, ProposeError>> {
        let (reply, answer) = oneshot::channel();
        let bytes = command.encoded_len();
        let mut queue = self.waiting.lock();
        if queue.closed {
            let _ = reply.send(Err(ProposeError::NotNow));
            return answer;
        }
        queue.commands.push_back(Waiting { command, bytes, reply: Held { reply, _room: room } });
        drop(queue);
        self.arrived.notify_one();
        answer
    }

    /// Refuses what waits and what comes.
    pub fn close(&self) {
        let mut queue = self.waiting.lock();
        queue.closed = true;
        for waiting in queue.commands.drain(..) {
            let _ = waiting.reply.reply.send(Err(ProposeError::NotNow));
        }
        drop(queue);
        self.arrived.notify_one();
    }

    fn is_closed(&self) -> bool {
        self.waiting.lock().closed
    }

    /// All that has gathered, up to the size of an entry.
    fn take(&self) -> Option<(Vec<Command>, Vec<Held>)> {
        let mut queue = self.waiting.lock();
        let (mut commands, mut replies, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some(next) = queue.commands.pop_front() {
            if !commands.is_empty() && bytes + next.bytes > ENTRY_BYTES {
                queue.commands.push_front(next);
                break;
            }
            bytes += next.bytes;
            commands.push(next.command);
            replies.push(next.reply);
        }
        (!commands.is_empty()).then_some((commands, replies))
    }

    /// Hands entries to Raft until the proposals are closed.
    pub async fn run(self: Arc<Self>, raft: RaftHandle, stamp: impl Fn() -> u64, metrics: Arc<Metrics>) {
        let mut under_way = FuturesOrdered::new();
        loop {
            while under_way.len() < UNDER_WAY {
                let Some((commands, replies)) = self.take() else { break };
                metrics.entries_proposed.increment();
                metrics.commands_proposed.add(commands.len() as u64);
                let entry = CommandBatch { clock_ms: stamp(), commands };
                under_way.push_back(submit(&raft, entry, replies).await);
            }
            if under_way.is_empty() {
                if self.is_closed() {
                    return;
                }
                self.arrived.notified().await;
                continue;
            }
            let full = under_way.len() >= UNDER_WAY;
            tokio::select! {
                biased;
                answered = under_way.next() => {
                    if let Some((written, replies)) = answered {
                        distribute(written, replies);
                    }
                }
                () = self.arrived.notified(), if !full => {}
            }
        }
    }
}

/// Puts an entry into Raft's queue; the future that comes back is its outcome.
async fn submit(
    raft: &RaftHandle,
    entry: CommandBatch,
    replies: Vec<Held>,
) -> impl Future<Output = (Written, Vec<Held>)> + use<> {
    let (responder, outcome) = ProgressResponder::<TypeConfig, _>::complete_only();
    let data = EntryData(entry.encode_to_vec().into());
    let queued = raft.client_write_ff(data, Some(responder)).await;
    async move {
        let written = match queued {
            // The group has stopped; whether it took the entry before is not known.
            Err(_) => Err(ProposeError::Unknown("the group stopped")),
            Ok(()) => match outcome.await {
                Ok(Ok(done)) => Ok(done.data.0),
                Ok(Err(error)) => Err(refused(error)),
                Err(_) => Err(ProposeError::Unknown("the group stopped")),
            },
        };
        (written, replies)
    }
}

/// A write that openraft refuses to take was not proposed; one that it took and then lost
/// its place in the log may be on some disks, and may come back.
fn refused(error: ClientWriteError<TypeConfig>) -> ProposeError {
    match error {
        ClientWriteError::ForwardToLeader(forward) => match (forward.leader_id, forward.leader_node) {
            (None, None) => ProposeError::NotNow,
            (_, place) => ProposeError::NotLeader(place),
        },
        ClientWriteError::LogEntryDiscarded(_) => ProposeError::Unknown("the leader changed"),
        ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_) => {
            ProposeError::NotNow
        }
    }
}

fn distribute(written: Written, replies: Vec<Held>) {
    match written {
        Ok(answers) => {
            for (reply, answer) in replies.into_iter().zip(answers) {
                let _ = reply.reply.send(Ok(answer));
            }
        }
        Err(error) => {
            for reply in replies {
                let _ = reply.reply.send(Err(error.clone()));
            }
        }
    }
}
