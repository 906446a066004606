//! Reading what was changed from disk: for those who begin earlier, and those who fell behind.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use bytes::Bytes;
use placement::{Bucket, PartitionId, TableId};

use super::feed::Seen;
use super::interest::Interest;
use super::token::Run;
use crate::partition::Progress;
use crate::storage::change::ChangeSet;
use crate::storage::keys;
use crate::storage::state::{StateError, StateIterator, StateResult, StateView};

/// So much is looked at for one page, however little of it is wanted.
const LOOKED_AT: usize = 4 << 20;

/// Changes of a partition, in the order of their revisions.
#[derive(Debug)]
pub struct Page {
    /// Those that were wanted.
    pub seen: Vec<Seen>,
    /// There are no others up to this revision.
    pub up_to: u64,
}

/// Why there is no page.
#[derive(Debug)]
pub enum Missing {
    /// What was asked for is no longer kept: only changes after this revision are.
    Compacted {
        /// What was asked for.
        wanted: u64,
        /// What is kept.
        oldest: u64,
    },
    /// The state could not be read.
    State(StateError),
}

impl From<StateError> for Missing {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

/// Reads the changes after each run's revision, about as many bytes as asked for.
pub fn read(
    view: &dyn StateView,
    group: PartitionId,
    table: TableId,
    runs: &[Run],
    interests: &[&Interest],
    most_bytes: usize,
) -> Result<Page, Missing> {
    let progress = Progress::read(view, group)?;
    let wanted = runs.iter().map(|run| run.after).min().unwrap_or(0);
    if wanted < progress.history_from {
        return Err(Missing::Compacted { wanted, oldest: progress.history_from });
    }
    let mut buckets = Vec::new();
    let mut next = BinaryHeap::new();
    for run in runs {
        for bucket in run.buckets.iter() {
            let mut walk = Walk::begin(view, table, bucket, run.after)?;
            if let Some(seen) = walk.take(group)? {
                next.push(Reverse((seen.revision(), buckets.len())));
                buckets.push((walk, seen));
            }
        }
    }
    let mut page = Page { seen: Vec::new(), up_to: progress.counter };
    let (mut bytes, mut looked_at) = (0, 0);
    let mut last = wanted;
    while let Some(Reverse((revision, at))) = next.pop() {
        // A page never ends within a revision: the clearing of several buckets is one.
        if revision > last && (bytes >= most_bytes || looked_at >= LOOKED_AT) {
            page.up_to = last;
            return Ok(page);
        }
        last = revision;
        let Some((walk, current)) = buckets.get_mut(at) else { continue };
        let size = current.change().map_or(0, crate::storage::change::StoredChange::size);
        let key = current.change().and_then(|change| change.key());
        looked_at += size;
        if key.is_none_or(|key| interests.iter().any(|interest| interest.has(key))) {
            bytes += size;
            page.seen.push(current.clone());
        }
        if let Some(seen) = walk.take(group)? {
            next.push(Reverse((seen.revision(), at)));
            *current = seen;
        }
    }
    Ok(page)
}

/// A walk through the changes of one bucket.
struct Walk<'a> {
    bucket: Bucket,
    after: u64,
    records: Box<dyn StateIterator + 'a>,
    set: Option<Arc<ChangeSet>>,
    at: usize,
}

impl<'a> Walk<'a> {
    fn begin(view: &'a dyn StateView, table: TableId, bucket: Bucket, after: u64) -> StateResult<Self> {
        let records = view.iterate(&keys::changes_after(table, bucket, after), false)?;
        Ok(Self { bucket, after, records, set: None, at: 0 })
    }

    fn take(&mut self, group: PartitionId) -> StateResult<Option<Seen>> {
        loop {
            if let Some(set) = &self.set {
                while let Some(seen) = Seen::new(self.bucket, Arc::clone(set), self.at) {
                    self.at += 1;
                    if seen.revision() > self.after {
                        return Ok(Some(seen));
                    }
                }
                self.set = None;
            }
            let Some((_, value)) = self.records.current() else { return Ok(None) };
            let set =
                ChangeSet::decode(Bytes::copy_from_slice(value)).map_err(|why| StateError::Damaged {
                    what: format!("the history of partition {group}"),
                    why: why.to_string(),
                })?;
            self.set = Some(Arc::new(set));
            self.at = 0;
            self.records.advance()?;
        }
    }
}
