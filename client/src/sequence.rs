//! The numbers that writes carry, so that each is applied once however often it is sent.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::v1::Retry;

/// The numbers of one client.
#[derive(Debug, Clone)]
pub(crate) struct Sequences {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Bytes,
    numbers: Mutex<Numbers>,
}

#[derive(Debug)]
struct Numbers {
    next: u64,
    /// Those whose answer may still be asked for. A node keeps answers from the lowest on,
    /// so one slow write holds them all back; nodes bound that for themselves.
    in_flight: BTreeSet<u64>,
}

/// The number of one write. When it is dropped nobody asks for that write's answer again.
#[derive(Debug)]
pub(crate) struct Ticket {
    sequences: Sequences,
    sequence: u64,
}

impl Sequences {
    /// Numbers of a client that calls itself by these 16 bytes.
    pub(crate) fn new(client: [u8; 16]) -> Self {
        let numbers = Numbers { next: 1, in_flight: BTreeSet::new() };
        let shared = Shared { client: Bytes::copy_from_slice(&client), numbers: Mutex::new(numbers) };
        Self { shared: Arc::new(shared) }
    }

    /// The next number.
    pub(crate) fn begin(&self) -> Ticket {
        let mut numbers = self.shared.numbers.lock();
        let sequence = numbers.next;
        numbers.next += 1;
        numbers.in_flight.insert(sequence);
        Ticket { sequences: self.clone(), sequence }
    }
}

impl Ticket {
    /// What the next attempt carries.
    pub(crate) fn retry(&self, attempt: u32, age: Duration) -> Retry {
        let lowest = self.sequences.shared.numbers.lock().in_flight.first().copied();
        Retry {
            client: self.sequences.shared.client.clone(),
            sequence: self.sequence,
            lowest_unacknowledged: lowest.unwrap_or(self.sequence),
            attempt,
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            part: 0,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.sequences.shared.numbers.lock().in_flight.remove(&self.sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_waits_for_the_slowest() {
        let sequences = Sequences::new([7; 16]);
        let (first, second, third) = (sequences.begin(), sequences.begin(), sequences.begin());
        drop(second);
        let retry = third.retry(2, Duration::from_millis(40));
        assert_eq!((retry.sequence, retry.lowest_unacknowledged), (3, 1));
        assert_eq!((retry.attempt, retry.age_ms), (2, 40));
        drop(first);
        assert_eq!(third.retry(0, Duration::ZERO).lowest_unacknowledged, 3);
    }
}
