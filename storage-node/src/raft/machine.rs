//! What a group's log is applied to: a partition, or the cluster's own records.

use bytes::Bytes;
use openraft::EntryPayload;
use placement::PartitionId;
use prost::Message;
use proto::v1::{CommandBatch, MetaCommand, command};

use super::type_config::{LogId, Payload};
use crate::meta::MetaState;
use crate::partition::history::Fresh;
use crate::partition::split::Seeded;
use crate::partition::state::ApplyError;
use crate::partition::{Answer, Descriptor, PartitionState, Progress};
use crate::storage::keys::{self, GroupRecord, KeyRange};
use crate::storage::state::{Changes, StateEngine, StateError, StateResult, StateView};

/// Either kind of group.
#[derive(Debug)]
pub enum Machine {
    /// A partition of a table.
    Partition(Box<PartitionState>),
    /// Group 0.
    Meta(Box<MetaMachine>),
}

/// The meta group's state, with how far it has come.
#[derive(Debug)]
pub struct MetaMachine {
    /// The state.
    pub state: MetaState,
    progress: Progress,
    pending: Changes,
    changed: bool,
}

/// What a replica starts from, when nothing is written yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Birth {
    /// A partition that owns this.
    Partition(Descriptor),
    /// The meta group, empty.
    Meta,
}

impl Birth {
    /// As bytes, for the replica's record in the log.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Partition(descriptor) => descriptor.encode(),
            Self::Meta => Bytes::new(),
        }
    }

    /// What [`Birth::encode`] gave.
    pub fn decode(group: PartitionId, bytes: &[u8]) -> Result<Self, String> {
        if group == PartitionId::META {
            Ok(Self::Meta)
        } else {
            Descriptor::decode(bytes).map(Self::Partition)
        }
    }
}

impl Machine {
    /// Loads what was written.
    pub fn load(group: PartitionId, birth: &Birth, state: &dyn StateView) -> StateResult<Self> {
        Ok(match birth {
            Birth::Partition(descriptor) => {
                Self::Partition(Box::new(PartitionState::load(group, *descriptor, state)?))
            }
            Birth::Meta => Self::Meta(Box::new(MetaMachine::load(state)?)),
        })
    }

    /// How far it has come.
    pub fn progress(&self) -> &Progress {
        match self {
            Self::Partition(partition) => &partition.progress,
            Self::Meta(meta) => &meta.progress,
        }
    }

    /// Applies one entry.
    pub fn apply(
        &mut self,
        id: LogId,
        payload: &Payload,
        engine: &dyn StateEngine,
    ) -> Result<Vec<Answer>, ApplyError> {
        match (self, payload) {
            (Self::Partition(partition), EntryPayload::Normal(data)) => {
                partition.apply_commands(id, data.0.clone(), engine)
            }
            (Self::Partition(partition), _) => {
                partition.apply_nothing(id);
                Ok(Vec::new())
            }
            (Self::Meta(meta), EntryPayload::Normal(data)) => meta.apply_commands(id, data.0.clone()),
            (Self::Meta(meta), _) => {
                meta.progress.applied = Some(id);
                Ok(Vec::new())
            }
        }
    }

    /// About how much there is to write.
    pub fn pending_bytes(&self) -> usize {
        match self {
            Self::Partition(partition) => partition.pending_bytes(),
            Self::Meta(meta) => meta.pending.bytes(),
        }
    }

    /// Everything since the last call, with the progress that it amounts to.
    pub fn take_changes(&mut self) -> Changes {
        match self {
            Self::Partition(partition) => partition.take_changes(),
            Self::Meta(meta) => meta.take_changes(),
        }
    }

    /// What entries changed since the last call, for those who follow.
    pub fn take_fresh(&mut self) -> Vec<Fresh> {
        match self {
            Self::Partition(partition) => partition.take_fresh(),
            Self::Meta(_) => Vec::new(),
        }
    }

    /// The partitions that entries cut off since the last call.
    pub fn take_seeded(&mut self) -> Vec<Seeded> {
        match self {
            Self::Partition(partition) => partition.take_seeded(),
            Self::Meta(_) => Vec::new(),
        }
    }

    /// Whether any were.
    pub fn has_seeded(&self) -> bool {
        match self {
            Self::Partition(partition) => partition.has_seeded(),
            Self::Meta(_) => false,
        }
    }

    /// What it owns; none in the meta group.
    pub fn descriptor(&self) -> Option<Descriptor> {
        match self {
            Self::Partition(partition) => Some(partition.descriptor),
            Self::Meta(_) => None,
        }
    }

    /// Where its state is: its own records and its data.
    pub fn ranges(&self, group: PartitionId) -> Vec<KeyRange> {
        let data = match self {
            Self::Partition(partition) => {
                keys::data_of(partition.descriptor.table, partition.descriptor.buckets)
            }
            Self::Meta(_) => keys::meta_records(),
        };
        vec![keys::records_of(group), data]
    }
}

impl MetaMachine {
    fn load(state: &dyn StateView) -> StateResult<Self> {
        let damaged = |what: &str, why: String| StateError::Damaged { what: what.to_owned(), why };
        let progress = match state.get(&keys::group_record(PartitionId::META, GroupRecord::Progress))? {
            Some(bytes) => {
                Progress::decode(&bytes).map_err(|why| damaged("the meta group's progress", why))?
            }
            None => Progress::default(),
        };
        let mut records = Vec::new();
        let mut walk = state.iterate(&keys::meta_records(), false)?;
        while let Some((key, value)) = walk.current() {
            records.push((keys::parse_meta_record(key).to_vec(), Bytes::copy_from_slice(value)));
            walk.advance()?;
        }
        let state =
            MetaState::load(records).map_err(|why| damaged("a record of the meta group", why.to_string()))?;
        Ok(Self { state, progress, pending: Changes::default(), changed: true })
    }

    fn apply_commands(&mut self, id: LogId, data: Bytes) -> Result<Vec<Answer>, ApplyError> {
        let unknown =
            |why: String| ApplyError::UnknownCommand { group: PartitionId::META, index: id.index(), why };
        let batch = CommandBatch::decode(data).map_err(|error| unknown(error.to_string()))?;
        self.progress.clock_ms = self.progress.clock_ms.max(batch.clock_ms);
        let mut answers = Vec::with_capacity(batch.commands.len());
        for command in batch.commands {
            let Some(command::Command::Meta(bytes)) = command.command else {
                return Err(unknown("it is not the meta group's".to_owned()));
            };
            let command = MetaCommand::decode(bytes).map_err(|error| unknown(error.to_string()))?;
            let applied = self.state.apply(command).map_err(|error| unknown(error.to_string()))?;
            self.changed |= !applied.changes.is_empty();
            for change in applied.changes {
                match change.value {
                    Some(value) => self.pending.put(keys::meta_record(&change.key), value),
                    None => self.pending.delete(keys::meta_record(&change.key)),
                }
            }
            answers.push(Answer::Meta(applied.answer.encode_to_vec().into()));
        }
        self.progress.applied = Some(id);
        Ok(answers)
    }

    /// Whether the state changed since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    fn take_changes(&mut self) -> Changes {
        let mut changes = std::mem::take(&mut self.pending);
        changes.put(keys::group_record(PartitionId::META, GroupRecord::Progress), self.progress.encode());
        changes
    }
}
