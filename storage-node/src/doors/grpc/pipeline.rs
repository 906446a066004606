//! Operations that come one after the other without waiting for answers, and are answered
//! in their order.
//!
//! They run at the same time, but what touches the same key takes effect in the order in
//! which it was sent: an operation whose key is in use by an earlier one, where either of
//! them writes, waits for that one's answer. Whatever answers are there when the connection
//! can take more go out as one message.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, Stream, StreamExt};
use prost::Message;
use proto::v1::{
    Failure, Operation, Result as OperationResult, StreamRequest, StreamResponse,
    operation::Operation as Kind, result::Result as Outcome,
};
use tonic::{Code, Status};

use crate::partition::operations::keys_of;
use crate::router::operations::is_write;

/// Operations of one stream that run at once; over it the connection is not read.
const IN_FLIGHT: usize = 1024;
/// An answer message grows to about this.
const ANSWER_BYTES: usize = 1 << 20;

/// One stream of operations.
pub struct Pipeline<I, B> {
    input: Option<I>,
    begin: B,
    arrived: VecDeque<Operation>,
    running: FuturesOrdered<BoxFuture<'static, OperationResult>>,
    /// The keys of what runs, oldest first.
    held: VecDeque<Held>,
    used: HashMap<Bytes, Use>,
    broken: Option<Status>,
}

struct Held {
    keys: Vec<Bytes>,
    writes: bool,
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
            running: FuturesOrdered::new(),
            held: VecDeque::new(),
            used: HashMap::new(),
            broken: None,
        }
    }

    fn read(&mut self, context: &mut Context<'_>) {
        while self.arrived.is_empty() && self.running.len() < IN_FLIGHT {
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
        while self.running.len() < IN_FLIGHT {
            let Some(operation) = self.arrived.pop_front() else { return };
            let Some(kind) = operation.operation else {
                let failure =
                    Failure::new(Code::InvalidArgument, "this node does not know the operation", None);
                let result = OperationResult { result: Some(Outcome::Failure(failure)) };
                self.running.push_back(Box::pin(std::future::ready(result)));
                self.held.push_back(Held { keys: Vec::new(), writes: false });
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
            self.held.push_back(Held { keys, writes });
            let running = (self.begin)(kind);
            self.running.push_back(running);
        }
    }

    fn release_oldest(&mut self) {
        let Some(held) = self.held.pop_front() else { return };
        for key in held.keys {
            let Some(used) = self.used.get_mut(&key) else { continue };
            let count = if held.writes { &mut used.writers } else { &mut used.readers };
            *count = count.saturating_sub(1);
            if used.readers + used.writers == 0 {
                self.used.remove(&key);
            }
        }
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
        loop {
            this.begin_arrived();
            this.read(context);
            this.begin_arrived();
            match this.running.poll_next_unpin(context) {
                Poll::Ready(Some(result)) => {
                    this.release_oldest();
                    bytes += result.encoded_len();
                    results.push(result);
                    if bytes < ANSWER_BYTES && results.len() < IN_FLIGHT {
                        continue;
                    }
                }
                Poll::Ready(None)
                    if results.is_empty() && this.arrived.is_empty() && this.input.is_none() =>
                {
                    return Poll::Ready(this.broken.take().map(Err));
                }
                Poll::Ready(None) | Poll::Pending => {}
            }
            if results.is_empty() {
                return Poll::Pending;
            }
            return Poll::Ready(Some(Ok(StreamResponse { results })));
        }
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
}
