//! Operations that come one after the other without waiting for answers, and are answered
//! in their order.
//!
//! They run at the same time, but what touches the same key takes effect in the order in
//! which it was sent: an operation whose key is in use by an earlier one, where either of
//! them writes, waits for that one's answer. Whatever answers are there when the connection
//! can take more go out as one message.
//!
//! Answers that wait for an earlier one are bounded in bytes. Over the bound a value that was
//! read is let go and read again when it is its turn.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, Stream, StreamExt};
use prost::Message;
use proto::v1::{
    Failure, GetRequest, Operation, Result as OperationResult, StreamRequest, StreamResponse,
    operation::Operation as Kind, result::Result as Outcome,
};
use tonic::{Code, Status};

use crate::partition::operations::keys_of;
use crate::router::operations::is_write;

/// Operations of one stream that run at once; over it the connection is not read.
const IN_FLIGHT: usize = 1024;
/// An answer message grows to about this.
const ANSWER_BYTES: usize = 1 << 20;
/// Answers that wait for an earlier one hold about this.
const WAITING_BYTES: usize = 16 << 20;

/// One stream of operations.
pub struct Pipeline<I, B> {
    input: Option<I>,
    begin: B,
    arrived: VecDeque<Operation>,
    running: FuturesUnordered<BoxFuture<'static, (u64, OperationResult)>>,
    /// What has begun and is not answered, oldest first; the first has this number.
    places: VecDeque<Place>,
    first: u64,
    waiting_bytes: usize,
    used: HashMap<Bytes, Use>,
    broken: Option<Status>,
}

/// An operation's place among the answers.
struct Place {
    keys: Vec<Bytes>,
    writes: bool,
    /// A read, which can be done once more.
    read: Option<GetRequest>,
    state: State,
}

enum State {
    Running,
    Done(OperationResult, usize),
    /// Read, and let go.
    Again,
}

#[derive(Default)]
struct Use {
    readers: usize,
    writers: usize,
}

impl<I, B> Pipeline<I, B>
where
    I: Stream<Item = Result<StreamRequest, Status>> + Unpin,
    B: FnMut(Kind) -> BoxFuture<'static, OperationResult> + Unpin,
{
    /// Runs what comes in by `begin`.
    pub fn new(input: I, begin: B) -> Self {
        Self {
            input: Some(input),
            begin,
            arrived: VecDeque::new(),
            running: FuturesUnordered::new(),
            places: VecDeque::new(),
            first: 0,
            waiting_bytes: 0,
            used: HashMap::new(),
            broken: None,
        }
    }

    fn read(&mut self, context: &mut Context<'_>) {
        while self.arrived.is_empty() && self.places.len() < IN_FLIGHT {
            let Some(input) = &mut self.input else { return };
            match input.poll_next_unpin(context) {
                Poll::Ready(Some(Ok(frame))) => self.arrived.extend(frame.operations),
                Poll::Ready(Some(Err(status))) => {
                    self.input = None;
                    self.broken = Some(status);
                }
                Poll::Ready(None) => self.input = None,
                Poll::Pending => return,
            }
        }
    }

    /// Begins what has arrived, up to the first that has to wait.
    fn begin_arrived(&mut self) {
        while self.places.len() < IN_FLIGHT && self.waiting_bytes < WAITING_BYTES {
            let Some(operation) = self.arrived.pop_front() else { return };
            let Some(kind) = operation.operation else {
                let failure =
                    Failure::new(Code::InvalidArgument, "this node does not know the operation", None);
                let result = OperationResult { result: Some(Outcome::Failure(failure)) };
                let state = State::Done(result, 0);
                self.places.push_back(Place { keys: Vec::new(), writes: false, read: None, state });
                continue;
            };
            let writes = is_write(&kind);
            let keys: Vec<Bytes> = keys_of(&kind).into_iter().cloned().collect();
            let in_the_way =
                keys.iter().filter_map(|key| self.used.get(key)).any(|used| used.writers > 0 || writes);
            if in_the_way {
                self.arrived.push_front(Operation { operation: Some(kind) });
                return;
            }
            for key in &keys {
                let used = self.used.entry(key.clone()).or_default();
                *(if writes { &mut used.writers } else { &mut used.readers }) += 1;
            }
            let read = match &kind {
                Kind::Get(get) => Some(get.clone()),
                _ => None,
            };
            let number = self.first + self.places.len() as u64;
            self.places.push_back(Place { keys, writes, read, state: State::Running });
            self.run(number, kind);
        }
    }

    fn run(&mut self, number: u64, kind: Kind) {
        let running = (self.begin)(kind);
        self.running.push(Box::pin(async move { (number, running.await) }));
    }

    fn done(&mut self, number: u64, result: OperationResult) {
        let Some(place) = usize::try_from(number - self.first).ok().and_then(|at| self.places.get_mut(at))
        else {
            return;
        };
        let bytes = result.encoded_len();
        let no_room = self.waiting_bytes + bytes > WAITING_BYTES && number != self.first;
        place.state = if no_room && place.read.is_some() {
            State::Again
        } else {
            self.waiting_bytes += bytes;
            State::Done(result, bytes)
        };
    }

    /// The answer that is due next, if it is there.
    fn next_answer(&mut self) -> Option<(OperationResult, usize)> {
        let place = self.places.front_mut()?;
        match std::mem::replace(&mut place.state, State::Running) {
            State::Running => None,
            State::Again => {
                if let Some(get) = place.read.clone() {
                    self.run(self.first, Kind::Get(get));
                }
                None
            }
            State::Done(result, bytes) => {
                self.waiting_bytes -= bytes;
                self.release_oldest();
                Some((result, bytes))
            }
        }
    }

    fn release_oldest(&mut self) {
        let Some(place) = self.places.pop_front() else { return };
        self.first += 1;
        for key in place.keys {
            let Some(used) = self.used.get_mut(&key) else { continue };
            let count = if place.writes { &mut used.writers } else { &mut used.readers };
            *count = count.saturating_sub(1);
            if used.readers + used.writers == 0 {
                self.used.remove(&key);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.places.is_empty() && self.arrived.is_empty() && self.input.is_none()
    }
}

impl<I, B> Stream for Pipeline<I, B>
where
    I: Stream<Item = Result<StreamRequest, Status>> + Unpin,
    B: FnMut(Kind) -> BoxFuture<'static, OperationResult> + Unpin,
{
    type Item = Result<StreamResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let (mut results, mut bytes) = (Vec::new(), 0);
        while bytes < ANSWER_BYTES && results.len() < IN_FLIGHT {
            this.begin_arrived();
            this.read(context);
            this.begin_arrived();
            if let Some((result, size)) = this.next_answer() {
                bytes += size;
                results.push(result);
                continue;
            }
            match this.running.poll_next_unpin(context) {
                Poll::Ready(Some((number, result))) => this.done(number, result),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if !results.is_empty() {
            return Poll::Ready(Some(Ok(StreamResponse { results })));
        }
        if this.is_over() {
            return Poll::Ready(this.broken.take().map(Err));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use proto::v1::{GetRequest, PutRequest};
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    fn put(key: &'static str) -> Operation {
        Operation { operation: Some(Kind::Put(PutRequest { key: key.into(), ..PutRequest::default() })) }
    }

    fn get(key: &'static str) -> Operation {
        Operation { operation: Some(Kind::Get(GetRequest { key: key.into(), ..GetRequest::default() })) }
    }

    type Begun = (Kind, oneshot::Sender<OperationResult>);

    fn pipeline(
        operations: Vec<Operation>,
    ) -> (mpsc::UnboundedReceiver<Begun>, impl Stream<Item = Result<StreamResponse, Status>> + Unpin) {
        let (begun, seen) = mpsc::unbounded_channel();
        let begin = move |kind| -> BoxFuture<'static, OperationResult> {
            let (answer, result) = oneshot::channel();
            begun.send((kind, answer)).unwrap();
            Box::pin(async move { result.await.unwrap() })
        };
        (seen, Pipeline::new(stream::iter(vec![Ok(StreamRequest { operations })]), begin))
    }

    fn numbered(number: i32) -> OperationResult {
        OperationResult { result: Some(Outcome::Failure(Failure { code: number, ..Failure::default() })) }
    }

    #[tokio::test]
    async fn answers_come_in_the_order_of_the_questions() {
        let (mut seen, mut answers) = pipeline(vec![put("a"), put("b"), get("c")]);
        assert!(futures::poll!(answers.next()).is_pending());
        let mut begun: Vec<Begun> = Vec::new();
        while let Ok(next) = seen.try_recv() {
            begun.push(next);
        }
        assert_eq!(begun.len(), 3, "different keys run at once");
        for (number, (_, answer)) in begun.into_iter().enumerate().rev() {
            answer.send(numbered(number as i32)).unwrap();
        }
        let all = answers.next().await.unwrap().unwrap().results;
        assert_eq!(all, [numbered(0), numbered(1), numbered(2)]);
        assert!(answers.next().await.is_none());
    }

    #[tokio::test]
    async fn what_touches_a_key_that_is_written_waits_and_reads_do_not_wait_for_reads() {
        let (mut seen, mut answers) = pipeline(vec![get("a"), get("a"), put("a"), get("a")]);
        assert!(futures::poll!(answers.next()).is_pending());
        let first = [seen.try_recv().unwrap(), seen.try_recv().unwrap()];
        assert!(seen.try_recv().is_err(), "the put waits for the reads");
        for (_, answer) in first {
            answer.send(numbered(0)).unwrap();
        }
        assert_eq!(answers.next().await.unwrap().unwrap().results.len(), 2);
        assert!(futures::poll!(answers.next()).is_pending());
        let (kind, answer) = seen.try_recv().unwrap();
        assert!(matches!(kind, Kind::Put(_)) && seen.try_recv().is_err(), "the read waits for the put");
        answer.send(numbered(1)).unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap().results.len(), 1);
        assert!(futures::poll!(answers.next()).is_pending());
        seen.try_recv().unwrap().1.send(numbered(2)).unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap().results, [numbered(2)]);
    }

    fn value(bytes: usize) -> OperationResult {
        let item = proto::v1::Item { value: vec![0; bytes].into(), ..Default::default() };
        OperationResult { result: Some(Outcome::Get(proto::v1::GetResponse { item: Some(item) })) }
    }

    #[tokio::test]
    async fn large_values_that_wait_are_let_go_and_read_again() {
        let keys = ["a", "b", "c", "d", "e"];
        let (mut seen, mut answers) = pipeline(keys.map(get).to_vec());
        assert!(futures::poll!(answers.next()).is_pending());
        let first = seen.try_recv().unwrap().1;
        while let Ok((_, answer)) = seen.try_recv() {
            answer.send(value(6 << 20)).unwrap();
        }
        assert!(futures::poll!(answers.next()).is_pending(), "they wait for the first");
        first.send(numbered(0)).unwrap();
        let mut got = Vec::new();
        let mut again = 0;
        while got.len() < keys.len() {
            let next = answers.next();
            let mut next = std::pin::pin!(next);
            match futures::poll!(&mut next) {
                Poll::Ready(Some(message)) => got.extend(message.unwrap().results),
                Poll::Ready(None) => panic!("the stream ended early"),
                Poll::Pending => {
                    again += 1;
                    seen.try_recv().unwrap().1.send(value(6 << 20)).unwrap();
                }
            }
        }
        assert_eq!(again, 2, "two fit, two are read again");
        assert_eq!(got[0], numbered(0));
        assert!(got[1..].iter().all(|result| result.encoded_len() > 6 << 20));
    }
}
