//! Turns: which operation of the whole load is next, and when it should start.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::Pace;

/// A timer may fire this late without the server being charged for it: tokio's timers are
/// good for a millisecond. What is later than that was held up by the load itself.
pub const TIMER_SLACK: Duration = Duration::from_millis(2);

/// One operation's place in the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Its number, from 0, over all clients.
    pub number: u64,
    /// When it should start; in a closed loop that is whenever it can.
    pub due: Option<Instant>,
}

impl Turn {
    /// When the operation counts as started, if it is really sent at `now`.
    ///
    /// In an open loop a client that was busy sends late, and that wait belongs to the
    /// latency. A client that was free and woke up by its timer is not charged for the
    /// timer's coarseness.
    pub fn start(self, now: Instant) -> Instant {
        match self.due {
            Some(due) if now.saturating_duration_since(due) > TIMER_SLACK => due,
            _ => now,
        }
    }
}

/// Hands out turns to clients that run side by side.
///
/// A client takes a turn only when it has room for it, so in an open loop a turn that no
/// client can take keeps its due time and is late when it is taken at last.
#[derive(Debug)]
pub struct Schedule {
    begin: Instant,
    interval: Option<Duration>,
    end: Instant,
    limit: u64,
    next: AtomicU64,
}

impl Schedule {
    /// Turns from `begin` to `end`, at most `limit` of them.
    pub fn new(pace: Pace, begin: Instant, end: Instant, limit: Option<u64>) -> Self {
        let interval = match pace {
            Pace::Closed => None,
            Pace::Open { per_second } => Some(Duration::from_secs_f64(1.0 / per_second.max(1e-3))),
        };
        Self { begin, interval, end, limit: limit.unwrap_or(u64::MAX), next: AtomicU64::new(0) }
    }

    /// The next turn, or none when the load is over. In an open loop every turn that was due
    /// before the end is handed out, however late that is.
    pub fn take(&self, now: Instant) -> Option<Turn> {
        if self.interval.is_none() && now >= self.end {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if number >= self.limit {
            return None;
        }
        let due = self.interval.map(|interval| self.begin + interval.mul_f64(number as f64));
        match due {
            Some(due) if due >= self.end => None,
            due => Some(Turn { number, due }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn open_turns_are_evenly_spaced_and_end_with_the_load() {
        let begin = Instant::now();
        let schedule = Schedule::new(Pace::Open { per_second: 4.0 }, begin, begin + SECOND, None);
        let dues: Vec<_> = std::iter::from_fn(|| schedule.take(begin))
            .filter_map(|turn| turn.due)
            .map(|due| due.duration_since(begin).as_millis())
            .collect();
        assert_eq!(dues, [0, 250, 500, 750]);
    }

    #[test]
    fn open_turns_that_nobody_could_take_are_still_handed_out() {
        let begin = Instant::now();
        let schedule = Schedule::new(Pace::Open { per_second: 2.0 }, begin, begin + SECOND, None);
        let late = begin + 5 * SECOND;
        assert_eq!(schedule.take(late), Some(Turn { number: 0, due: Some(begin) }));
        assert_eq!(schedule.take(late), Some(Turn { number: 1, due: Some(begin + SECOND / 2) }));
        assert_eq!(schedule.take(late), None);
    }

    #[test]
    fn closed_turns_end_with_the_time_or_the_limit() {
        let begin = Instant::now();
        let schedule = Schedule::new(Pace::Closed, begin, begin + SECOND, Some(2));
        assert_eq!(schedule.take(begin).map(|turn| turn.number), Some(0));
        assert_eq!(schedule.take(begin + SECOND), None);
        assert_eq!(schedule.take(begin).map(|turn| turn.number), Some(1));
        assert_eq!(schedule.take(begin), None);
    }

    #[test]
    fn a_busy_client_is_charged_from_the_intended_start() {
        let due = Instant::now();
        let turn = Turn { number: 0, due: Some(due) };
        let stalled = due + SECOND;
        assert_eq!(turn.start(stalled), due);
        let by_timer = due + Duration::from_millis(1);
        assert_eq!(turn.start(by_timer), by_timer);
        let closed = Turn { number: 0, due: None };
        assert_eq!(closed.start(stalled), stalled);
    }
}
