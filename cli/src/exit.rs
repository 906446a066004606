//! What the exit status says, and what an error tells people to do.

use std::fmt;
use std::io;
use std::process::ExitCode;

use client::Error;
use serde_json::json;

use crate::output::{Format, note};

/// How a verb ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It was done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// It was asked for wrongly.
    Usage = 2,
    /// There is no such thing, or a condition was not met.
    NotMet = 3,
    /// It may have been done or not.
    Unknown = 4,
}

/// Wrong usage that only the verb itself can see.
#[derive(Debug)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// The graver of two: an outcome that is not known, then a failure, wrong usage, what was
    /// not found.
    #[must_use]
    pub fn graver(self, other: Self) -> Self {
        let gravity = |exit: Self| match exit {
            Self::Done => 0,
            Self::NotMet => 1,
            Self::Usage => 2,
            Self::Failed => 3,
            Self::Unknown => 4,
        };
        if gravity(other) > gravity(self) { other } else { self }
    }
}

/// Says why a verb failed, if it did, and gives its status.
pub fn report(ended: &anyhow::Result<Exit>, format: Format) -> Exit {
    match ended {
        Ok(exit) => *exit,
        // The reader of a pipe went away: it has what it wanted.
        Err(error) if is_broken_pipe(error) => Exit::Done,
        Err(error) => {
            let exit = exit_of(error);
            let advice = advice(error);
            match format {
                Format::Text => {
                    note(format_args!("error: {error:#}"));
                    if let Some(advice) = advice {
                        note(format_args!("hint: {advice}"));
                    }
                }
                Format::Json => {
                    let object = json!({
                        "error": {"message": format!("{error:#}"), "hint": advice, "exit_status": exit as u8}
                    });
                    note(object);
                }
            }
            exit
        }
    }
}

/// The status that an error ends with.
pub fn exit_of(error: &anyhow::Error) -> Exit {
    if error.downcast_ref::<Usage>().is_some() {
        return Exit::Usage;
    }
    match error.downcast_ref::<Error>() {
        Some(Error::OutcomeUnknown(_)) => Exit::Unknown,
        Some(Error::BadEndpoint { .. } | Error::BadCursor(_) | Error::BadToken(_)) => Exit::Usage,
        Some(Error::NotFound(_)) => Exit::NotMet,
        _ => Exit::Failed,
    }
}

fn advice(error: &anyhow::Error) -> Option<&'static str> {
    match error.downcast_ref::<Error>()? {
        Error::Unreachable { .. } => {
            Some("is a cluster running? `trilith dev` starts one; or give --endpoint HOST:PORT")
        }
        Error::UnknownTable(_) => {
            Some("`trilith table list` shows the tables; `trilith table create NAME` makes one")
        }
        Error::OutcomeUnknown(_) => {
            Some("the write may or may not have been done: read the key, or write again if that does no harm")
        }
        Error::Unavailable(_) | Error::DeadlineExceeded(_) => {
            Some("`trilith cluster status` says how the cluster is; --timeout gives it more time")
        }
        Error::BadCursor(_) => Some("scan again without --cursor, or with the same bounds as before"),
        Error::SnapshotExpired(_) => Some("begin again without --cursor, or with a longer --snapshot"),
        Error::BadToken(_) => Some("watch again without --from"),
        Error::Compacted { .. } => {
            Some("watch again with --items instead of --from: first what there is, then changes")
        }
        _ => None,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    error.chain().any(broken)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn errors_end_with_the_status_of_the_contract() {
        let status = |error: Error| exit_of(&anyhow::Error::from(error)) as u8;
        assert_eq!(status(Error::Unavailable("x".into())), 1);
        assert_eq!(status(Error::BadEndpoint { endpoint: "x".into(), why: "y".into() }), 2);
        assert_eq!(status(Error::NotFound("x".into())), 3);
        assert_eq!(status(Error::OutcomeUnknown("x".into())), 4);
        let usage = anyhow::Error::from(Usage("x".into()));
        assert_eq!(exit_of(&usage), Exit::Usage);
        let wrapped = Err::<(), _>(Error::OutcomeUnknown("x".into())).context("put k").unwrap_err();
        assert_eq!(exit_of(&wrapped), Exit::Unknown);
    }

    #[test]
    fn a_reader_that_goes_away_is_no_failure() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(is_broken_pipe(&error));
        assert!(!is_broken_pipe(&anyhow::anyhow!("x")));
    }
}
