//! A partition's replicated state: entries go in, answers and changes come out.

use bytes::Bytes;
use placement::PartitionId;
use prost::Message;
use proto::v1::{
    BatchRequest, BatchResponse, BuildIndex, Command, CommandBatch, IndexReport, Result as OperationResult,
    Retry, TableSettings, command, operation::Operation as Kind, result::Result as Outcome,
};

use super::answer::Answer;
use super::demand::Demand;
use super::descriptor::Descriptor;
use super::expiry::{earliest_deadline, earliest_deadline_of};
use super::history::{Fresh, History};
use super::indexes::{Around, Indexes};
use super::operations::{self, Evaluation, READ_BY_ENTRY, READ_BY_ONE};
use super::overlay::Overlay;
use super::progress::Progress;
use super::sessions::{self, Sessions, Verdict};
use super::split::Seeded;
use crate::raft::type_config::LogId;
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
    pub(super) history: History,
    pub(super) indexes: Indexes,
    pub(super) sessions: Sessions,
    pub(super) overlay: Overlay,
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
    pub(super) nothing_due_before_ms: u64,
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
        let progress = Progress::read(state, group)?;
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
        if let Some(expire) = &expire {
            expired = Some(self.expire(expire, state)?);
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

#[cfg(test)]
#[path = "state_tests.rs"]
pub(in crate::partition) mod tests;
