//! One long stream of operations to one node.
//!
//! ```text
//!   push ──▶ queue ──▶ Frames (tonic polls it when it can send) ──▶ the node
//!                         │ in order                                   │
//!                         ▼                                            ▼
//!                      Unanswered ◀────────── results, in order ───────┘
//! ```
//!
//! An operation is in the queue, where it certainly was not sent, or among the unanswered,
//! where it may have been. When the stream breaks, the two are told apart by that.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use parking_lot::Mutex;
use proto::v1::{self, StreamRequest};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::AbortHandle;
use tonic::transport::Channel;

use crate::core::kv_client;
use crate::retry::Trouble;

/// The most operations of a frame.
const FRAME_OPERATIONS: usize = 512;
/// A frame ends with the operation that passes this.
const FRAME_BYTES: usize = 1024 * 1024;

/// Where an operation's answer goes. It holds the operation's permit, so that room is made
/// by an answer's arrival and not only when somebody looks at it.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) to: oneshot::Sender<Result<v1::Result, Trouble>>,
    /// None for what is sent again: it has waited for its turn once.
    pub(super) _permit: Option<OwnedSemaphorePermit>,
}

/// An operation to be sent.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) operation: v1::Operation,
    pub(super) size: usize,
    pub(super) reply: Reply,
}

/// The sending end of a stream. Dropping it lets the stream end once all is answered.
#[derive(Debug)]
pub(super) struct Lane {
    /// Its length is bounded by the pipeline's permits, and by what is sent again.
    queue: mpsc::UnboundedSender<Queued>,
    reader: AbortHandle,
}

/// What was put into a frame and not answered, in order. Closed when the stream broke:
/// after that nothing more may be sent.
#[derive(Debug, Default)]
struct Unanswered {
    replies: VecDeque<Reply>,
    closed: bool,
}

/// The frames of a lane.
struct Frames {
    queue: mpsc::UnboundedReceiver<Queued>,
    unanswered: Arc<Mutex<Unanswered>>,
}

/// Fails what is unanswered when the reading end goes, however it goes.
struct Reader {
    unanswered: Arc<Mutex<Unanswered>>,
    why: Trouble,
}

impl Lane {
    /// Opens a stream.
    pub(super) fn open(channel: Channel) -> Self {
        let (queue, queued) = mpsc::unbounded_channel();
        let unanswered = Arc::new(Mutex::new(Unanswered::default()));
        let frames = Frames { queue: queued, unanswered: Arc::clone(&unanswered) };
        let why = Trouble::Broken("the stream ended".to_owned());
        let reader = tokio::spawn(Reader { unanswered, why }.run(channel, frames)).abort_handle();
        Self { queue, reader }
    }

    /// Ends the stream now. What it left unanswered is in doubt.
    pub(super) fn close(&self) {
        self.reader.abort();
    }

    /// Queues an operation, or gives it back when the stream has ended.
    pub(super) fn push(&self, queued: Queued) -> Result<(), Queued> {
        self.queue.send(queued).map_err(|error| error.0)
    }
}

impl Stream for Frames {
    type Item = StreamRequest;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<StreamRequest>> {
        let this = &mut *self;
        let mut unanswered = this.unanswered.lock();
        if unanswered.closed {
            return Poll::Ready(None);
        }
        let mut operations = Vec::new();
        let mut bytes = 0;
        while operations.len() < FRAME_OPERATIONS && bytes < FRAME_BYTES {
            match this.queue.poll_recv(context) {
                // Nobody waits for it any more, and it was not sent yet.
                Poll::Ready(Some(queued)) if queued.reply.to.is_closed() => {}
                Poll::Ready(Some(queued)) => {
                    bytes += queued.size;
                    operations.push(queued.operation);
                    unanswered.replies.push_back(queued.reply);
                }
                Poll::Ready(None) if operations.is_empty() => return Poll::Ready(None),
                Poll::Pending if operations.is_empty() => return Poll::Pending,
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Poll::Ready(Some(StreamRequest { operations }))
    }
}

impl Reader {
    async fn run(mut self, channel: Channel, frames: Frames) {
        if let Err(trouble) = self.read(channel, frames).await {
            self.why = trouble;
        }
    }

    async fn read(&mut self, channel: Channel, frames: Frames) -> Result<(), Trouble> {
        let opened = kv_client(channel).stream(frames).await;
        let mut answers = opened.map_err(|status| Trouble::of(&status))?.into_inner();
        while let Some(answer) = answers.message().await.map_err(|status| Trouble::of(&status))? {
            for result in answer.results {
                let reply = self.unanswered.lock().replies.pop_front();
                match reply {
                    // Whoever waited may have given up; the answer is then nobody's.
                    Some(reply) => drop(reply.to.send(Ok(result))),
                    None => return Err(Trouble::Broken("the node answered more than was asked".to_owned())),
                }
            }
        }
        Ok(())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let replies = {
            let mut unanswered = self.unanswered.lock();
            unanswered.closed = true;
            std::mem::take(&mut unanswered.replies)
        };
        // A node that refuses the stream itself may have done operations of it before.
        let trouble = match &self.why {
            Trouble::Refused(failure) => Trouble::Broken(failure.message.clone()),
            other => other.clone(),
        };
        for reply in replies {
            drop(reply.to.send(Err(trouble.clone())));
        }
    }
}
