//! Which operations a client asks for.

use std::sync::Arc;

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::keys::Keys;

/// Random bytes that values are cut from.
const VALUE_POOL: usize = 1 << 20;

/// One operation on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Writes a value.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// Reads a key, linearizably.
    Get {
        /// The key.
        key: Bytes,
    },
}

impl Operation {
    /// The key that it is about.
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { key, .. } | Self::Get { key } => key,
        }
    }
}

/// A description of operations; every client derives its own from it and its number.
#[derive(Debug, Clone)]
pub struct Workload {
    /// The keys and how requests spread over them.
    pub keys: Keys,
    /// The smallest and the largest value, both included.
    pub value_size: (usize, usize),
    /// The share of reads, from 0 to 1.
    pub read_share: f64,
    /// Decides everything that is random.
    pub seed: u64,
    pool: Arc<Bytes>,
}

impl Workload {
    /// Operations on `keys`. Values are random bytes, so that no server gains by compressing
    /// what real data would not let it compress.
    pub fn new(keys: Keys, value_size: (usize, usize), read_share: f64, seed: u64) -> Self {
        let (smallest, largest) = value_size;
        let largest = largest.max(smallest);
        let mut pool = vec![0; VALUE_POOL.max(largest * 2)];
        SmallRng::seed_from_u64(seed).fill(pool.as_mut_slice());
        Self {
            keys,
            value_size: (smallest, largest),
            read_share: read_share.clamp(0.0, 1.0),
            seed,
            pool: Arc::new(pool.into()),
        }
    }

    /// The same operations with another share of reads.
    #[must_use]
    pub fn with_read_share(&self, read_share: f64) -> Self {
        Self { read_share: read_share.clamp(0.0, 1.0), ..self.clone() }
    }

    /// The operations of one client.
    pub fn of_client(&self, client: usize) -> Operations {
        let seed = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(client as u64);
        Operations { workload: self.clone(), random: SmallRng::seed_from_u64(seed) }
    }
}

/// One client's operations, one after the other.
#[derive(Debug)]
pub struct Operations {
    workload: Workload,
    random: SmallRng,
}

impl Operations {
    /// The operation for the `turn`th turn of the whole load.
    pub fn next(&mut self, turn: u64) -> Operation {
        let Workload { keys, value_size: (smallest, largest), read_share, pool, .. } = &self.workload;
        let number = keys.pick(turn, &mut self.random);
        let key = keys.bytes(number);
        if *read_share > 0.0 && self.random.random_bool(*read_share) {
            return Operation::Get { key };
        }
        let size = self.random.random_range(*smallest..=*largest);
        // A slice of the pool shares its memory, so a value costs no copy until it is encoded.
        let start = self.random.random_range(0..=pool.len() - size);
        Operation::Put { key, value: pool.slice(start..start + size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Distribution;

    fn workload(read_share: f64) -> Workload {
        Workload::new(Keys::new(1_000, 16, Distribution::Uniform), (10, 20), read_share, 1)
    }

    fn first(workload: &Workload, client: usize, count: u64) -> Vec<Operation> {
        let mut operations = workload.of_client(client);
        (0..count).map(|turn| operations.next(turn)).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_operations() {
        assert_eq!(first(&workload(0.5), 3, 100), first(&workload(0.5), 3, 100));
        assert_ne!(first(&workload(0.5), 3, 100), first(&workload(0.5), 4, 100));
    }

    #[test]
    fn the_share_of_reads_is_kept() {
        let reads = first(&workload(0.9), 0, 10_000)
            .iter()
            .filter(|operation| matches!(operation, Operation::Get { .. }))
            .count();
        assert!((8_800..9_200).contains(&reads), "{reads}");
    }

    #[test]
    fn values_stay_within_their_sizes_and_reach_both_ends() {
        let sizes: Vec<usize> = first(&workload(0.0), 0, 10_000)
            .iter()
            .map(|operation| match operation {
                Operation::Put { value, .. } => value.len(),
                Operation::Get { .. } => panic!("no reads were asked for"),
            })
            .collect();
        assert_eq!(sizes.iter().min(), Some(&10));
        assert_eq!(sizes.iter().max(), Some(&20));
    }
}
