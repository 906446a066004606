//! How the memory of a node is divided.
//!
//! ```text
//!     memory ─┬─ 20 %  all that has no bound of its own: the program, threads, requests under way
//!             ├─ 16 %  writes of the state that are in no file yet, in four buffers
//!             ├─  8 %  the same of the log
//!             ├─ 10 %  recent entries of the log
//!             ├─  5 %  writes that wait
//!             ├─ 10 %  connections: half for Redis clients and text, half for HTTP
//!             └─ rest  blocks that were read, 31 % or more
//! ```
//!
//! A part that is set by itself keeps that size, and one whose share would be useless or too much gets the
//! least or the most that makes sense; the blocks have more or less for it, so all of it is the memory again.
//! It is a function of the settings, so `--print-config` shows what it comes to.

use super::ByteSize;

/// The buffers of each database: one is filled, three may wait to be written to files.
pub const BUFFERS: u64 = 4;
/// As many bounds on connections are there: one of the plain doors, one of HTTP.
const KINDS_OF_CONNECTIONS: u64 = 2;

/// What each part may take at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// Blocks that were read from files.
    pub block_cache: ByteSize,
    /// One of the state's buffers.
    pub write_buffer: ByteSize,
    /// One of the log's buffers.
    pub log_buffer: ByteSize,
    /// Recent entries of the log.
    pub recent_entries: ByteSize,
    /// Writes that wait.
    pub waiting_writes: ByteSize,
    /// What connections hold, of each of the two kinds.
    pub connections: ByteSize,
}

/// Parts that were set by themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Blocks that were read from files.
    pub block_cache: Option<ByteSize>,
    /// One of the state's buffers.
    pub write_buffer: Option<ByteSize>,
    /// One of the log's buffers.
    pub log_buffer: Option<ByteSize>,
    /// Recent entries of the log.
    pub recent_entries: Option<ByteSize>,
    /// Writes that wait.
    pub waiting_writes: Option<ByteSize>,
    /// What connections hold, of each of the two kinds.
    pub connections: Option<ByteSize>,
}

/// The sizes where there is no memory to divide. With one, no part but the blocks gets more.
const FIXED: Parts = Parts {
    block_cache: ByteSize::mib(256),
    write_buffer: ByteSize::mib(128),
    log_buffer: ByteSize::mib(64),
    recent_entries: ByteSize::mib(256),
    waiting_writes: ByteSize::mib(64),
    connections: ByteSize::mib(256),
};

/// With less, every read of an index goes to the disk.
const LEAST_BLOCKS: ByteSize = ByteSize::mib(8);
/// Below this a buffer makes more files than flushing it is worth.
pub const LEAST_BUFFER: ByteSize = ByteSize::mib(1);
/// One request of the largest size must fit.
pub const LEAST_CONNECTIONS: ByteSize = ByteSize::mib(32);
/// A node that holds nothing takes about this.
const LEAST_OTHER: ByteSize = ByteSize::mib(48);

impl Parts {
    /// The parts where there is no memory to divide.
    pub fn fixed(chosen: &Chosen) -> Self {
        FIXED.with(chosen)
    }

    /// The parts of a memory. The largest batch must be able to wait.
    ///
    /// Where the memory is less than [`least`], together they are more than it.
    pub fn of(memory: ByteSize, chosen: &Chosen, largest_batch: ByteSize) -> Self {
        let share = |percent, least, most| share(memory, percent, least).min(most).max(least);
        let mut parts = Self {
            block_cache: ByteSize(0),
            write_buffer: share(4, LEAST_BUFFER, FIXED.write_buffer),
            log_buffer: share(2, LEAST_BUFFER, FIXED.log_buffer),
            recent_entries: share(10, ByteSize(0), FIXED.recent_entries),
            waiting_writes: share(5, largest_batch, FIXED.waiting_writes),
            connections: share(5, LEAST_CONNECTIONS, FIXED.connections),
        }
        .with(chosen);
        if chosen.block_cache.is_none() {
            let rest = ByteSize(memory.0.saturating_sub(parts.with_other(memory).0));
            parts.block_cache = rest.max(LEAST_BLOCKS);
        }
        parts
    }

    /// What all of them take at most.
    pub fn total(&self) -> ByteSize {
        ByteSize(self.bounds().iter().fold(0, |sum, (_, bytes)| sum.saturating_add(bytes.0)))
    }

    /// The same with what has no bound of its own.
    pub fn with_other(&self, memory: ByteSize) -> ByteSize {
        ByteSize(self.total().0.saturating_add(share(memory, 20, LEAST_OTHER).0))
    }

    /// What each may take at most in all, by the names that metrics show.
    pub fn bounds(&self) -> [(&'static str, ByteSize); 6] {
        let times = |count: u64, size: ByteSize| ByteSize(size.0.saturating_mul(count));
        [
            ("block_cache", self.block_cache),
            ("write_buffers", times(BUFFERS, self.write_buffer)),
            ("log_buffers", times(BUFFERS, self.log_buffer)),
            ("recent_entries", self.recent_entries),
            ("waiting_writes", self.waiting_writes),
            ("connections", times(KINDS_OF_CONNECTIONS, self.connections)),
        ]
    }

    fn with(self, chosen: &Chosen) -> Self {
        Self {
            block_cache: chosen.block_cache.unwrap_or(self.block_cache),
            write_buffer: chosen.write_buffer.unwrap_or(self.write_buffer),
            log_buffer: chosen.log_buffer.unwrap_or(self.log_buffer),
            recent_entries: chosen.recent_entries.unwrap_or(self.recent_entries),
            waiting_writes: chosen.waiting_writes.unwrap_or(self.waiting_writes),
            connections: chosen.connections.unwrap_or(self.connections),
        }
    }
}

/// The least memory, in steps of 8 MiB, that holds all its parts; none below 1 TiB does where one of them
/// was chosen larger.
pub fn least(chosen: &Chosen, largest_batch: ByteSize) -> Option<ByteSize> {
    let mut candidates = (1..=1 << 17).map(|steps| ByteSize::mib(8 * steps));
    candidates.find(|memory| Parts::of(*memory, chosen, largest_batch).with_other(*memory) <= *memory)
}

/// So many percent, in whole MiB, and no less than that.
fn share(memory: ByteSize, percent: u64, least: ByteSize) -> ByteSize {
    let exact = memory.0 / 100 * percent;
    ByteSize(exact >> 20 << 20).max(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: ByteSize = ByteSize::mib(16);

    fn of(mib: u64, chosen: &Chosen) -> Parts {
        Parts::of(ByteSize::mib(mib), chosen, BATCH)
    }

    fn in_mib(parts: Parts) -> [u64; 6] {
        parts.bounds().map(|(_, bytes)| bytes.0 >> 20)
    }

    #[test]
    fn the_parts_of_usual_memories() {
        let none = Chosen::default();
        // Blocks, the state's buffers, the log's, recent entries, waiting writes, connections.
        assert_eq!(in_mib(of(256, &none)), [40, 40, 20, 25, 16, 64]);
        assert_eq!(in_mib(of(512, &none)), [150, 80, 40, 51, 25, 64]);
        assert_eq!(in_mib(of(1024, &none)), [325, 160, 80, 102, 51, 102]);
        assert_eq!(in_mib(of(4096, &none)), [1_781, 512, 256, 256, 64, 408]);
        assert_eq!(in_mib(of(16_384, &none)), [11_508, 512, 256, 256, 64, 512]);
    }

    #[test]
    fn together_they_are_the_memory() {
        let none = Chosen::default();
        for mib in (least(&none, BATCH).unwrap().0 >> 20)..3_000 {
            let memory = ByteSize::mib(mib);
            let parts = of(mib, &none);
            assert_eq!(parts.with_other(memory), memory, "{parts:?}");
            assert!(parts.block_cache >= LEAST_BLOCKS, "{parts:?}");
        }
    }

    #[test]
    fn more_memory_makes_no_part_smaller() {
        let none = Chosen::default();
        for mib in 16..3_000 {
            let grown = in_mib(of(mib + 1, &none)).into_iter().skip(1);
            assert!(in_mib(of(mib, &none)).into_iter().skip(1).zip(grown).all(|(less, more)| less <= more));
        }
    }

    #[test]
    fn a_part_that_is_chosen_keeps_its_size_and_the_blocks_take_the_rest() {
        let chosen = Chosen { write_buffer: Some(ByteSize::mib(32)), ..Chosen::default() };
        assert_eq!(in_mib(of(512, &chosen)), [102, 128, 40, 51, 25, 64]);
        let chosen = Chosen { block_cache: Some(ByteSize::mib(64)), ..Chosen::default() };
        assert_eq!(in_mib(of(512, &chosen)), [64, 80, 40, 51, 25, 64]);
    }

    #[test]
    fn the_least_memory_is_told() {
        assert_eq!(least(&Chosen::default(), BATCH), Some(ByteSize::mib(208)));
        let chosen = Chosen { block_cache: Some(ByteSize::mib(1024)), ..Chosen::default() };
        let memory = least(&chosen, BATCH).unwrap();
        assert!(Parts::of(memory, &chosen, BATCH).with_other(memory) <= memory);
        let endless = Chosen { block_cache: Some(ByteSize(u64::MAX)), ..Chosen::default() };
        assert_eq!(least(&endless, BATCH), None);
    }

    #[test]
    fn without_a_memory_the_sizes_are_fixed() {
        assert_eq!(in_mib(Parts::fixed(&Chosen::default())), [256, 512, 256, 256, 64, 512]);
        let chosen = Chosen { log_buffer: Some(ByteSize::mib(8)), ..Chosen::default() };
        assert_eq!(in_mib(Parts::fixed(&chosen)), [256, 512, 32, 256, 64, 512]);
    }
}
