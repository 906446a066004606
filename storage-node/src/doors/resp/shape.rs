//! How the results of a command's operations become its reply.

use bytes::Bytes;
use proto::v1::{Item, Result as OperationResult, result::Result as Outcome};

use super::refusal;
use super::reply::Reply;

/// The form of a command's reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The value of one item, or nothing.
    Value,
    /// The value before, or nothing.
    Before,
    /// `OK`, or nothing where a condition did not hold.
    OkOrNull,
    /// `OK` when all were done.
    AllOk,
    /// 1 where it was done, else 0.
    Done,
    /// How many were done, or are there.
    Count,
    /// The value of each, or nothing.
    Values,
    /// The sum.
    Number,
    /// The decimal sum.
    Decimal,
    /// The length of the value as it is now.
    Size,
    /// The length of the value that was looked at.
    Length,
    /// A part of the value, by Redis' reckoning: both ends included, negative ones from the end.
    Part(i64, i64),
    /// What is left of its life, in seconds.
    SecondsLeft,
    /// The same in milliseconds.
    MillisecondsLeft,
    /// When it ends, in seconds since 1970.
    EndSeconds,
    /// The same in milliseconds.
    EndMilliseconds,
    /// The kind of the value.
    Type,
    /// `OK`, or an error where there is no such key.
    Renamed,
    /// 1 or 0, or an error where there is no such key.
    RenamedIfNew,
    /// 1 or 0 by whether a transaction's conditions held.
    Succeeded,
    /// Bytes that the item takes, about.
    Usage,
    /// How the value is stored, in Redis' words.
    Encoding,
    /// Nothing where there is no such key, else the error for a time of GETEX.
    NullOr(BadTime),
}

/// What is wrong with a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadTime {
    /// It is no whole number.
    NoInteger,
    /// It does not lie ahead, or too far.
    Invalid,
}

const NO_SUCH_KEY: &str = "no such key";
/// What an item takes besides its key and value.
const ITEM_COST: u64 = 17;

impl Shape {
    /// The reply. `results` are those of the command's operations, all of them.
    pub fn reply(self, results: Vec<OperationResult>) -> Reply {
        let mut outcomes = Vec::with_capacity(results.len());
        for result in results {
            match result.result {
                Some(Outcome::Failure(failure)) => return refusal::of(&failure),
                Some(outcome) => outcomes.push(outcome),
                None => return Reply::err("an operation had no result"),
            }
        }
        match self {
            Self::Count => {
                let done = outcomes.iter().filter(|outcome| is_done(outcome)).count();
                Reply::count(done)
            }
            Self::Values => Reply::Array(outcomes.into_iter().map(|outcome| value(item(outcome))).collect()),
            Self::AllOk => Reply::OK,
            _ => match outcomes.pop() {
                Some(outcome) => self.of_one(outcome),
                None => Reply::err("an operation had no result"),
            },
        }
    }

    fn of_one(self, outcome: Outcome) -> Reply {
        match self {
            Self::Value | Self::Before => value(item(outcome)),
            Self::OkOrNull if is_done(&outcome) => Reply::OK,
            Self::OkOrNull => Reply::Null,
            Self::Done | Self::Succeeded => Reply::Integer(is_done(&outcome).into()),
            Self::Number | Self::Decimal | Self::Size => match outcome {
                Outcome::Modify(modified) => match self {
                    Self::Number => Reply::Integer(modified.number),
                    Self::Decimal => Reply::bulk(modified.decimal),
                    _ => length(modified.size),
                },
                _ => another(),
            },
            Self::Renamed | Self::RenamedIfNew => match outcome {
                Outcome::Copy(copied) if copied.source_absent => Reply::err(NO_SUCH_KEY),
                Outcome::Copy(_) if self == Self::Renamed => Reply::OK,
                Outcome::Copy(copied) => Reply::Integer(copied.applied.into()),
                _ => another(),
            },
            Self::NullOr(_) if !is_done(&outcome) => Reply::Null,
            Self::NullOr(BadTime::NoInteger) => Reply::err("value is not an integer or out of range"),
            Self::NullOr(BadTime::Invalid) => Reply::err("invalid expire time in 'getex' command"),
            Self::Type if is_done(&outcome) => Reply::Status("string"),
            Self::Type => Reply::Status("none"),
            _ => self.of_item(item(outcome)),
        }
    }

    fn of_item(self, item: Option<Item>) -> Reply {
        match self {
            Self::Length => length(item.map_or(0, |item| item.size)),
            Self::Part(start, end) => {
                let value = item.map(|item| item.value).unwrap_or_default();
                Reply::Bulk(part(&value, start, end))
            }
            Self::Usage => {
                item.map_or(Reply::Null, |item| length(item.key.len() as u64 + item.size + ITEM_COST))
            }
            Self::Encoding => item.map_or(Reply::Null, |item| {
                let whole = crate::partition::modify::whole_number(&item.value).is_some();
                let short = item.value.len() <= 44;
                Reply::bulk(if whole {
                    "int"
                } else if short {
                    "embstr"
                } else {
                    "raw"
                })
            }),
            _ => {
                let Some(item) = item else { return Reply::Integer(-2) };
                let milliseconds = match self {
                    Self::SecondsLeft | Self::MillisecondsLeft => item.ttl_ms,
                    _ => item.deadline_ms,
                };
                let Some(milliseconds) = milliseconds.and_then(|ms| i64::try_from(ms).ok()) else {
                    return Reply::Integer(-1);
                };
                match self {
                    Self::SecondsLeft | Self::EndSeconds => {
                        Reply::Integer(milliseconds.saturating_add(500) / 1000)
                    }
                    _ => Reply::Integer(milliseconds),
                }
            }
        }
    }
}

fn item(outcome: Outcome) -> Option<Item> {
    match outcome {
        Outcome::Get(got) => got.item,
        Outcome::Modify(modified) => modified.before,
        _ => None,
    }
}

fn value(item: Option<Item>) -> Reply {
    item.map_or(Reply::Null, |item| Reply::Bulk(item.value))
}

fn is_done(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Get(got) => got.item.is_some(),
        Outcome::Put(put) => put.applied,
        Outcome::Delete(deleted) => deleted.deleted,
        Outcome::Exists(exists) => exists.exists,
        Outcome::Modify(modified) => modified.applied,
        Outcome::Copy(copied) => copied.applied,
        Outcome::Txn(txn) => txn.succeeded,
        Outcome::Batch(batch) => batch.applied,
        Outcome::Clear(_) => true,
        Outcome::Failure(_) => false,
    }
}

fn length(length: u64) -> Reply {
    Reply::Integer(i64::try_from(length).unwrap_or(i64::MAX))
}

fn another() -> Reply {
    Reply::err("an operation had another's result")
}

/// Both ends included; negative ones count from the end.
fn part(value: &Bytes, start: i64, end: i64) -> Bytes {
    let length = i64::try_from(value.len()).unwrap_or(i64::MAX);
    if start < 0 && end < 0 && start > end {
        return Bytes::new();
    }
    let from_end = |at: i64| if at < 0 { (length + at).max(0) } else { at };
    let (start, end) = (from_end(start), from_end(end).min(length - 1));
    if start > end || length == 0 {
        return Bytes::new();
    }
    match (usize::try_from(start), usize::try_from(end + 1)) {
        (Ok(start), Ok(end)) if end <= value.len() => value.slice(start..end),
        _ => Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_reckoned_as_redis_does() {
        let value = Bytes::from_static(b"This is a string");
        let cut = |start, end| String::from_utf8(part(&value, start, end).to_vec()).unwrap();
        assert_eq!(cut(0, 3), "This");
        assert_eq!(cut(-3, -1), "ing");
        assert_eq!(cut(0, -1), "This is a string");
        assert_eq!(cut(10, 100), "string");
        assert_eq!(cut(5, 3), "");
        assert_eq!(cut(-1, -3), "");
        assert_eq!(cut(-100, -100), "T");
        assert_eq!(cut(i64::MIN, i64::MAX), "This is a string");
        assert_eq!(part(&Bytes::new(), 0, -1), "");
    }
}
