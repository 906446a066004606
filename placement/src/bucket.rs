//! Buckets: the fixed pieces of a table. A partition owns a run of them.

use std::fmt;

use crate::slot::Slot;

/// A bucket of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(pub u16);

/// How many buckets a table has: a power of two from 1 to 1024, fixed for its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketCount(u16);

/// Why a number is not a count of buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a number of buckets: use a power of two from 1 to {max}", max = BucketCount::MAX)]
pub struct BadBucketCount(u32);

impl BucketCount {
    /// The most buckets, and so partitions, that a table may have.
    pub const MAX: u32 = 1024;
    /// Unless the table says otherwise.
    pub const DEFAULT: Self = Self(64);

    /// Parses a count.
    pub fn new(count: u32) -> Result<Self, BadBucketCount> {
        if count.is_power_of_two() && count <= Self::MAX {
            Ok(Self(count as u16))
        } else {
            Err(BadBucketCount(count))
        }
    }

    /// The count as a number.
    pub fn get(self) -> u16 {
        self.0
    }

    /// The bucket that a slot falls into: the slot's top bits.
    pub fn bucket_of(self, slot: Slot) -> Bucket {
        Bucket(slot.number() / (Slot::COUNT / self.0))
    }

    /// The slots that fall into a bucket.
    pub fn slots_of(self, bucket: Bucket) -> std::ops::RangeInclusive<u16> {
        let each = Slot::COUNT / self.0;
        let first = bucket.0 * each;
        first..=first + (each - 1)
    }

    /// The bucket that a key falls into.
    pub fn bucket_of_key(self, key: &[u8]) -> Bucket {
        self.bucket_of(Slot::of_key(key))
    }

    /// Cuts all buckets into that many runs, whose lengths differ by one at most. Fewer
    /// runs come back when there are fewer buckets.
    pub fn split(self, partitions: u16) -> Vec<BucketRange> {
        let runs = u32::from(partitions.clamp(1, self.0));
        let edge = |run: u32| (run * u32::from(self.0) / runs) as u16;
        (0..runs)
            .map(|run| BucketRange { first: Bucket(edge(run)), last: Bucket(edge(run + 1) - 1) })
            .collect()
    }
}

/// A run of buckets, both ends included; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketRange {
    /// The first bucket of the run.
    pub first: Bucket,
    /// The last bucket of the run.
    pub last: Bucket,
}

impl BucketRange {
    /// Whether a bucket is in the run.
    pub fn contains(self, bucket: Bucket) -> bool {
        self.first <= bucket && bucket <= self.last
    }

    /// The buckets of the run, in order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Bucket> {
        (self.first.0..=self.last.0).map(Bucket)
    }
}

impl fmt::Display for BucketRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first.0, self.last.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_covers_every_bucket_once() {
        for (buckets, partitions) in [(64, 8), (64, 3), (1, 1), (1024, 1000), (4, 9)] {
            let count = BucketCount::new(buckets).unwrap();
            let runs = count.split(partitions);
            assert_eq!(runs.len(), usize::from(partitions.min(count.get())));
            let all: Vec<u16> = runs.iter().flat_map(|run| run.iter()).map(|bucket| bucket.0).collect();
            assert_eq!(all, (0..count.get()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_bucket_is_the_top_bits_of_the_slot() {
        let count = BucketCount::DEFAULT;
        assert_eq!(count.bucket_of_key(b"foo"), Bucket(12182 / 256));
        assert_eq!(BucketCount::new(1).unwrap().bucket_of_key(b"foo"), Bucket(0));
        assert!(
            BucketCount::new(48).is_err() && BucketCount::new(2048).is_err() && BucketCount::new(0).is_err()
        );
    }
}
