//! What a leader does for its group beside what it is asked: removing what has ended, telling it what its
//! table is like, building indexes, forgetting old history.

use std::sync::atomic::Ordering;

use proto::v1::{BuildIndex, Configure, Expire, ExpireExtent, TableSettings, TrimHistory, command};

use super::{Group, GroupError};
use crate::partition::Answer;
use crate::partition::expiry::{count_due, due_extent, earliest_deadline};
use crate::partition::history::{retention_of, surplus};
use crate::storage::state::StateResult;

/// At most so many items are removed by one entry.
const EXPIRE_AT_ONCE: u32 = 1000;
/// At most so many items, and about so many bytes of them, are indexed by one entry.
const BUILD_ITEMS: u32 = 1000;
const BUILD_BYTES: u32 = 1 << 20;

impl Group {
    /// Whether this replica leads and something is due.
    pub fn has_due(&self) -> bool {
        let next = self.applied.next_due_ms();
        next != u64::MAX && next <= self.leader_clock_ms() && self.leads()
    }

    /// Removes what is due, if this replica leads and something is. Returns whether more is.
    pub async fn expire(&self) -> Result<bool, GroupError> {
        if !self.has_due() {
            return Ok(false);
        }
        // What is due by then is gone once the entry is applied, unless it says that more is left.
        let before_ms = self.applied.progress().clock_ms;
        let due = (self.applied.next_due_ms(), self.leader_clock_ms());
        self.expiring_from_ms.store(due.0, Ordering::Release);
        self.applied.forget_next_due();
        let expire = Expire { limit: EXPIRE_AT_ONCE, extent: self.due_extent(due)? };
        let expired = self.propose(command::Command::Expire(expire), None).await;
        if let Some(descriptor) = self.applied.descriptor() {
            let gone = matches!(&expired, Ok(Answer::Expired(answer)) if !answer.more);
            let from_ms = if gone { before_ms } else { 0 };
            let earliest = earliest_deadline(&*self.engine, &descriptor, from_ms)?;
            self.applied.note_due(earliest);
        }
        self.expiring_from_ms.store(u64::MAX, Ordering::Release);
        match expired? {
            Answer::Expired(answer) => Ok(answer.more),
            _ => Ok(false),
        }
    }

    /// What is due; none: there may be replicas that do not know of extents, which is so until the group
    /// was told what its table is like.
    fn due_extent(&self, due: (u64, u64)) -> Result<Option<ExpireExtent>, GroupError> {
        let Some(descriptor) = self.applied.descriptor().filter(|_| self.applied.settings().is_some()) else {
            return Ok(None);
        };
        let most = EXPIRE_AT_ONCE as usize;
        Ok(Some(due_extent(&*self.engine, &descriptor, due, most)?))
    }

    /// How many items have ended and are not removed yet, if this replica leads. Those that were
    /// given another end meanwhile are counted until their old one is removed.
    pub fn expired_keys(&self) -> StateResult<u64> {
        let expiring_ms = self.expiring_from_ms.load(Ordering::Acquire);
        let (from_ms, now_ms) = (self.applied.next_due_ms().min(expiring_ms), self.leader_clock_ms());
        match self.applied.descriptor().filter(|_| from_ms <= now_ms && self.leads()) {
            Some(descriptor) => count_due(&*self.engine, &descriptor, from_ms, now_ms),
            None => Ok(0),
        }
    }

    /// Tells the group what its table is like, where it goes by older settings or none.
    pub async fn configure(&self, settings: TableSettings) -> Result<(), GroupError> {
        let known = self.applied.settings();
        if known.is_some_and(|known| known.version >= settings.version) {
            return Ok(());
        }
        let configure = Configure { settings: Some(settings) };
        self.propose(command::Command::Configure(configure), None).await.map(|_| ())
    }

    /// Tells the group what its table is like before the next command, where it goes by older
    /// settings or none: what is proposed from here on is judged by them. Once for each version; what
    /// comes to nothing is done again by [`Group::settle`].
    pub fn configure_first(&self, version: u64, settings: impl FnOnce() -> TableSettings) {
        if self.told_version.fetch_max(version, Ordering::AcqRel) >= version {
            return;
        }
        if self.applied.settings().is_none_or(|known| known.version < version) {
            let configure = Configure { settings: Some(settings()) };
            // It is in the queue now; nobody waits for its answer.
            drop(self.propose(command::Command::Configure(configure), None));
        }
    }

    /// Goes a step further with an index that is being built.
    pub async fn build_index(&self) -> Result<(), GroupError> {
        let Some(index) = self.applied.building() else { return Ok(()) };
        let build = BuildIndex { index, items: BUILD_ITEMS, bytes: BUILD_BYTES };
        self.propose(command::Command::BuildIndex(build), None).await.map(|_| ())
    }

    /// Does what a table's settings want of a group that this replica leads: it is told of those
    /// that it does not know, and forgets history that is too old. While it sleeps nothing is new.
    pub async fn settle(&self, settings: TableSettings) -> Result<(), GroupError> {
        self.configure(settings).await?;
        if self.has_learners() {
            self.forget_log_before_split().await?;
        }
        if self.sleep.is_asleep() { Ok(()) } else { self.trim_history().await }
    }

    async fn trim_history(&self) -> Result<(), GroupError> {
        let Some(settings) = self.applied.settings() else { return Ok(()) };
        let retention = retention_of(settings.history.as_ref());
        let (progress, now_ms) = (self.applied.progress(), self.leader_clock_ms());
        let surplus = surplus(self.group, retention, &progress, now_ms, &*self.engine)?;
        let Some(up_to) = surplus.filter(|up_to| *up_to > progress.history_from) else { return Ok(()) };
        let trim = command::Command::TrimHistory(TrimHistory { up_to });
        self.propose(trim, None).await.map(|_| ())
    }
}
