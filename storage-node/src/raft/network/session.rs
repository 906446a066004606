//! One stream of frames to a peer, while it lasts: what waits for an answer on it.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use proto::v1::message::Body;
use proto::v1::{AppendAnswer, Frame, Message};
use tokio::sync::{mpsc, oneshot};

use super::outbox::Outbox;

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It was certainly not delivered.
    #[error("not sent: {0}")]
    NotSent(String),
    /// It may have been delivered and acted on.
    #[error("sent, but no answer came: {0}")]
    Unknown(String),
    /// The peer will not answer it: it does not hold that replica, or the replica is broken.
    #[error("refused: {0}")]
    Refused(String),
}

/// What came back for one place of a pipeline.
pub struct PipelineAnswer {
    /// The place.
    pub place: u64,
    /// The answer.
    pub answer: AppendAnswer,
}

/// One stream of frames to a peer.
pub struct Session {
    outbox: Outbox,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    broken: Option<String>,
    calls: HashMap<u64, oneshot::Sender<Result<Body, CallError>>>,
    pipelines: HashMap<u64, mpsc::Sender<PipelineAnswer>>,
}

impl Session {
    pub fn new(outbox: Outbox) -> Self {
        Self { outbox, waiting: Mutex::default() }
    }

    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Why the session is over, once it is.
    pub fn broken(&self) -> Option<String> {
        self.waiting.lock().broken.clone()
    }

    /// Sends a question; the future is its answer. Dropping it forgets the question.
    pub fn call(self: &Arc<Self>, message: Message) -> Result<Call, CallError> {
        let id = message.id;
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock();
            if let Some(why) = &waiting.broken {
                return Err(CallError::NotSent(why.clone()));
            }
            waiting.calls.insert(id, sender);
        }
        let call = Call { session: Arc::clone(self), id, receiver };
        self.outbox.push(message).map_err(|why| CallError::NotSent(why.to_string()))?;
        Ok(call)
    }

    /// Registers a pipeline. At most `most` answers wait to be read; the sender keeps no more
    /// appends than that without an answer.
    pub fn open_pipeline(&self, id: u64, most: usize) -> Result<mpsc::Receiver<PipelineAnswer>, CallError> {
        let (sender, receiver) = mpsc::channel(most);
        let mut waiting = self.waiting.lock();
        if let Some(why) = &waiting.broken {
            return Err(CallError::NotSent(why.clone()));
        }
        waiting.pipelines.insert(id, sender);
        Ok(receiver)
    }

    /// Forgets a pipeline.
    pub fn close_pipeline(&self, id: u64) {
        self.waiting.lock().pipelines.remove(&id);
    }

    /// Hands the answers of a frame to whoever waits for them. An answer that nobody waits
    /// for any more is dropped.
    pub fn receive(&self, frame: Frame) {
        let mut waiting = self.waiting.lock();
        for message in frame.messages {
            match message.body {
                Some(Body::AppendAnswer(answer)) if answer.pipeline != 0 => {
                    waiting.pipeline_answer(PipelineAnswer { place: message.id, answer });
                }
                Some(body) => {
                    if let Some(sender) = waiting.calls.remove(&message.id) {
                        // The caller may have given up in this moment.
                        let _ = sender.send(match body {
                            Body::Refused(refused) => Err(CallError::Refused(refused.why)),
                            body => Ok(body),
                        });
                    }
                }
                None => {
                    tracing::debug!(id = message.id, "a peer answered with what this program does not know");
                }
            }
        }
    }

    /// Ends the session: everyone who waits is told, and whether their question ever left.
    pub fn break_all(&self, why: &str) {
        let unsent = self.outbox.close();
        let (calls, pipelines) = {
            let mut waiting = self.waiting.lock();
            if waiting.broken.is_none() {
                waiting.broken = Some(why.to_owned());
            }
            (std::mem::take(&mut waiting.calls), std::mem::take(&mut waiting.pipelines))
        };
        // Pipelines learn it from their channel's end.
        drop(pipelines);
        let unsent: HashSet<u64> = unsent.iter().map(|message| message.id).collect();
        for (id, sender) in calls {
            let error = if unsent.contains(&id) {
                CallError::NotSent(why.to_owned())
            } else {
                CallError::Unknown(why.to_owned())
            };
            let _ = sender.send(Err(error));
        }
    }
}

impl Waiting {
    fn pipeline_answer(&mut self, answer: PipelineAnswer) {
        let id = answer.answer.pipeline;
        let Some(sender) = self.pipelines.get(&id) else { return };
        if sender.try_send(answer).is_err() {
            // More answers than questions, or nobody reads: the pipeline ends.
            self.pipelines.remove(&id);
        }
    }
}

/// A question on its way.
pub struct Call {
    session: Arc<Session>,
    id: u64,
    receiver: oneshot::Receiver<Result<Body, CallError>>,
}

impl Future for Call {
    type Output = Result<Body, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver).poll(context).map(|answer| {
            answer.unwrap_or_else(|_| Err(CallError::Unknown("the session was dropped".to_owned())))
        })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.session.waiting.lock().calls.remove(&self.id);
    }
}
