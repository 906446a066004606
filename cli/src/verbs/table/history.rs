//! How long a table keeps its changes, as arguments and as a column.

use std::time::Duration;

use clap::Args;
use proto::v1::HistorySettings;
use proto::v1::history_settings::Keep;

use crate::duration::{parse_duration, show_duration};
use crate::exit::Usage;
use crate::quantity::{parse_bytes, show_bytes};

/// What a bounded history keeps in each partition that does not say how much.
const BYTES: u64 = 64 << 20;
/// For how long, where only the bytes are said.
const TIME: Duration = Duration::from_secs(600);

/// How long the table keeps its changes for those who watch it.
#[derive(Debug, Clone, Args)]
pub struct History {
    /// How long changes are kept for those who watch: a time, `default` (ten minutes and 64 MiB in
    /// each partition) or `off`.
    #[arg(id = "history", long = "history", value_name = "TIME", value_parser = parse_time)]
    time: Option<Time>,
    /// How much of them each partition keeps at most, such as 256MiB.
    #[arg(id = "history-bytes", long = "history-bytes", value_name = "SIZE", value_parser = parse_bytes)]
    bytes: Option<u64>,
    /// Changes also say what was there before; a write then also reads.
    #[arg(id = "history-before", long = "history-before", overrides_with = "no-history-before")]
    before: bool,
    /// They do not.
    #[arg(id = "no-history-before", long = "no-history-before")]
    not_before: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Time {
    Default,
    Off,
    For(Duration),
}

fn parse_time(text: &str) -> Result<Time, String> {
    match text {
        "default" => Ok(Time::Default),
        "off" => Ok(Time::Off),
        time => parse_duration(time).map(Time::For),
    }
}

impl History {
    /// Whether anything is said of it.
    pub fn is_given(&self) -> bool {
        self.time.is_some() || self.bytes.is_some() || self.before || self.not_before
    }

    /// What it comes to for a table that keeps them so until now; none: nothing was said.
    pub fn over(&self, known: HistorySettings) -> Result<Option<HistorySettings>, Usage> {
        if !self.is_given() {
            return Ok(None);
        }
        let before = (known.before || self.before) && !self.not_before;
        let known_bounds = (known.keep() == Keep::Bounded).then_some((known.keep_ms, known.keep_bytes));
        let (keep, keep_ms, keep_bytes) = match (self.time, self.bytes) {
            (Some(Time::Default | Time::Off), Some(_)) => {
                return Err(Usage(
                    "--history-bytes goes with a time: --history 1h --history-bytes 256MiB".into(),
                ));
            }
            (Some(Time::Default), None) => (Keep::Default, 0, 0),
            (Some(Time::Off), None) => (Keep::Off, 0, 0),
            (Some(Time::For(time)), bytes) => {
                let bytes = bytes.or(known_bounds.map(|bounds| bounds.1)).unwrap_or(BYTES);
                (Keep::Bounded, milliseconds(time), bytes)
            }
            (None, Some(bytes)) => {
                (Keep::Bounded, known_bounds.map_or(milliseconds(TIME), |bounds| bounds.0), bytes)
            }
            (None, None) => (known.keep(), known.keep_ms, known.keep_bytes),
        };
        Ok(Some(HistorySettings { keep: keep.into(), keep_ms, keep_bytes, before }))
    }
}

/// In a column.
pub fn show(history: Option<&HistorySettings>) -> String {
    let history = history.copied().unwrap_or_default();
    let kept = match history.keep() {
        Keep::Default => "default".to_owned(),
        Keep::Off => "off".to_owned(),
        Keep::Bounded => {
            let time = show_duration(Duration::from_millis(history.keep_ms));
            format!("{time}, {}", show_bytes(history.keep_bytes))
        }
    };
    if history.before { format!("{kept}, with before") } else { kept }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(time: Option<&str>, bytes: Option<u64>) -> History {
        let time = time.map(|time| parse_time(time).unwrap());
        History { time, bytes, before: false, not_before: false }
    }

    #[test]
    fn what_is_left_out_stays() {
        let over = |history: History, known: HistorySettings| show(history.over(known).unwrap().as_ref());
        let hour = given(Some("1h"), None).over(HistorySettings::default()).unwrap().unwrap();
        assert_eq!(show(Some(&hour)), "1h, 64 MiB");
        assert_eq!(over(given(None, Some(1 << 30)), hour), "1h, 1.0 GiB");
        assert_eq!(
            over(given(Some("2h"), None), HistorySettings { keep_bytes: 1 << 20, ..hour }),
            "2h, 1.0 MiB"
        );
        assert_eq!(over(given(Some("default"), None), hour), "default");
        let before = History { before: true, ..given(None, None) };
        let with_before = before.over(hour).unwrap().unwrap();
        assert_eq!(show(Some(&with_before)), "1h, 64 MiB, with before");
        assert_eq!(over(given(Some("off"), None), with_before), "off, with before");
        assert!(given(None, None).over(hour).unwrap().is_none());
        given(Some("off"), Some(1)).over(hour).unwrap_err();
    }
}
