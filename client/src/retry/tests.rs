//! The decisions as a table: each row is a situation and what must follow from it.

use proto::v1::{
    AlreadyExists, BadCursor, CrossSlot, NotLeader, OutcomeUnknown, OverLimit, RetryAfter, UnknownTable,
    WrongEpoch,
};

use super::*;

fn refused(code: Code, detail: Detail) -> Trouble {
    Trouble::Refused(Failure::new(code, "why", Some(detail)))
}

fn plain(code: Code) -> Trouble {
    Trouble::Refused(Failure::new(code, "why", None))
}

fn not_leader(address: &str) -> Trouble {
    let hint = NotLeader { leader_address: address.into(), ..NotLeader::default() };
    refused(Code::Unavailable, Detail::NotLeader(hint))
}

fn unknown_table() -> Trouble {
    refused(Code::NotFound, Detail::UnknownTable(UnknownTable { table: "t".into() }))
}

fn outcome_unknown() -> Trouble {
    refused(Code::Unknown, Detail::OutcomeUnknown(OutcomeUnknown { why: "forwarded".into() }))
}

fn broken() -> Trouble {
    Trouble::Broken("reset".into())
}

/// A short name of a decision.
fn after(effect: Effect, earlier: &[Trouble], trouble: &Trouble) -> String {
    let mut history = History::default();
    earlier.iter().chain([trouble]).for_each(|trouble| history.note(trouble));
    match decide(effect, &history, trouble) {
        Decision::Again(Wait::No) => "at once".into(),
        Decision::Again(Wait::Pause) => "pause".into(),
        Decision::Again(Wait::AtLeast(time)) => format!("{} ms", time.as_millis()),
        Decision::GiveUp(error) => format!("{error:?}").split(['(', ' ']).next().unwrap().to_owned(),
    }
}

#[test]
fn the_first_attempt() {
    use Effect::{Once, Repeatable, Sequenced};
    let rows: Vec<(Trouble, [&str; 3])> = vec![
        (Trouble::NotSent("refused".into()), ["at once", "at once", "at once"]),
        (broken(), ["pause", "pause", "OutcomeUnknown"]),
        (not_leader("b:1"), ["at once", "at once", "at once"]),
        (not_leader(""), ["pause", "pause", "pause"]),
        (
            refused(Code::FailedPrecondition, Detail::WrongEpoch(WrongEpoch::default())),
            ["at once", "at once", "at once"],
        ),
        (
            refused(Code::ResourceExhausted, Detail::RetryAfter(RetryAfter { milliseconds: 70 })),
            ["70 ms", "70 ms", "70 ms"],
        ),
        (outcome_unknown(), ["pause", "pause", "OutcomeUnknown"]),
        (unknown_table(), ["pause", "pause", "pause"]),
        (refused(Code::InvalidArgument, Detail::CrossSlot(CrossSlot {})), ["CrossSlot"; 3]),
        (refused(Code::InvalidArgument, Detail::OverLimit(OverLimit::default())), ["OverLimit"; 3]),
        (refused(Code::InvalidArgument, Detail::BadCursor(BadCursor::default())), ["BadCursor"; 3]),
        (refused(Code::AlreadyExists, Detail::AlreadyExists(AlreadyExists::default())), ["AlreadyExists"; 3]),
        (plain(Code::InvalidArgument), ["InvalidArgument"; 3]),
        (plain(Code::FailedPrecondition), ["FailedPrecondition"; 3]),
        (plain(Code::ResourceExhausted), ["ResourceExhausted"; 3]),
        (plain(Code::Unavailable), ["pause", "pause", "OutcomeUnknown"]),
        (plain(Code::DeadlineExceeded), ["pause", "pause", "OutcomeUnknown"]),
        (plain(Code::Internal), ["Internal", "pause", "OutcomeUnknown"]),
    ];
    for (trouble, expected) in rows {
        let found = [Repeatable, Sequenced, Once].map(|effect| after(effect, &[], &trouble));
        assert_eq!(found, expected, "{trouble:?}");
    }
}

#[test]
fn a_doubt_once_raised_ends_only_with_an_answer() {
    use Effect::{Repeatable, Sequenced};
    // The state may have changed since the first attempt, so its refusal proves nothing.
    for later in [plain(Code::FailedPrecondition), plain(Code::ResourceExhausted), plain(Code::NotFound)] {
        assert_eq!(after(Sequenced, &[broken()], &later), "OutcomeUnknown", "{later:?}");
        assert_ne!(after(Repeatable, &[broken()], &later), "OutcomeUnknown", "{later:?}");
    }
    // What is wrong in itself was wrong the first time.
    assert_eq!(after(Sequenced, &[broken()], &plain(Code::InvalidArgument)), "InvalidArgument");
}

#[test]
fn out_of_time() {
    let at_the_end = |effect, troubles: &[Trouble]| {
        let mut history = History::default();
        troubles.iter().for_each(|trouble| history.note(trouble));
        final_error(effect, &history, troubles.last().unwrap())
    };
    let definite = at_the_end(Effect::Sequenced, &[not_leader(""), not_leader("")]);
    assert_eq!(definite, Error::Unavailable("why".into()));
    let unknown = at_the_end(Effect::Sequenced, &[broken(), not_leader("")]);
    assert!(matches!(unknown, Error::OutcomeUnknown(_)), "{unknown:?}");
    let read = at_the_end(Effect::Repeatable, &[broken(), broken()]);
    assert_eq!(read, Error::DeadlineExceeded("reset".into()));
    let read = at_the_end(Effect::Repeatable, &[outcome_unknown()]);
    assert_eq!(read, Error::Unavailable("forwarded".into()));
    let refused = at_the_end(Effect::Once, &[Trouble::NotSent("refused".into())]);
    assert!(refused.is_definite());
}

#[test]
fn redirects_are_paced_and_an_unknown_table_is_believed_in_the_end() {
    let circle = vec![not_leader("b:1"); 3];
    assert_eq!(after(Effect::Sequenced, &circle, &not_leader("a:1")), "pause");
    let doubts = vec![unknown_table(); 4];
    assert_eq!(after(Effect::Sequenced, &doubts, &unknown_table()), "UnknownTable");
}

#[test]
fn only_attempts_that_may_have_been_done_are_counted() {
    let mut history = History::default();
    for trouble in [not_leader("b:1"), Trouble::NotSent(String::new()), broken(), outcome_unknown()] {
        history.note(&trouble);
    }
    assert_eq!((history.ambiguous, history.failed, history.redirects), (2, 4, 1));
}

#[test]
fn pauses_grow_to_a_bound() {
    assert_eq!(pause(1, 0.5), FIRST_PAUSE);
    assert_eq!(pause(2, 0.5), FIRST_PAUSE * 2);
    assert_eq!(pause(40, 1.0), LONGEST_PAUSE.mul_f64(1.5));
    assert_eq!(pause(1, 0.0), FIRST_PAUSE / 2);
}

#[test]
fn a_status_of_a_node_is_a_refusal() {
    assert!(matches!(Trouble::of(&Status::unavailable("x")), Trouble::Refused(_)));
    let local = Status::from_error(Box::new(std::io::Error::other("reset")));
    assert_eq!(Trouble::of(&local), Trouble::Broken("reset".into()));
    let refused = Status::from_error(Box::new(ConnectError(Box::new(std::io::Error::other("refused")))));
    assert_eq!(Trouble::of(&refused), Trouble::NotSent("refused".into()));
}
