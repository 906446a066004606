//! What to do after an attempt went wrong. Pure: no clock, no randomness, no network.
//!
//! Three things decide: what would happen if the call were done twice ([`Effect`]), what is
//! known of this attempt ([`Trouble`]), and whether an earlier attempt may have been done
//! ([`History::doubt`]). A retried write that is refused now may still have been done by
//! its first attempt, so a doubt once raised ends only with an answer.

use std::error::Error as _;
use std::time::Duration;

use proto::v1::{Failure, error_detail::Detail};
use tonic::{Code, ConnectError, Status};

use crate::error::Error;

/// The shortest pause between attempts, before jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause between attempts, before jitter.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Redirects followed at once; after that they are paced, because nodes that send each
/// other's callers in circles are still electing.
const PROMPT_REDIRECTS: u32 = 3;
/// How often a node may say that it knows no such table before it is believed: a table
/// that was just created reaches the nodes a moment later.
const TABLE_DOUBTS: u32 = 4;

/// What doing a call twice would mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The same as once: reads, and orders that state an aim.
    Repeatable,
    /// The same as once, because the write carries a sequence.
    Sequenced,
    /// Something else; it is sent again only when it was certainly not done.
    Once,
}

/// What is known of an attempt that gave no outcome.
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble {
    /// No connection: the request never left.
    NotSent(String),
    /// It left, or may have, and no answer came.
    Broken(String),
    /// A node answered that it failed.
    Refused(Failure),
}

/// What earlier attempts of the same call left behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct History {
    /// Attempts that were sent and may have been done: the number that the next one carries.
    pub ambiguous: u32,
    /// Attempts that gave no outcome, of any kind.
    pub failed: u32,
    /// Answers that named another node or a newer map.
    pub redirects: u32,
    /// Answers that there is no such table.
    pub unknown_table: u32,
}

/// How long to wait before the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// As [`pause`] says.
    Pause,
    /// As [`pause`] says, and at least this long.
    AtLeast(Duration),
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Send it again.
    Again(Wait),
    /// Tell the caller.
    GiveUp(Error),
}

/// What one attempt's trouble says about whether the call was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Certainly not done; it would be refused again, by every node, whatever the state.
    Wrong,
    /// Certainly not done by this attempt; the cluster's state speaks against it.
    Denied,
    /// Certainly not done by this attempt, and worth trying elsewhere or later.
    NotNow(Wait),
    /// Certainly not done by this attempt; another node may know the table.
    NoTable,
    /// It may have been done.
    Ambiguous,
    /// The node failed by itself: it may have been done, but asking again is no use.
    Failed,
}

impl History {
    /// Whether an earlier attempt may have been done.
    pub fn doubt(&self) -> bool {
        self.ambiguous > 0
    }

    /// Adds an attempt.
    pub fn note(&mut self, trouble: &Trouble) {
        self.failed += 1;
        self.ambiguous += u32::from(trouble.is_ambiguous());
        if let Trouble::Refused(failure) = trouble {
            match failure.reason() {
                Some(Detail::NotLeader(_) | Detail::WrongEpoch(_)) => self.redirects += 1,
                Some(Detail::UnknownTable(_)) => self.unknown_table += 1,
                _ => {}
            }
        }
    }
}

impl Trouble {
    /// What a failed call says. A status that the transport made here has a source, one
    /// that a node sent has none.
    pub fn of(status: &Status) -> Self {
        let mut source = status.source();
        if source.is_none() {
            return Self::Refused(Failure::from_status(status));
        }
        let mut cause = status.message().to_owned();
        while let Some(error) = source {
            if error.downcast_ref::<ConnectError>().is_some() {
                return Self::NotSent(innermost(error));
            }
            cause = error.to_string();
            source = error.source();
        }
        Self::Broken(cause)
    }

    /// Whether the attempt may have been done.
    pub fn is_ambiguous(&self) -> bool {
        matches!(self.verdict(), Verdict::Ambiguous | Verdict::Failed)
    }

    /// Whether the node, by itself or for others, did not come to an answer in its time. It may
    /// still be there, and cut off from those that it must ask; another one should be tried.
    pub fn gave_no_answer(&self) -> bool {
        match self {
            Self::NotSent(_) | Self::Broken(_) => true,
            Self::Refused(_) => self.verdict() == Verdict::Ambiguous,
        }
    }

    fn verdict(&self) -> Verdict {
        let failure = match self {
            Self::NotSent(_) => return Verdict::NotNow(Wait::Pause),
            Self::Broken(_) => return Verdict::Ambiguous,
            Self::Refused(failure) => failure,
        };
        match failure.reason() {
            Some(Detail::NotLeader(hint))
                if hint.leader_address.is_empty() && hint.leader_node.is_empty() =>
            {
                Verdict::NotNow(Wait::Pause)
            }
            Some(Detail::NotLeader(_) | Detail::WrongEpoch(_)) => Verdict::NotNow(Wait::No),
            Some(Detail::RetryAfter(after)) => {
                Verdict::NotNow(Wait::AtLeast(Duration::from_millis(after.milliseconds)))
            }
            Some(Detail::OutcomeUnknown(_)) => Verdict::Ambiguous,
            Some(Detail::UnknownTable(_)) => Verdict::NoTable,
            Some(
                Detail::OverLimit(_)
                | Detail::CrossSlot(_)
                | Detail::BadCursor(_)
                | Detail::BadToken(_)
                | Detail::Compacted(_),
            ) => Verdict::Wrong,
            Some(
                Detail::AlreadyExists(_)
                | Detail::WrongCluster(_)
                | Detail::Unsuitable(_)
                | Detail::UniqueClash(_)
                | Detail::IndexNotReady(_)
                | Detail::SnapshotExpired(_)
                | Detail::UnknownIndex(_),
            ) => Verdict::Denied,
            None => match Code::from(failure.code) {
                Code::InvalidArgument
                | Code::OutOfRange
                | Code::Unimplemented
                | Code::PermissionDenied
                | Code::Unauthenticated => Verdict::Wrong,
                Code::NotFound | Code::AlreadyExists | Code::FailedPrecondition | Code::ResourceExhausted => {
                    Verdict::Denied
                }
                Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted => {
                    Verdict::Ambiguous
                }
                Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => Verdict::Failed,
            },
        }
    }

    fn error(&self) -> Error {
        match self {
            Self::NotSent(why) | Self::Broken(why) => Error::Unavailable(why.clone()),
            Self::Refused(failure) => Error::from_failure(failure),
        }
    }

    fn message(&self) -> &str {
        match self {
            Self::NotSent(why) | Self::Broken(why) => why,
            Self::Refused(failure) => match failure.reason() {
                Some(Detail::OutcomeUnknown(unknown)) if !unknown.why.is_empty() => &unknown.why,
                _ => &failure.message,
            },
        }
    }
}

/// What to do after an attempt. `history` includes it.
pub fn decide(effect: Effect, history: &History, trouble: &Trouble) -> Decision {
    match trouble.verdict() {
        Verdict::Wrong => Decision::GiveUp(trouble.error()),
        Verdict::NotNow(Wait::No) if history.redirects > PROMPT_REDIRECTS => Decision::Again(Wait::Pause),
        // Another endpoint may well accept what the first did not.
        Verdict::NotNow(Wait::Pause) if history.failed == 1 && matches!(trouble, Trouble::NotSent(_)) => {
            Decision::Again(Wait::No)
        }
        Verdict::NotNow(wait) => Decision::Again(wait),
        Verdict::NoTable if history.unknown_table <= TABLE_DOUBTS => Decision::Again(Wait::Pause),
        Verdict::Denied | Verdict::NoTable => Decision::GiveUp(final_error(effect, history, trouble)),
        Verdict::Ambiguous if effect == Effect::Once => {
            Decision::GiveUp(final_error(effect, history, trouble))
        }
        Verdict::Failed if effect != Effect::Sequenced => {
            Decision::GiveUp(final_error(effect, history, trouble))
        }
        Verdict::Ambiguous | Verdict::Failed => Decision::Again(Wait::Pause),
    }
}

/// What the caller is told when there is no time for another attempt. `history` includes
/// the last one.
pub fn final_error(effect: Effect, history: &History, trouble: &Trouble) -> Error {
    if effect != Effect::Repeatable && history.doubt() && trouble.verdict() != Verdict::Wrong {
        return Error::OutcomeUnknown(trouble.message().to_owned());
    }
    match trouble {
        Trouble::Broken(why) => Error::DeadlineExceeded(why.clone()),
        // For what changes nothing there is no outcome to be unknown.
        Trouble::Refused(_) => match trouble.error() {
            Error::OutcomeUnknown(why) => Error::Unavailable(why),
            error => error,
        },
        Trouble::NotSent(_) => trouble.error(),
    }
}

/// How long to wait after that many failed attempts: exponential, and spread by `jitter`
/// (from 0 to 1) over half to one and a half times itself, so that callers who failed
/// together do not come back together.
pub fn pause(failed: u32, jitter: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failed.saturating_sub(1).min(10));
    doubled.min(LONGEST_PAUSE).mul_f64(0.5 + jitter.clamp(0.0, 1.0))
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

#[cfg(test)]
mod tests;
