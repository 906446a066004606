//! Options that say how long an item is to live, which several commands share.

use bytes::Bytes;
use proto::v1::Lifetime;
use proto::v1::lifetime::Lasts;

use super::{integer, is};
use crate::doors::resp::reply::Reply;

/// How a time is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Seconds from now.
    Seconds,
    /// Milliseconds from now.
    Milliseconds,
    /// Seconds since 1970.
    UnixSeconds,
    /// Milliseconds since 1970.
    UnixMilliseconds,
}

impl Unit {
    /// The unit that an option's name stands for.
    pub fn of_option(name: &[u8]) -> Option<Self> {
        [
            ("EX", Self::Seconds),
            ("PX", Self::Milliseconds),
            ("EXAT", Self::UnixSeconds),
            ("PXAT", Self::UnixMilliseconds),
        ]
        .into_iter()
        .find(|(option, _)| is(name, option))
        .map(|(_, unit)| unit)
    }

    fn in_milliseconds(self, time: i64) -> Option<i64> {
        match self {
            Self::Seconds | Self::UnixSeconds => time.checked_mul(1000),
            Self::Milliseconds | Self::UnixMilliseconds => Some(time),
        }
    }

    fn is_relative(self) -> bool {
        matches!(self, Self::Seconds | Self::Milliseconds)
    }
}

/// The latest moment that can be told: deadlines are counted from 1970 and must stay whole
/// numbers of 64 bits with their sign, for a relative time as well.
const LATEST_MS: i64 = i64::MAX - (1 << 43);

/// A time that must lie ahead, as of an item that is written.
pub fn ahead(unit: Unit, word: &Bytes, command: &str) -> Result<Lifetime, Reply> {
    let time = integer(word)?;
    match unit.in_milliseconds(time) {
        Some(ms) if ms > 0 && (!unit.is_relative() || ms <= LATEST_MS) => Ok(lifetime(unit, ms)),
        _ => Err(invalid(command)),
    }
}

/// A time that may have passed, which ends the item at once.
pub fn any(unit: Unit, word: &Bytes, command: &str) -> Result<Lifetime, Reply> {
    let time = integer(word)?;
    match unit.in_milliseconds(time) {
        Some(ms) if ms <= 0 => Ok(Lifetime { lasts: Some(Lasts::UntilMs(1)) }),
        Some(ms) if !unit.is_relative() || ms <= LATEST_MS => Ok(lifetime(unit, ms)),
        _ => Err(invalid(command)),
    }
}

fn lifetime(unit: Unit, ms: i64) -> Lifetime {
    let ms = ms.unsigned_abs();
    Lifetime { lasts: Some(if unit.is_relative() { Lasts::TtlMs(ms) } else { Lasts::UntilMs(ms) }) }
}

fn invalid(command: &str) -> Reply {
    Reply::err(format!("invalid expire time in '{command}' command"))
}
