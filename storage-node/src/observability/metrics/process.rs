//! What the operating system knows of this process.

use crate::seams::clock;

use super::Registry;

/// Adds memory and age of the process. Both are looked up when somebody reads.
pub(super) fn register(registry: &Registry) {
    registry.gauge_fn(
        "kvstore_memory_usage_bytes",
        "Memory of this process that is in use (resident).",
        &[],
        || resident_bytes().unwrap_or(0) as f64,
    );
    let started = clock::now();
    registry.gauge_fn("kvstore_uptime_seconds", "How long this process has been running.", &[], move || {
        started.elapsed().as_secs_f64()
    });
}

/// Memory of this process that is in use, where the system tells (Linux).
pub fn resident_bytes() -> Option<u64> {
    // The line reads `VmRSS:     12345 kB`, where kB means 1024 bytes.
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = resident.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}
