//! Commands on values.

use bytes::Bytes;
use proto::v1::condition::Is;
use proto::v1::lifetime::Lasts;
use proto::v1::modify_request::Change;
use proto::v1::renew::Only;
use proto::v1::{
    Compare, Condition, GetRequest, Lifetime, ModifyRequest, Operation, Overwrite, PutRequest, Renew,
    Replace, TxnRequest, compare::That, operation::Operation as Kind,
};

use super::options::{self, Unit};
use super::{Parsed, Plan, integer, is, syntax_error, word};
use crate::doors::resp::reply::Reply;
use crate::doors::resp::shape::{BadTime, Shape};
use crate::partition::decimal::Decimal;

fn read(key: Bytes) -> Kind {
    Kind::Get(GetRequest { key, ..GetRequest::default() })
}

pub(super) fn modify(key: Bytes, change: Change, answer_before: bool) -> Kind {
    Kind::Modify(ModifyRequest { key, change: Some(change), answer_before, ..ModifyRequest::default() })
}

fn put(key: Bytes, value: Bytes, condition: Option<Is>, ttl_ms: u64) -> Kind {
    let condition = condition.map(|is| Condition { is: Some(is) });
    Kind::Put(PutRequest { key, value, condition, ttl_ms, ..PutRequest::default() })
}

/// A time with its unit; without one: as long as before, or for ever.
type GivenTime = (Option<Unit>, Bytes);

pub(super) fn get(words: &[Bytes]) -> Parsed {
    Ok(Plan::one(read(word(words, 1)), Shape::Value))
}

pub(super) fn set(words: &[Bytes]) -> Parsed {
    let (mut condition, mut before) = (None, false);
    let mut lifetime: Option<GivenTime> = None;
    let mut options = words.iter().skip(3);
    while let Some(option) = options.next() {
        if is(option, "NX") && condition.is_none() {
            condition = Some(Is::Absent(true));
        } else if is(option, "XX") && condition.is_none() {
            condition = Some(Is::Exists(true));
        } else if is(option, "GET") {
            before = true;
        } else if is(option, "KEEPTTL") && lifetime.as_ref().is_none_or(|(unit, _)| unit.is_none()) {
            lifetime = Some((None, Bytes::new()));
        } else if let Some(unit) = time_option(option, lifetime.as_ref()) {
            lifetime = Some((Some(unit), options.next().cloned().ok_or_else(syntax_error)?));
        } else {
            // Redis lets the same condition be given twice.
            let again = match condition {
                Some(Is::Absent(_)) => is(option, "NX"),
                Some(Is::Exists(_)) => is(option, "XX"),
                _ => false,
            };
            if !again {
                return Err(syntax_error());
            }
        }
    }
    let lifetime = match lifetime {
        None => None,
        Some((None, _)) => Some(Lifetime { lasts: Some(Lasts::Unchanged(true)) }),
        Some((Some(unit), time)) => Some(options::ahead(unit, &time, "set")?),
    };
    let (key, value) = (word(words, 1), word(words, 2));
    let ttl_ms = match lifetime {
        None => Some(0),
        Some(Lifetime { lasts: Some(Lasts::TtlMs(ttl_ms)) }) => Some(ttl_ms),
        Some(_) => None,
    };
    // What a plain put can say costs less.
    if let Some(ttl_ms) = ttl_ms.filter(|_| !before) {
        return Ok(Plan::one(put(key, value, condition, ttl_ms), Shape::OkOrNull));
    }
    let condition = condition.map(|is| Condition { is: Some(is) });
    let replace = Replace { value, condition, lifetime, ..Replace::default() };
    let shape = if before { Shape::Before } else { Shape::OkOrNull };
    Ok(Plan::one(modify(key, Change::Replace(replace), before), shape))
}

/// The unit of an option that gives a time. The same option may come again, and then the last
/// counts; another may not.
fn time_option(option: &Bytes, before: Option<&GivenTime>) -> Option<Unit> {
    Unit::of_option(option).filter(|unit| before.is_none_or(|(other, _)| *other == Some(*unit)))
}

pub(super) fn setnx(words: &[Bytes]) -> Parsed {
    Ok(Plan::one(put(word(words, 1), word(words, 2), Some(Is::Absent(true)), 0), Shape::Done))
}

pub(super) fn update(words: &[Bytes]) -> Parsed {
    Ok(Plan::one(put(word(words, 1), word(words, 2), Some(Is::Exists(true)), 0), Shape::OkOrNull))
}

pub(super) fn setex(words: &[Bytes]) -> Parsed {
    with_time(words, Unit::Seconds, "setex")
}

pub(super) fn psetex(words: &[Bytes]) -> Parsed {
    with_time(words, Unit::Milliseconds, "psetex")
}

fn with_time(words: &[Bytes], unit: Unit, command: &str) -> Parsed {
    let lifetime = options::ahead(unit, &word(words, 2), command)?;
    let ttl_ms = match lifetime.lasts {
        Some(Lasts::TtlMs(ttl_ms)) => ttl_ms,
        _ => 0,
    };
    Ok(Plan::one(put(word(words, 1), word(words, 3), None, ttl_ms), Shape::OkOrNull))
}

pub(super) fn getset(words: &[Bytes]) -> Parsed {
    let replace = Replace { value: word(words, 2), ..Replace::default() };
    Ok(Plan::one(modify(word(words, 1), Change::Replace(replace), true), Shape::Before))
}

pub(super) fn getdel(words: &[Bytes]) -> Parsed {
    Ok(Plan::one(modify(word(words, 1), Change::Take(true), true), Shape::Before))
}

pub(super) fn getex(words: &[Bytes]) -> Parsed {
    let mut lifetime: Option<GivenTime> = None;
    let mut options = words.iter().skip(2);
    while let Some(option) = options.next() {
        let forever = lifetime.as_ref().is_none_or(|(unit, _)| unit.is_none());
        lifetime = if is(option, "PERSIST") && forever {
            Some((None, Bytes::new()))
        } else if let Some(unit) = time_option(option, lifetime.as_ref()) {
            Some((Some(unit), options.next().cloned().ok_or_else(syntax_error)?))
        } else {
            return Err(syntax_error());
        };
    }
    let lifetime = match lifetime {
        None => return get(words),
        Some((None, _)) => Lifetime { lasts: Some(Lasts::Forever(true)) },
        Some((Some(unit), time)) => match options::ahead(unit, &time, "getex") {
            Ok(lifetime) => lifetime,
            // Where there is no such key, Redis does not look at the time.
            Err(Reply::Error(message)) => {
                let bad = if message.contains("expire time") { BadTime::Invalid } else { BadTime::NoInteger };
                return Ok(Plan::one(super::keys::exists_one(word(words, 1)), Shape::NullOr(bad)));
            }
            Err(other) => return Err(other),
        },
    };
    // What has no end already is not changed by taking the end away, so no WATCH sees it.
    let only = match lifetime.lasts {
        Some(Lasts::Forever(_)) => Only::WithEnd,
        _ => Only::Always,
    };
    let renew = Renew { lifetime: Some(lifetime), only: only.into(), quietly: false };
    Ok(Plan::one(modify(word(words, 1), Change::Renew(renew), true), Shape::Before))
}

pub(super) fn mget(words: &[Bytes]) -> Parsed {
    let operations = words.iter().skip(1).cloned().map(read).collect();
    Ok(Plan::new(operations, Shape::Values))
}

fn pairs(words: &[Bytes], command: &str) -> Result<Vec<(Bytes, Bytes)>, Reply> {
    let (pairs, rest) = words.get(1..).unwrap_or_default().as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Reply::err(format!("wrong number of arguments for '{command}' command")));
    }
    Ok(pairs.iter().map(|[key, value]| (key.clone(), value.clone())).collect())
}

pub(super) fn mset(words: &[Bytes]) -> Parsed {
    let pairs = pairs(words, "mset")?;
    let operations = pairs.into_iter().map(|(key, value)| put(key, value, None, 0)).collect();
    Ok(Plan::new(operations, Shape::AllOk))
}

pub(super) fn msetnx(words: &[Bytes]) -> Parsed {
    let pairs = pairs(words, "msetnx")?;
    let compares =
        pairs.iter().map(|(key, _)| Compare { key: key.clone(), that: Some(That::Absent(true)) }).collect();
    let puts = pairs.into_iter().map(|(key, value)| Operation { operation: Some(put(key, value, None, 0)) });
    let txn = TxnRequest { compares, then: puts.collect(), ..TxnRequest::default() };
    Ok(Plan::one(Kind::Txn(txn), Shape::Succeeded))
}

pub(super) fn incr(words: &[Bytes]) -> Parsed {
    Ok(add(words, 1))
}

pub(super) fn decr(words: &[Bytes]) -> Parsed {
    Ok(add(words, -1))
}

pub(super) fn incrby(words: &[Bytes]) -> Parsed {
    Ok(add(words, integer(&word(words, 2))?))
}

pub(super) fn decrby(words: &[Bytes]) -> Parsed {
    let by = integer(&word(words, 2))?;
    let negative = by.checked_neg().ok_or_else(|| Reply::err("decrement would overflow"))?;
    Ok(add(words, negative))
}

fn add(words: &[Bytes], by: i64) -> Plan {
    Plan::one(modify(word(words, 1), Change::Add(by), false), Shape::Number)
}

pub(super) fn incrbyfloat(words: &[Bytes]) -> Parsed {
    let by = word(words, 2);
    let not_a_number = || Reply::err("value is not a valid float");
    Decimal::parse(&by).ok_or_else(not_a_number)?;
    let by = String::from_utf8(by.to_vec()).map_err(|_| not_a_number())?;
    Ok(Plan::one(modify(word(words, 1), Change::AddDecimal(by), false), Shape::Decimal))
}

pub(super) fn append(words: &[Bytes]) -> Parsed {
    Ok(Plan::one(modify(word(words, 1), Change::Append(word(words, 2)), false), Shape::Size))
}

pub(super) fn strlen(words: &[Bytes]) -> Parsed {
    Ok(Plan::one(outline(word(words, 1)), Shape::Length))
}

pub(super) fn outline(key: Bytes) -> Kind {
    Kind::Get(GetRequest { key, without_value: true, ..GetRequest::default() })
}

pub(super) fn getrange(words: &[Bytes]) -> Parsed {
    let (start, end) = (integer(&word(words, 2))?, integer(&word(words, 3))?);
    Ok(Plan::one(read(word(words, 1)), Shape::Part(start, end)))
}

pub(super) fn setrange(words: &[Bytes]) -> Parsed {
    let offset =
        u64::try_from(integer(&word(words, 2))?).map_err(|_| Reply::err("offset is out of range"))?;
    let over = Overwrite { offset, value: word(words, 3) };
    Ok(Plan::one(modify(word(words, 1), Change::Overwrite(over), false), Shape::Size))
}

/// MEMORY USAGE, which is the only part of it.
pub(super) fn memory(words: &[Bytes]) -> Parsed {
    Ok(Plan::one(outline(word(words, 2)), Shape::Usage))
}

pub(super) fn object(words: &[Bytes]) -> Parsed {
    let (what, key) = (word(words, 1), word(words, 2));
    match () {
        () if is(&what, "ENCODING") => Ok(Plan::one(read(key), Shape::Encoding)),
        () if is(&what, "REFCOUNT") => Ok(Plan::one(super::keys::exists_one(key), Shape::Done)),
        // FREQ and IDLETIME.
        () => Err(Reply::err("it is not recorded how often or when a key was used")),
    }
}
