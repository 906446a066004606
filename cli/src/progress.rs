//! How far something is that takes long, on standard error.

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::duration::show_duration;
use crate::quantity::{show_bytes, show_count};

/// How often a terminal is told.
const TERMINAL_EVERY: Duration = Duration::from_millis(200);
/// How often a line is added where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);
/// The rate is of so long.
const RATE_OVER: Duration = Duration::from_secs(10);

/// When progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ShowProgress {
    /// When somebody looks: standard error is a terminal.
    Auto,
    /// Also in a file or a pipe, a line every two seconds.
    Always,
    /// Not at all.
    Never,
}

/// How much is done.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Done {
    /// Items.
    pub items: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// The share of the whole, from 0 to 1, where that is known.
    pub share: Option<f64>,
}

/// Shows how far something is.
#[derive(Debug)]
pub struct Progress {
    shown: Shown,
    last: Option<Instant>,
    /// What was done when, for so long as the rate is of.
    seen: VecDeque<(Instant, Done)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// On one line of a terminal, written over.
    Terminal,
    Lines,
    Nowhere,
}

impl Progress {
    /// Nothing is done yet.
    pub fn new(when: ShowProgress) -> Self {
        let shown = match (when, io::stderr().is_terminal()) {
            (ShowProgress::Never, _) | (ShowProgress::Auto, false) => Shown::Nowhere,
            (ShowProgress::Always, false) => Shown::Lines,
            (ShowProgress::Always | ShowProgress::Auto, true) => Shown::Terminal,
        };
        Self { shown, last: None, seen: VecDeque::new() }
    }

    /// Shows it, if it is time to.
    pub fn show(&mut self, now: Instant, done: Done) {
        let every = match self.shown {
            Shown::Terminal => TERMINAL_EVERY,
            Shown::Lines => LINE_EVERY,
            Shown::Nowhere => return,
        };
        if self.last.is_some_and(|last| now.duration_since(last) < every) {
            return;
        }
        self.last = Some(now);
        let text = self.describe(now, done);
        // That nobody reads it is no reason to stop.
        let _ = match self.shown {
            Shown::Terminal => write!(io::stderr(), "\r{text}\x1b[K"),
            _ => writeln!(io::stderr(), "{text}"),
        };
    }

    /// Takes it off the terminal again.
    pub fn clear(&mut self) {
        if self.shown == Shown::Terminal && self.last.take().is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }

    fn describe(&mut self, now: Instant, done: Done) -> String {
        self.seen.push_back((now, done));
        while self.seen.len() > 2
            && self.seen.get(1).is_some_and(|(when, _)| now.duration_since(*when) >= RATE_OVER)
        {
            self.seen.pop_front();
        }
        let mut parts = vec![format!("{} items, {}", show_count(done.items), show_bytes(done.bytes))];
        let (since, before) = self.seen.front().copied().unwrap_or((now, done));
        let seconds = now.duration_since(since).as_secs_f64();
        if seconds > 0.0 {
            let items = (done.items - before.items.min(done.items)) as f64 / seconds;
            let bytes = (done.bytes - before.bytes.min(done.bytes)) as f64 / seconds;
            parts.push(format!("{}/s, {}/s", show_count(items as u64), show_bytes(bytes as u64)));
        }
        if let (Some(share), Some(shared)) = (done.share, before.share) {
            parts.push(format!("{:.0} %", 100.0 * share));
            let advanced = share - shared;
            if advanced > 0.0 && seconds > 0.0 {
                let left = (1.0 - share).max(0.0) * seconds / advanced;
                // Nobody waits for years, and a stall may look like it.
                let left = Duration::from_secs(left.min(1e9) as u64);
                parts.push(format!("{} left", show_duration(left)));
            }
        }
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_share_and_remaining_time_are_told() {
        let began = Instant::now();
        let mut progress = Progress { shown: Shown::Nowhere, last: None, seen: VecDeque::new() };
        let done = |items: u64| Done { items, bytes: 100 * items, share: Some(items as f64 / 1e6) };
        assert_eq!(progress.describe(began, done(0)), "0 items, 0 B, 0 %");
        let later = began + Duration::from_secs(2);
        assert_eq!(
            progress.describe(later, done(200_000)),
            "200,000 items, 19 MiB, 100,000/s, 9.5 MiB/s, 20 %, 8s left"
        );
        // It has become slower: what was long ago does not count.
        let slower = began + Duration::from_secs(12);
        assert_eq!(
            progress.describe(slower, done(300_000)),
            "300,000 items, 29 MiB, 10,000/s, 977 KiB/s, 30 %, 1m10s left"
        );
        let unknown = Done { share: None, ..done(300_000) };
        assert_eq!(progress.describe(slower, unknown), "300,000 items, 29 MiB, 10,000/s, 977 KiB/s");
    }
}
