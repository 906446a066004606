//! How nodes use memory and disk, as settings of the nodes.
//!
//! Only what is declared otherwise than the schema's default becomes one: the defaults are the node's own, and a field that
//! nobody uses changes no pod.

use std::collections::BTreeMap;

use crds::ByteQuantity;
use crds::cluster::{Compression, Engine, Pool};

use super::{Problems, Setting};

/// Less holds no node of the usual limits.
const LEAST_MEMORY: u64 = 256 << 20;
/// With less, writes would wait for the background.
const LEAST_BACKGROUND: u64 = 1 << 20;
/// More bits only take memory; a node refuses them.
const MOST_BLOOM_BITS: i32 = 24;

impl Problems {
    /// Adds the settings that the engine stands for to those that were given by name.
    pub(super) fn engine(
        &mut self,
        given: &Engine,
        pools: &[Pool],
        mut settings: BTreeMap<String, Setting>,
    ) -> BTreeMap<String, Setting> {
        for (field, name, value) in self.declared(given, pools) {
            if settings.insert(name.to_owned(), value).is_some() {
                self.add(format!("spec.config[{name}]"), format!("is in spec.engine.{field} as well"));
            }
        }
        settings
    }

    fn declared(&mut self, given: &Engine, pools: &[Pool]) -> Vec<(&'static str, &'static str, Setting)> {
        let usual = Engine::default();
        let mut declared = Vec::new();
        if let Some(memory) = &given.memory
            && let Some(bytes) = self.memory(memory, pools)
        {
            declared.push(("memory", "memory", number(bytes)));
        }
        if let Some(cache) = &given.block_cache
            && let Some(bytes) = self.bytes("spec.engine.blockCache".to_owned(), cache)
        {
            declared.push(("blockCache", "block_cache_bytes", number(bytes)));
        }
        if given.compression != usual.compression {
            let how = match given.compression {
                Compression::None => "none",
                Compression::Lz4 => "lz4",
                Compression::Zstd => "zstd",
            };
            declared.push(("compression", "compression", Setting::Text(how.to_owned())));
        }
        if !(0..=MOST_BLOOM_BITS).contains(&given.bloom_bits) {
            self.add(
                "spec.engine.bloomBits",
                format!("{} is not from 0 to {MOST_BLOOM_BITS}", given.bloom_bits),
            );
        } else if given.bloom_bits != usual.bloom_bits {
            declared.push(("bloomBits", "bloom_bits", Setting::Number(given.bloom_bits.into())));
        }
        if given.memory_mapped_reads.is_on() {
            let on = Setting::Text("on".to_owned());
            declared.push(("memoryMappedReads", "memory_mapped_reads", on));
        }
        if let Some(bytes) = self.background(&given.background_bytes_per_second) {
            declared.push(("backgroundBytesPerSecond", "background_bytes_per_second", number(bytes)));
        }
        declared
    }

    fn memory(&mut self, given: &ByteQuantity, pools: &[Pool]) -> Option<u64> {
        let field = "spec.engine.memory";
        let bytes = self.bytes(field.to_owned(), given)?;
        if bytes < LEAST_MEMORY {
            self.add(field, format!("{} is less than 256Mi, the least that a node needs", given.0));
        }
        for pool in pools {
            let limit = pool.resources.limits.as_ref().and_then(|limits| limits.get("memory"));
            // A limit in other units, such as 1.5Gi or 1e9, is left to the node, which warns.
            let limit = limit.map(|limit| ByteQuantity::new(&limit.0));
            if let Some(limit) = limit
                && limit.bytes().is_ok_and(|limit| limit < bytes)
            {
                let message = format!(
                    "{} is more than the memory limit of pool {:?}, {}: its nodes would be ended once they take it",
                    given.0, pool.name, limit.0
                );
                self.add(field, message);
            }
        }
        Some(bytes)
    }

    /// The rate, unless there is none.
    fn background(&mut self, given: &ByteQuantity) -> Option<u64> {
        let field = "spec.engine.backgroundBytesPerSecond";
        let bytes = self.bytes(field.to_owned(), given).filter(|bytes| *bytes > 0)?;
        if bytes < LEAST_BACKGROUND {
            self.add(
                field,
                format!("{} is less than 1Mi: writes would wait; 0 is as fast as a node can", given.0),
            );
        }
        Some(bytes)
    }
}

fn number(bytes: u64) -> Setting {
    Setting::Number(i64::try_from(bytes).unwrap_or(i64::MAX))
}
