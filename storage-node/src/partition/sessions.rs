//! Answers that clients may ask for again, so that a write is applied once however often it
//! is sent.
//!
//! A session is kept for ten minutes of the partition's clock, and clients send a write again
//! for five at most; so an answer that is gone although the write may have been applied is
//! always noticed, and said to be unknown: the session was dropped for want of room after the
//! write was born, or the answer was dropped for want of room within its session. A first
//! attempt may arrive after its own repetition was answered and forgotten, so that a write was
//! applied is remembered for longer than with what answer.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use placement::PartitionId;
use prost::Message;
use proto::v1::{Failure, OutcomeUnknown, Result as OperationResult, Retry, Session, SessionAnswer};
use proto::v1::{error_detail::Detail, result};
use tonic::Code;

use crate::storage::keys;
use crate::storage::state::Changes;

/// How long a session lives after its last use.
pub const LIFE_MS: u64 = 10 * 60 * 1000;
/// How long a client may go on sending a write again.
pub const MAX_AGE_MS: u64 = 5 * 60 * 1000;
const MAX_SESSIONS: usize = 10_000;
/// The answers of the largest batch fit.
const MAX_ANSWERS: usize = 1024;
/// Writes of which only that they were applied is remembered. Beyond it, whatever is as old as
/// the oldest of them is unknown.
const MAX_APPLIED: usize = 4096;
/// A larger answer is not kept: asked for again it is unknown.
const MAX_ANSWER_BYTES: usize = 1024;

type ClientId = [u8; 16];

/// The sessions of a partition.
#[derive(Debug, Default)]
pub struct Sessions {
    by_client: HashMap<ClientId, Open>,
    by_use: BTreeSet<(u64, ClientId)>,
    changed: HashSet<ClientId>,
    /// When the latest session was used that had to be forgotten early.
    pub watermark_ms: u64,
}

#[derive(Debug, Default)]
struct Open {
    lowest_unacknowledged: u64,
    dropped_up_to: u64,
    last_used_ms: u64,
    /// By sequence, and by the place in the batch that had it.
    answers: BTreeMap<(u64, u32), OperationResult>,
    /// Applied, and the answer was dropped.
    applied: BTreeSet<(u64, u32)>,
}

/// What is to be done with a write.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// It was not seen before.
    Apply,
    /// It was applied, and answered with this.
    Answered(OperationResult),
    /// It cannot be known whether it was applied.
    Unknown(&'static str),
}

impl Sessions {
    /// No sessions yet, but one was forgotten early when the watermark says.
    pub fn from_watermark(watermark_ms: u64) -> Self {
        Self { watermark_ms, ..Self::default() }
    }

    /// Judges a write by what is remembered of its client.
    pub fn judge(&self, retry: &Retry, clock_ms: u64) -> Verdict {
        let Ok(client) = ClientId::try_from(&retry.client[..]) else { return Verdict::Apply };
        if retry.age_ms > MAX_AGE_MS {
            return Verdict::Unknown("it was first sent more than five minutes ago");
        }
        let again = retry.attempt > 0;
        let Some(open) = self.by_client.get(&client) else {
            let born_ms = clock_ms.saturating_sub(retry.age_ms);
            return if again && self.watermark_ms >= born_ms {
                Verdict::Unknown("the session of its client had to be dropped")
            } else {
                Verdict::Apply
            };
        };
        if let Some(answer) = open.answers.get(&(retry.sequence, retry.part)) {
            return Verdict::Answered(answer.clone());
        }
        if retry.sequence < open.lowest_unacknowledged {
            return Verdict::Unknown("its client has already acknowledged the answer");
        }
        let dropped = open.applied.contains(&(retry.sequence, retry.part));
        if dropped || retry.sequence <= open.dropped_up_to {
            return Verdict::Unknown("its answer had to be dropped");
        }
        Verdict::Apply
    }

    /// Remembers the answer to a write.
    pub fn remember(&mut self, retry: &Retry, answer: &OperationResult, clock_ms: u64) {
        let Ok(client) = ClientId::try_from(&retry.client[..]) else { return };
        let open = self.by_client.entry(client).or_default();
        self.by_use.remove(&(open.last_used_ms, client));
        open.last_used_ms = clock_ms;
        self.by_use.insert((clock_ms, client));
        if retry.lowest_unacknowledged > open.lowest_unacknowledged {
            open.lowest_unacknowledged = retry.lowest_unacknowledged;
            open.answers = open.answers.split_off(&(retry.lowest_unacknowledged, 0));
            open.applied = open.applied.split_off(&(retry.lowest_unacknowledged, 0));
        }
        let kept = if answer.encoded_len() <= MAX_ANSWER_BYTES {
            answer.clone()
        } else {
            unknown("it was applied, but its answer was too large to keep")
        };
        open.answers.insert((retry.sequence, retry.part), kept);
        while open.answers.len() > MAX_ANSWERS {
            open.applied.extend(open.answers.pop_first().map(|(write, _)| write));
        }
        while open.applied.len() > MAX_APPLIED {
            if let Some((sequence, _)) = open.applied.pop_first() {
                open.dropped_up_to = open.dropped_up_to.max(sequence);
            }
        }
        self.changed.insert(client);
    }

    /// Forgets sessions that were not used for their life, and the oldest over the bound.
    pub fn forget(&mut self, clock_ms: u64) {
        while let Some(&(used_ms, client)) = self.by_use.first() {
            let over = self.by_client.len() > MAX_SESSIONS;
            if used_ms + LIFE_MS > clock_ms && !over {
                return;
            }
            if over {
                self.watermark_ms = self.watermark_ms.max(used_ms);
            }
            self.by_use.remove(&(used_ms, client));
            self.by_client.remove(&client);
            self.changed.insert(client);
        }
    }

    /// Writes the sessions that changed.
    pub fn drain_into(&mut self, group: PartitionId, changes: &mut Changes) {
        for client in self.changed.drain() {
            let key = keys::session(group, &client);
            match self.by_client.get(&client) {
                Some(open) => changes.put(key, open.encode()),
                None => changes.delete(key),
            }
        }
    }

    /// Takes in a session as it was written.
    pub fn load(&mut self, client: ClientId, bytes: &[u8]) -> Result<(), prost::DecodeError> {
        let session = Session::decode(bytes)?;
        let (mut answers, mut applied) = (BTreeMap::new(), BTreeSet::new());
        for SessionAnswer { sequence, part, result } in session.answers {
            match result {
                Some(result) => drop(answers.insert((sequence, part), result)),
                None => drop(applied.insert((sequence, part))),
            }
        }
        let open = Open {
            lowest_unacknowledged: session.lowest_unacknowledged,
            dropped_up_to: session.dropped_up_to,
            last_used_ms: session.last_used_ms,
            answers,
            applied,
        };
        self.by_use.insert((open.last_used_ms, client));
        self.by_client.insert(client, open);
        Ok(())
    }
}

impl Open {
    fn encode(&self) -> Bytes {
        let known = |(sequence, part): (u64, u32), result| SessionAnswer { sequence, part, result };
        let applied = self.applied.iter().map(|write| known(*write, None));
        let answered = self.answers.iter().map(|(write, answer)| known(*write, Some(answer.clone())));
        let answers = applied.chain(answered).collect();
        let session = Session {
            lowest_unacknowledged: self.lowest_unacknowledged,
            dropped_up_to: self.dropped_up_to,
            last_used_ms: self.last_used_ms,
            answers,
        };
        session.encode_to_vec().into()
    }
}

/// The answer to a write of which it cannot be known whether it was applied.
pub fn unknown(why: &str) -> OperationResult {
    let detail = Detail::OutcomeUnknown(OutcomeUnknown { why: why.to_owned() });
    let message = format!("the outcome of this write is unknown: {why}; read the key to see");
    OperationResult {
        result: Some(result::Result::Failure(Failure::new(Code::Unknown, message, Some(detail)))),
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::PutResponse;

    use super::*;

    fn write(sequence: u64, attempt: u32) -> Retry {
        Retry {
            client: Bytes::from_static(&[7; 16]),
            sequence,
            lowest_unacknowledged: 0,
            attempt,
            age_ms: u64::from(attempt) * 100,
            part: 0,
        }
    }

    fn answer(version: u64) -> OperationResult {
        OperationResult { result: Some(result::Result::Put(PutResponse { applied: true, version })) }
    }

    #[test]
    fn a_write_that_comes_again_gets_its_first_answer() {
        let mut sessions = Sessions::default();
        assert_eq!(sessions.judge(&write(1, 0), 1000), Verdict::Apply);
        sessions.remember(&write(1, 0), &answer(5), 1000);
        assert_eq!(sessions.judge(&write(1, 1), 2000), Verdict::Answered(answer(5)));
        // Even the first attempt, arriving after the second.
        assert_eq!(sessions.judge(&write(1, 0), 2000), Verdict::Answered(answer(5)));
        assert_eq!(sessions.judge(&write(2, 1), 2000), Verdict::Apply);
    }

    #[test]
    fn the_parts_of_a_batch_are_told_apart() {
        let mut sessions = Sessions::default();
        let part = |part| Retry { part, ..write(1, 0) };
        sessions.remember(&part(0), &answer(5), 1000);
        assert_eq!(sessions.judge(&part(1), 1000), Verdict::Apply);
        sessions.remember(&part(1), &answer(6), 1000);
        assert_eq!(sessions.judge(&part(0), 1000), Verdict::Answered(answer(5)));
        assert_eq!(sessions.judge(&part(1), 1000), Verdict::Answered(answer(6)));
        assert_eq!(sessions.judge(&write(2, 0), 1000), Verdict::Apply);
    }

    #[test]
    fn an_acknowledged_write_is_never_applied_again() {
        let mut sessions = Sessions::default();
        sessions.remember(&write(1, 0), &answer(5), 1000);
        sessions.remember(&Retry { lowest_unacknowledged: 2, ..write(2, 0) }, &answer(6), 1000);
        assert!(matches!(sessions.judge(&write(1, 0), 1000), Verdict::Unknown(_)));
    }

    #[test]
    fn what_was_dropped_for_want_of_room_is_unknown_not_applied_again() {
        let mut sessions = Sessions::default();
        // The first comes late, and once more after its repetition.
        for sequence in (2..=MAX_ANSWERS as u64 + 2).filter(|sequence| *sequence != 5) {
            sessions.remember(&write(sequence, 0), &answer(sequence), 1000);
        }
        assert_eq!(sessions.judge(&write(1, 0), 1000), Verdict::Apply);
        sessions.remember(&write(1, 1), &answer(1), 1000);
        let mut sessions = written(&mut sessions);
        for attempt in [0, 1] {
            assert!(matches!(sessions.judge(&write(1, attempt), 1000), Verdict::Unknown(_)));
            assert_eq!(sessions.judge(&write(2, attempt), 1000), Verdict::Answered(answer(2)));
            assert_eq!(sessions.judge(&write(5, attempt), 1000), Verdict::Apply, "it was never applied");
        }
        for sequence in 10_000..10_000 + (MAX_ANSWERS + MAX_APPLIED) as u64 {
            sessions.remember(&write(sequence, 0), &answer(sequence), 1000);
        }
        for sequence in [1, 2, 5] {
            assert!(matches!(sessions.judge(&write(sequence, 0), 1000), Verdict::Unknown(_)));
        }
    }

    /// As they are after a restart.
    fn written(sessions: &mut Sessions) -> Sessions {
        let mut changes = Changes::default();
        sessions.drain_into(PartitionId(1), &mut changes);
        let [crate::storage::state::Change::Put(key, value)] = &changes.changes[..] else { panic!() };
        let mut again = Sessions::default();
        again.load(keys::session_client(key).unwrap(), value).unwrap();
        again
    }

    #[test]
    fn a_session_ends_after_its_life_and_is_written_so() {
        let mut sessions = Sessions::default();
        sessions.remember(&write(1, 0), &answer(5), 1000);
        sessions.forget(1000 + LIFE_MS - 1);
        assert_eq!(sessions.judge(&write(1, 1), 1000), Verdict::Answered(answer(5)));
        sessions.forget(1000 + LIFE_MS);
        assert_eq!(sessions.judge(&write(1, 1), 1000 + LIFE_MS), Verdict::Apply);
        let mut changes = Changes::default();
        sessions.drain_into(PartitionId(1), &mut changes);
        assert!(matches!(changes.changes[..], [crate::storage::state::Change::Delete(_)]));
    }

    #[test]
    fn too_old_a_write_is_unknown() {
        let old = Retry { age_ms: MAX_AGE_MS + 1, ..write(1, 3) };
        assert!(matches!(Sessions::default().judge(&old, 0), Verdict::Unknown(_)));
    }

    #[test]
    fn sessions_survive_being_written() {
        let mut sessions = Sessions::default();
        sessions.remember(&write(1, 0), &answer(5), 1000);
        let again = written(&mut sessions);
        assert_eq!(again.judge(&write(1, 1), 1000), Verdict::Answered(answer(5)));
    }
}
