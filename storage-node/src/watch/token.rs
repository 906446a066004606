//! Where a watch stands: a revision for each run of buckets, and nothing of partitions, nodes or
//! epochs, so that it survives leader changes, moves, splits and merges.
//!
//! ```text
//! checksum u32 (CRC32C of what follows) │ format u8 (1) │ cluster 16 │ table u32
//!     │ first bucket u16 │ last bucket u16 │ revision u64 │ …
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use placement::{Bucket, BucketCount, BucketRange, ClusterId, TableId};
use proto::v1::Failure;

use crate::router::failure;

const FORMAT: u8 = 1;
const RUN: usize = 2 + 2 + 8;

/// How far a watch is with some buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The buckets.
    pub buckets: BucketRange,
    /// It has everything up to this revision.
    pub after: u64,
}

/// The token of a watch that stands there.
pub fn encode(cluster: ClusterId, table: TableId, runs: impl Iterator<Item = Run>) -> Bytes {
    let mut body = BytesMut::new();
    body.put_u32(0);
    body.put_u8(FORMAT);
    body.put_slice(&cluster.to_bytes());
    body.put_u32(table.0);
    for run in runs {
        body.put_u16(run.buckets.first.0);
        body.put_u16(run.buckets.last.0);
        body.put_u64(run.after);
    }
    let checksum = crc32c::crc32c(body.get(4..).unwrap_or_default());
    if let Some(place) = body.get_mut(..4) {
        place.copy_from_slice(&checksum.to_be_bytes());
    }
    body.freeze()
}

/// Where a watch of that table goes on: a revision for each of its buckets.
pub fn decode(
    token: &[u8],
    cluster: ClusterId,
    table: TableId,
    buckets: BucketCount,
) -> Result<Vec<u64>, Failure> {
    let bad = |why: &str| failure::bad_token(why);
    let mut bytes = token;
    let checksum = bytes.try_get_u32().map_err(|_| bad("it is cut short"))?;
    if crc32c::crc32c(bytes) != checksum {
        return Err(bad("it is damaged, or no token"));
    }
    match bytes.try_get_u8() {
        Ok(FORMAT) => {}
        Ok(other) => return Err(bad(&format!("its format is {other}; this node knows {FORMAT}"))),
        Err(_) => return Err(bad("it is cut short")),
    }
    let Some((of, rest)) = bytes.split_first_chunk::<16>() else { return Err(bad("it is cut short")) };
    bytes = rest;
    if *of != cluster.to_bytes() {
        return Err(bad("it is of another cluster"));
    }
    if bytes.try_get_u32().map_err(|_| bad("it is cut short"))? != table.0 {
        return Err(bad("it is of another table, or of one that was dropped"));
    }
    let mut after = vec![None; usize::from(buckets.get())];
    while bytes.len() >= RUN {
        let run = BucketRange { first: Bucket(bytes.get_u16()), last: Bucket(bytes.get_u16()) };
        let revision = bytes.get_u64();
        let places = after.get_mut(usize::from(run.first.0)..=usize::from(run.last.0));
        places.ok_or_else(|| bad("it names buckets that the table does not have"))?.fill(Some(revision));
    }
    let all: Option<Vec<u64>> = after.into_iter().collect();
    all.filter(|_| bytes.is_empty()).ok_or_else(|| bad("it does not say where each part of the table stands"))
}

/// The parts of a run of buckets that stand at the same revision.
pub fn runs_of(buckets: BucketRange, after: &[u64]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for bucket in buckets.iter() {
        let revision = after.get(usize::from(bucket.0)).copied().unwrap_or(0);
        match runs.last_mut() {
            Some(run) if run.after == revision => run.buckets.last = bucket,
            _ => runs.push(Run { buckets: BucketRange { first: bucket, last: bucket }, after: revision }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: TableId = TableId(3);

    fn cluster() -> ClusterId {
        ClusterId(uuid::Uuid::from_u128(7))
    }

    fn range(first: u16, last: u16) -> BucketRange {
        BucketRange { first: Bucket(first), last: Bucket(last) }
    }

    fn token() -> Bytes {
        let runs = [Run { buckets: range(0, 1), after: 9 }, Run { buckets: range(2, 3), after: 4 }];
        encode(cluster(), TABLE, runs.into_iter())
    }

    fn four() -> BucketCount {
        BucketCount::new(4).unwrap()
    }

    #[test]
    fn a_token_says_where_each_bucket_stands_however_the_table_is_split() {
        let after = decode(&token(), cluster(), TABLE, four()).unwrap();
        assert_eq!(after, [9, 9, 4, 4]);
        let runs = runs_of(range(1, 3), &after);
        assert_eq!(runs, [Run { buckets: range(1, 1), after: 9 }, Run { buckets: range(2, 3), after: 4 }]);
    }

    #[test]
    fn only_a_token_of_this_table_is_taken() {
        let why = |refused: Result<Vec<u64>, Failure>| refused.unwrap_err().message;
        assert!(why(decode(&token(), ClusterId::default(), TABLE, four())).contains("another cluster"));
        assert!(why(decode(&token(), cluster(), TableId(4), four())).contains("another table"));
        assert!(
            why(decode(&token(), cluster(), TABLE, BucketCount::new(2).unwrap())).contains("does not have")
        );
        assert!(why(decode(&token(), cluster(), TABLE, BucketCount::new(8).unwrap())).contains("each part"));
        assert!(why(decode(b"x", cluster(), TABLE, four())).contains("cut short"));
        for at in 0..token().len() {
            let mut damaged = token().to_vec();
            damaged[at] ^= 1;
            assert!(why(decode(&damaged, cluster(), TABLE, four())).contains("damaged"));
        }
        for length in 0..token().len() {
            decode(&token()[..length], cluster(), TABLE, four()).unwrap_err();
        }
    }
}
