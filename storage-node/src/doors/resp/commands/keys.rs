//! Commands on keys, whatever their values.

use bytes::Bytes;
use proto::v1::lifetime::Lasts;
use proto::v1::modify_request::Change;
use proto::v1::renew::Only;
use proto::v1::{CopyRequest, DeleteRequest, ExistsRequest, Lifetime, Renew, operation::Operation as Kind};

use super::options::{self, Unit};
use super::strings::{modify, outline};
use super::{Parsed, Plan, integer, is, syntax_error, word};
use crate::doors::resp::reply::Reply;
use crate::doors::resp::shape::Shape;

pub(super) fn exists_one(key: Bytes) -> Kind {
    Kind::Exists(ExistsRequest { key, ..ExistsRequest::default() })
}

pub(super) fn del(words: &[Bytes]) -> Parsed {
    let delete = |key: &Bytes| Kind::Delete(DeleteRequest { key: key.clone(), ..DeleteRequest::default() });
    Ok(Plan::new(words.iter().skip(1).map(delete).collect(), Shape::Count))
}

pub(super) fn exists(words: &[Bytes]) -> Parsed {
    let operations = words.iter().skip(1).cloned().map(exists_one).collect();
    Ok(Plan::new(operations, Shape::Count))
}

pub(super) fn type_(words: &[Bytes]) -> Parsed {
    Ok(Plan::one(exists_one(word(words, 1)), Shape::Type))
}

pub(super) fn ttl(words: &[Bytes]) -> Parsed {
    Ok(Plan::one(outline(word(words, 1)), Shape::SecondsLeft))
}

pub(super) fn pttl(words: &[Bytes]) -> Parsed {
    Ok(Plan::one(outline(word(words, 1)), Shape::MillisecondsLeft))
}

pub(super) fn expiretime(words: &[Bytes]) -> Parsed {
    Ok(Plan::one(outline(word(words, 1)), Shape::EndSeconds))
}

pub(super) fn pexpiretime(words: &[Bytes]) -> Parsed {
    Ok(Plan::one(outline(word(words, 1)), Shape::EndMilliseconds))
}

pub(super) fn persist(words: &[Bytes]) -> Parsed {
    let lifetime = Lifetime { lasts: Some(Lasts::Forever(true)) };
    Ok(renew(word(words, 1), lifetime, Only::WithEnd))
}

pub(super) fn expire(words: &[Bytes]) -> Parsed {
    ends(words, Unit::Seconds, "expire")
}

pub(super) fn pexpire(words: &[Bytes]) -> Parsed {
    ends(words, Unit::Milliseconds, "pexpire")
}

pub(super) fn expireat(words: &[Bytes]) -> Parsed {
    ends(words, Unit::UnixSeconds, "expireat")
}

pub(super) fn pexpireat(words: &[Bytes]) -> Parsed {
    ends(words, Unit::UnixMilliseconds, "pexpireat")
}

fn ends(words: &[Bytes], unit: Unit, command: &str) -> Parsed {
    let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
    for option in words.iter().skip(3) {
        let flag = match option.to_ascii_uppercase().as_slice() {
            b"NX" => &mut nx,
            b"XX" => &mut xx,
            b"GT" => &mut gt,
            b"LT" => &mut lt,
            _ => {
                let option = option.strip_suffix(b"\r\n").unwrap_or(option);
                return Err(Reply::RawError([b"ERR Unsupported option ", option].concat().into()));
            }
        };
        *flag = true;
    }
    if nx && (xx || gt || lt) {
        return Err(Reply::err("NX and XX, GT or LT options at the same time are not compatible"));
    }
    if gt && lt {
        return Err(Reply::err("GT and LT options at the same time are not compatible"));
    }
    let lifetime = options::any(unit, &word(words, 2), command)?;
    let only = match (nx, xx, gt, lt) {
        (true, ..) => Only::WithoutEnd,
        // What has no end lasts longest, so GT alone never applies to it.
        (_, _, true, _) => Only::ToLater,
        (_, true, _, true) => Only::WithEndToEarlier,
        (_, _, _, true) => Only::ToEarlier,
        (_, true, ..) => Only::WithEnd,
        _ => Only::Always,
    };
    Ok(renew(word(words, 1), lifetime, only))
}

fn renew(key: Bytes, lifetime: Lifetime, only: Only) -> Plan {
    let renew = Renew { lifetime: Some(lifetime), only: only.into(), quietly: false };
    Plan::one(modify(key, Change::Renew(renew), false), Shape::Done)
}

pub(super) fn rename(words: &[Bytes]) -> Parsed {
    Ok(moved(words, true, Shape::Renamed))
}

pub(super) fn renamenx(words: &[Bytes]) -> Parsed {
    Ok(moved(words, false, Shape::RenamedIfNew))
}

fn moved(words: &[Bytes], replace: bool, shape: Shape) -> Plan {
    let (from, to) = (word(words, 1), word(words, 2));
    let copy = CopyRequest { from, to, replace, remove_source: true, ..CopyRequest::default() };
    Plan::one(Kind::Copy(copy), shape)
}

pub(super) fn copy(words: &[Bytes]) -> Parsed {
    let (from, to) = (word(words, 1), word(words, 2));
    let mut replace = false;
    let mut options = words.iter().skip(3);
    while let Some(option) = options.next() {
        if is(option, "REPLACE") {
            replace = true;
        } else if is(option, "DB") {
            let number = options.next().ok_or_else(syntax_error)?;
            if integer(number)? != 0 {
                return Err(Reply::err("a key is copied within its table only: leave DB out"));
            }
        } else {
            return Err(syntax_error());
        }
    }
    if from == to {
        return Err(Reply::err("source and destination objects are the same"));
    }
    let copy = CopyRequest { from, to, replace, ..CopyRequest::default() };
    Ok(Plan::one(Kind::Copy(copy), Shape::Done))
}
