//! What a partition owns, as its own group knows it.

use bytes::Bytes;
use placement::{Bucket, BucketCount, BucketRange, Epoch, TableId};
use prost::Message;
use proto::v1;

/// The table, the buckets and the epoch of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// The table that it is part of.
    pub table: TableId,
    /// How many buckets the table has.
    pub bucket_count: BucketCount,
    /// Those that are the partition's.
    pub buckets: BucketRange,
    /// Grows when they change.
    pub epoch: Epoch,
    /// The entry that last made it smaller; 0: none did. The log before it is of a larger partition.
    pub since: u64,
}

impl Descriptor {
    /// As bytes, for the state and for a replica's birth record.
    pub fn encode(&self) -> Bytes {
        self.to_message().encode_to_vec().into()
    }

    /// As it travels.
    pub fn to_message(&self) -> v1::Descriptor {
        v1::Descriptor {
            table: self.table.0,
            bucket_count: self.bucket_count.get().into(),
            first_bucket: self.buckets.first.0.into(),
            last_bucket: self.buckets.last.0.into(),
            epoch: self.epoch.0,
            since: self.since,
        }
    }

    /// What [`Descriptor::encode`] gave.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let wire = v1::Descriptor::decode(bytes).map_err(|error| error.to_string())?;
        let bucket_count = BucketCount::new(wire.bucket_count).map_err(|error| error.to_string())?;
        let bucket = |number: u32| match u16::try_from(number) {
            Ok(number) if number < bucket_count.get() => Ok(Bucket(number)),
            _ => Err(format!("bucket {number} of {}", bucket_count.get())),
        };
        let buckets = BucketRange { first: bucket(wire.first_bucket)?, last: bucket(wire.last_bucket)? };
        Ok(Self {
            table: TableId(wire.table),
            bucket_count,
            buckets,
            epoch: Epoch(wire.epoch),
            since: wire.since,
        })
    }

    /// Whether the partition owns all of a run.
    pub fn covers(&self, run: BucketRange) -> bool {
        self.buckets.contains(run.first) && self.buckets.contains(run.last)
    }

    /// Whether two partitions of a table would own a bucket both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.table == other.table
            && self.buckets.first <= other.buckets.last
            && other.buckets.first <= self.buckets.last
    }

    /// The bucket of a key, where the partition owns it.
    pub fn bucket_of(&self, key: &[u8]) -> Option<Bucket> {
        let bucket = self.bucket_count.bucket_of_key(key);
        self.buckets.contains(bucket).then_some(bucket)
    }
}
