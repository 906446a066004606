//! A partition's replicated state: entries go in, answers and changes come out.

use bytes::Bytes;
use placement::{Bucket, PartitionId};
use prost::Message;
use proto::v1::{
    BatchRequest, BatchResponse, BuildIndex, Command, CommandBatch, Expire, ExpireAnswer, ExpireExtent,
    ExpiryPlace, IndexReport, Lifetime, Result as OperationResult, Retry, TableSettings, command,
    lifetime::Lasts, modify_request::Change, operation::Operation as Kind, result::Result as Outcome,
};

use super::answer::Answer;
use super::demand::Demand;
use super::descriptor::Descriptor;
use super::history::{Fresh, History};
use super::indexes::{Around, Indexes, Replacement};
use super::operations::{self, Evaluation, READ_BY_ENTRY, READ_BY_ONE};
use super::overlay::Overlay;
use super::progress::Progress;
use super::sessions::{self, Sessions, Verdict};
use super::split::Seeded;
use crate::raft::type_config::LogId;
use crate::storage::change::{Happened, StoredChange};
use crate::storage::keys::{self, GroupRecord};
use crate::storage::state::{Changes, StateEngine, StateError, StateResult, StateView};

/// What is in memory of a partition's state: all but its items.
#[derive(Debug)]
pub struct PartitionState {
    pub(super) group: PartitionId,
    /// What it owns.
    pub descriptor: Descriptor,
    /// How far it has come.
    pub progress: Progress,
    /// What its table is like, as it was told; none: it was not told yet.
    pub settings: Option<TableSettings>,
    demand: Demand,
    history: History,
    pub(super) indexes: Indexes,
    pub(super) sessions: Sessions,
    overlay: Overlay,
    /// Changes that are no items: expiry entries that went, settings, history.
    pub(super) direct: Changes,
    /// Partitions that were cut off and are not shown yet.
    pub(super) seeded: Vec<Seeded>,
    /// How many bytes of values the entry's operations may still read.
    room_of_entry: usize,
    /// The earliest deadline that may be due next; `u64::MAX`: none is known.
    pub next_due_ms: u64,
    /// No expiry entry is earlier. Walks begin here: what is before are the remains of entries that
    /// went, and passing over those takes longer the more there are.
    nothing_due_before_ms: u64,
}

/// Why an entry cannot be applied. The replica stops: it never skips.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Not commands, or commands of a newer program.
    #[error(
        "entry {index} of partition {group} holds a command that this program does not know ({why}): run a newer one"
    )]
    UnknownCommand {
        /// The partition.
        group: PartitionId,
        /// The entry.
        index: u64,
        /// What was wrong.
        why: String,
    },
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

impl PartitionState {
    /// Loads what was written, or begins with what the partition was born with.
    pub fn load(group: PartitionId, birth: Descriptor, state: &dyn StateView) -> StateResult<Self> {
        let damaged = |what: &str, why: String| StateError::Damaged {
            what: format!("{what} of partition {group}"),
            why,
        };
        let progress = match state.get(&keys::group_record(group, GroupRecord::Progress))? {
            Some(bytes) => Progress::decode(&bytes).map_err(|why| damaged("the progress", why))?,
            None => Progress::default(),
        };
        let descriptor = match state.get(&keys::group_record(group, GroupRecord::Descriptor))? {
            Some(bytes) => Descriptor::decode(&bytes).map_err(|why| damaged("the descriptor", why))?,
            None => birth,
        };
        let settings = match state.get(&keys::group_record(group, GroupRecord::Settings))? {
            Some(bytes) => {
                Some(TableSettings::decode(bytes).map_err(|why| damaged("the settings", why.to_string()))?)
            }
            None => None,
        };
        let history = History::load(group, settings.as_ref(), state)?;
        let demand = Demand::of(settings.as_ref());
        let indexes = Indexes::load(group, settings.as_ref(), state)?;
        let mut sessions = Sessions::from_watermark(progress.session_watermark_ms);
        let mut walk = state.iterate(&keys::sessions_of(group), false)?;
        while let Some((key, value)) = walk.current() {
            let client =
                keys::session_client(key).ok_or_else(|| damaged("a session", "its key".to_owned()))?;
            sessions.load(client, value).map_err(|why| damaged("a session", why.to_string()))?;
            walk.advance()?;
        }
        let mut loaded = Self {
            group,
            descriptor,
            progress,
            settings,
            demand,
            history,
            indexes,
            sessions,
            overlay: Overlay::default(),
            direct: Changes::default(),
            seeded: Vec::new(),
            room_of_entry: READ_BY_ENTRY,
            next_due_ms: u64::MAX,
            nothing_due_before_ms: 0,
        };
        loaded.next_due_ms = earliest_deadline(state, &loaded.descriptor, 0)?;
        Ok(loaded)
    }

    /// Applies the commands of an entry, in their order.
    ///
    /// Expiry walks the index as it is written, so what is pending from earlier entries is
    /// written first, and it is done before the entry's other commands. Otherwise what it
    /// finds would depend on how many entries a replica happened to apply together. So it is where
    /// an index is built, or one is declared. A split takes the group's records with it, so the same
    /// goes for it; it is done at the end of the entry.
    pub fn apply_commands(
        &mut self,
        id: LogId,
        data: Bytes,
        state: &dyn StateEngine,
    ) -> Result<Vec<Answer>, ApplyError> {
        let group = self.group;
        let unknown = |why: String| ApplyError::UnknownCommand { group, index: id.index(), why };
        let batch = CommandBatch::decode(data).map_err(|error| unknown(error.to_string()))?;
        self.room_of_entry = READ_BY_ENTRY;
        let mut expired = None;
        let expire = batch.commands.iter().find_map(|command| match &command.command {
            Some(command::Command::Expire(expire)) => Some(expire.clone()),
            _ => None,
        });
        let walks = |command: &Command| {
            let command = command.command.as_ref();
            command.is_some_and(|command| {
                matches!(
                    command,
                    command::Command::BuildIndex(_)
                        | command::Command::Configure(_)
                        | command::Command::Split(_)
                )
            })
        };
        if expire.is_some() || batch.commands.iter().any(walks) {
            state.write(self.take_changes())?;
        }
        // The clock first: whether a key of this entry is due is judged by the entry's time.
        self.progress.clock_ms = self.progress.clock_ms.max(batch.clock_ms);
        self.sessions.forget(self.progress.clock_ms);
        if let Some(Expire { limit, extent }) = expire {
            expired = Some(match extent {
                Some(extent) => self.expire_extent(&extent, state)?,
                None => self.expire(limit, state)?,
            });
        }
        for command in &batch.commands {
            if let Some(command::Command::BuildIndex(build)) = &command.command {
                self.build_index(build, state)?;
            }
        }
        let mut answers = Vec::with_capacity(batch.commands.len());
        let mut splits = Vec::new();
        for command in batch.commands {
            let answer = match command.command {
                Some(command::Command::Split(split)) => {
                    splits.push((answers.len(), split));
                    Some(Answer::Split(false))
                }
                Some(command::Command::Expire(_)) => Some(Answer::Expired(expired.unwrap_or_default())),
                _ => self.apply_command(command, state)?,
            };
            answers.push(answer.ok_or_else(|| unknown("it has no known field".to_owned()))?);
        }
        self.history.end_entry(&self.descriptor, &mut self.progress, &mut self.direct);
        self.progress.session_watermark_ms = self.sessions.watermark_ms;
        self.progress.applied = Some(id);
        for (place, split) in splits {
            let done = self.split(&split, id.index(), state)?;
            if let Some(answer) = answers.get_mut(place) {
                *answer = Answer::Split(done);
            }
        }
        Ok(answers)
    }

    /// Notes an entry that has no commands.
    pub fn apply_nothing(&mut self, id: LogId) {
        self.progress.applied = Some(id);
    }

    fn apply_command(
        &mut self,
        command: Command,
        state: &dyn StateView,
    ) -> Result<Option<Answer>, ApplyError> {
        Ok(match command.command {
            Some(command::Command::Operation(operation)) => match operation.operation {
                Some(Kind::Batch(batch)) if !batch.atomic => {
                    Some(Answer::Operation(self.operate_each(batch, state)?))
                }
                Some(kind) => Some(Answer::Operation(self.operate_once(kind, state)?)),
                None => None,
            },
            Some(command::Command::Tick(_) | command::Command::BuildIndex(_)) => Some(Answer::Done),
            Some(command::Command::Configure(configure)) => {
                self.configure(configure.settings.unwrap_or_default(), state)?;
                Some(Answer::Done)
            }
            Some(command::Command::TrimHistory(trim)) => {
                let (progress, changes) = (&mut self.progress, &mut self.direct);
                self.history.trim(trim.up_to, &self.descriptor, progress, changes);
                Some(Answer::Done)
            }
            Some(command::Command::Expire(_) | command::Command::Split(_) | command::Command::Meta(_))
            | None => None,
        })
    }

    /// Takes other settings, unless these are newer. Changes from before the table kept any are not
    /// to be had.
    fn configure(&mut self, settings: TableSettings, state: &dyn StateView) -> StateResult<()> {
        if self.settings.as_ref().is_some_and(|known| known.version >= settings.version) {
            return Ok(());
        }
        self.demand = Demand::of(Some(&settings));
        let (descriptor, overlay) = (&self.descriptor, &self.overlay);
        self.indexes.configure(&settings, descriptor, || {
            Ok(overlay.is_empty() && !holds_items(state, descriptor)?)
        })?;
        let kept = self.history.is_on();
        self.history.configure(&settings);
        match (kept, self.history.is_on()) {
            (false, true) => self.progress.history_from = self.progress.counter,
            (true, false) => {
                self.history.forget_after(0);
                let (progress, changes) = (&mut self.progress, &mut self.direct);
                self.history.trim(u64::MAX, &self.descriptor, progress, changes);
            }
            _ => {}
        }
        let record = keys::group_record(self.group, GroupRecord::Settings);
        self.direct.put(record, settings.encode_to_vec().into());
        self.settings = Some(settings);
        Ok(())
    }

    /// Goes on with the build of an index.
    fn build_index(&mut self, build: &BuildIndex, state: &dyn StateView) -> StateResult<()> {
        let (descriptor, overlay, clock_ms) = (&self.descriptor, &self.overlay, self.progress.clock_ms);
        self.indexes.build(build, &Around { descriptor, overlay, state, clock_ms })
    }

    fn operate_within(
        &mut self,
        kind: Kind,
        state: &dyn StateView,
        room: &mut usize,
    ) -> StateResult<OperationResult> {
        let Some(retry) = retry_of(&kind).cloned() else { return self.operate(kind, state, room) };
        match self.sessions.judge(&retry, self.progress.clock_ms) {
            Verdict::Answered(answer) => Ok(answer),
            Verdict::Unknown(why) => Ok(sessions::unknown(why)),
            Verdict::Apply => {
                let answer = self.operate(kind, state, room)?;
                // A failure left nothing behind; the same write may yet be done elsewhere.
                if !matches!(answer.result, Some(Outcome::Failure(_)) | None) {
                    self.sessions.remember(&retry, &answer, self.progress.clock_ms);
                }
                Ok(answer)
            }
        }
    }

    /// Operations that came together and are no whole: each is done or refused by itself. If the
    /// partition does not own the keys of all, none is done, so that they can be sent elsewhere.
    fn operate_each(&mut self, batch: BatchRequest, state: &dyn StateView) -> StateResult<OperationResult> {
        let whole = Kind::Batch(batch);
        if let Some(refused) = operations::refusal_of_foreign_key(&self.descriptor, &whole) {
            return Ok(refused);
        }
        let Kind::Batch(batch) = whole else { return Ok(OperationResult::default()) };
        let mut room = READ_BY_ONE;
        let mut results = Vec::with_capacity(batch.operations.len());
        for kind in batch.operations.into_iter().filter_map(|operation| operation.operation) {
            results.push(self.operate_within(kind, state, &mut room)?);
        }
        Ok(OperationResult { result: Some(Outcome::Batch(BatchResponse { results, applied: true })) })
    }

    fn operate_once(&mut self, kind: Kind, state: &dyn StateView) -> StateResult<OperationResult> {
        self.operate_within(kind, state, &mut { READ_BY_ONE })
    }

    fn operate(
        &mut self,
        kind: Kind,
        state: &dyn StateView,
        room: &mut usize,
    ) -> StateResult<OperationResult> {
        let earliest = earliest_deadline_of(&kind, self.progress.clock_ms);
        self.next_due_ms = self.next_due_ms.min(earliest);
        let mut evaluation = Evaluation {
            descriptor: &self.descriptor,
            state,
            overlay: &mut self.overlay,
            progress: &mut self.progress,
            demand: &self.demand,
            history: &mut self.history,
            indexes: &mut self.indexes,
            refused: None,
            room: *room,
            room_of_entry: &mut self.room_of_entry,
        };
        let result = evaluation.run(kind);
        *room = evaluation.room;
        result
    }

    /// Removes what is due, oldest first within each bucket.
    /// Removes what the leader saw to be due.
    fn expire_extent(&mut self, extent: &ExpireExtent, state: &dyn StateView) -> StateResult<ExpireAnswer> {
        let due_ms = extent.due_ms.min(self.progress.clock_ms);
        let table = self.descriptor.table;
        let last = extent.up_to.as_ref().map(|place| {
            let bucket = Bucket(u16::try_from(place.bucket).unwrap_or(u16::MAX));
            keys::expiry(table, bucket, place.deadline_ms, &place.key)
        });
        let mut removed = 0;
        for bucket in self.descriptor.buckets.iter() {
            let due = keys::due_between(table, bucket, self.nothing_due_before_ms, due_ms);
            let mut walk = state.iterate(&due, false)?;
            while let Some((entry, _)) = walk.current() {
                if last.as_ref().is_some_and(|last| entry > &last[..]) {
                    break;
                }
                removed += self.expire_entry(bucket, entry, state)?;
                walk.advance()?;
            }
        }
        if last.is_none() {
            self.nothing_due_before_ms = self.nothing_due_before_ms.max(due_ms);
        }
        Ok(ExpireAnswer { removed, more: last.is_some() })
    }

    /// Removes at most so many entries of the expiry index and what is due by them. How many of them are
    /// out of date differs between replicas, so entries of today have an extent.
    fn expire(&mut self, limit: u32, state: &dyn StateView) -> StateResult<ExpireAnswer> {
        let mut removed = 0;
        let mut looked_at = 0;
        let mut more = false;
        for bucket in self.descriptor.buckets.iter() {
            let (table, clock_ms) = (self.descriptor.table, self.progress.clock_ms);
            let due = keys::due_between(table, bucket, self.nothing_due_before_ms, clock_ms);
            let mut walk = state.iterate(&due, false)?;
            while let Some((entry, _)) = walk.current() {
                if looked_at == limit {
                    more = true;
                    break;
                }
                looked_at += 1;
                removed += self.expire_entry(bucket, entry, state)?;
                walk.advance()?;
            }
        }
        if !more {
            self.nothing_due_before_ms = self.progress.clock_ms;
        }
        Ok(ExpireAnswer { removed, more })
    }

    /// Removes an entry of the expiry index, and its item; how many items that were.
    fn expire_entry(&mut self, bucket: Bucket, entry: &[u8], state: &dyn StateView) -> StateResult<u32> {
        let removed = match keys::parse_expiry(entry) {
            Some((deadline_ms, key)) => self.expire_key(bucket, deadline_ms, key, state)?,
            None => false,
        };
        self.direct.delete(Bytes::copy_from_slice(entry));
        Ok(u32::from(removed))
    }

    /// Removes an item, if it is still the one that the expiry entry was written for.
    fn expire_key(
        &mut self,
        bucket: Bucket,
        deadline_ms: u64,
        key: &[u8],
        state: &dyn StateView,
    ) -> StateResult<bool> {
        let found = self.overlay.get(key, bucket, self.descriptor.table, state)?;
        let Some(item) = found.filter(|item| item.deadline_ms == deadline_ms) else { return Ok(false) };
        let key = Bytes::copy_from_slice(key);
        if self.indexes.are_kept() {
            let (descriptor, overlay, clock_ms) = (&self.descriptor, &self.overlay, self.progress.clock_ms);
            let around = Around { descriptor, overlay, state, clock_ms };
            let it = Replacement { bucket, key: &key, before: Some(&item), after: None };
            // What goes is never refused.
            let _ = self.indexes.replace(&it, &around)?;
        }
        self.progress.counter += 1;
        let before = self.history.keeps_before().then_some(item);
        let what = Happened::Gone { key: key.clone(), expired: true, before };
        self.history.note(bucket, StoredChange { revision: self.progress.counter, what });
        self.overlay.set(key, bucket, None);
        Ok(true)
    }

    /// About how much there is to write.
    pub fn pending_bytes(&self) -> usize {
        self.overlay.bytes() + self.direct.bytes() + self.indexes.bytes()
    }

    /// How far it is with each index, unless nothing has changed since the last call.
    pub fn take_indexes(&mut self) -> Option<Vec<IndexReport>> {
        self.indexes.take_changed(&self.descriptor)
    }

    /// The partitions that entries cut off since the last call.
    pub fn take_seeded(&mut self) -> Vec<Seeded> {
        std::mem::take(&mut self.seeded)
    }

    /// Whether any were.
    pub fn has_seeded(&self) -> bool {
        !self.seeded.is_empty()
    }

    /// What entries changed since the last call, for those who follow.
    pub fn take_fresh(&mut self) -> Vec<Fresh> {
        self.history.take_fresh()
    }

    /// Everything since the last call, with the progress that it amounts to.
    pub fn take_changes(&mut self) -> Changes {
        let mut changes = std::mem::take(&mut self.direct);
        self.overlay.drain_into(&self.descriptor, &mut changes);
        self.indexes.drain_into(&mut changes);
        self.sessions.drain_into(self.group, &mut changes);
        changes.put(keys::group_record(self.group, GroupRecord::Progress), self.progress.encode());
        changes
    }
}

/// What is due between two times as it is written, so much of the expiry index at most. Nothing is due
/// before the first.
pub fn due_extent(
    state: &dyn StateView,
    descriptor: &Descriptor,
    (from_ms, due_ms): (u64, u64),
    most: usize,
) -> StateResult<ExpireExtent> {
    let mut left = most;
    for bucket in descriptor.buckets.iter() {
        let mut walk = state.iterate(&keys::due_between(descriptor.table, bucket, from_ms, due_ms), false)?;
        while let Some((entry, _)) = walk.current() {
            left = left.saturating_sub(1);
            if left == 0
                && let Some((deadline_ms, key)) = keys::parse_expiry(entry)
            {
                let key = Bytes::copy_from_slice(key);
                let up_to = Some(ExpiryPlace { bucket: bucket.0.into(), deadline_ms, key });
                return Ok(ExpireExtent { due_ms, up_to });
            }
            walk.advance()?;
        }
    }
    Ok(ExpireExtent { due_ms, up_to: None })
}

/// The earliest deadline in a partition's expiry index, as it is written. None may be before
/// `from_ms`.
pub fn earliest_deadline(state: &dyn StateView, descriptor: &Descriptor, from_ms: u64) -> StateResult<u64> {
    let mut earliest = u64::MAX;
    for bucket in descriptor.buckets.iter() {
        let all = keys::due_between(descriptor.table, bucket, from_ms, u64::MAX);
        let walk = state.iterate(&all, false)?;
        if let Some((deadline_ms, _)) = walk.current().and_then(|(entry, _)| keys::parse_expiry(entry)) {
            earliest = earliest.min(deadline_ms);
        }
    }
    Ok(earliest)
}

/// How many entries a partition's expiry index has that are due, between two moments; it is not
/// counted further than a bound.
pub fn count_due(
    state: &dyn StateView,
    descriptor: &Descriptor,
    from_ms: u64,
    now_ms: u64,
) -> StateResult<u64> {
    const MOST: u64 = 100_000;
    let mut count = 0;
    for bucket in descriptor.buckets.iter() {
        let due = keys::due_between(descriptor.table, bucket, from_ms, now_ms);
        let mut walk = state.iterate(&due, false)?;
        while walk.current().is_some() && count < MOST {
            count += 1;
            walk.advance()?;
        }
    }
    Ok(count)
}

/// Whether anything is written in a partition, ended items included.
fn holds_items(state: &dyn StateView, descriptor: &Descriptor) -> StateResult<bool> {
    for bucket in descriptor.buckets.iter() {
        if state.iterate(&keys::items_of(descriptor.table, bucket), false)?.current().is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Who sent an operation, where it may be sent again.
fn retry_of(kind: &Kind) -> Option<&Retry> {
    match kind {
        Kind::Put(put) => put.retry.as_ref(),
        Kind::Delete(delete) => delete.retry.as_ref(),
        Kind::Batch(batch) => batch.retry.as_ref(),
        Kind::Txn(txn) => txn.retry.as_ref(),
        Kind::Modify(modify) => modify.retry.as_ref(),
        Kind::Copy(copy) => copy.retry.as_ref(),
        Kind::Get(_) | Kind::Exists(_) | Kind::Clear(_) => None,
    }
}

/// The earliest deadline that an operation may set. What a copy keeps is known already.
fn earliest_deadline_of(kind: &Kind, clock_ms: u64) -> u64 {
    let of_all = |operations: &[proto::v1::Operation]| {
        let inner = operations.iter().filter_map(|inner| inner.operation.as_ref());
        inner.map(|kind| earliest_deadline_of(kind, clock_ms)).min().unwrap_or(u64::MAX)
    };
    match kind {
        Kind::Get(get) if get.touch_ms > 0 => clock_ms.saturating_add(get.touch_ms),
        Kind::Put(put) if put.ttl_ms > 0 => clock_ms.saturating_add(put.ttl_ms),
        Kind::Modify(modify) => match &modify.change {
            Some(Change::Replace(replace)) => deadline_of(replace.lifetime.as_ref(), clock_ms),
            Some(Change::Renew(renew)) => deadline_of(renew.lifetime.as_ref(), clock_ms),
            _ if modify.default_ttl_ms > 0 => clock_ms.saturating_add(modify.default_ttl_ms),
            _ => u64::MAX,
        },
        Kind::Batch(batch) => of_all(&batch.operations),
        Kind::Txn(txn) => of_all(&txn.then).min(of_all(&txn.otherwise)),
        _ => u64::MAX,
    }
}

fn deadline_of(lifetime: Option<&Lifetime>, clock_ms: u64) -> u64 {
    match lifetime.and_then(|lifetime| lifetime.lasts) {
        Some(Lasts::TtlMs(ttl_ms)) => clock_ms.saturating_add(ttl_ms),
        Some(Lasts::UntilMs(until_ms)) => until_ms,
        _ => u64::MAX,
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
pub(in crate::partition) mod tests;
