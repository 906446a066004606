//! How much memory each part of a node may take, how much some of them do, and what else was chosen for
//! its storage.

use std::sync::{Arc, Weak};

use super::Registry;
use crate::config::{ByteSize, NodeConfig, Parts};
use crate::storage::log::Log;
use crate::storage::state::RocksState;

const BUDGET: &str = "kvstore_memory_budget_bytes";
const BUDGET_HELP: &str = "What a part of the node may take of the machine's memory at most.";
const USED: &str = "kvstore_memory_used_bytes";
const USED_HELP: &str = "What a part of the node takes of the machine's memory.";

/// Shows what was chosen. It stays as it is for as long as the node runs.
pub fn show_bounds(registry: &Registry, config: &NodeConfig) {
    let parts = Parts::from(config);
    for (part, bytes) in parts.bounds() {
        registry.gauge(BUDGET, BUDGET_HELP, &[("part", part)]).set(bytes.0);
    }
    let storage = &config.storage;
    if let Some(memory) = storage.memory {
        let other = ByteSize(memory as u64).0.saturating_sub(parts.total().0);
        registry.gauge(BUDGET, BUDGET_HELP, &[("part", "other")]).set(other);
    }
    let labels = [
        ("compression", storage.compression.name()),
        ("bloom_bits", &storage.bloom_bits.to_string()),
        ("memory_mapped_reads", if storage.memory_mapped_reads { "on" } else { "off" }),
        ("background_bytes_per_second", &storage.background_bytes_per_second.to_string()),
    ];
    registry
        .gauge("kvstore_storage_info", "Always 1; the labels say what was chosen for the state.", &labels)
        .set(1);
}

/// Shows what the databases take, until they are closed.
pub fn show_used(registry: &Registry, log: &Arc<Log>, state: &Arc<RocksState>) {
    let of_state = |read: fn(&RocksState) -> u64| {
        let state = Arc::downgrade(state);
        move || state.upgrade().map_or(0.0, |state| read(&state) as f64)
    };
    let log: Weak<Log> = Arc::downgrade(log);
    let used = |part, read: Box<dyn Fn() -> f64 + Send + Sync>| {
        registry.gauge_fn(USED, USED_HELP, &[("part", part)], read);
    };
    used("block_cache", Box::new(of_state(RocksState::block_cache_bytes)));
    used("write_buffers", Box::new(of_state(RocksState::memtable_bytes)));
    used("recent_entries", Box::new(move || log.upgrade().map_or(0.0, |log| log.cache_bytes() as f64)));
    registry.gauge_fn(
        "kvstore_state_file_bytes",
        "What the files of the state take.",
        &[],
        of_state(RocksState::file_bytes),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::state::{Changes, RocksStateOptions, StateEngine};

    #[test]
    fn databases_tell_what_they_take_until_they_are_closed() {
        let registry = Registry::default();
        let folder = tempfile::tempdir().unwrap();
        let log = Log::in_memory().unwrap();
        let state = RocksState::open(folder.path(), RocksStateOptions::default()).unwrap();
        let mut changes = Changes::default();
        changes.put(b"key".as_slice().into(), vec![7; 1 << 20].into());
        state.write(changes).unwrap();
        show_used(&registry, &log, &state);
        let shown = |part: &str| -> u64 {
            let text = registry.text();
            let line = text.lines().find(|line| line.starts_with(part)).unwrap().to_owned();
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        let buffers = "kvstore_memory_used_bytes{part=\"write_buffers\"}";
        assert!(shown(buffers) >= 1 << 20);
        state.flush().unwrap();
        assert!(shown("kvstore_state_file_bytes ") >= 1 << 20);
        drop(state);
        assert_eq!(shown(buffers), 0);
    }
}
