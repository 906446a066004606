//! Driving a move: what to do next, from what is recorded and what is observed.
//!
//! ```text
//!  recorded stage   what is done in it                                      recorded when
//!  ──────────────   ─────────────────────────────────────────────────────   ─────────────────────────
//!  QUEUED           nothing; waits for its turn (`runnable`)
//!    │ AllocateReplica: a new replica id, a learner in the map, so that its node creates it
//!    ▼
//!  CATCHING_UP      the leader adds the learner, and it catches up          it has caught up
//!    │ BeginSwitch
//!    ▼
//!  SWITCHING        leadership leaves the replica that goes; then one       Raft has committed
//!    │              joint change promotes the new and demotes the old       exactly the new voters
//!    │ RecordSwitched: the map's voters; the old replica leaves the map and its node destroys it
//!    ▼
//!  CLEANING_UP      anything left over in Raft's configuration goes         nothing is left over
//!    │ Done
//!    ▼
//!  DONE
//! ```
//!
//! A move that removes a replica goes from QUEUED to SWITCHING at once; one that transfers
//! leadership as well, and it ends there. A move that is cancelled, or whose target is lost
//! before Raft has committed the new voters, goes to `CLEANING_UP` with the old voters as
//! the goal: Raft goes back to them, drops the learner, and only then does the map.
//!
//! What is recorded is changed by comparing and setting the stage, so two drivers cannot
//! both take a step; what a leader is asked for names the state that there should be, so
//! asking twice does no harm. Hence a driver remembers nothing: after a crash between any
//! two steps the next one sees the stage and the leader's report, and goes on. A leftover
//! joint configuration is one of the things that it sees.
//!
//! The old replica keeps its vote until the new one has caught up and is alive, so a
//! partition never has fewer healthy voters than before the move; except where a replica
//! is to be removed, which is refused while the others are no healthy majority.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use placement::{Move, NodeId, Partition, ReplicaId, Role};
use proto::v1::meta_command::Command;
use proto::v1::{AdvanceMove, ChangeReplicasRequest, GroupReport, MetaCommand, MoveStage};

use super::state::{MetaState, MoveId, MoveRecord};
use super::switch::{GroupView, LeaderStep, Switch};

/// The bounds of moving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MovePolicy {
    /// How many replica moves a node takes part in at once.
    pub per_node: usize,
    /// A replica that is further behind than this has not caught up.
    pub max_lag: u64,
    /// How often a leader is asked to hand over before a transfer is given up.
    pub transfer_attempts: u32,
}

impl Default for MovePolicy {
    fn default() -> Self {
        Self { per_node: 2, max_lag: 1_000, transfer_attempts: 20 }
    }
}

/// What is known from outside the meta group when a step is decided.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// What the partition's leader reports (see [`GroupView`]); none: there is no leader,
    /// or it does not answer.
    pub group: Option<&'a GroupReport>,
    /// The nodes that were heard of just now.
    pub alive: &'a BTreeSet<NodeId>,
    /// The nodes that were not heard of for longer than the policy allows.
    pub gone: &'a BTreeSet<NodeId>,
    /// How often this driver has asked for the present step already.
    pub asked: u32,
}

/// The next step of a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Recorded: a replica id, and a learner in the map.
    AllocateReplica,
    /// Recorded: from now on the voters change.
    BeginSwitch,
    /// The partition's leader is asked.
    AskLeader(LeaderStep),
    /// The same, because the leader is the replica that goes.
    TransferLeadershipFirst(ReplicaId),
    /// Nothing, until the new replica has caught up.
    WaitCatchUp {
        /// How many entries it is behind; none: the leader has not heard of it.
        lag: Option<u64>,
    },
    /// Recorded: Raft has the new voters, and the map follows.
    RecordSwitched,
    /// Recorded: it ends, as it was going to.
    Done(String),
    /// Recorded: it goes back to how it was, and fails.
    Fail(String),
    /// Nothing for now, and why.
    Wait(String),
}

impl Step {
    /// The command that records the step, where it is one that is recorded.
    pub fn to_command(&self, record: &MoveRecord) -> Option<MetaCommand> {
        let transfer = !record.order.moves_replica();
        let (to, ending, detail) = match self {
            Self::AllocateReplica => (MoveStage::CatchingUp, MoveStage::Done, ""),
            Self::BeginSwitch => (MoveStage::Switching, MoveStage::Done, ""),
            Self::RecordSwitched => (MoveStage::CleaningUp, MoveStage::Done, ""),
            Self::Done(detail) if transfer => (MoveStage::Done, MoveStage::Done, detail.as_str()),
            Self::Done(detail) => (record.ending, record.ending, detail.as_str()),
            Self::Fail(why) if transfer || record.stage == MoveStage::Queued => {
                (MoveStage::Failed, MoveStage::Failed, why.as_str())
            }
            Self::Fail(why) => (MoveStage::CleaningUp, MoveStage::Failed, why.as_str()),
            Self::AskLeader(_)
            | Self::TransferLeadershipFirst(_)
            | Self::WaitCatchUp { .. }
            | Self::Wait(_) => {
                return None;
            }
        };
        let advance = AdvanceMove {
            id: record.id.0,
            from: record.stage.into(),
            to: to.into(),
            ending: ending.into(),
            detail: detail.to_owned(),
        };
        Some(MetaCommand { command: Some(Command::AdvanceMove(advance)) })
    }

    /// What the partition's leader is asked, where it is.
    pub fn to_request(&self, record: &MoveRecord) -> Option<ChangeReplicasRequest> {
        match self {
            Self::AskLeader(step) => Some(step.to_request(record.partition())),
            Self::TransferLeadershipFirst(heir) => {
                Some(LeaderStep::TransferTo(*heir).to_request(record.partition()))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllocateReplica => f.write_str("give the partition a new replica"),
            Self::BeginSwitch => f.write_str("begin to switch"),
            Self::AskLeader(LeaderStep::AddLearner { replica, .. }) => write!(f, "add learner {replica}"),
            Self::AskLeader(LeaderStep::SetVoters(voters)) => {
                let voters: Vec<_> = voters.iter().map(ToString::to_string).collect();
                write!(f, "make {} the voters", voters.join(", "))
            }
            Self::AskLeader(LeaderStep::TransferTo(heir)) => write!(f, "hand leadership to replica {heir}"),
            Self::TransferLeadershipFirst(heir) => write!(f, "first hand leadership to replica {heir}"),
            Self::WaitCatchUp { lag: Some(lag) } => write!(f, "the new replica is {lag} entries behind"),
            Self::WaitCatchUp { lag: None } => f.write_str("the new replica has not been heard of"),
            Self::RecordSwitched => f.write_str("record the new voters"),
            Self::Done(_) => f.write_str("done"),
            Self::Fail(why) => write!(f, "give up: {why}"),
            Self::Wait(why) => f.write_str(why),
        }
    }
}

/// The next step of a move that may run.
pub fn next_step(
    state: &MetaState,
    record: &MoveRecord,
    observed: &Observed<'_>,
    policy: &MovePolicy,
) -> Step {
    let Some(partition) = state.map().partitions.get(&record.partition()) else {
        return Step::Wait("its partition was dropped".to_owned());
    };
    let view = observed.group.map(|report| GroupView::new(partition, report, observed.alive, policy.max_lag));
    let view = view
        .as_ref()
        .ok_or_else(|| Step::Wait(format!("partition {} has no leader that answers", record.partition())));
    let decided = match record.stage {
        MoveStage::Queued => Ok(begin(state, record)),
        MoveStage::CatchingUp => match lost_target(state, record, observed) {
            Some(why) => Ok(Step::Fail(why)),
            None => view.map(|view| catch_up(record, view)),
        },
        MoveStage::Switching => match record.order {
            Move::TransferLeader { from, to, .. } => {
                transfer(state, partition, (from, to), observed, view.ok(), policy)
            }
            _ => view.map(|view| switch(state, record, observed, view)),
        },
        MoveStage::CleaningUp => view.map(|view| clean_up(state, record, view)),
        MoveStage::Done | MoveStage::Failed | MoveStage::Cancelled => {
            Ok(Step::Wait("it has ended".to_owned()))
        }
    };
    decided.unwrap_or_else(|wait| wait)
}

fn begin(state: &MetaState, record: &MoveRecord) -> Step {
    match (state.check_order(&record.order), record.order) {
        (Err(refusal), _) => Step::Fail(refusal.to_string()),
        (Ok(()), Move::Replace { .. } | Move::Add { .. }) => Step::AllocateReplica,
        (Ok(()), Move::Remove { .. } | Move::TransferLeader { .. }) => Step::BeginSwitch,
    }
}

/// Why the node that is given something cannot be given it any more.
fn lost_target(state: &MetaState, record: &MoveRecord, observed: &Observed<'_>) -> Option<String> {
    let node = record.order.to()?;
    if !state.serves(node) {
        Some(format!("{} no longer serves", state.name_of(node)))
    } else if observed.gone.contains(&node) {
        Some(format!("{} has not been heard of for too long", state.name_of(node)))
    } else {
        None
    }
}

fn catch_up(record: &MoveRecord, view: &GroupView<'_>) -> Step {
    let (Some(new), Some(node)) = (record.new_replica, record.order.to()) else {
        return Step::Fail("it has no new replica".to_owned());
    };
    if !view.learners().contains(&new) && !view.voters().contains(&new) {
        return Step::AskLeader(LeaderStep::AddLearner { replica: new, node });
    }
    if view.healthy(new) { Step::BeginSwitch } else { Step::WaitCatchUp { lag: view.lag(new) } }
}

/// The voters that there are once a move has switched.
fn target_voters(record: &MoveRecord) -> BTreeSet<ReplicaId> {
    let mut voters = record.voters_before.clone();
    if let Some(old) = record.old_replica() {
        voters.remove(&old);
    }
    voters.extend(record.new_replica);
    voters
}

fn switch(state: &MetaState, record: &MoveRecord, observed: &Observed<'_>, view: &GroupView<'_>) -> Step {
    let target = target_voters(record);
    let next = view.switch_to(&target);
    if next == Switch::Reached {
        return Step::RecordSwitched;
    }
    // Until Raft has committed the new voters the way back is open, also from a joint
    // configuration: the old replica is still there, because the map still has it.
    if let Some(why) = lost_target(state, record, observed) {
        return Step::Fail(why);
    }
    if let Some(new) = record.new_replica {
        let known = view.learners().contains(&new) || view.voters().contains(&new);
        if known && !view.healthy(new) {
            return Step::WaitCatchUp { lag: view.lag(new) };
        }
    }
    as_step(next)
}

fn as_step(next: Switch) -> Step {
    match next {
        Switch::Reached => Step::RecordSwitched,
        Switch::Ask(LeaderStep::TransferTo(heir)) => Step::TransferLeadershipFirst(heir),
        Switch::Ask(step) => Step::AskLeader(step),
        Switch::Wait(why) => Step::Wait(why),
    }
}

fn clean_up(state: &MetaState, record: &MoveRecord, view: &GroupView<'_>) -> Step {
    let voters = state.voters_of(record.partition());
    match view.switch_to(&voters) {
        Switch::Reached if view.learners().is_empty() => Step::Done(record.detail.clone()),
        Switch::Reached => Step::AskLeader(LeaderStep::SetVoters(voters)),
        next => as_step(next),
    }
}

fn transfer(
    state: &MetaState,
    partition: &Partition,
    (from, to): (NodeId, NodeId),
    observed: &Observed<'_>,
    view: Option<&GroupView<'_>>,
    policy: &MovePolicy,
) -> Result<Step, Step> {
    let fail = |why: &str| Ok(Step::Fail(format!("{} {why}", state.name_of(to))));
    let Some(heir) = partition.replica_on(to).filter(|replica| replica.role == Role::Voter) else {
        return fail("holds no voter of the partition any more");
    };
    let Some(view) = view else {
        return Err(Step::Wait(format!("partition {} has no leader that answers", partition.id)));
    };
    if view.leader() == heir.id {
        return Ok(Step::Done(String::new()));
    }
    if partition.replica_on(from).is_none_or(|replica| replica.id != view.leader()) {
        return Ok(Step::Done(format!("{} no longer led it", state.name_of(from))));
    }
    if !state.serves(to) || observed.gone.contains(&to) {
        return fail("no longer serves");
    }
    if observed.asked >= policy.transfer_attempts {
        return fail("did not become leader although the leader was asked often enough");
    }
    if view.healthy(heir.id) {
        Ok(Step::AskLeader(LeaderStep::TransferTo(heir.id)))
    } else {
        Ok(Step::WaitCatchUp { lag: view.lag(heir.id) })
    }
}

/// The moves to be driven now: those that have begun, and those whose turn it is, oldest
/// first, as far as the bound of every node that they touch allows.
pub fn runnable(state: &MetaState, policy: &MovePolicy) -> Vec<MoveId> {
    let mut busy: BTreeMap<NodeId, usize> = BTreeMap::new();
    let touched = |record: &MoveRecord| {
        let replica_move = record.order.moves_replica();
        [record.order.from(), record.order.to()].into_iter().flatten().filter(move |_| replica_move)
    };
    for record in state.moves_under_way().filter(|record| record.stage != MoveStage::Queued) {
        touched(record).for_each(|node| *busy.entry(node).or_default() += 1);
    }
    let mut run = Vec::new();
    for record in state.moves_under_way() {
        if record.stage == MoveStage::Queued {
            let full = |node| busy.get(&node).is_some_and(|moves| *moves >= policy.per_node);
            if touched(record).any(full) {
                continue;
            }
            touched(record).for_each(|node| *busy.entry(node).or_default() += 1);
        }
        run.push(record.id);
    }
    run
}

/// What brings a partition's group back to what the map says, when no move is under way:
/// a request of a driver that had been replaced may have arrived after its move ended.
pub fn tidy(
    state: &MetaState,
    partition: &Partition,
    observed: &Observed<'_>,
    policy: &MovePolicy,
) -> Option<LeaderStep> {
    if state.moves_under_way().any(|record| record.partition() == partition.id) {
        return None;
    }
    let view = GroupView::new(partition, observed.group?, observed.alive, policy.max_lag);
    let voters = state.voters_of(partition.id);
    match view.switch_to(&voters) {
        Switch::Reached if view.learners().is_empty() => None,
        Switch::Reached => Some(LeaderStep::SetVoters(voters)),
        Switch::Ask(step) => Some(step),
        Switch::Wait(_) => None,
    }
}

#[cfg(test)]
mod tests;
