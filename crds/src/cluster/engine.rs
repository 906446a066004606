//! How nodes use memory and disk.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::byte_quantity::ByteQuantity;
use crate::switch::Switch;

/// How nodes use memory and disk. A change restarts the nodes one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.memory) || !has(self.blockCache) || quantity(self.blockCache).isLessThan(quantity(self.memory))",
    "message": "blockCache is a part of memory, and other parts need some of it too: leave blockCache out, or give more memory",
}]))]
pub struct Engine {
    /// What a node may take of its machine's memory; its caches, buffers and queues are parts of it. At least 256Mi.
    /// Left out: the memory limit of the pod, or where it has none, sizes of 1.8Gi together at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "quantity(self).compareTo(quantity('256Mi')) >= 0",
        "message": "a node needs at least 256Mi",
    }]))]
    pub memory: Option<ByteQuantity>,
    /// Memory for blocks that were read from disk. Left out: what the other parts leave of the memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_cache: Option<ByteQuantity>,
    /// How files are compressed: None, Lz4 quickly, or Zstd as small as can be. It counts for files that are written
    /// from then on.
    #[serde(default)]
    pub compression: Compression,
    /// Bits for each key in the filters that tell which files do not hold it; 0: no filters. It counts for files that
    /// are written from then on.
    #[serde(default = "bloom_bits")]
    #[schemars(range(min = 0, max = 24))]
    pub bloom_bits: i32,
    /// Whether files are mapped into memory and read there. Quicker with compression None where the data is larger than
    /// the cache and fits into the machine's memory; a disk that fails then ends the node in place of a read.
    #[serde(default)]
    pub memory_mapped_reads: Switch,
    /// How fast each node writes files in the background, in bytes per second, so that the disk has time for others.
    /// At least 1Mi; 0: as fast as it can.
    #[serde(default = "unlimited")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "quantity(self).compareTo(quantity('0')) == 0 || quantity(self).compareTo(quantity('1Mi')) >= 0",
        "message": "with less than 1Mi a second writes would wait for the background; 0 is as fast as it can",
    }]))]
    pub background_bytes_per_second: ByteQuantity,
}

/// How files are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Compression {
    /// Not at all.
    None,
    /// Quickly, once they are large.
    #[default]
    Lz4,
    /// As small as can be.
    Zstd,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            memory: None,
            block_cache: None,
            compression: Compression::default(),
            bloom_bits: bloom_bits(),
            memory_mapped_reads: Switch::Disabled,
            background_bytes_per_second: unlimited(),
        }
    }
}

fn bloom_bits() -> i32 {
    10
}

fn unlimited() -> ByteQuantity {
    ByteQuantity::new("0")
}
