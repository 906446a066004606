//! Appends of one replica to another, many under way at once.
//!
//! openraft gives a stream of appends and takes a stream of results. In between, each append
//! gets a place, leaves at once with whatever else goes to that peer, and waits here for its
//! answer. The pipeline is one future of its caller's: it has no task of its own.
//!
//! An append without entries only tells how far to commit. It waits a little for the next one
//! with entries, which tells it too, and is then never sent: under load that is every other
//! message. Results go by log id, so the later one's answer stands for both.
//!
//! It ends with an error when the lane breaks, when too much waits for the peer, or when
//! appends are under way and no answer comes for the patience of the settings; openraft then
//! backs off and starts another.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::errors::{RPCError, Unreachable};
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use proto::v1::PipelineEnd;
use proto::v1::message::Body;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use super::contacts::Contacts;
use super::lane::{Lane, Route};
use super::session::{CallError, PipelineAnswer, Session};
use super::wire;
use crate::raft::type_config::{Entry, TypeConfig};
use crate::seams::clock;

/// Appends without an answer, at most. The receiver gives each pipeline room for as many, so
/// that a slow replica never holds up the others of its stream.
pub(super) const MOST_IN_FLIGHT: usize = 64;
/// Bytes of entries without an answer, at most; one append goes whatever its size.
const MOST_BYTES_IN_FLIGHT: usize = 32 << 20;
/// An append of more entry bytes than this travels as several.
const PART_BYTES: usize = 4 << 20;

/// So long may an append that only tells how far to commit wait for one with entries. What
/// waits for it is a follower's state, which nobody reads linearizably.
const COMMIT_NOTICE_WAITS: Duration = Duration::from_millis(20);

/// What openraft takes.
pub(super) type AppendResult = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// A stream of results for a stream of appends.
pub(super) struct Pipeline<S> {
    input: S,
    input_ended: bool,
    /// Parts of appends from the input that are not sent yet.
    parts: VecDeque<AppendEntriesRequest<TypeConfig>>,
    route: Route,
    id: u64,
    session: Arc<Session>,
    answers: mpsc::Receiver<PipelineAnswer>,
    /// A commit notice that waits for an append with entries.
    notice: Option<AppendEntriesRequest<TypeConfig>>,
    notice_due: Pin<Box<Sleep>>,
    contacts: Arc<Contacts>,
    /// Each append under way; the first has the place that is answered next.
    in_flight: VecDeque<Sent>,
    bytes_in_flight: usize,
    next_place: u64,
    next_answer: u64,
    patience: Duration,
    /// The last time that an answer came, or that something was sent while nothing waited.
    moved: Instant,
    timer: Pin<Box<Sleep>>,
    ended: bool,
}

/// An append under way.
struct Sent {
    bytes: usize,
    term: u64,
    at: Instant,
}

impl<S> Pipeline<S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    /// A pipeline over a lane, which it connects where need be. Gives the input back where the
    /// lane refuses.
    pub fn open(
        lane: &Arc<Lane>,
        route: Route,
        input: S,
        patience: Duration,
        contacts: Arc<Contacts>,
    ) -> Result<Self, (S, CallError)> {
        let id = lane.next_id();
        let opened = lane.session().and_then(|session| {
            let answers = session.open_pipeline(id, MOST_IN_FLIGHT)?;
            Ok((session, answers))
        });
        let (session, answers) = match opened {
            Ok(opened) => opened,
            Err(error) => return Err((input, error)),
        };
        let moved = clock::now();
        Ok(Self {
            input,
            input_ended: false,
            parts: VecDeque::new(),
            route,
            id,
            session,
            answers,
            notice: None,
            notice_due: Box::pin(tokio::time::sleep_until(moved)),
            contacts,
            in_flight: VecDeque::new(),
            bytes_in_flight: 0,
            next_place: 0,
            next_answer: 0,
            patience,
            moved,
            timer: Box::pin(tokio::time::sleep_until(moved + patience)),
            ended: false,
        })
    }

    /// Sends what there is, as long as it may.
    fn fill(&mut self, context: &mut Context<'_>) -> Result<(), String> {
        loop {
            let full = self.in_flight.len() >= MOST_IN_FLIGHT || self.bytes_in_flight >= MOST_BYTES_IN_FLIGHT;
            if full {
                return Ok(());
            }
            if let Some(part) = self.parts.pop_front() {
                self.send(&part)?;
                continue;
            }
            if self.input_ended {
                return Ok(());
            }
            match self.input.poll_next_unpin(context) {
                Poll::Ready(Some(append)) => self.take(append),
                Poll::Ready(None) => self.input_ended = true,
                Poll::Pending => {
                    if self.notice.is_none() || self.notice_due.poll_unpin(context).is_pending() {
                        return Ok(());
                    }
                }
            }
            let due = self.input_ended || self.notice_due.deadline() <= clock::now();
            if due && let Some(notice) = self.notice.take() {
                self.parts.push_back(notice);
            }
        }
    }

    /// Takes an append from openraft. The first ones look for where the logs meet, and go at
    /// once.
    fn take(&mut self, append: AppendEntriesRequest<TypeConfig>) {
        if append.entries.is_empty() && self.next_answer > 0 {
            if self.notice.is_none() {
                self.notice_due.as_mut().reset(clock::now() + COMMIT_NOTICE_WAITS);
            }
            self.notice = Some(append);
        } else {
            self.notice = None;
            self.parts = split(append, PART_BYTES);
        }
    }

    fn send(&mut self, append: &AppendEntriesRequest<TypeConfig>) -> Result<(), String> {
        let bytes = append.entries.iter().map(entry_bytes).sum();
        let place = self.next_place;
        let body = Body::Append(wire::append_out(append, self.id, place));
        // Before it can leave: a follower's promise counts from when it takes the append in.
        let at = clock::now();
        self.session.outbox().push(self.route.message(place, body)).map_err(|why| why.to_string())?;
        if self.in_flight.is_empty() {
            self.moved = at;
        }
        self.next_place += 1;
        self.in_flight.push_back(Sent { bytes, term: append.vote.leader_id().term, at });
        self.bytes_in_flight += bytes;
        Ok(())
    }

    /// Takes an answer. The pipeline is over after one that is not a success.
    fn answered(&mut self, answer: PipelineAnswer) -> AppendResult {
        let result = wire::append_result_in(answer.answer).map_err(|error| error.to_string());
        let result = result.and_then(|result| result).map_err(unreachable);
        let in_order = answer.place == self.next_answer;
        let sent = self.in_flight.pop_front().filter(|_| in_order);
        match (&result, &sent) {
            (Ok(Ok(_)), None) => return Err(unreachable("the peer's answers are out of order")),
            (Ok(Ok(_)), Some(sent)) => self.contacts.note(self.route.to, sent.term, sent.at),
            _ => {}
        }
        self.bytes_in_flight -= sent.map_or(0, |sent| sent.bytes);
        self.next_answer += 1;
        self.moved = clock::now();
        result
    }

    /// Whether the patience is over. The timer is only set again when it fires, not with each
    /// answer.
    fn stalled(&mut self, context: &mut Context<'_>) -> bool {
        if self.in_flight.is_empty() {
            return false;
        }
        while self.timer.poll_unpin(context).is_ready() {
            let over = self.moved + self.patience;
            if over <= clock::now() {
                return true;
            }
            self.timer.as_mut().reset(over);
        }
        false
    }

    fn end(&mut self, last: AppendResult) -> Poll<Option<AppendResult>> {
        self.ended = true;
        Poll::Ready(Some(last))
    }
}

impl<S> Stream for Pipeline<S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    type Item = AppendResult;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<AppendResult>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        if let Err(why) = this.fill(context) {
            return this.end(Err(unreachable(why)));
        }
        match this.answers.poll_recv(context) {
            Poll::Ready(Some(answer)) => {
                let result = this.answered(answer);
                if matches!(result, Ok(Ok(_))) {
                    return Poll::Ready(Some(result));
                }
                return this.end(result);
            }
            Poll::Ready(None) => {
                let why = this.session.broken().unwrap_or_else(|| "the pipeline was dropped".to_owned());
                return this.end(Err(unreachable(why)));
            }
            Poll::Pending => {}
        }
        if this.input_ended && this.parts.is_empty() && this.notice.is_none() && this.in_flight.is_empty() {
            this.ended = true;
            return Poll::Ready(None);
        }
        if this.stalled(context) {
            let why = format!("no answer for {:?}", this.patience);
            return this.end(Err(unreachable(why)));
        }
        Poll::Pending
    }
}

impl<S> Drop for Pipeline<S> {
    fn drop(&mut self) {
        self.session.close_pipeline(self.id);
        if self.next_place > 0 {
            let end = Body::PipelineEnd(PipelineEnd { pipeline: self.id });
            // Where it cannot be sent, the peer forgets the pipeline with the stream, or when
            // the next one of the same two replicas begins.
            let _ = self.session.outbox().push(self.route.message(0, end));
        }
    }
}

/// An error after which openraft waits a while before it tries again.
pub(super) fn unreachable(why: impl ToString) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::from_string(why))
}

/// What an entry takes on the wire, near enough.
fn entry_bytes(entry: &Entry) -> usize {
    const HEAD: usize = 32;
    match &entry.payload {
        openraft::EntryPayload::Normal(data) => data.0.len() + HEAD,
        _ => HEAD,
    }
}

/// An append as several that follow each other, so that none is larger than a message may
/// be. openraft takes results by log id, so more of them than it asked for do no harm.
fn split(
    append: AppendEntriesRequest<TypeConfig>,
    most: usize,
) -> VecDeque<AppendEntriesRequest<TypeConfig>> {
    let AppendEntriesRequest { vote, prev_log_id, entries, leader_commit } = append;
    let part = |prev_log_id, entries| AppendEntriesRequest { vote, prev_log_id, entries, leader_commit };
    let mut parts = VecDeque::new();
    let mut previous = prev_log_id;
    let mut gathered = Vec::with_capacity(entries.len());
    let mut bytes = 0;
    for entry in entries {
        let size = entry_bytes(&entry);
        if bytes + size > most && !gathered.is_empty() {
            let last = gathered.last().map(Entry::log_id);
            parts.push_back(part(previous, std::mem::take(&mut gathered)));
            previous = last;
            bytes = 0;
        }
        bytes += size;
        gathered.push(entry);
    }
    // The last part, or the only one, which may be empty: it tells how far to commit.
    parts.push_back(part(previous, gathered));
    parts
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use openraft::EntryPayload;

    use super::*;
    use crate::raft::type_config::{EntryData, LogId, Vote};

    #[test]
    fn a_large_append_travels_as_several_that_follow_each_other() {
        let id = |index| LogId::new_term_index(1, index);
        let entries: Vec<_> = (5..15)
            .map(|index| Entry::new(id(index), EntryPayload::Normal(EntryData(Bytes::from(vec![0; 100])))))
            .collect();
        let append = AppendEntriesRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: Some(id(4)),
            entries,
            leader_commit: Some(id(3)),
        };
        let parts = split(append.clone(), 300);
        assert_eq!(parts.len(), 5);
        let mut expected = Some(id(4));
        for part in &parts {
            assert_eq!(part.prev_log_id, expected);
            expected = part.entries.last().map(Entry::log_id);
        }
        assert_eq!(expected, Some(id(14)));
        assert_eq!(split(append, usize::MAX).len(), 1);
        let heartbeat = AppendEntriesRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: None,
            entries: Vec::new(),
            leader_commit: None,
        };
        assert_eq!(split(heartbeat, 300).len(), 1);
    }
}
