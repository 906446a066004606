//! How RocksDB keeps the state.

use rocksdb::{
    BlockBasedOptions, BlockBasedTablePinningTier, Cache, DBCompressionType, Options, WriteBufferManager,
};

use crate::config::{BUFFERS, Compression};

/// Rates are kept over so long; shorter would wake writers more often than it is worth.
const RATE_PERIOD_MICROS: i64 = 100_000;
/// One in so many turns goes to merging files although buffers wait to be emptied.
const RATE_FAIRNESS: i32 = 10;

/// What a node may choose. Compression and filters are a file's own: files that were written
/// otherwise are read as they are, and written anew as they are merged.
#[derive(Debug, Clone, Copy)]
pub struct RocksStateOptions {
    /// Cache of blocks that were read.
    pub block_cache_bytes: usize,
    /// One memtable; up to four may wait to be flushed.
    pub write_buffer_bytes: usize,
    /// Whether the cache may use what the memtables do not, and is cut back as they grow.
    pub lends_write_buffers: bool,
    /// What one file of a snapshot holds, or one item.
    pub export_file_bytes: u64,
    /// How files are compressed.
    pub compression: Compression,
    /// Bits of a filter for each key; 0: no filters.
    pub bloom_bits: u8,
    /// Whether files are mapped into memory and read there.
    pub memory_mapped_reads: bool,
    /// How fast files are written by flushes and compactions; 0: as fast as can be.
    pub background_bytes_per_second: u64,
}

impl Default for RocksStateOptions {
    fn default() -> Self {
        Self {
            block_cache_bytes: 256 << 20,
            write_buffer_bytes: 64 << 20,
            lends_write_buffers: false,
            export_file_bytes: 64 << 20,
            compression: Compression::Lz4,
            bloom_bits: 10,
            memory_mapped_reads: false,
            background_bytes_per_second: 0,
        }
    }
}

impl RocksStateOptions {
    /// The same for RocksDB.
    pub(super) fn database(&self) -> Options {
        let memtables = self.write_buffer_bytes.saturating_mul(BUFFERS as usize);
        let mut options = Options::default();
        let cache = if self.lends_write_buffers {
            let cache = Cache::new_lru_cache(self.block_cache_bytes.saturating_add(memtables));
            // It counts the memtables into the cache, and never flushes one before it is full: they
            // cannot be more than their sum.
            let counted =
                WriteBufferManager::new_write_buffer_manager_with_cache(memtables, false, cache.clone());
            options.set_write_buffer_manager(&counted);
            cache
        } else {
            Cache::new_lru_cache(self.block_cache_bytes)
        };
        options.create_if_missing(true);
        options.set_block_based_table_factory(&self.tables(&cache));
        options.set_write_buffer_size(self.write_buffer_bytes);
        options.set_max_write_buffer_number(BUFFERS as i32);
        options.set_level_compaction_dynamic_level_bytes(true);
        self.compress(&mut options);
        options.set_allow_mmap_reads(self.memory_mapped_reads);
        if self.background_bytes_per_second > 0 {
            let rate = i64::try_from(self.background_bytes_per_second).unwrap_or(i64::MAX);
            options.set_ratelimiter(rate, RATE_PERIOD_MICROS, RATE_FAIRNESS);
        }
        options.set_max_background_jobs(2);
        options.set_bytes_per_sync(1 << 20);
        options.set_max_open_files(4096);
        options.set_paranoid_checks(true);
        options.set_keep_log_file_num(4);
        options.set_max_log_file_size(8 << 20);
        options
    }

    fn tables(&self, cache: &Cache) -> BlockBasedOptions {
        let mut tables = BlockBasedOptions::default();
        tables.set_block_cache(cache);
        tables.set_block_size(8 << 10);
        if self.bloom_bits > 0 {
            tables.set_bloom_filter(f64::from(self.bloom_bits), false);
        }
        tables.set_cache_index_and_filter_blocks(true);
        tables.set_cache_index_and_filter_blocks_with_high_priority(true);
        tables.set_pin_l0_filter_and_index_blocks_in_cache(true);
        if self.memory_mapped_reads {
            // What is read where it lies is not put into the cache, so a filter of a whole file would be
            // checked for damage with each read of a key. Held by the open file, it is checked once.
            tables.set_unpartitioned_pinning_tier(BlockBasedTablePinningTier::All);
        }
        tables
    }

    /// The first two levels are rewritten so often that compressing them costs more than it saves.
    /// They are level 0 and the one that it is merged into, which is the last one until that holds
    /// 256 MiB; files of snapshots take what is said of the last.
    fn compress(&self, options: &mut Options) {
        use DBCompressionType::{Lz4, None, Zstd};
        if self.compression == Compression::None {
            options.set_compression_per_level(&[None]);
            return;
        }
        options.set_compression_per_level(&[None, None, Lz4, Lz4, Lz4, Lz4, Zstd]);
        if self.compression == Compression::Zstd {
            // Wherever the last level happens to be, also where it is the only one.
            options.set_bottommost_compression_type(Zstd);
        }
    }
}
