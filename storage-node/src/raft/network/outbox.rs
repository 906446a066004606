//! Messages that wait for a connection, and the stream of frames that empties them.
//!
//! The connection asks the stream for a frame whenever it can send, and gets everything
//! that gathered since it last asked. So a busy connection sends few full frames and an idle
//! one sends each message at once, and no timer decides between the two.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::Stream;
use parking_lot::Mutex;
use prost::Message as _;
use proto::v1::{Frame, Hello, Message};

use super::counters::Counters;

/// Bytes after which a frame is closed. One message may be larger than this by itself.
const FRAME_BYTES: usize = 4 << 20;
/// Messages after which a frame is closed.
const FRAME_MESSAGES: usize = 1024;

/// How much may wait for a connection. Over it, a message is refused at once.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Encoded bytes.
    pub bytes: usize,
    /// Messages.
    pub messages: usize,
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Too much waits already.
    #[error("too much is waiting to be sent")]
    Full,
    /// The stream has ended.
    #[error("the stream has ended")]
    Closed,
}

/// The side that puts messages in. Clones share the same queue.
#[derive(Clone)]
pub struct Outbox {
    shared: Arc<Shared>,
}

/// The side that the connection polls. Dropping it closes the outbox.
pub struct Frames {
    shared: Arc<Shared>,
}

struct Shared {
    bounds: Bounds,
    counters: Arc<Counters>,
    state: Mutex<State>,
}

struct State {
    hello: Option<Hello>,
    /// Messages leave only once this is set; the hello goes first, alone.
    open: bool,
    closed: bool,
    queue: VecDeque<(usize, Message)>,
    bytes: usize,
    waker: Option<Waker>,
}

impl Outbox {
    /// An outbox whose messages wait until [`Outbox::open`]; a hello, where there is one, does
    /// not. A caller can so be sure that nothing was delivered to a peer that refused it.
    pub fn new(bounds: Bounds, hello: Option<Hello>, counters: Arc<Counters>) -> (Self, Frames) {
        let state =
            State { hello, open: false, closed: false, queue: VecDeque::new(), bytes: 0, waker: None };
        let shared = Arc::new(Shared { bounds, counters, state: Mutex::new(state) });
        (Self { shared: Arc::clone(&shared) }, Frames { shared })
    }

    /// Lets messages go.
    pub fn open(&self) {
        let mut state = self.shared.state.lock();
        state.open = true;
        state.wake();
    }

    /// Queues a message, unless too much waits. A message is taken whatever its size while
    /// nothing waits, or one larger than the bound could never be sent.
    pub fn push(&self, message: Message) -> Result<(), NotTaken> {
        let bytes = message.encoded_len();
        let Bounds { bytes: most_bytes, messages: most_messages } = self.shared.bounds;
        let mut state = self.shared.state.lock();
        let full = state.bytes.saturating_add(bytes) > most_bytes || state.queue.len() >= most_messages;
        if full && !state.queue.is_empty() {
            return Err(NotTaken::Full);
        }
        state.push(bytes, message)
    }

    /// Queues an answer. Answers are bounded by the questions that were let in, so they are
    /// not bounded again here.
    pub fn push_answer(&self, message: Message) -> Result<(), NotTaken> {
        let bytes = message.encoded_len();
        self.shared.state.lock().push(bytes, message)
    }

    /// Whether more waits than may.
    pub fn is_full(&self) -> bool {
        let state = self.shared.state.lock();
        state.bytes > self.shared.bounds.bytes || state.queue.len() > self.shared.bounds.messages
    }

    /// Ends the stream at once and gives back what had not left.
    pub fn close(&self) -> Vec<Message> {
        self.shared.state.lock().close()
    }
}

impl State {
    fn push(&mut self, bytes: usize, message: Message) -> Result<(), NotTaken> {
        if self.closed {
            return Err(NotTaken::Closed);
        }
        self.queue.push_back((bytes, message));
        self.bytes += bytes;
        if self.open {
            self.wake();
        }
        Ok(())
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn close(&mut self) -> Vec<Message> {
        self.closed = true;
        self.bytes = 0;
        self.wake();
        self.queue.drain(..).map(|(_, message)| message).collect()
    }

    /// The next frame and its bytes, when there is something to send.
    fn take_frame(&mut self) -> Option<(Frame, usize)> {
        if let Some(hello) = self.hello.take() {
            return Some((Frame { messages: Vec::new(), hello: Some(hello) }, 0));
        }
        if !self.open || self.queue.is_empty() {
            return None;
        }
        let mut messages = Vec::with_capacity(self.queue.len().min(FRAME_MESSAGES));
        let mut taken = 0;
        while let Some((bytes, _)) = self.queue.front() {
            let fits = messages.len() < FRAME_MESSAGES && taken + bytes <= FRAME_BYTES;
            if !fits && !messages.is_empty() {
                break;
            }
            if let Some((bytes, message)) = self.queue.pop_front() {
                taken += bytes;
                messages.push(message);
            }
        }
        self.bytes = self.bytes.saturating_sub(taken);
        Some((Frame { messages, hello: None }, taken))
    }
}

impl Stream for Frames {
    type Item = Frame;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Frame>> {
        let mut state = self.shared.state.lock();
        if state.closed {
            return Poll::Ready(None);
        }
        let Some((frame, bytes)) = state.take_frame() else {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        drop(state);
        self.shared.counters.frame_sent(frame.messages.len(), bytes);
        Poll::Ready(Some(frame))
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        // What had not left stays in the queue: whoever holds the outbox takes it with
        // `close` and so knows what was never delivered.
        self.shared.state.lock().closed = true;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::{FutureExt, StreamExt};
    use proto::v1::{AppendRequest, message::Body};

    use super::*;

    fn message(id: u64, bytes: usize) -> Message {
        let append = AppendRequest { entries: vec![Bytes::from(vec![0; bytes])], ..Default::default() };
        Message { id, body: Some(Body::Append(append)), ..Default::default() }
    }

    fn outbox(bounds: Bounds) -> (Outbox, Frames, Arc<Counters>) {
        let counters = Arc::new(Counters::default());
        let (outbox, frames) = Outbox::new(bounds, None, Arc::clone(&counters));
        (outbox, frames, counters)
    }

    const ROOMY: Bounds = Bounds { bytes: 64 << 20, messages: 10_000 };

    #[tokio::test]
    async fn what_waits_leaves_in_one_frame() {
        let (outbox, mut frames, counters) = outbox(ROOMY);
        outbox.open();
        for id in 0..100 {
            outbox.push(message(id, 10)).unwrap();
        }
        let frame = frames.next().await.unwrap();
        let ids: Vec<_> = frame.messages.iter().map(|message| message.id).collect();
        assert_eq!(ids, (0..100).collect::<Vec<_>>());
        assert!(frames.next().now_or_never().is_none());
        assert_eq!((counters.read().frames_sent, counters.read().messages_sent), (1, 100));
    }

    #[tokio::test]
    async fn a_frame_is_bounded_but_one_large_message_still_goes() {
        let (outbox, mut frames, _) = outbox(ROOMY);
        outbox.open();
        outbox.push(message(0, FRAME_BYTES + 1)).unwrap();
        outbox.push(message(1, FRAME_BYTES / 2)).unwrap();
        outbox.push(message(2, FRAME_BYTES / 2)).unwrap();
        for expected in 0..3 {
            let frame = frames.next().await.unwrap();
            assert_eq!(frame.messages.iter().map(|message| message.id).collect::<Vec<_>>(), [expected]);
        }
    }

    #[tokio::test]
    async fn nothing_but_the_hello_leaves_before_it_is_open() {
        let (outbox, mut frames) = Outbox::new(ROOMY, Some(Hello::default()), Arc::default());
        outbox.push(message(7, 1)).unwrap();
        assert!(frames.next().await.unwrap().hello.is_some());
        assert!(frames.next().now_or_never().is_none());
        outbox.open();
        assert_eq!(frames.next().await.unwrap().messages.len(), 1);
    }

    #[tokio::test]
    async fn over_the_bound_a_message_is_refused_at_once() {
        let (outbox, mut frames, _) = outbox(Bounds { bytes: 1000, messages: 3 });
        outbox.open();
        outbox.push(message(0, 5000)).unwrap();
        assert_eq!(outbox.push(message(1, 10)), Err(NotTaken::Full));
        frames.next().await.unwrap();
        for id in 0..3 {
            outbox.push(message(id, 1)).unwrap();
        }
        assert_eq!(outbox.push(message(3, 1)), Err(NotTaken::Full));
    }

    #[tokio::test]
    async fn what_never_left_is_given_back() {
        let (outbox, frames, _) = outbox(ROOMY);
        outbox.push(message(3, 1)).unwrap();
        drop(frames);
        assert_eq!(outbox.push(message(4, 1)), Err(NotTaken::Closed));
        assert_eq!(outbox.close().len(), 1);
    }
}
