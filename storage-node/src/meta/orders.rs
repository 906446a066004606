//! Moves as records: ordering them, taking them from stage to stage, cancelling them.
//!
//! What each stage means, and who takes a move from one to the next, is told in
//! [`super::moves`]. Here is what the state allows:
//!
//! ```text
//!   QUEUED ─────▶ CATCHING_UP ─────▶ SWITCHING ─────▶ CLEANING_UP ─────▶ DONE
//!     │  Replace, Add   │                │   the map changes               ▲
//!     │  new learner    └────────────────┴─▶ CLEANING_UP ─▶ FAILED,        │
//!     │  in the map        not switched          CANCELLED: learner gone   │
//!     ├───────────────────────────────▶ SWITCHING (Remove; Transfer, which ends there)
//!     └─▶ FAILED, CANCELLED
//! ```

use std::collections::BTreeSet;

use placement::{Move, PartitionId, Replica, ReplicaId, Revision, Role};
use proto::v1::meta_answer::Outcome;
use proto::v1::{AdvanceMove, CancelMove, MoveStage, StartMoves, StartedMoves};

use super::records::RecordKey;
use super::refusal::Refusal;
use super::state::{Answer, MetaState, MoveId, MoveRecord};

/// How many moves may be under way, queued ones included.
pub const MOST_MOVES: usize = 10_000;
/// How many moves that ended are remembered.
pub const KEPT_ENDED: usize = 100;

impl MetaState {
    pub(super) fn start_moves(&mut self, start: &StartMoves) -> Result<Answer, Refusal> {
        let orders = start.moves.iter().map(Move::try_from).collect::<Result<Vec<_>, _>>()?;
        let under_way = self.moves.len() - self.ended.len();
        if under_way + orders.len() > MOST_MOVES {
            return Err(Refusal::OverBound {
                what: "moves under way",
                limit: MOST_MOVES as u64,
                actual: (under_way + orders.len()) as u64,
            });
        }
        let mut busy: BTreeSet<PartitionId> = self.moves_under_way().map(MoveRecord::partition).collect();
        for order in &orders {
            let partition = order.partition();
            self.check_order(order)?;
            if self.is_splitting(partition) {
                return Err(Refusal::MoveRefused(format!(
                    "partition {partition} is being split: wait until that is done"
                )));
            }
            if !busy.insert(partition) {
                return Err(Refusal::MoveRefused(format!(
                    "partition {partition} would have two moves at once: wait for the first, or cancel it"
                )));
            }
            let changed = self.changes.changed_at(RecordKey::Partition(partition)).unwrap_or_default();
            if start.expected_revision != 0 && changed > Revision(start.expected_revision) {
                return Err(Refusal::MapChanged(format!(
                    "partition {partition} changed at revision {changed}, after {}",
                    start.expected_revision
                )));
            }
        }
        let moves = orders.into_iter().map(|order| self.enqueue(order).0).collect();
        Ok(Answer::new(Outcome::Started(StartedMoves { moves })))
    }

    fn enqueue(&mut self, order: Move) -> MoveId {
        let id = MoveId(self.counters.order);
        self.counters.order += 1;
        let record = MoveRecord {
            id,
            order,
            stage: MoveStage::Queued,
            ending: MoveStage::Done,
            new_replica: None,
            detail: String::new(),
            voters_before: BTreeSet::new(),
            ended: None,
        };
        self.moves.insert(id, record);
        self.touch(RecordKey::Move(id));
        id
    }

    /// Whether the map as it is allows a move.
    pub(super) fn check_order(&self, order: &Move) -> Result<(), Refusal> {
        let id = order.partition();
        let partition = self.map.partitions.get(&id).ok_or(Refusal::UnknownPartition(id))?;
        let refuse = |why: String| Err(Refusal::MoveRefused(format!("partition {id}: {why}")));
        let (to, from) = match *order {
            Move::Replace { replica, from, to, .. } => (Some(to), Some((replica, from))),
            Move::Add { to, .. } => (Some(to), None),
            Move::Remove { replica, from, .. } => (None, Some((replica, from))),
            Move::TransferLeader { to, .. } => {
                let votes = partition.replica_on(to).is_some_and(|replica| replica.role == Role::Voter);
                if !votes || !self.serves(to) {
                    return refuse(format!("{} does not serve or holds no voter of it", self.name_of(to)));
                }
                (None, None)
            }
        };
        if let Some(to) = to {
            if !self.serves(to) {
                return refuse(format!("{} does not serve, so it is given nothing", self.name_of(to)));
            }
            if partition.replica_on(to).is_some() {
                return refuse(format!("{} holds a replica of it already", self.name_of(to)));
            }
        }
        if let Some((replica, node)) = from {
            if !partition.voters().any(|voter| voter.id == replica && voter.node == node) {
                return refuse(format!("replica {replica} on {} is no voter of it", self.name_of(node)));
            }
            let table = self.map.tables.get(&partition.table);
            let wanted = table.map_or(1, |table| usize::from(table.replicas)).max(1);
            if to.is_none() && partition.voters().count() <= wanted {
                return refuse(format!("its table asks for {wanted} replicas: lower that first"));
            }
        }
        Ok(())
    }

    pub(super) fn advance_move(&mut self, advance: AdvanceMove) -> Result<Answer, Refusal> {
        let id = MoveId(advance.id);
        let record = self.moves.get(&id).ok_or(Refusal::UnknownMove(advance.id))?.clone();
        let (from, to, ending) = (advance.from(), advance.to(), advance.ending());
        if record.stage != from || record.ended.is_some() {
            return Err(Refusal::MoveStage(format!(
                "move {id} is at {}, not at {}: somebody else took it on",
                record.stage.as_str_name(),
                from.as_str_name()
            )));
        }
        let transfer = matches!(record.order, Move::TransferLeader { .. });
        let grows = matches!(record.order, Move::Replace { .. } | Move::Add { .. });
        match (from, to) {
            (MoveStage::Queued, MoveStage::CatchingUp) if grows => {
                self.check_order(&record.order)?;
                self.allocate_learner(&record)?;
            }
            (MoveStage::Queued, MoveStage::Switching) if !grows => {
                self.check_order(&record.order)?;
                let voters = self.voters_of(record.partition());
                self.update(id, |record| record.voters_before = voters);
            }
            (MoveStage::CatchingUp, MoveStage::Switching) => {}
            (MoveStage::Switching, MoveStage::CleaningUp) if !transfer && ending == MoveStage::Done => {
                self.switch_map(&record);
            }
            (MoveStage::CatchingUp | MoveStage::Switching, MoveStage::CleaningUp)
                if !transfer && ending == MoveStage::Failed =>
            {
                self.update(id, |record| record.ending = MoveStage::Failed);
            }
            (MoveStage::CleaningUp, end) if end == record.ending => {
                self.drop_learner(&record);
                let detail = if advance.detail.is_empty() { record.detail } else { advance.detail };
                self.end_move(id, end, &detail);
                return Ok(Answer::done());
            }
            (MoveStage::Queued | MoveStage::Switching, MoveStage::Done | MoveStage::Failed) if transfer => {
                self.end_move(id, to, &advance.detail);
                return Ok(Answer::done());
            }
            (MoveStage::Queued, MoveStage::Failed) => {
                self.end_move(id, to, &advance.detail);
                return Ok(Answer::done());
            }
            _ => {
                return Err(Refusal::MoveStage(format!(
                    "move {id} cannot go from {} to {}",
                    from.as_str_name(),
                    to.as_str_name()
                )));
            }
        }
        self.update(id, |record| {
            record.stage = to;
            record.detail = advance.detail;
        });
        Ok(Answer::done())
    }

    pub(super) fn cancel_move(&mut self, cancel: CancelMove) -> Result<Answer, Refusal> {
        let id = MoveId(cancel.id);
        let record = self.moves.get(&id).ok_or(Refusal::UnknownMove(cancel.id))?;
        let cancelled = record.ending == MoveStage::Cancelled || record.stage == MoveStage::Cancelled;
        match record.stage {
            _ if cancelled => {
                return Ok(Answer { already: true, ..Answer::done() });
            }
            MoveStage::Queued => self.end_move(id, MoveStage::Cancelled, "cancelled before it began"),
            MoveStage::CatchingUp => self.update(id, |record| {
                record.stage = MoveStage::CleaningUp;
                record.ending = MoveStage::Cancelled;
                "cancelled while it was catching up".clone_into(&mut record.detail);
            }),
            MoveStage::Switching | MoveStage::CleaningUp => {
                return Err(Refusal::MoveStage(format!(
                    "move {id} has begun to switch its voters and can only be finished: order the way back afterwards"
                )));
            }
            MoveStage::Done | MoveStage::Failed | MoveStage::Cancelled => {
                return Err(Refusal::MoveStage(format!("move {id} has ended already")));
            }
        }
        Ok(Answer::done())
    }

    /// Ends a move and forgets the oldest that ended, beyond those that are kept.
    pub(super) fn end_move(&mut self, id: MoveId, stage: MoveStage, detail: &str) {
        let end = self.counters.end;
        self.counters.end += 1;
        self.ended.insert(end, id);
        self.update(id, |record| {
            record.stage = stage;
            record.ending = stage;
            record.ended = Some(end);
            detail.clone_into(&mut record.detail);
        });
        while self.ended.len() > KEPT_ENDED {
            let Some((_, oldest)) = self.ended.pop_first() else { break };
            self.moves.remove(&oldest);
            self.touch(RecordKey::Move(oldest));
        }
    }

    fn update(&mut self, id: MoveId, change: impl FnOnce(&mut MoveRecord)) {
        if let Some(record) = self.moves.get_mut(&id) {
            change(record);
        }
        self.touch(RecordKey::Move(id));
    }

    /// The voters of a partition, by the map.
    pub(super) fn voters_of(&self, partition: PartitionId) -> BTreeSet<ReplicaId> {
        let partition = self.map.partitions.get(&partition);
        partition.map(|partition| partition.voters().map(|voter| voter.id).collect()).unwrap_or_default()
    }

    fn allocate_learner(&mut self, record: &MoveRecord) -> Result<(), Refusal> {
        let node =
            record.order.to().ok_or_else(|| Refusal::MoveRefused("the move adds nothing".to_owned()))?;
        let voters = self.voters_of(record.partition());
        let id = self.next_replica();
        self.change_partition(record.partition(), |replicas| {
            replicas.push(Replica { id, node, role: Role::Learner });
        });
        self.update(record.id, |record| {
            record.new_replica = Some(id);
            record.voters_before = voters;
        });
        Ok(())
    }

    /// Raft has switched the voters, and the map follows.
    fn switch_map(&mut self, record: &MoveRecord) {
        let (old, new) = (record.old_replica(), record.new_replica);
        self.change_partition(record.partition(), |replicas| {
            replicas.retain(|replica| Some(replica.id) != old);
            for replica in replicas.iter_mut().filter(|replica| Some(replica.id) == new) {
                replica.role = Role::Voter;
            }
        });
    }

    /// The learner of a move that did not switch goes; its node then destroys it.
    fn drop_learner(&mut self, record: &MoveRecord) {
        if record.ending != MoveStage::Done
            && let Some(new) = record.new_replica
        {
            self.change_partition(record.partition(), |replicas| {
                replicas.retain(|replica| replica.id != new);
            });
        }
    }

    fn change_partition(&mut self, id: PartitionId, change: impl FnOnce(&mut Vec<Replica>)) {
        if let Some(partition) = self.map.partitions.get_mut(&id) {
            change(&mut partition.replicas);
            partition.epoch.0 += 1;
            self.touch(RecordKey::Partition(id));
        }
    }
}
