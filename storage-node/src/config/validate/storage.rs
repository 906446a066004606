//! How memory and disk are used.

use super::super::memory::{self, Chosen, LEAST_BUFFER, Parts};
use super::super::{ByteSize, ConfigError, OrOff, Settings, Storage};
use super::{Machine, at_least, invalid, required};

/// A filter of so many bits for each key is wrong once in about a hundred thousand questions; more
/// of them only take memory.
const MOST_BLOOM_BITS: u8 = 24;
/// Slower than this, files are merged slower than almost any use of a node makes them.
const LEAST_BACKGROUND: ByteSize = ByteSize::mib(1);

/// Fills in the sizes that follow from the memory, and says which memory they are parts of.
///
/// A memory that was given must hold them all. A limit that was found is another thing: a node that
/// ran yesterday with sizes of its own runs today as well, with the least of what was left open.
pub fn divided(given: Settings, machine: &dyn Machine) -> Result<(Settings, Option<ByteSize>), ConfigError> {
    let chosen = Chosen {
        block_cache: given.block_cache_bytes,
        write_buffer: given.write_buffer_bytes,
        log_buffer: given.log_buffer_bytes,
        recent_entries: given.recent_entries_bytes,
        waiting_writes: given.max_waiting_write_bytes,
        connections: given.max_connection_bytes,
    };
    let batch = required("max_batch_bytes", given.max_batch_bytes)?;
    let memory = match given.memory {
        Some(OrOff::Off) => None,
        Some(OrOff::On(memory)) => Some(memory),
        None => machine.memory_limit().map(ByteSize),
    };
    let parts = memory.map_or_else(|| Parts::fixed(&chosen), |memory| Parts::of(memory, &chosen, batch));
    let whole = memory.filter(|memory| parts.with_other(*memory) <= *memory);
    if let (Some(OrOff::On(memory)), None) = (given.memory, whole) {
        return Err(invalid("memory", too_little(memory, &chosen, batch)));
    }
    let settings = Settings {
        block_cache_bytes: Some(parts.block_cache),
        write_buffer_bytes: Some(parts.write_buffer),
        log_buffer_bytes: Some(parts.log_buffer),
        recent_entries_bytes: Some(parts.recent_entries),
        max_waiting_write_bytes: Some(parts.waiting_writes),
        max_connection_bytes: Some(parts.connections),
        ..given
    };
    Ok((settings, whole))
}

fn too_little(memory: ByteSize, chosen: &Chosen, batch: ByteSize) -> String {
    let least = match memory::least(chosen, batch) {
        Some(least) => format!("{memory} is less than {least}, the least that holds every part"),
        None => format!("{memory} is less than the sizes that were set by themselves"),
    };
    format!(
        "{least}: give more, lower sizes that were set by themselves, or write off to have no size follow \
         from it"
    )
}

/// How memory and disk are used, from settings whose sizes are filled in.
pub fn storage(given: &Settings, memory: Option<ByteSize>) -> Result<Storage, ConfigError> {
    let buffer = |name, size| at_least(name, size, LEAST_BUFFER, "every write passes through it");
    Ok(Storage {
        memory: memory.map(ByteSize::as_usize),
        disk_nearly_full_percent: disk_nearly_full(given.disk_nearly_full_percent)?,
        block_cache_bytes: required("block_cache_bytes", given.block_cache_bytes)?.as_usize(),
        write_buffer_bytes: buffer("write_buffer_bytes", given.write_buffer_bytes)?.as_usize(),
        log_buffer_bytes: buffer("log_buffer_bytes", given.log_buffer_bytes)?.as_usize(),
        recent_entries_bytes: required("recent_entries_bytes", given.recent_entries_bytes)?.as_usize(),
        compression: required("compression", given.compression)?,
        bloom_bits: bloom_bits(given.bloom_bits)?,
        memory_mapped_reads: required("memory_mapped_reads", given.memory_mapped_reads)?.is_on(),
        background_bytes_per_second: background(given.background_bytes_per_second)?,
        snapshot_bytes_per_second: required("snapshot_bytes_per_second", given.snapshot_bytes_per_second)?.0,
    })
}

fn disk_nearly_full(given: Option<u8>) -> Result<u8, ConfigError> {
    let percent = required("disk_nearly_full_percent", given)?;
    if percent > 50 {
        return Err(invalid("disk_nearly_full_percent", format!("{percent} is more than 50")));
    }
    Ok(percent)
}

fn bloom_bits(given: Option<u8>) -> Result<u8, ConfigError> {
    let bits = required("bloom_bits", given)?;
    if bits > MOST_BLOOM_BITS {
        let reason = format!(
            "{bits} is more than {MOST_BLOOM_BITS}, with which a filter is hardly ever wrong; 10 is usual"
        );
        return Err(invalid("bloom_bits", reason));
    }
    Ok(bits)
}

fn background(given: Option<ByteSize>) -> Result<u64, ConfigError> {
    let rate = required("background_bytes_per_second", given)?;
    if rate.0 != 0 && rate < LEAST_BACKGROUND {
        let reason = format!(
            "{rate} a second is less than {LEAST_BACKGROUND}: writes would wait for files to be merged; 0 is as \
             fast as it can"
        );
        return Err(invalid("background_bytes_per_second", reason));
    }
    Ok(rate.0)
}
