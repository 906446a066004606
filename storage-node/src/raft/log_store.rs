//! The log of one replica, as openraft wants it.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use futures::{Stream, TryStreamExt, stream};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use placement::{PartitionId, ReplicaId};
use tokio::sync::oneshot;

use super::type_config::{Entry, LogId, TypeConfig, Vote};
use crate::storage::log::Log;
use crate::storage::log::error::LogError;
use crate::storage::log::replica::ReplicaLog;

/// What one read for replication, or one step of applying, holds beyond its first entry. An
/// entry may be as large as the largest batch of a client, 16 MiB; with this the message
/// stays below the 20 MiB that peers accept.
const READ_BYTES: usize = 1 << 20;

/// The log of one replica. Clones share it.
#[derive(Clone)]
pub struct LogStore {
    log: Arc<ReplicaLog>,
}

impl Log {
    /// The log of a living replica for openraft.
    pub fn store(&self, group: PartitionId, replica: ReplicaId) -> Result<LogStore, LogError> {
        Ok(LogStore { log: self.replica(group, replica)? })
    }
}

impl LogStore {
    /// The last vote, without waiting for anything.
    pub fn vote(&self) -> Option<Vote> {
        self.log.positions().vote
    }

    /// Removes entries that were overruled by what is applied: an entry may be applied before
    /// the log has synced it, and a snapshot is on disk before the log has been cut for it, so
    /// a crash can leave the older entries that they replaced. Raft does not start from such a
    /// log. Nothing is lost: what is applied holds all up to there, and what an overruled leader
    /// had added after it was never committed.
    pub fn drop_overruled(&self, applied: Option<LogId>) -> Result<(), LogError> {
        let positions = self.log.positions();
        let reaches = |last: LogId| applied.is_some_and(|applied| last.index() >= applied.index());
        if positions.last < applied && positions.last.is_some_and(reaches) {
            self.log.truncate_after(positions.purged)?;
        }
        Ok(())
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    /// Reads in steps, so that a long log is not in memory all at once.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let rest = (self.log.clone(), indexes(&range));
        let steps = stream::try_unfold(rest, |(log, rest)| async move {
            let entries = log.read(rest.clone(), READ_BYTES).await?;
            let next = entries.last().map(|entry| entry.log_id.index() + 1..rest.end);
            let entries = stream::iter(entries.into_iter().map(Ok));
            Ok::<_, io::Error>(next.map(|next| (entries, (log, next))))
        });
        Box::pin(steps.try_flatten())
    }

    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.log.read(indexes(&range), usize::MAX).await?)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.vote())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        Ok(self.log.read(start..end, READ_BYTES).await?)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let positions = self.log.positions();
        Ok(LogState { last_purged_log_id: positions.purged, last_log_id: positions.last })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (tell, told) = oneshot::channel();
        let done = move || {
            // Raft may have been shut down meanwhile.
            let _ = tell.send(());
        };
        self.log.save_vote(*vote, Box::new(done))?;
        told.await.map_err(|_| LogError::Closed.into())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        Ok(self.log.save_committed(committed)?)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.log.positions().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().collect();
        Ok(self.log.append(entries, Box::new(move || callback.io_completed(Ok(()))))?)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        Ok(self.log.truncate_after(last_log_id)?)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        Ok(self.log.purge(log_id)?)
    }
}

fn indexes(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}
